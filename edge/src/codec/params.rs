//! Query parameters and path variables to wire bytes.

use std::collections::BTreeMap;

use super::error::shortened;
use super::scalar::{
    Reason, integer, put_base64, put_bytes, put_field_mask, put_integer, put_number_text,
    put_seconds_and_nanos,
};
use super::wire::{begin_length, end_length};
use super::{MAX_DEPTH, Param, ParamError, ParamErrorKind, time};
use crate::plan::{FieldPlan, Kind, Label, MessageId, MessagePlan, Plan, WellKnown};

/// Writes the fields that the query parameters or path variables of one request name.
///
/// Each parameter is written with the messages around it and zeros are written too: by protobuf's merge rules the
/// result may follow or precede the bytes of a body, and what comes last wins.
#[derive(Debug)]
pub struct ParamWriter<'p> {
    plan: &'p Plan,
    message: MessageId,
    bound: Vec<Path<'p>>,
    seen: Seen,
}

impl<'p> ParamWriter<'p> {
    /// For parameters of `message`. `bound` holds the dotted paths that something else has set already (path
    /// variables, the body field): a parameter for one of them, or for a field below one, is an error.
    pub fn new(plan: &'p Plan, message: MessageId, bound: &[&str]) -> Self {
        let bound = bound.iter().filter_map(|name| resolve(plan, message, name).ok()).collect();
        ParamWriter { plan, message, bound, seen: Seen::default() }
    }

    /// Appends the wire bytes of one parameter.
    ///
    /// # Errors
    /// Names the parameter at fault: unknown, malformed, duplicate, already bound, or the second of a oneof.
    pub fn write(&mut self, param: Param<'_>, out: &mut Vec<u8>) -> Result<(), ParamError> {
        self.write_field(param, out).map_err(|(kind, detail)| {
            let name = shortened(param.name);
            let description = match kind {
                ParamErrorKind::Unknown => format!("unknown parameter `{name}`"),
                _ => format!("`{name}`: {detail}"),
            };
            ParamError { name, kind, description }
        })
    }

    fn write_field(&mut self, param: Param<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
        let path = resolve(self.plan, self.message, param.name)?;
        if self.bound.iter().any(|bound| same_fields(bound, &path)) {
            return Err((ParamErrorKind::AlreadyBound, "set by the path or the body".to_owned()));
        }
        let Some((&(parent, index), ancestors)) = path.split_last() else { return Ok(()) };
        let field = &parent.fields[index];
        self.seen.add(&path)?;
        let starts: Vec<_> = ancestors
            .iter()
            .map(|(message, index)| {
                out.extend_from_slice(&message.fields[*index].tag);
                begin_length(out)
            })
            .collect();
        put_field(self.plan, field, param.value, out)?;
        for start in starts.into_iter().rev() {
            end_length(start, out);
        }
        Ok(())
    }
}

/// The fields that lead from a message to one of its (nested) fields.
type Path<'p> = Vec<(&'p MessagePlan, usize)>;
type Problem = (ParamErrorKind, String);

/// Whether one of two paths leads through the other.
fn same_fields(one: &Path<'_>, other: &Path<'_>) -> bool {
    one.iter().zip(other).all(|((_, one), (_, other))| one == other)
}

fn resolve<'p>(plan: &'p Plan, message: MessageId, name: &str) -> Result<Path<'p>, Problem> {
    let unknown = || (ParamErrorKind::Unknown, String::new());
    let mut path = Path::with_capacity(name.split('.').count().min(MAX_DEPTH));
    let mut next = Some(message);
    for part in name.split('.') {
        let message = match next {
            Some(id) if path.len() < MAX_DEPTH => plan.get(id),
            _ => return Err(unknown()),
        };
        let index = message.names.get(part).ok_or_else(unknown)?;
        path.push((message, index));
        let field = &message.fields[index];
        next = match (field.kind, field.label) {
            (Kind::Message(id), Label::Implicit | Label::Explicit) => Some(id),
            _ => None,
        };
    }
    Ok(path)
}

