//! Dates as feeds write them: RFC 822 and its successors, RFC 3339, ISO 8601, and common slips of each.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};

/// Longest text looked at, in bytes.
const MAX_LENGTH: usize = 64;

/// Years a feed can mean; others are placeholders such as 1970-01-01 or 0001-01-01.
const YEARS: std::ops::RangeInclusive<i32> = 1990..=2100;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Reads a date in any of the forms that feeds use. A time without a zone is taken as UTC, a date without a
/// time as midnight. What cannot be read for certain (another language's month names, an unknown zone) is
/// `None`: no date is ever guessed.
pub fn parse_date(raw: &str) -> Option<DateTime<Utc>> {
    let raw = raw.trim();
    if raw.len() > MAX_LENGTH {
        return None;
    }
    let (date, time, zone) = if raw.get(..5).is_some_and(|s| s.ends_with('-') && is_number(&s[..4], 4..=4)) {
        split_iso(raw)?
    } else {
        split_rfc822(raw)?
    };
    let local = NaiveDateTime::new(date, parse_time(time)?);
    let instant = parse_zone(zone)?.from_local_datetime(&local).single()?.to_utc();
    YEARS.contains(&instant.year()).then_some(instant)
}

/// `2026-03-01T12:00:00.5+01:00`, with a space for the `T`, or only its first ten characters.
fn split_iso(raw: &str) -> Option<(NaiveDate, &str, &str)> {
    let (date, rest) = (raw.get(..10)?, raw.get(10..)?);
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let rest = match rest.strip_prefix(['T', 't', ' ']) {
        Some(rest) => rest.trim_start(),
        None if rest.is_empty() => "",
        None => return None,
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, ':' | '.' | ',')).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(end);
    Some((date, time, zone.trim_start()))
}

/// `Sun, 1 Mar 2026 12:00:00 GMT`, where the day's name may be missing, long, wrong or in any language.
fn split_rfc822(raw: &str) -> Option<(NaiveDate, &str, &str)> {
    let rest = raw.split_once(',').map_or(raw, |(_day_name, rest)| rest);
    let mut words = rest.split_ascii_whitespace().peekable();
    if words.peek()?.starts_with(char::is_alphabetic) {
        words.next();
    }
    // "1 Mar 2026" and "1-Mar-2026" alike.
    let first = words.next()?;
    let (day, month, year) =
        match first.split_once('-').and_then(|(d, rest)| Some((d, rest.split_once('-')?))) {
            Some((day, (month, year))) => (day, month, year),
            None => (first, words.next()?, words.next()?),
        };
    let time = words.next().unwrap_or_default();
    let zone = words.next().unwrap_or_default();
    // A comment such as "(CET)" may follow the offset; anything else is not a date we know.
    if words.next().is_some_and(|word| !word.starts_with('(')) {
        return None;
    }
    let day = is_number(day, 1..=2).then(|| day.parse().ok())??;
    Some((NaiveDate::from_ymd_opt(parse_year(year)?, parse_month(month)?, day)?, time, zone))
}

fn parse_month(raw: &str) -> Option<u32> {
    let name = raw.trim_end_matches('.').to_ascii_lowercase();
    let index = MONTHS.iter().position(|month| {
        name == *month || name == month[..3] || (name == "sept" && *month == "september")
    })?;
    u32::try_from(index + 1).ok()
}

/// Four digits, or two as RFC 2822, section 4.3, reads them.
fn parse_year(raw: &str) -> Option<i32> {
    let year: i32 = is_number(raw, 2..=4).then(|| raw.parse().ok())??;
    match raw.len() {
        4 => Some(year),
        2 if year < 50 => Some(2000 + year),
        2 => Some(1900 + year),
        _ => None,
    }
}

/// `12:00`, `12:00:00`, `9:05:00.25`; nothing is midnight; a leap second is the second before it.
fn parse_time(raw: &str) -> Option<NaiveTime> {
    if raw.is_empty() {
        return Some(NaiveTime::MIN);
    }
    let whole_seconds = raw.split(['.', ',']).next()?;
    let mut parts = whole_seconds.split(':');
    let mut part = || parts.next().map(|p| is_number(p, 1..=2).then(|| p.parse::<u32>().ok()).flatten());
    let (hour, minute, second) = (part()??, part()??, part().unwrap_or(Some(0))?);
    if parts.next().is_some() {
        return None;
    }
    NaiveTime::from_hms_opt(hour, minute, if second == 60 { 59 } else { second })
}

