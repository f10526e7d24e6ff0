//! What can be wrong with a message, on either side.

use std::fmt;

/// Wire bytes that are no encoding of their message, or that JSON cannot show: the fault of whoever encoded them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a value.
    #[error("the message is cut short")]
    Truncated,
    /// A varint of more than ten bytes, a tag with field number 0, or a stray end of group.
    #[error("the message is malformed")]
    Malformed,
    /// A field's wire type does not suit its declared type.
    #[error("field {0} has the wrong wire type")]
    WireType(u32),
    /// A string field is not UTF-8.
    #[error("field {0} is not valid UTF-8")]
    Utf8(u32),
    /// Messages nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("messages are nested too deeply")]
    TooDeep,
    /// Wire bytes over 4 GiB, or JSON over ten times the wire bytes and 16 MiB.
    #[error("the message is too large for JSON")]
    TooLarge,
    /// A well-known type outside the range that ProtoJSON gives it.
    #[error("a {0} value has no JSON form")]
    NoJsonForm(&'static str),
    /// An `Any` of a type that the descriptor set does not hold.
    #[error("an Any holds an unknown type")]
    UnknownType,
}

/// What is wrong with a JSON body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonErrorKind {
    /// Not JSON (RFC 8259), or not UTF-8.
    Syntax,
    /// No field of that name.
    UnknownField,
    /// A field, map key or object member that comes twice.
    DuplicateField,
    /// A second member of a oneof.
    OneofConflict,
    /// A JSON type that the field does not take.
    WrongType,
    /// The right JSON type with a value that the field does not take.
    InvalidValue,
    /// Containers nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    TooDeep,
}

/// A JSON body that is no message of the type asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// The field as the caller wrote it, such as `terms[2].language`; empty for the body as a whole.
    pub path: String,
    /// The sort of fault.
    pub kind: JsonErrorKind,
    /// One sentence for a person, naming the field.
    pub description: String,
    /// Where in the body, in bytes.
    pub offset: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

impl std::error::Error for JsonError {}

/// What is wrong with a query parameter or path variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamErrorKind {
    /// No field of that name.
    Unknown,
    /// A field whose type no parameter can carry: a map, a message without a string form.
    Unsupported,
    /// A value that the field does not take.
    InvalidValue,
    /// A field that is not repeated, given twice.
    Duplicate,
    /// A field that the path or the body sets.
    AlreadyBound,
    /// A second member of a oneof.
    OneofConflict,
}

/// A parameter that does not fit its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamError {
    /// The parameter as the caller wrote it.
    pub name: String,
    /// The sort of fault.
    pub kind: ParamErrorKind,
    /// One sentence for a person, naming the parameter.
    pub description: String,
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

impl std::error::Error for ParamError {}

/// A caller's text as an error repeats it: 100 bytes of it at most.
pub(super) fn shortened(text: &str) -> String {
    match text.floor_char_boundary(100) {
        end if end < text.len() => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}
