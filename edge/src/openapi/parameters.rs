//! Parameters in path, query and header.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::{
    options,
    rules::at_least,
    schema::{self, Role, Schemas, describe},
};
use crate::{
    http::template::{Segment, Template, Variable},
    plan::Body,
};

/// Deepest message whose fields are listed as query parameters.
const MAX_DEPTH: usize = 3;

/// The shape of a path, the path with named parameters, and their names in order.
///
/// A wildcard is named after the collection before it (`keywords/*` gives `keywords/{keyword}`), else after its field.
pub(super) fn path(template: &Template) -> (String, String, Vec<String>) {
    let (mut shape, mut path, mut names) = (String::new(), String::new(), Vec::<String>::new());
    for (at, segment) in template.segments.iter().enumerate() {
        path.push('/');
        shape.push('/');
        if let Segment::Literal(word) = segment {
            path.push_str(word);
            shape.push_str(word);
            continue;
        }
        let before = at.checked_sub(1).map(|before| &template.segments[before]);
        let mut name = match (covering(template, at), before) {
            (Some(variable), Some(Segment::Literal(word))) if at > variable.start => singular(word),
            (Some(variable), _) => variable.field.rsplit('.').next().unwrap_or(&variable.field).to_owned(),
            (None, _) => "segment".to_owned(),
        };
        while names.contains(&name) {
            name.push('_');
        }
        path.push_str(&format!("{{{name}}}"));
        shape.push_str("{}");
        names.push(name);
    }
    if let Some(verb) = &template.verb {
        path.push_str(&format!(":{verb}"));
        shape.push_str(&format!(":{verb}"));
    }
    (shape, path, names)
}

/// The variable that a segment belongs to.
fn covering(template: &Template, at: usize) -> Option<&Variable> {
    template.variables.iter().find(|variable| (variable.start..variable.end).contains(&at))
}

/// The name of one item of a collection.
fn singular(collection: &str) -> String {
    match collection.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => collection.strip_suffix('s').unwrap_or(collection).to_owned(),
    }
}

/// The path's parameters under the given names.
pub(super) fn in_path(
    schemas: &mut Schemas<'_>,
    input: &MessageDescriptor,
    template: &Template,
    names: &[String],
) -> Vec<Value> {
    let wildcards = template.segments.iter().enumerate().filter(|(_, s)| !matches!(s, Segment::Literal(_)));
    wildcards
        .zip(names)
        .map(|((at, segment), name)| {
            let covered =
                covering(template, at).and_then(|variable| Some((variable, field(input, &variable.field)?)));
            let (mut schema, mut description) = match covered {
                None => (json!({"type": "string"}), String::new()),
                Some((variable, field)) => {
                    let (whole, comment) = (schemas.values(&field, Role::Input), schemas.comment(&field));
                    match &template.segments[variable.start..variable.end] {
                        [_] => (whole, comment),
                        segments => (
                            part(&whole, segments, at - variable.start),
                            format!("Part of `{}` (`{}`): {comment}", variable.field, pattern(segments))
                                .trim_end()
                                .to_owned(),
                        ),
                    }
                }
            };
            match schema.as_object_mut() {
                _ if *segment == Segment::Rest => {
                    description.push_str(" Any number of segments, with the slashes between them.");
                }
                Some(schema) if schema.get("type") == Some(&json!("string")) => {
                    at_least(schema, "minLength", 1);
                }
                _ => {}
            }
            let mut parameter = json!({"name": name, "in": "path", "required": true, "schema": schema});
            describe(&mut parameter, &description);
            parameter
        })
        .collect()
}

fn pattern(segments: &[Segment]) -> String {
    let words: Vec<&str> = segments
        .iter()
        .map(|segment| match segment {
            Segment::Literal(word) => word,
            Segment::One => "*",
            Segment::Rest => "**",
        })
        .collect();
    words.join("/")
}

