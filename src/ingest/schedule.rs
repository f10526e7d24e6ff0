//! When to fetch a source next. Pure functions: time and randomness are arguments.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::fetch::RetryAfter;

/// Shortest time between two fetches of a source.
pub const MIN_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Longest time between two fetches, and longest wait after failures or by a server's wish.
pub const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// The interval of a source not fetched before.
pub const INITIAL_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The share of new entries to aim for. At a fifth, a source may quintuple its pace between two fetches
/// before entries are lost.
const TARGET_SHARE: f64 = 0.2;
/// How much one fetch may shorten and lengthen the interval.
const MAX_SHORTENING: f64 = 1.0 / 3.0;
const MAX_LENGTHENING: f64 = 1.5;

/// The interval after a successful fetch that found `new` new entries among `total`. `previous` is the
/// interval that led to this fetch; a first fetch has none, and finds all new, which tells nothing.
pub fn next_interval(previous: Option<Duration>, total: u32, new: u32) -> Duration {
    let Some(previous) = previous else { return INITIAL_INTERVAL };
    let factor = if total == 0 || new == 0 {
        MAX_LENGTHENING
    } else {
        let share = f64::from(new.min(total)) / f64::from(total);
        (TARGET_SHARE / share).clamp(MAX_SHORTENING, MAX_LENGTHENING)
    };
    previous.clamp(MIN_INTERVAL, MAX_INTERVAL).mul_f64(factor).clamp(MIN_INTERVAL, MAX_INTERVAL)
}

/// The wait after the `failures`-th failure in a row (from 1): doubling from [`MIN_INTERVAL`] to
/// [`MAX_INTERVAL`], of which `jitter` in 0..1 takes away up to half, so that sources that failed together do
/// not return together. A server's `Retry-After` is obeyed when it asks for longer, up to [`MAX_INTERVAL`].
pub fn failure_delay(
    failures: u32,
    retry_after: Option<RetryAfter>,
    now: DateTime<Utc>,
    jitter: f64,
) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = MIN_INTERVAL.saturating_mul(1 << doublings).min(MAX_INTERVAL);
    let jittered = full.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0));
    let asked = retry_after.map_or(Duration::ZERO, |retry_after| retry_after.delay(now)).min(MAX_INTERVAL);
    jittered.max(asked)
}

/// Whether a fetch may be conditional. Some servers answer 304 for ever, so an unchanged validator is
/// believed for a day after the last full answer; a full answer in the future is a clock gone wrong.
pub fn conditional_allowed(last_full_answer: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    last_full_answer.is_some_and(|last| (now - last).to_std().is_ok_and(|age| age < MAX_INTERVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).single().expect("a valid instant")
    }

    #[test]
    fn interval_follows_the_share_of_new_entries() {
        assert_eq!(next_interval(None, 50, 50), INITIAL_INTERVAL);
        assert_eq!(next_interval(Some(HOUR), 50, 10), HOUR);
        assert_eq!(next_interval(Some(HOUR), 50, 50), HOUR / 3);
        assert_eq!(next_interval(Some(HOUR), 50, 20), HOUR / 2);
        assert_eq!(next_interval(Some(HOUR), 50, 0), HOUR + HOUR / 2);
        assert_eq!(next_interval(Some(HOUR), 0, 0), HOUR + HOUR / 2);
        assert_eq!(next_interval(Some(HOUR), 10, 99), HOUR / 3);
    }

    #[test]
    fn interval_stays_within_its_bounds() {
        assert_eq!(next_interval(Some(MIN_INTERVAL), 10, 10), MIN_INTERVAL);
        assert_eq!(next_interval(Some(MAX_INTERVAL), 10, 0), MAX_INTERVAL);
        assert_eq!(next_interval(Some(Duration::ZERO), 10, 10), MIN_INTERVAL);
        assert_eq!(next_interval(Some(Duration::MAX), 10, 0), MAX_INTERVAL);
    }

    #[test]
    fn an_interval_settles_at_the_target_share() {
        // A feed of 50 entries with a new one every 6 minutes: a fifth is new after an hour.
        let mut interval = MAX_INTERVAL;
        for _ in 0..10 {
            let new = u32::try_from(interval.as_secs() / 360).expect("small").min(50);
            interval = next_interval(Some(interval), 50, new);
        }
        assert!(interval.abs_diff(HOUR) < Duration::from_secs(360), "{interval:?}");
    }

    #[test]
    fn failures_back_off_to_a_day() {
        assert_eq!(failure_delay(1, None, now(), 0.0), MIN_INTERVAL);
        assert_eq!(failure_delay(2, None, now(), 0.0), MIN_INTERVAL * 2);
        assert_eq!(failure_delay(2, None, now(), 1.0), MIN_INTERVAL);
        assert_eq!(failure_delay(8, None, now(), 0.0), MIN_INTERVAL * 128);
        assert_eq!(failure_delay(9, None, now(), 0.0), MAX_INTERVAL);
        assert_eq!(failure_delay(u32::MAX, None, now(), 0.0), MAX_INTERVAL);
        assert_eq!(failure_delay(0, None, now(), 0.0), MIN_INTERVAL);
        assert_eq!(failure_delay(9, None, now(), 7.0), MAX_INTERVAL / 2);
    }

    #[test]
    fn retry_after_is_obeyed_within_a_day() {
        let asked = |seconds| Some(RetryAfter::Delay(Duration::from_secs(seconds)));
        assert_eq!(failure_delay(1, asked(7_200), now(), 0.5), HOUR * 2);
        assert_eq!(failure_delay(1, asked(1), now(), 0.0), MIN_INTERVAL);
        assert_eq!(failure_delay(1, asked(u64::MAX), now(), 0.0), MAX_INTERVAL);
        let at = RetryAfter::At(now() + chrono::Duration::hours(3));
        assert_eq!(failure_delay(1, Some(at), now(), 0.0), HOUR * 3);
    }

    #[test]
    fn validators_are_believed_for_a_day() {
        let ago = |seconds| Some(now() - chrono::Duration::seconds(seconds));
        assert!(!conditional_allowed(None, now()));
        assert!(conditional_allowed(ago(0), now()));
        assert!(conditional_allowed(ago(86_399), now()));
        assert!(!conditional_allowed(ago(86_400), now()));
        assert!(!conditional_allowed(ago(-60), now()));
    }
}
