//! The rate limit: a bucket of one token, so that requests leave evenly spaced and no minute has more than its share.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Limit {
    interval: Duration,
    /// When the next request may leave.
    next: Mutex<Option<Instant>>,
}

impl Limit {
    pub(super) fn new(requests_per_minute: u32) -> Self {
        Self { interval: Duration::from_secs(60) / requests_per_minute.max(1), next: Mutex::new(None) }
    }

    /// Takes the next turn and says when it is; none, and nothing is taken, when that would not be before `deadline`.
    pub(super) fn reserve(&self, now: Instant, deadline: Instant) -> Option<Instant> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        if turn >= deadline {
            return None;
        }
        *next = Some(turn + self.interval);
        Some(turn)
    }

    /// No turn before `until`.
    pub(super) fn hold(&self, until: Instant) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Some(next.map_or(until, |next| next.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_a_minute_leave_every_two_seconds() {
        let (limit, now) = (Limit::new(30), Instant::now());
        let deadline = now + Duration::from_secs(3_600);
        for turn in 0..90 {
            assert_eq!(limit.reserve(now, deadline), Some(now + Duration::from_secs(2 * turn)));
        }
        let later = now + Duration::from_secs(1_000);
        assert_eq!(limit.reserve(later, deadline), Some(later), "idle time is not saved up");
        assert_eq!(limit.reserve(later, deadline), Some(later + Duration::from_secs(2)));
    }

    #[test]
    fn a_turn_past_the_deadline_is_not_taken() {
        let (limit, now) = (Limit::new(1), Instant::now());
        let soon = now + Duration::from_secs(30);
        assert_eq!(limit.reserve(now, soon), Some(now));
        assert_eq!(limit.reserve(now, soon), None);
        let minute = now + Duration::from_secs(60);
        assert_eq!(limit.reserve(now, minute + Duration::from_secs(1)), Some(minute));
    }

    #[test]
    fn nothing_leaves_while_the_server_wants_to_be_left_alone() {
        let (limit, now) = (Limit::new(60), Instant::now());
        let until = now + Duration::from_secs(20);
        limit.hold(until);
        limit.hold(now);
        assert_eq!(limit.reserve(now, until), None);
        assert_eq!(limit.reserve(now, until + Duration::from_secs(1)), Some(until));
    }
}
