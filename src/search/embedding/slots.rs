//! Bounds how many inferences run at once, each on a thread of its own.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rten::ThreadPool;

/// A fixed number of pools of one thread each. One core an inference gives the most texts a second, since nothing
/// is shared or waited for within one.
#[derive(Debug)]
pub(super) struct Slots {
    free: Mutex<Vec<Arc<ThreadPool>>>,
    returned: Condvar,
}

impl Slots {
    pub(super) fn new(count: NonZeroUsize) -> Self {
        let pools = (0..count.get()).map(|_| Arc::new(ThreadPool::with_num_threads(1))).collect();
        Self { free: Mutex::new(pools), returned: Condvar::new() }
    }

    /// Waits for a free pool, which goes back when the slot is dropped.
    pub(super) fn acquire(&self) -> Slot<'_> {
        let mut free = self.lock();
        loop {
            match free.pop() {
                Some(pool) => return Slot { pool, slots: self },
                None => free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// A list of pools is whole after a panic too.
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<ThreadPool>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pool in use.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    pool: Arc<ThreadPool>,
    slots: &'a Slots,
}

impl Slot<'_> {
    pub(super) fn pool(&self) -> Arc<ThreadPool> {
        Arc::clone(&self.pool)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.lock().push(self.pool());
        self.slots.returned.notify_one();
    }
}
