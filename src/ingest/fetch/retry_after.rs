//! The `Retry-After` header (RFC 9110, section 10.2.3).

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::ingest::feed::parse_date;

/// When a server asks its client to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// After this long.
    Delay(Duration),
    /// Not before this instant.
    At(DateTime<Utc>),
}

impl RetryAfter {
    /// Reads the header's value: whole seconds or an HTTP date. Anything else is `None`.
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
            // More digits than a u64 holds still mean "very long"; the schedule bounds it.
            return Some(Self::Delay(Duration::from_secs(value.parse().unwrap_or(u64::MAX))));
        }
        parse_date(value).map(Self::At)
    }

    /// How long that is from `now`; zero when the instant has passed.
    pub fn delay(self, now: DateTime<Utc>) -> Duration {
        match self {
            Self::Delay(delay) => delay,
            Self::At(instant) => (instant - now).to_std().unwrap_or(Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn reads_seconds_and_dates() {
        assert_eq!(RetryAfter::parse(" 120 "), Some(RetryAfter::Delay(Duration::from_secs(120))));
        let at = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).single().expect("a valid instant");
        assert_eq!(RetryAfter::parse("Sun, 01 Mar 2026 12:00:00 GMT"), Some(RetryAfter::At(at)));
        assert_eq!(
            RetryAfter::parse("99999999999999999999999"),
            Some(RetryAfter::Delay(Duration::from_secs(u64::MAX)))
        );
        assert_eq!(RetryAfter::parse("soon"), None);
        assert_eq!(RetryAfter::parse("-5"), None);
        assert_eq!(RetryAfter::parse(""), None);
    }

    #[test]
    fn a_passed_instant_is_no_delay() {
        let now = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).single().expect("a valid instant");
        let at = |seconds| RetryAfter::At(now + chrono::Duration::seconds(seconds));
        assert_eq!(at(-60).delay(now), Duration::ZERO);
        assert_eq!(at(90).delay(now), Duration::from_secs(90));
    }
}
