//! Errors on their way up, gathering the path of the field on each level.

use std::borrow::Cow;

use crate::codec::error::shortened;
use crate::codec::{JsonError, JsonErrorKind};

#[derive(Debug)]
pub(super) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: JsonErrorKind,
    detail: Cow<'static, str>,
    offset: usize,
    /// Innermost first.
    path: Vec<Segment>,
}

#[derive(Debug)]
enum Segment {
    Field(String),
    Index(usize),
    Key(String),
}

impl Fault {
    #[cold]
    pub(super) fn new(kind: JsonErrorKind, detail: impl Into<Cow<'static, str>>, offset: usize) -> Self {
        Fault(Box::new(Inner { kind, detail: detail.into(), offset, path: Vec::new() }))
    }

    pub(super) fn in_field(mut self, name: &str) -> Self {
        self.0.path.push(Segment::Field(shortened(name)));
        self
    }

    pub(super) fn at_index(mut self, index: usize) -> Self {
        self.0.path.push(Segment::Index(index));
        self
    }

    pub(super) fn at_key(mut self, key: &str) -> Self {
        self.0.path.push(Segment::Key(shortened(key)));
        self
    }

    pub(super) fn into_error(self) -> JsonError {
        let Inner { kind, detail, offset, path: segments } = *self.0;
        let mut path = String::new();
        for segment in segments.iter().rev() {
            match segment {
                Segment::Field(name) if path.is_empty() => path.push_str(name),
                Segment::Field(name) => path.extend([".", name]),
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
                Segment::Key(key) => path.push_str(&format!("[{key:?}]")),
            }
        }
        let description = match (kind, path.as_str()) {
            (JsonErrorKind::UnknownField, path) => format!("unknown field `{path}`"),
            (JsonErrorKind::Syntax, "") => format!("invalid JSON at byte {offset}: {detail}"),
            (JsonErrorKind::Syntax, path) => format!("invalid JSON at byte {offset}, in `{path}`: {detail}"),
            (_, "") => format!("invalid body: {detail}"),
            (_, path) => format!("`{path}`: {detail}"),
        };
        JsonError { path, kind, description, offset }
    }
}