/// What the parameters so far have set: a tree whose nodes are messages, numbered as they come, and whose root is 0.
/// One entry for each part of a name, and small ones: a request may hold little else.
#[derive(Debug, Default)]
struct Seen {
    entries: BTreeMap<(u32, Place), u32>,
    nodes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// A message in a message, with its own node.
    Child(u32),
    /// A field that was given itself.
    Given(u32),
    /// A oneof, with the index of its member that is set.
    Oneof(u32),
}

impl Seen {
    fn add(&mut self, path: &Path<'_>) -> Result<(), Problem> {
        let mut node = 0;
        for (depth, (message, index)) in path.iter().enumerate() {
            let (field, member) = (&message.fields[*index], *index as u32);
            if let Some(oneof) = field.oneof
                && *self.entries.entry((node, Place::Oneof(oneof as u32))).or_insert(member) != member
            {
                let detail = format!("another member of the oneof `{}` is set", message.oneofs[oneof]);
                return Err((ParamErrorKind::OneofConflict, detail));
            }
            if depth + 1 < path.len() {
                node = *self.entries.entry((node, Place::Child(member))).or_insert_with(|| {
                    self.nodes += 1;
                    self.nodes
                });
            } else if !matches!(field.label, Label::Repeated { .. })
                && self.entries.insert((node, Place::Given(member)), 0).is_some()
            {
                return Err((ParamErrorKind::Duplicate, "given twice".to_owned()));
            }
        }
        Ok(())
    }
}

fn put_field(plan: &Plan, field: &FieldPlan, value: &str, out: &mut Vec<u8>) -> Result<(), Problem> {
    const UNSUPPORTED: &str = "a field of this type cannot be given as a parameter";
    let unsupported = || (ParamErrorKind::Unsupported, UNSUPPORTED.to_owned());
    let invalid = |reason: Reason| (ParamErrorKind::InvalidValue, reason.to_owned());
    if field.label == Label::Map {
        return Err(unsupported());
    }
    out.extend_from_slice(&field.tag);
    let Kind::Message(id) = field.kind else {
        return match field.kind {
            Kind::Group(_) => Err(unsupported()),
            kind => put_scalar(plan, kind, value, out).map_err(invalid),
        };
    };
    let start = begin_length(out);
    match plan.get(id).well_known {
        Some(WellKnown::Timestamp) => {
            let (seconds, nanos) =
                time::parse_timestamp(value).ok_or_else(|| invalid(time::TIMESTAMP_FORM))?;
            put_seconds_and_nanos(seconds, nanos, out);
        }
        Some(WellKnown::Duration) => {
            let (seconds, nanos) = time::parse_duration(value).ok_or_else(|| invalid(time::DURATION_FORM))?;
            put_seconds_and_nanos(seconds, nanos, out);
        }
        // Unlike JSON, both forms of a field's name: this is where callers type masks by hand.
        Some(WellKnown::FieldMask) => put_field_mask(value, out),
        Some(WellKnown::Wrapper(kind)) => {
            let tag = plan.get(id).fields.first().map(|field| &field.tag[..]);
            out.extend_from_slice(tag.ok_or_else(unsupported)?);
            put_scalar(plan, kind, value, out).map_err(invalid)?;
        }
        _ => return Err(unsupported()),
    }
    end_length(start, out);
    Ok(())
}

fn put_scalar(plan: &Plan, kind: Kind, value: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
    match kind {
        Kind::String => put_bytes(value.as_bytes(), out),
        Kind::Bytes => put_base64(value, out)?,
        Kind::Bool => match value {
            "true" => out.push(1),
            "false" => out.push(0),
            _ => return Err("expected true or false"),
        },
        Kind::Enum(id) => {
            let number = match plan.get_enum(id).number(value) {
                Some(number) => number.into(),
                None => integer(value).map_err(|_| "not a value of the enum")?,
            };
            put_integer(kind, number, out)?;
        }
        _ => put_number_text(kind, value, out)?,
    }
    Ok(())
}
