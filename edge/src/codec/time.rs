//! `Timestamp` (RFC 3339) and `Duration` in their JSON forms.

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// 0001-01-01T00:00:00Z
const MIN_TIMESTAMP: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z
const MAX_TIMESTAMP: i64 = 253_402_300_799;
/// About 10,000 years, the limit that duration.proto sets.
const MAX_DURATION: i64 = 315_576_000_000;

/// What a text that is no timestamp should have been.
pub(super) const TIMESTAMP_FORM: &str =
    "expected an RFC 3339 time such as 2026-03-01T12:30:00Z, years 1 to 9999";
/// What a text that is no duration should have been.
pub(super) const DURATION_FORM: &str = "expected seconds such as 1.5s, at most 315576000000";

/// Appends a quoted RFC 3339 time in UTC with 0, 3, 6 or 9 digits of a second; `None` outside years 1 to 9999.
pub(super) fn write_timestamp(seconds: i64, nanos: i32, out: &mut Vec<u8>) -> Option<()> {
    let nanos = i64::from(nanos);
    let seconds = seconds.checked_add(nanos.div_euclid(NANOS_PER_SECOND))?;
    if !(MIN_TIMESTAMP..=MAX_TIMESTAMP).contains(&seconds) {
        return None;
    }
    let (year, month, day) = civil_date(seconds.div_euclid(SECONDS_PER_DAY));
    let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    out.push(b'"');
    digits(year, 4, out);
    out.push(b'-');
    digits(month, 2, out);
    out.push(b'-');
    digits(day, 2, out);
    out.push(b'T');
    digits(second_of_day / 3600, 2, out);
    out.push(b':');
    digits(second_of_day / 60 % 60, 2, out);
    out.push(b':');
    digits(second_of_day % 60, 2, out);
    fraction(nanos.rem_euclid(NANOS_PER_SECOND), out);
    out.extend_from_slice(b"Z\"");
    Some(())
}

/// Appends a quoted duration such as `"-1.500s"`; `None` beyond 10,000 years.
pub(super) fn write_duration(seconds: i64, nanos: i32, out: &mut Vec<u8>) -> Option<()> {
    let total = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
    let magnitude = total.unsigned_abs();
    let seconds = i64::try_from(magnitude / 1_000_000_000).ok().filter(|seconds| *seconds <= MAX_DURATION)?;
    out.extend_from_slice(if total < 0 { b"\"-" } else { b"\"" });
    out.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
    fraction((magnitude % 1_000_000_000) as i64, out);
    out.extend_from_slice(b"s\"");
    Some(())
}

/// Reads an RFC 3339 time with upper-case `T` and `Z`, at most 9 digits of a second, any offset; returns seconds
/// since 1970 and nanoseconds. A leap second counts as the second before it, since the type has none.
pub(super) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let mut rest = text.as_bytes();
    let year = number(&mut rest, 4)?;
    expect(&mut rest, b'-')?;
    let month = number(&mut rest, 2)?;
    expect(&mut rest, b'-')?;
    let day = number(&mut rest, 2)?;
    expect(&mut rest, b'T')?;
    let hour = number(&mut rest, 2)?;
    expect(&mut rest, b':')?;
    let minute = number(&mut rest, 2)?;
    expect(&mut rest, b':')?;
    let second = number(&mut rest, 2)?;
    let nanos = parse_fraction(&mut rest)?;
    let offset = match rest.split_first()? {
        (b'Z', []) => 0,
        (sign @ (b'+' | b'-'), mut rest) => {
            let hours = number(&mut rest, 2)?;
            expect(&mut rest, b':')?;
            let minutes = number(&mut rest, 2)?;
            if !rest.is_empty() || hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let days = days_since_1970(year, month, day)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second.min(59) - offset;
    (MIN_TIMESTAMP..=MAX_TIMESTAMP).contains(&seconds).then_some((seconds, nanos))
}

/// Reads a duration such as `1.5s`: at most 9 digits of a second and 10,000 years; seconds and nanoseconds of one
/// sign.
pub(super) fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text),
    };
    let whole = text.bytes().take_while(u8::is_ascii_digit).count();
    let seconds: i64 = text.get(..whole)?.parse().ok()?;
    let mut rest = &text.as_bytes()[whole..];
    let nanos = parse_fraction(&mut rest)?;
    (rest == b"s" && seconds <= MAX_DURATION).then_some((sign * seconds, sign as i32 * nanos))
}

fn digits(value: i64, width: u32, out: &mut Vec<u8>) {
    out.extend((0..width).rev().map(|place| b'0' + (value / 10_i64.pow(place) % 10) as u8));
}

fn fraction(nanos: i64, out: &mut Vec<u8>) {
    let (value, width) = match nanos {
        0 => return,
        n if n % 1_000_000 == 0 => (n / 1_000_000, 3),
        n if n % 1000 == 0 => (n / 1000, 6),
        n => (n, 9),
    };
    out.push(b'.');
    digits(value, width, out);
}

fn parse_fraction(rest: &mut &[u8]) -> Option<i32> {
    let Some(after_point) = rest.strip_prefix(b".") else { return Some(0) };
    let count = after_point.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 || count > 9 {
        return None;
    }
    *rest = after_point;
    let value = number(rest, count)?;
    Some(value as i32 * 10_i32.pow(9 - count as u32))
}

/// Takes exactly `width` digits, at most 9.
fn number(rest: &mut &[u8], width: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(width)?;
    *rest = tail;
    head.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

fn expect(rest: &mut &[u8], byte: u8) -> Option<()> {
    let (head, tail) = rest.split_first()?;
    *rest = tail;
    (*head == byte).then_some(())
}

/// Proleptic Gregorian date of a day, counted in 400-year eras of years that start on 1 March.
fn civil_date(days_since_1970: i64) -> (i64, i64, i64) {
    let days = days_since_1970 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_date`]; `None` for a date that does not exist.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    // The 31st of a shorter month comes back as the 1st of the next.
    (civil_date(days) == (year, month, day)).then_some(days)
}
