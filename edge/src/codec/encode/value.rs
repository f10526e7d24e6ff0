//! Single values as JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Content, Context, message_content};
use crate::codec::WireError;
use crate::codec::escape::write_string;
use crate::codec::wire::{Raw, unzigzag};
use crate::plan::Kind;

impl Context<'_> {
    /// Writes one value of the field with that number.
    #[inline]
    pub(super) fn value(
        self,
        kind: Kind,
        number: u32,
        raw: Raw<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        match (kind, raw) {
            // The narrow integers keep the low 32 bits, as every protobuf decoder does.
            (Kind::Int32, Raw::Varint(v)) => integer(v as i32, out),
            (Kind::Uint32, Raw::Varint(v)) => integer(v as u32, out),
            (Kind::Sint32, Raw::Varint(v)) => integer(unzigzag(u64::from(v as u32)) as i32, out),
            (Kind::Fixed32, Raw::Fixed32(v)) => integer(v, out),
            (Kind::Sfixed32, Raw::Fixed32(v)) => integer(v as i32, out),
            (Kind::Int64, Raw::Varint(v)) => quoted(v as i64, out),
            (Kind::Uint64, Raw::Varint(v)) => quoted(v, out),
            (Kind::Sint64, Raw::Varint(v)) => quoted(unzigzag(v), out),
            (Kind::Fixed64, Raw::Fixed64(v)) => quoted(v, out),
            (Kind::Sfixed64, Raw::Fixed64(v)) => quoted(v as i64, out),
            (Kind::Bool, Raw::Varint(v)) => out.extend_from_slice(if v == 0 { b"false" } else { b"true" }),
            (Kind::Float, Raw::Fixed32(v)) => {
                let v = f32::from_bits(v);
                if v.is_finite() { finite(v, out) } else { non_finite(v.into(), out) }
            }
            (Kind::Double, Raw::Fixed64(v)) => {
                let v = f64::from_bits(v);
                if v.is_finite() { finite(v, out) } else { non_finite(v, out) }
            }
            (Kind::Enum(id), Raw::Varint(v)) => self.plan.get_enum(id).write(v as i32, out),
            (Kind::String, Raw::Bytes(v)) => {
                write_string(std::str::from_utf8(v).map_err(|_| WireError::Utf8(number))?, out);
            }
            (Kind::Bytes, Raw::Bytes(v)) => bytes(v, out),
            (Kind::Message(id) | Kind::Group(id), raw) => {
                let content = message_content(kind, number, raw)?;
                return self.deeper()?.message(id, Content::Run(content), out);
            }
            _ => return Err(WireError::WireType(number)),
        }
        Ok(())
    }
}

pub(super) fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub(super) fn quoted(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.push(b'"');
    integer(value, out);
    out.push(b'"');
}

pub(super) fn finite(value: impl zmij::Float, out: &mut Vec<u8>) {
    out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
}

fn non_finite(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(match value {
        f64::INFINITY => b"\"Infinity\"",
        f64::NEG_INFINITY => b"\"-Infinity\"",
        _ => b"\"NaN\"",
    });
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + value.len().div_ceil(3) * 4, 0);
    BASE64_STANDARD
        .encode_slice(value, &mut out[start..])
        .expect("four characters for each three bytes begun");
    out.push(b'"');
}