/// The schema of one wildcard among the segments that make up a value: what follows from the schema of the whole.
fn part(whole: &Value, segments: &[Segment], at: usize) -> Value {
    let mut schema = json!({"type": "string"});
    // An escaped slash stays one, so no value of the field has it here.
    if segments[at] == Segment::One {
        schema["pattern"] = "^[^/]+$".into();
    }
    let rest: usize = segments
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != at)
        .map(|(_, segment)| match segment {
            Segment::Literal(word) => word.chars().count() + 1,
            Segment::One => 2,
            // It may be nothing, not even a slash.
            Segment::Rest => 0,
        })
        .sum();
    if let Some(most) = whole["maxLength"].as_u64() {
        schema["maxLength"] = most.saturating_sub(rest as u64).into();
    }
    let only = segments.iter().filter(|segment| !matches!(segment, Segment::Literal(_))).count() == 1;
    if let Some(values) = whole["enum"].as_array().filter(|_| only) {
        let (before, after) = (pattern(&segments[..at]), pattern(&segments[at + 1..]));
        let inner = values.iter().filter_map(Value::as_str).filter_map(|value| {
            let value =
                if before.is_empty() { value } else { value.strip_prefix(&before)?.strip_prefix('/')? };
            if after.is_empty() { Some(value) } else { value.strip_suffix(&after)?.strip_suffix('/') }
        });
        schema["enum"] = inner.collect();
    }
    schema
}

fn field(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    match path.split_once('.') {
        None => message.get_field_by_name(path),
        Some((first, rest)) => field(message.get_field_by_name(first)?.kind().as_message()?, rest),
    }
}

/// Every field that the query may set, nested ones by dotted path.
pub(super) fn in_query(
    schemas: &mut Schemas<'_>,
    input: &MessageDescriptor,
    template: &Template,
    body: &Body,
) -> Vec<Value> {
    let mut taken: Vec<&str> = template.variables.iter().map(|variable| variable.field.as_str()).collect();
    if let Body::Field(path) = body {
        taken.push(&path.name);
    }
    let mut walk = Walk { schemas, taken: &taken, found: Vec::new() };
    walk.message(input, ("", ""), 0, true);
    walk.found
}

struct Walk<'a, 'b> {
    schemas: &'a mut Schemas<'b>,
    /// Fields that something else sets, by dotted path.
    taken: &'a [&'a str],
    found: Vec<Value>,
}

impl Walk<'_, '_> {
    /// Lists the fields of a message, which is there in any case when `given`.
    fn message(
        &mut self,
        message: &MessageDescriptor,
        (proto, json): (&str, &str),
        depth: usize,
        given: bool,
    ) {
        for field in message.fields() {
            let proto = format!("{proto}{}", field.name());
            let name = format!("{json}{}", field.json_name());
            if self.taken.contains(&proto.as_str()) || field.is_map() {
                continue;
            }
            let mut given = given && Schemas::must(&field);
            if let Kind::Message(inner) = field.kind() {
                if !schema::is_well_known(&inner) {
                    let (proto, json) = (format!("{proto}."), format!("{name}."));
                    given |= self.taken.iter().any(|taken| taken.starts_with(&proto));
                    if depth < MAX_DEPTH && !field.is_list() {
                        self.message(&inner, (&proto, &json), depth + 1, given);
                    }
                    continue;
                }
                if !schema::in_query(inner.full_name()) {
                    continue;
                }
            }
            let mut parameter =
                json!({"name": name, "in": "query", "schema": self.schemas.values(&field, Role::Input)});
            describe(&mut parameter, &self.schemas.comment(&field));
            if given {
                parameter["required"] = true.into();
            }
            if options::deprecated(&field.options()) {
                parameter["deprecated"] = true.into();
            }
            self.found.push(parameter);
        }
    }
}

/// The header by which a client goes on with a stream where it broke off; `None` for a stream without a resume token.
pub(super) fn last_event_id(schemas: &mut Schemas<'_>, input: &MessageDescriptor) -> Option<Value> {
    let token = input.get_field_by_name("resume_token")?;
    (token.kind() == Kind::String && !token.is_list()).then(|| {
        json!({
            "name": "Last-Event-ID",
            "in": "header",
            "description": "Id of the last event that came, as an `EventSource` sends it; stands for `resumeToken`.",
            "schema": schemas.values(&token, Role::Input),
        })
    })
}

/// The header that every operation takes whose answer has an ETag.
pub(super) fn if_none_match() -> Value {
    json!({"$ref": "#/components/parameters/IfNoneMatch"})
}

/// The parameters that operations refer to.
pub(super) fn components() -> Value {
    json!({"IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "ETags of answers that the caller has, separated by commas; 304 when one still holds.",
        "schema": {"type": "string"},
    }})
}