/// An offset, or a zone's name of RFC 822 or of Europe.
fn parse_zone(raw: &str) -> Option<FixedOffset> {
    let hours = match raw.to_ascii_uppercase().as_str() {
        "" | "Z" | "UT" | "UTC" | "GMT" | "WET" => 0,
        "BST" | "WEST" | "CET" | "MET" => 1,
        "CEST" | "MEST" | "EET" => 2,
        "EEST" | "MSK" => 3,
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        offset => return parse_offset(offset),
    };
    FixedOffset::east_opt(hours * 3_600)
}

/// `+01:00`, `+0100`, `+01`, also after a `GMT` or `UTC`.
fn parse_offset(raw: &str) -> Option<FixedOffset> {
    let raw = raw.strip_prefix("GMT").or_else(|| raw.strip_prefix("UTC")).unwrap_or(raw);
    let (sign, digits) = match raw.strip_prefix('+') {
        Some(digits) => (1, digits),
        None => (-1, raw.strip_prefix(['-', '−'])?),
    };
    let digits = digits.replace(':', "");
    let number: i32 = is_number(&digits, 2..=4).then(|| digits.parse().ok())??;
    let (hours, minutes) = match digits.len() {
        2 => (number, 0),
        4 => (number / 100, number % 100),
        _ => return None,
    };
    // No zone is further from Greenwich than fourteen hours.
    (hours <= 14 && minutes < 60).then(|| FixedOffset::east_opt(sign * (hours * 3_600 + minutes * 60)))?
}

fn is_number(raw: &str, digits: std::ops::RangeInclusive<usize>) -> bool {
    digits.contains(&raw.len()) && raw.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_instant() {
        let noon = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).single().expect("a valid instant");
        for text in [
            "Sun, 01 Mar 2026 12:00:00 GMT",
            "Sun, 1 Mar 2026 12:00:00 +0000",
            "Sun, 01 Mar 2026 12:00 GMT",
            "Sun,01 Mar 2026 12:00:00 Z",
            "Wednesday, 01 March 2026 12:00:00 UTC",
            "dim., 01 Mar 2026 12:00:00 UT",
            "Sun 01 Mar 2026 12:00:00 GMT",
            "01 Mar 2026 13:00:00 CET",
            "1 Mar 26 13:00:00 +0100",
            "01-Mar-2026 12:00:00 GMT",
            "Sun, 01 Mar 2026 13:00:00 +01:00",
            "Sun, 01 Mar 2026 13:00:00 GMT+0100",
            "Sun, 01 Mar 2026 07:00:00 EST",
            "Sun, 01 Mar 2026 12:00:00 +0000 (UTC)",
            "Sun, 01 Mar 2026 12:00:00",
            "2026-03-01T12:00:00Z",
            "2026-03-01t12:00:00z",
            "2026-03-01T12:00:00.987654321Z",
            "2026-03-01T13:00:00+01:00",
            "2026-03-01T13:00:00+0100",
            "2026-03-01T13:00+01",
            "2026-03-01 12:00:00",
            "2026-03-01 12:00:00 UTC",
            "2026-03-01 13:00:00 +0100",
            "  2026-03-01T12:00  ",
        ] {
            assert_eq!(parse_date(text), Some(noon), "{text}");
        }
        assert_eq!(
            parse_date("2026-03-01").map(|d| d.to_rfc3339()).as_deref(),
            Some("2026-03-01T00:00:00+00:00")
        );
        assert_eq!(
            parse_date("Tue, 30 Jun 2015 23:59:60 GMT").map(|d| d.to_rfc3339()).as_deref(),
            Some("2015-06-30T23:59:59+00:00")
        );
    }

    #[test]
    fn no_date_is_guessed() {
        for text in [
            "",
            "yesterday",
            "01/03/2026",
            "1 März 2026 12:00:00 GMT",
            "lun., 12 janv. 2026 10:00:00 +0100",
            "12 marraskuuta 2026",
            "Sun, 32 Mar 2026 12:00:00 GMT",
            "Sun, 01 Mar 2026 25:00:00 GMT",
            "Sun, 01 Mar 2026 12:00:00 XYZ",
            "Sun, 01 Mar 2026 12:00:00 PM",
            "2026-13-01T00:00:00Z",
            "2026-02-30",
            "0001-01-01T00:00:00Z",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "9999-12-31T23:59:59Z",
            "2026-03-01T12:00:00+99:00",
            "2026-03-01T1:2:3:4Z",
            "2026-03-01Tnoon",
            "2026-",
            "-1-1-1",
            "1-1-",
            "é, é é é",
            "１ Mar 2026",
            "Sun, 01 Mar 2026 12:00:00 GMT and then some more text that nobody would ever call a date",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
