//! Messages between ProtoJSON (<https://protobuf.dev/programming-guides/json/>) and protobuf wire bytes.
//!
//! Output is lowerCamelCase with default values written out; fields with presence are omitted when absent. Input
//! takes both names of a field and is strict: RFC 8259 to the letter, no unknown fields, no duplicates.

mod decode;
mod encode;
mod error;
pub(crate) mod escape;
mod names;
mod params;
mod scalar;
mod time;
mod wire;

pub use error::{JsonError, JsonErrorKind, ParamError, ParamErrorKind, WireError};
pub use params::ParamWriter;

use crate::plan::{FieldPath, MessageId, Plan};

/// Deepest nesting of JSON containers on the way in, and of messages on the way out.
pub const MAX_DEPTH: usize = 100;

/// A query parameter or a path variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'a> {
    /// Dotted field path, each part in its proto or its JSON name.
    pub name: &'a str,
    /// The decoded value.
    pub value: &'a str,
}

/// Appends the JSON of the message encoded in `wire`.
///
/// # Errors
/// When `wire` is no encoding of the message, or holds a value that has no JSON form. `out` is then unfinished.
pub fn to_json(plan: &Plan, message: MessageId, wire: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    encode::message(plan, message, wire, out)
}

/// Appends the JSON of one field of the message encoded in `wire`; `null` when it has presence and is absent.
///
/// # Errors
/// As [`to_json`].
pub fn field_to_json(
    plan: &Plan,
    message: MessageId,
    field: &FieldPath,
    wire: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    encode::field(plan, message, field, wire, out)
}

/// Appends the wire bytes of a message given as JSON.
///
/// # Errors
/// Names the field at fault as the caller wrote it. `out` is then unfinished.
pub fn from_json(plan: &Plan, message: MessageId, json: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    decode::message(plan, message, json, out)
}

/// Appends one field, tag and value, whose value is given as JSON. `null` appends nothing.
///
/// # Errors
/// As [`from_json`]; paths start with the field's proto name.
pub fn field_from_json(
    plan: &Plan,
    message: MessageId,
    field: &FieldPath,
    json: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), JsonError> {
    decode::field(plan, message, field, json, out)
}
