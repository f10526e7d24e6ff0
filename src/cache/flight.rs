//! Single flight: of those who miss the same value at once, one reads it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;
use tonic::Status;

type Key = (String, u64);
type Outcome = Result<Bytes, Status>;
type Cells = HashMap<Key, Arc<OnceCell<Outcome>>>;

/// Reads under way.
#[derive(Debug, Default)]
pub struct Flights(Mutex<Cells>);

impl Flights {
    /// What `read`, or the read of `key` that is under way, comes to. When the one who reads is cancelled, another takes over.
    pub async fn join(&self, key: Key, read: impl Future<Output = Outcome>) -> Outcome {
        let cell = Arc::clone(self.cells().entry(key.clone()).or_default());
        let flight = Flight { flights: self, key, cell };
        flight.cell.get_or_init(|| read).await.clone()
    }

    fn cells(&self) -> MutexGuard<'_, Cells> {
        // No code that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One caller's part in a flight, which ends with its outcome or with its last caller.
struct Flight<'a> {
    flights: &'a Flights,
    key: Key,
    cell: Arc<OnceCell<Outcome>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut cells = self.flights.cells();
        // The map's and this one.
        let last = Arc::strong_count(&self.cell) == 2;
        if (last || self.cell.initialized())
            && cells.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell))
        {
            cells.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    fn key() -> Key {
        ("key".into(), 1)
    }

    #[tokio::test]
    async fn one_reads_for_all_and_errors_are_shared_but_not_kept() {
        let (flights, reads) = (Flights::default(), AtomicU32::new(0));
        let fail = || async {
            reads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err(Status::not_found("x"))
        };
        let outcomes = futures_util::future::join_all((0..50).map(|_| flights.join(key(), fail()))).await;
        assert!(outcomes.iter().all(Result::is_err));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        assert!(flights.join(key(), async { Ok(Bytes::new()) }).await.is_ok());
        assert!(flights.cells().is_empty());
    }

    #[tokio::test]
    async fn a_cancelled_reader_leaves_the_read_to_another() {
        let flights = Arc::new(Flights::default());
        let (begun, waits) = oneshot::channel::<()>();
        let shared = Arc::clone(&flights);
        let leader = tokio::spawn(async move {
            let forever = async {
                begun.send(()).unwrap();
                std::future::pending().await
            };
            shared.join(key(), forever).await
        });
        waits.await.unwrap();
        let mut follower = Box::pin(flights.join(key(), async { Ok(Bytes::from_static(b"the follower's")) }));
        assert!(futures_util::poll!(&mut follower).is_pending());
        leader.abort();
        assert_eq!(follower.await.unwrap(), "the follower's");
        assert!(leader.await.unwrap_err().is_cancelled());
        assert!(flights.cells().is_empty());
    }
}
