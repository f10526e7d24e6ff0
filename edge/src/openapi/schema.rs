//! JSON Schema (2020-12) of messages and enums in their ProtoJSON form.
//!
//! An answer shows every field without presence and may hold anything that the wire can carry; a request is refused for
//! an unknown member or a broken rule. So a message that is used both ways has a schema for each.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{
    comments::Comments,
    options::{self, INPUT_ONLY, OUTPUT_ONLY, REQUIRED},
    rules,
};

const INTEGERS: &str = "^(0|-?[1-9][0-9]{0,18})$";
const NATURALS: &str = "^(0|[1-9][0-9]{0,19})$";

/// What a message is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// What the service answers.
    Answer,
    /// What it is sent.
    Input,
    /// What it is sent to change something, of which only the changed parts have to be there.
    Update,
}

/// Schemas asked for so far, and those that they refer to.
pub(super) struct Schemas<'a> {
    comments: &'a Comments,
    /// Full names of the messages that some answer holds.
    answered: &'a BTreeSet<String>,
    done: BTreeMap<String, Value>,
    wanted: Vec<(String, Type)>,
    known: BTreeSet<String>,
}

enum Type {
    Message(MessageDescriptor, Role),
    Enum(EnumDescriptor),
}

impl<'a> Schemas<'a> {
    pub(super) fn new(comments: &'a Comments, answered: &'a BTreeSet<String>) -> Self {
        Self { comments, answered, done: BTreeMap::new(), wanted: Vec::new(), known: BTreeSet::new() }
    }

    /// A reference to a message's schema, or the schema of a well-known type.
    pub(super) fn message(&mut self, message: &MessageDescriptor, role: Role) -> Value {
        if let Some(schema) = well_known(message.full_name(), role) {
            return schema;
        }
        // A hyphen stands in no name of protobuf.
        let suffix = match role {
            Role::Input if self.answered.contains(message.full_name()) => "-Input",
            Role::Answer | Role::Input => "",
            Role::Update => "-Update",
        };
        self.refer(format!("{}{suffix}", message.full_name()), || Type::Message(message.clone(), role))
    }

    /// The schema of a message in a request body. `bound` are fields of it, by dotted path, that the request's path sets.
    pub(super) fn body(&mut self, message: &MessageDescriptor, role: Role, bound: &[&str]) -> Value {
        if bound.is_empty() || role == Role::Update || is_well_known(message) {
            self.message(message, role)
        } else {
            self.object(message, role, bound)
        }
    }

    fn refer(&mut self, name: String, wanted: impl FnOnce() -> Type) -> Value {
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        if self.known.insert(name.clone()) {
            self.wanted.push((name, wanted()));
        }
        reference
    }

    /// The comment of a field.
    pub(super) fn comment(&self, field: &FieldDescriptor) -> String {
        self.comments.get(&field.parent_message().parent_file(), field.path())
    }

    /// The comment of a message.
    pub(super) fn comment_of(&self, message: &MessageDescriptor) -> String {
        self.comments.get(&message.parent_file(), message.path())
    }

    /// The schema of a field of a message in that role, with its description.
    pub(super) fn field(&mut self, field: &FieldDescriptor, role: Role) -> Value {
        let mut schema = self.values(field, role);
        describe(&mut schema, &self.comment(field));
        if options::behaves(&field.options(), OUTPUT_ONLY) {
            schema["readOnly"] = true.into();
        }
        // An answer shows the default of such a field.
        if role != Role::Answer && options::behaves(&field.options(), INPUT_ONLY) {
            schema["writeOnly"] = true.into();
        }
        if options::deprecated(&field.options()) {
            schema["deprecated"] = true.into();
        }
        schema
    }

    /// The schema of the values of a field of a message in that role: in a request, those that its rules accept.
    pub(super) fn values(&mut self, field: &FieldDescriptor, role: Role) -> Value {
        let role = below(field, role);
        let found = if role == Role::Answer { None } else { rules::of(&field.options()) };
        let mut schema = match field.kind() {
            Kind::Message(entry) if field.is_map() => self.map(&entry, role, found.as_ref()),
            kind if field.is_list() => {
                let list = rules::part(found.as_ref(), "repeated");
                let items = self.single(&kind, role, rules::part(list.as_ref(), "items").as_ref());
                counted(json!({"type": "array", "items": items}), list.as_ref(), ["minItems", "maxItems"])
            }
            kind => self.single(&kind, role, found.as_ref()),
        };
        let Some(found) = found else { return schema };
        if rules::spares_zero(&found) {
            schema = json!({"anyOf": [{"const": zero(field)}, schema]});
        } else if rules::flag(&found, "required") && !field.supports_presence() {
            schema["not"] = json!({"const": zero(field)});
        }
        schema
    }

