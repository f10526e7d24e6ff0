//! One request a host at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Hosts remembered before the idle ones are dropped from the map.
const MAX_IDLE_HOSTS: usize = 1_024;

/// Lets one caller a host pass at a time; others wait in order of arrival.
#[derive(Debug, Default)]
pub struct HostGate {
    hosts: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

/// The right to talk to one host, given back when dropped.
#[derive(Debug)]
pub struct HostPermit {
    _guard: OwnedMutexGuard<()>,
}

impl HostGate {
    /// Waits until no one else talks to `host`.
    pub async fn enter(&self, host: &str) -> HostPermit {
        let lock = self.lock_of(host);
        HostPermit { _guard: lock.lock_owned().await }
    }

    fn lock_of(&self, host: &str) -> Arc<AsyncMutex<()>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MAX_IDLE_HOSTS && !hosts.contains_key(host) {
            // A lock that only the map holds has neither holder nor waiter.
            hosts.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(hosts.entry(host.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn a_second_caller_waits_for_the_first() {
        let gate = HostGate::default();
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(gate.enter("a.example")).poll(&mut context) else {
            panic!("the first caller must not wait")
        };
        let mut second = pin!(gate.enter("a.example"));
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(pin!(gate.enter("b.example")).poll(&mut context).is_ready());
        drop(first);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn idle_hosts_are_forgotten_and_busy_ones_kept() {
        let gate = HostGate::default();
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(_busy) = pin!(gate.enter("busy.example")).poll(&mut context) else {
            panic!("the first caller must not wait")
        };
        for n in 0..3 * MAX_IDLE_HOSTS {
            gate.lock_of(&format!("host{n}.example"));
        }
        assert!(gate.hosts.lock().expect("not poisoned").len() <= MAX_IDLE_HOSTS);
        assert!(pin!(gate.enter("busy.example")).poll(&mut context).is_pending());
    }
}
