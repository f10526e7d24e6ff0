//! A circuit breaker: after some failures in a row nothing is sent for a while, then one request tries whether it is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// What the breaker does with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// It passes.
    Closed,
    /// It passes alone, to try.
    HalfOpen,
    /// It is refused.
    Open,
}

#[derive(Debug)]
pub(super) struct Breaker {
    threshold: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    probing: bool,
}

impl State {
    fn read(&self, now: Instant) -> BreakerState {
        match self.open_until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }
}

impl Breaker {
    pub(super) fn new(threshold: u32, pause: Duration) -> Self {
        Self { threshold, pause, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        self.lock().read(now)
    }

    /// Whether a request that came now would pass.
    pub(super) fn lets_pass(&self, now: Instant) -> bool {
        let state = self.lock();
        match state.read(now) {
            BreakerState::Closed => true,
            BreakerState::HalfOpen => !state.probing,
            BreakerState::Open => false,
        }
    }

    /// Lets a request pass, or not. Its outcome is to be told.
    pub(super) fn enter(&self, now: Instant) -> Option<Pass<'_>> {
        let mut state = self.lock();
        let probe = match state.read(now) {
            BreakerState::Closed => false,
            BreakerState::HalfOpen if !state.probing => true,
            _ => return None,
        };
        state.probing |= probe;
        Some(Pass { breaker: self, probe })
    }
}

/// A request that passed. Dropped without an outcome it changes nothing, and the next request may try.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Pass<'_> {
    /// True when this closed the breaker.
    pub(super) fn succeeded(self) -> bool {
        let mut state = self.breaker.lock();
        // A request from before the breaker opened says nothing of now.
        if state.open_until.is_some() && !self.probe {
            return false;
        }
        state.failures = 0;
        state.open_until.take().is_some()
    }

    /// True when this opened the breaker, which was closed.
    pub(super) fn failed(self, now: Instant) -> bool {
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        let was_closed = state.open_until.is_none();
        let opens = self.probe || (was_closed && state.failures >= self.breaker.threshold);
        if opens {
            state.open_until = Some(now + self.breaker.pause);
        }
        opens && was_closed
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new(2, PAUSE);
        assert!(!breaker.enter(now).unwrap().failed(now));
        assert!(breaker.enter(now).unwrap().failed(now), "the second failure in a row opens it");
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let now = Instant::now();
        let breaker = Breaker::new(2, PAUSE);
        for _ in 0..3 {
            breaker.enter(now).unwrap().failed(now);
            breaker.enter(now).unwrap().succeeded();
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
        let breaker = opened(now);
        assert_eq!(breaker.state(now), BreakerState::Open);
        assert!(!breaker.lets_pass(now) && breaker.enter(now).is_none());
    }

    #[test]
    fn one_request_tries_after_the_pause_and_closes_it() {
        let now = Instant::now();
        let (breaker, later) = (opened(now), now + PAUSE);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        let probe = breaker.enter(later).unwrap();
        assert!(breaker.enter(later).is_none(), "the others wait for what the first finds");
        assert!(probe.succeeded());
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn a_failed_try_waits_for_another_pause_and_one_cut_off_for_none() {
        let now = Instant::now();
        let (breaker, later) = (opened(now), now + PAUSE);
        drop(breaker.enter(later).unwrap());
        assert!(!breaker.enter(later).unwrap().failed(later), "it was open already");
        assert_eq!(breaker.state(later), BreakerState::Open);
        assert_eq!(breaker.state(later + PAUSE), BreakerState::HalfOpen);
    }

    #[test]
    fn an_answer_from_before_does_not_close_it() {
        let now = Instant::now();
        let breaker = Breaker::new(1, PAUSE);
        let slow = breaker.enter(now).unwrap();
        assert!(breaker.enter(now).unwrap().failed(now));
        assert!(!slow.succeeded());
        assert_eq!(breaker.state(now), BreakerState::Open);
    }
}