    fn map(&mut self, entry: &MessageDescriptor, role: Role, found: Option<&DynamicMessage>) -> Value {
        let map = rules::part(found, "map");
        let part = |name| rules::part(map.as_ref(), name);
        let values = self.single(&entry.map_entry_value_field().kind(), role, part("values").as_ref());
        let mut schema = json!({"type": "object", "additionalProperties": values});
        let mut keys = match entry.map_entry_key_field().kind() {
            Kind::String => Map::new(),
            Kind::Bool => Map::from_iter([("enum".to_owned(), json!(["true", "false"]))]),
            _ => Map::from_iter([("pattern".to_owned(), INTEGERS.into())]),
        };
        if let Some(found) = part("keys").filter(|_| entry.map_entry_key_field().kind() == Kind::String) {
            rules::apply(&found, &mut keys);
        }
        if !keys.is_empty() {
            schema["propertyNames"] = keys.into();
        }
        counted(schema, map.as_ref(), ["minProperties", "maxProperties"])
    }

    fn single(&mut self, kind: &Kind, role: Role, found: Option<&DynamicMessage>) -> Value {
        let mut schema = match kind {
            Kind::Enum(of) if of.full_name() == "google.protobuf.NullValue" => json!({"type": "null"}),
            Kind::Enum(of) => return self.enumeration(of, role, found),
            Kind::Message(message) => self.message(message, role),
            kind => scalar(kind, role),
        };
        if let (Some(schema), Some(found)) = (schema.as_object_mut(), found) {
            rules::apply(found, schema);
        }
        schema
    }

    /// An enum's values by name. Any other number is a number, in an answer and where no rule forbids it.
    fn enumeration(&mut self, of: &EnumDescriptor, role: Role, found: Option<&DynamicMessage>) -> Value {
        if let Some(values) = found.and_then(|found| rules::named(found, of)) {
            return json!({"enum": values});
        }
        let names = self.refer(of.full_name().to_owned(), || Type::Enum(of.clone()));
        let defined = rules::part(found, "enum").is_some_and(|rules| rules::flag(&rules, "defined_only"));
        if defined && role != Role::Answer { names } else { json!({"anyOf": [names, integer(role)]}) }
    }

    /// Whether a request must give a field: without it, the service would refuse the zero value.
    pub(super) fn must(field: &FieldDescriptor) -> bool {
        let options = field.options();
        if options::behaves(&options, OUTPUT_ONLY) {
            return false;
        }
        let found = rules::of(&options);
        options::behaves(&options, REQUIRED)
            || found.is_some_and(|found| {
                rules::flag(&found, "required") || !field.supports_presence() && rules::refuse_zero(&found)
            })
    }

    /// The schema of a message's object. It may hold fields that are `bound`, to no effect.
    fn object(&mut self, message: &MessageDescriptor, role: Role, bound: &[&str]) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in message.fields() {
            let prefix = format!("{}.", field.name());
            let inner: Vec<&str> = bound.iter().filter_map(|path| path.strip_prefix(&prefix)).collect();
            let mut schema = match field.kind() {
                Kind::Message(of) if !inner.is_empty() => self.object(&of, below(&field, role), &inner),
                _ => self.field(&field, role),
            };
            if bound.contains(&field.name()) {
                schema["readOnly"] = true.into();
            }
            let always = match role {
                Role::Answer => !field.supports_presence(),
                Role::Input => Self::must(&field) && !sets(bound, &field),
                Role::Update => false,
            };
            if always {
                required.push(field.json_name().to_owned());
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        let mut schema = json!({"type": "object", "properties": properties});
        describe(&mut schema, &self.comment_of(message));
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        if role != Role::Answer {
            if message.extensions().next().is_none() {
                schema["additionalProperties"] = false.into();
            }
            let alternatives = alternatives(message, role);
            if !alternatives.is_empty() {
                schema["allOf"] = alternatives.into();
            }
        }
        schema
    }

    fn names(&self, of: &EnumDescriptor) -> Value {
        let file = of.parent_file();
        let names: Vec<String> = of.values().map(|value| value.name().to_owned()).collect();
        let mut description = self.comments.get(&file, of.path());
        for value in of.values() {
            let comment = self.comments.get(&file, value.path());
            if !comment.is_empty() {
                description.push_str(&format!("\n- `{}`: {comment}", value.name()));
            }
        }
        let mut schema = json!({"type": "string", "enum": names});
        describe(&mut schema, description.trim_start());
        schema
    }

    /// All schemas by name.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some((name, wanted)) = self.wanted.pop() {
            let schema = match &wanted {
                Type::Message(message, role) => self.object(message, *role, &[]),
                Type::Enum(of) => self.names(of),
            };
            self.done.insert(name, schema);
        }
        self.done.into_iter().collect()
    }
}

/// Whether some of these dotted paths lead to a field or into it.
pub(super) fn sets(paths: &[&str], field: &FieldDescriptor) -> bool {
    paths.iter().any(|path| path.split('.').next() == Some(field.name()))
}

/// Notes which messages an answer holds, and which only a request does. A request may send back what it was answered,
/// in fields that are `OUTPUT_ONLY`.
pub(super) fn collect(message: &MessageDescriptor, answer: bool, seen: &mut BTreeSet<(bool, String)>) {
    if !seen.insert((answer, message.full_name().to_owned())) {
        return;
    }
    for field in message.fields() {
        if let Kind::Message(inner) = field.kind() {
            collect(&inner, answer || options::behaves(&field.options(), OUTPUT_ONLY), seen);
        }
    }
}

