//! Scalar values from text to wire bytes, for JSON and for parameters alike.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::names::snake_case;
use super::wire::{begin_length, end_length, put_varint, zigzag};
use crate::plan::Kind;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Why a text is no value of its kind, to follow the field's name.
pub(super) type Reason = &'static str;

/// Length of the RFC 8259 number that `bytes` start with, if they do.
pub(super) fn number_length(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    at += match bytes.get(at)? {
        b'0' => 1,
        b'1'..=b'9' => digits(at),
        _ => return None,
    };
    if bytes.get(at) == Some(&b'.') {
        let count = digits(at + 1);
        if count == 0 {
            return None;
        }
        at += 1 + count;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        let count = digits(at);
        if count == 0 {
            return None;
        }
        at += count;
    }
    Some(at)
}

/// Appends a number (without its tag) given as an RFC 8259 number.
pub(super) fn put_number(kind: Kind, text: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
    let is_number = || number_length(text.as_bytes()) == Some(text.len());
    match kind {
        Kind::Double | Kind::Float if !is_number() => return Err("expected a number"),
        Kind::Double => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => out.extend_from_slice(&value.to_le_bytes()),
            _ => return Err("out of range for a double"),
        },
        Kind::Float => match text.parse::<f32>() {
            Ok(value) if value.is_finite() => out.extend_from_slice(&value.to_le_bytes()),
            _ => return Err("out of range for a float"),
        },
        _ => put_integer(kind, integer(text)?, out)?,
    }
    Ok(())
}

/// Appends a number given as text that may also be `NaN`, `Infinity` or `-Infinity` where the kind has them.
pub(super) fn put_number_text(kind: Kind, text: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
    let special = match text {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => return put_number(kind, text, out),
    };
    match kind {
        Kind::Double => out.extend_from_slice(&special.to_le_bytes()),
        Kind::Float => out.extend_from_slice(&(special as f32).to_le_bytes()),
        _ => return Err("expected an integer"),
    }
    Ok(())
}

/// Appends an integer of an integer or enum kind.
pub(super) fn put_integer(kind: Kind, value: i128, out: &mut Vec<u8>) -> Result<(), Reason> {
    let i32 = || i32::try_from(value).map_err(|_| "out of range for a 32-bit integer");
    let u32 = || u32::try_from(value).map_err(|_| "out of range for an unsigned 32-bit integer");
    let i64 = || i64::try_from(value).map_err(|_| "out of range for a 64-bit integer");
    let u64 = || u64::try_from(value).map_err(|_| "out of range for an unsigned 64-bit integer");
    match kind {
        // Negative numbers take ten bytes: the wire extends every varint to 64 bits.
        Kind::Int32 | Kind::Enum(_) => put_varint(i64::from(i32()?) as u64, out),
        Kind::Int64 => put_varint(i64()? as u64, out),
        Kind::Uint32 => put_varint(u32()?.into(), out),
        Kind::Uint64 => put_varint(u64()?, out),
        Kind::Sint32 => put_varint(zigzag(i32()?.into()), out),
        Kind::Sint64 => put_varint(zigzag(i64()?), out),
        Kind::Fixed32 => out.extend_from_slice(&u32()?.to_le_bytes()),
        Kind::Fixed64 => out.extend_from_slice(&u64()?.to_le_bytes()),
        Kind::Sfixed32 => out.extend_from_slice(&i32()?.to_le_bytes()),
        Kind::Sfixed64 => out.extend_from_slice(&i64()?.to_le_bytes()),
        _ => return Err("expected no number"),
    }
    Ok(())
}

/// The value of a text that is an RFC 8259 number without a fractional part: `7`, `7.0`, `70e-1`, `7E0`.
pub(super) fn integer(number: &str) -> Result<i128, Reason> {
    const FRACTION: Reason = "expected an integer";
    const RANGE: Reason = "out of range for an integer";
    if number_length(number.as_bytes()) != Some(number.len()) {
        return Err(FRACTION);
    }
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number),
    };
    let value = if digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.bytes().fold(0_u64, |value, byte| value * 10 + u64::from(byte - b'0')).into()
    } else {
        let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                let sign = if exponent.starts_with('-') { -1 } else { 1 };
                let size = exponent.trim_start_matches(['+', '-']).parse().unwrap_or(i32::MAX);
                (mantissa, i64::from(size) * sign)
            }
            None => (digits, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = whole.bytes().chain(fraction.bytes()).skip_while(|byte| *byte == b'0');
        // No 64-bit integer has more than 20 digits; zeros behind them may still be shifted away.
        let (mut value, mut places, mut zeros) = (0_i128, 0_i64, 0_i64);
        for byte in all {
            if byte == b'0' {
                zeros += 1;
                continue;
            }
            places += zeros + 1;
            if places > 20 {
                return Err(if fraction.is_empty() { RANGE } else { FRACTION });
            }
            value = value * 10_i128.pow((zeros + 1) as u32) + i128::from(byte - b'0');
            zeros = 0;
        }
        let shift = exponent - fraction.len() as i64 + zeros;
        match shift {
            _ if value == 0 => 0,
            ..0 => return Err(FRACTION),
            _ if places + shift > 20 => return Err(RANGE),
            _ => value * 10_i128.pow(shift as u32),
        }
    };
    Ok(if negative { -value } else { value })
}

/// Appends `bytes` behind their length.
pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends bytes, behind their length, given in the standard or the URL-safe base64 alphabet, padded or not.
pub(super) fn put_base64(text: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
    let start = begin_length(out);
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    engine.decode_vec(text, out).map_err(|_| "expected base64")?;
    end_length(start, out);
    Ok(())
}

/// Appends the fields of a `Timestamp` or `Duration`.
pub(super) fn put_seconds_and_nanos(seconds: i64, nanos: i32, out: &mut Vec<u8>) {
    for (tag, value) in [(0x08, seconds), (0x10, i64::from(nanos))] {
        if value != 0 {
            out.push(tag);
            put_varint(value as u64, out);
        }
    }
}

/// Appends the `paths` of a `FieldMask` from a comma-separated list.
pub(super) fn put_field_mask(text: &str, out: &mut Vec<u8>) {
    for path in text.split(',').filter(|path| !path.is_empty()) {
        let mut snake = Vec::with_capacity(path.len() + 4);
        snake_case(path, &mut snake);
        out.push(0x0a);
        put_bytes(&snake, out);
    }
}
