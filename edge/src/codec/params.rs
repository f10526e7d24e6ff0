//! Query parameters and path variables to wire bytes.

use std::collections::{HashMap, HashSet};

use super::error::shortened;
use super::scalar::{
    Reason, integer, put_base64, put_bytes, put_field_mask, put_integer, put_number_text,
    put_seconds_and_nanos,
};
use super::wire::{begin_length, end_length};
use super::{MAX_DEPTH, Param, ParamError, ParamErrorKind, time};
use crate::plan::{FieldPlan, Kind, Label, MessageId, MessagePlan, Plan, WellKnown};

pub(super) fn write(
    plan: &Plan,
    message: MessageId,
    params: &[Param<'_>],
    bound: &[&str],
    out: &mut Vec<u8>,
) -> Result<(), ParamError> {
    let bound: Vec<_> = bound.iter().filter_map(|name| resolve(plan, message, name).ok()).collect();
    let mut given = HashSet::new();
    let mut oneofs = HashMap::new();
    for param in params {
        write_one(plan, message, param, &bound, &mut given, &mut oneofs, out).map_err(|(kind, detail)| {
            let name = shortened(param.name);
            let description = match kind {
                ParamErrorKind::Unknown => format!("unknown parameter `{name}`"),
                _ => format!("`{name}`: {detail}"),
            };
            ParamError { name, kind, description }
        })?;
    }
    Ok(())
}

/// The fields that lead from a message to one of its (nested) fields.
type Path<'p> = Vec<(&'p MessagePlan, usize)>;
type Indices = Vec<usize>;
type Problem = (ParamErrorKind, String);

fn indices(path: &Path<'_>) -> Indices {
    path.iter().map(|(_, index)| *index).collect()
}

fn resolve<'p>(plan: &'p Plan, message: MessageId, name: &str) -> Result<Path<'p>, Problem> {
    let mut path = Path::new();
    let mut next = Some(message);
    for part in name.split('.') {
        let message = match next {
            Some(id) if path.len() < MAX_DEPTH => plan.get(id),
            _ => return Err((ParamErrorKind::Unknown, String::new())),
        };
        let index = message.names.get(part).ok_or((ParamErrorKind::Unknown, String::new()))?;
        path.push((message, index));
        let field = &message.fields[index];
        next = match (field.kind, field.label) {
            (Kind::Message(id), Label::Implicit | Label::Explicit) => Some(id),
            _ => None,
        };
    }
    Ok(path)
}

/// `oneofs` tells, for each message on the way (by its path) and oneof of it, which member is set.
fn write_one<'p>(
    plan: &'p Plan,
    message: MessageId,
    param: &Param<'_>,
    bound: &[Path<'p>],
    given: &mut HashSet<Indices>,
    oneofs: &mut HashMap<(Indices, usize), usize>,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    let path = resolve(plan, message, param.name)?;
    let at = indices(&path);
    if bound.iter().any(|bound| at.starts_with(&indices(bound)) || indices(bound).starts_with(&at)) {
        return Err((ParamErrorKind::AlreadyBound, "set by the path or the body".to_owned()));
    }
    let Some(&(parent, index)) = path.last() else { return Ok(()) };
    let field = &parent.fields[index];
    let repeated = matches!(field.label, Label::Repeated { .. });
    if !given.insert(at.clone()) && !repeated {
        return Err((ParamErrorKind::Duplicate, "given twice".to_owned()));
    }
    for (depth, (message, index)) in path.iter().enumerate() {
        let Some(oneof) = message.fields[*index].oneof else { continue };
        if *oneofs.entry((at[..depth].to_vec(), oneof)).or_insert(*index) != *index {
            let detail = format!("another member of the oneof `{}` is set", message.oneofs[oneof]);
            return Err((ParamErrorKind::OneofConflict, detail));
        }
    }
    let ancestors = &path[..path.len() - 1];
    let starts: Vec<_> = ancestors
        .iter()
        .map(|(message, index)| {
            out.extend_from_slice(&message.fields[*index].tag);
            begin_length(out)
        })
        .collect();
    put_field(plan, field, param.value, out)?;
    for start in starts.into_iter().rev() {
        end_length(start, out);
    }
    Ok(())
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