/// The role of what a field holds.
pub(super) fn below(field: &FieldDescriptor, role: Role) -> Role {
    let masked = || {
        let mask = field.parent_message().get_field_by_name("update_mask");
        mask.is_some_and(|mask| matches!(mask.kind(), Kind::Message(of) if of.full_name() == FIELD_MASK))
    };
    match role {
        Role::Answer => Role::Answer,
        _ if options::behaves(&field.options(), OUTPUT_ONLY) => Role::Answer,
        // A mask leads to no single item: each has to be whole.
        _ if field.is_list() || field.is_map() => Role::Input,
        Role::Input if masked() => Role::Update,
        role => role,
    }
}

/// What a request may hold of each oneof: one member, or none where no rule asks for one.
fn alternatives(message: &MessageDescriptor, role: Role) -> Vec<Value> {
    let mut all = Vec::new();
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic() && oneof.fields().len() > 1) {
        let mut members: Vec<_> =
            oneof.fields().map(|field| json!({"required": [field.json_name()]})).collect();
        let required = rules::of(&oneof.options()).is_some_and(|rules| rules::flag(&rules, "required"));
        if !required || role == Role::Update {
            members.push(json!({"not": {"anyOf": members}}));
        }
        all.push(json!({"oneOf": members}));
    }
    all
}

fn counted(schema: Value, rules: Option<&DynamicMessage>, keywords: [&str; 2]) -> Value {
    match (schema, rules) {
        (Value::Object(mut schema), Some(rules)) => {
            rules::count(rules, keywords, &mut schema);
            schema.into()
        }
        (schema, _) => schema,
    }
}

/// Puts a comment before what a schema says of itself already.
pub(super) fn describe(schema: &mut Value, comment: &str) {
    let own = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{comment} {own}");
    if !description.trim().is_empty() {
        schema["description"] = description.trim().into();
    }
}

/// The value of a field that is not there.
fn zero(field: &FieldDescriptor) -> Value {
    match field.kind() {
        _ if field.is_list() => json!([]),
        _ if field.is_map() => json!({}),
        Kind::Message(_) => Value::Null,
        Kind::Enum(of) => of.get_value(0).map_or(json!(0), |value| json!(value.name())),
        Kind::Bool => json!(false),
        Kind::String | Kind::Bytes => json!(""),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => json!("0"),
        _ => json!(0),
    }
}

fn scalar(kind: &Kind, role: Role) -> Value {
    match kind {
        Kind::Double | Kind::Float => {
            let format = if *kind == Kind::Float { "float" } else { "double" };
            json!({"type": ["number", "string"], "format": format, "pattern": "^(NaN|-?Infinity)$"})
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(role),
        Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({"type": "string", "format": "int64", "pattern": INTEGERS})
        }
        Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64", "pattern": NATURALS}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        Kind::String | Kind::Message(_) | Kind::Enum(_) => json!({"type": "string"}),
    }
}

fn integer(role: Role) -> Value {
    match role {
        Role::Answer => json!({"type": "integer", "format": "int32"}),
        _ => json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX}),
    }
}

const FIELD_MASK: &str = "google.protobuf.FieldMask";

/// The schema of a message with a JSON form of its own (<https://protobuf.dev/programming-guides/json/>).
fn well_known(name: &str, role: Role) -> Option<Value> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"}),
        "FieldMask" => {
            let description = "Paths in lowerCamelCase, separated by commas.";
            json!({"type": "string", "pattern": "^[^_]*$", "description": description})
        }
        "Empty" => json!({"type": "object", "maxProperties": 0}),
        // Without a type, it is empty.
        "Any" => json!({"type": "object", "properties": {"@type": {"type": "string"}}}),
        "Struct" => json!({"type": "object"}),
        "Value" => json!({}),
        "ListValue" => json!({"type": "array"}),
        "DoubleValue" => scalar(&Kind::Double, role),
        "FloatValue" => scalar(&Kind::Float, role),
        "Int32Value" => scalar(&Kind::Int32, role),
        "UInt32Value" => scalar(&Kind::Uint32, role),
        "Int64Value" => scalar(&Kind::Int64, role),
        "UInt64Value" => scalar(&Kind::Uint64, role),
        "BoolValue" => scalar(&Kind::Bool, role),
        "StringValue" => scalar(&Kind::String, role),
        "BytesValue" => scalar(&Kind::Bytes, role),
        _ => return None,
    })
}

/// Whether a message has a JSON form of its own.
pub(super) fn is_well_known(message: &MessageDescriptor) -> bool {
    well_known(message.full_name(), Role::Answer).is_some()
}

/// Whether a well-known type can stand in a query.
pub(super) fn in_query(name: &str) -> bool {
    !matches!(
        name.strip_prefix("google.protobuf."),
        None | Some("Empty" | "Any" | "Struct" | "Value" | "ListValue")
    )
}
