//! Parameters in path and query.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::{
    comments::Comments,
    options::{self, REQUIRED},
    schema::{self, Schemas},
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
        let variable =
            template.variables.iter().find(|variable| (variable.start..variable.end).contains(&at));
        let before = at.checked_sub(1).map(|before| &template.segments[before]);
        let mut name = match (variable, before) {
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

/// The name of one item of a collection.
fn singular(collection: &str) -> String {
    match collection.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => collection.strip_suffix('s').unwrap_or(collection).to_owned(),
    }
}

/// The path's parameters under the given names.
pub(super) fn in_path(
    comments: &Comments,
    input: &MessageDescriptor,
    template: &Template,
    names: &[String],
) -> Vec<Value> {
    let wildcards = template.segments.iter().enumerate().filter(|(_, s)| !matches!(s, Segment::Literal(_)));
    wildcards
        .zip(names)
        .map(|((at, _), name)| {
            let variable =
                template.variables.iter().find(|variable| (variable.start..variable.end).contains(&at));
            let description =
                variable.map(|variable| describe(comments, input, template, variable)).unwrap_or_default();
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "description": description,
                "schema": {"type": "string", "minLength": 1},
            })
        })
        .collect()
}

fn describe(
    comments: &Comments,
    input: &MessageDescriptor,
    template: &Template,
    variable: &Variable,
) -> String {
    let comment = field(input, &variable.field)
        .map(|field| comments.get(&field.parent_message().parent_file(), field.path()))
        .unwrap_or_default();
    if variable.end - variable.start == 1 {
        return comment;
    }
    let pattern: Vec<&str> = template.segments[variable.start..variable.end]
        .iter()
        .map(|segment| match segment {
            Segment::Literal(word) => word,
            Segment::One => "*",
            Segment::Rest => "**",
        })
        .collect();
    format!("Part of `{}` (`{}`): {comment}", variable.field, pattern.join("/"))
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
    let mut found = Vec::new();
    walk(schemas, input, ("", ""), 0, &taken, &mut found);
    found
}

fn walk(
    schemas: &mut Schemas<'_>,
    message: &MessageDescriptor,
    (proto, json): (&str, &str),
    depth: usize,
    taken: &[&str],
    found: &mut Vec<Value>,
) {
    for field in message.fields() {
        let proto = format!("{proto}{}", field.name());
        let name = format!("{json}{}", field.json_name());
        if taken.contains(&proto.as_str()) || field.is_map() {
            continue;
        }
        if let Kind::Message(inner) = field.kind()
            && schema::well_known(inner.full_name()).is_none()
        {
            if depth < MAX_DEPTH && !field.is_list() {
                walk(schemas, &inner, (&format!("{proto}."), &format!("{name}.")), depth + 1, taken, found);
            }
            continue;
        }
        if let Kind::Message(inner) = field.kind()
            && !schema::in_query(inner.full_name())
        {
            continue;
        }
        let description = schemas.comment(&field);
        let mut parameter = json!({
            "name": name,
            "in": "query",
            "description": description,
            "schema": schemas.plain(&field),
        });
        if depth == 0 && options::behaves(&field.options(), REQUIRED) {
            parameter["required"] = true.into();
        }
        if options::deprecated(&field.options()) {
            parameter["deprecated"] = true.into();
        }
        found.push(parameter);
    }
}
