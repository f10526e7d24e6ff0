//! JSON Schema (2020-12) of messages and enums in their ProtoJSON form.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{
    comments::Comments,
    options::{self, OUTPUT_ONLY, REQUIRED},
};

/// Schemas asked for so far, and those that they refer to.
pub(super) struct Schemas<'a> {
    comments: &'a Comments,
    done: BTreeMap<String, Value>,
    wanted: Vec<Type>,
    known: BTreeSet<String>,
}

enum Type {
    Message(MessageDescriptor),
    Enum(EnumDescriptor),
}

impl<'a> Schemas<'a> {
    pub(super) fn new(comments: &'a Comments) -> Self {
        Self { comments, done: BTreeMap::new(), wanted: Vec::new(), known: BTreeSet::new() }
    }

    /// A reference to a message's schema, or the schema of a well-known type.
    pub(super) fn reference(&mut self, message: &MessageDescriptor) -> Value {
        match well_known(message.full_name()) {
            Some(schema) => schema,
            None => self.refer(message.full_name(), || Type::Message(message.clone())),
        }
    }

    fn refer(&mut self, name: &str, wanted: impl FnOnce() -> Type) -> Value {
        if self.known.insert(name.to_owned()) {
            self.wanted.push(wanted());
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// The comment of a field.
    pub(super) fn comment(&self, field: &FieldDescriptor) -> String {
        self.comments.get(&field.parent_message().parent_file(), field.path())
    }

    /// The schema of a field with its description.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = self.plain(field);
        let comment = self.comment(field);
        if !comment.is_empty() {
            schema["description"] = comment.into();
        }
        if options::behaves(&field.options(), OUTPUT_ONLY) {
            schema["readOnly"] = true.into();
        }
        if options::deprecated(&field.options()) {
            schema["deprecated"] = true.into();
        }
        schema
    }

    /// The schema of a field's values.
    pub(super) fn plain(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map()
            && let Kind::Message(entry) = field.kind()
        {
            let value = self.single(&entry.map_entry_value_field());
            return json!({"type": "object", "additionalProperties": value});
        }
        let single = self.single(field);
        if field.is_list() { json!({"type": "array", "items": single}) } else { single }
    }

    fn single(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => {
                json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})
            }
            Kind::Uint64 | Kind::Fixed64 => {
                json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"})
            }
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Message(message) => self.reference(&message),
            Kind::Enum(of) if of.full_name() == "google.protobuf.NullValue" => json!({"type": "null"}),
            Kind::Enum(of) => self.refer(of.full_name(), || Type::Enum(of.clone())),
        }
    }

    fn message(&mut self, message: &MessageDescriptor) -> Value {
        let fields: Vec<_> = message.fields().collect();
        let properties: Map<String, Value> =
            fields.iter().map(|field| (field.json_name().to_owned(), self.field(field))).collect();
        let required: Vec<&str> = fields
            .iter()
            .filter(|field| options::behaves(&field.options(), REQUIRED))
            .map(FieldDescriptor::json_name)
            .collect();
        let mut schema = json!({
            "type": "object",
            "description": self.comments.get(&message.parent_file(), message.path()),
            "properties": properties,
        });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }

    fn enumeration(&self, of: &EnumDescriptor) -> Value {
        let file = of.parent_file();
        let names: Vec<String> = of.values().map(|value| value.name().to_owned()).collect();
        let mut description = self.comments.get(&file, of.path());
        for value in of.values() {
            let comment = self.comments.get(&file, value.path());
            if !comment.is_empty() {
                description.push_str(&format!("\n- `{}`: {comment}", value.name()));
            }
        }
        json!({"type": "string", "enum": names, "description": description})
    }

    /// All schemas by name.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some(wanted) = self.wanted.pop() {
            let (name, schema) = match &wanted {
                Type::Message(message) => (message.full_name().to_owned(), self.message(message)),
                Type::Enum(of) => (of.full_name().to_owned(), self.enumeration(of)),
            };
            self.done.insert(name, schema);
        }
        self.done.into_iter().collect()
    }
}

/// The schema of a message with a JSON form of its own (<https://protobuf.dev/programming-guides/json/>).
pub(super) fn well_known(name: &str) -> Option<Value> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"}),
        "FieldMask" => {
            json!({"type": "string", "description": "Paths in lowerCamelCase, separated by commas."})
        }
        "Empty" => json!({"type": "object", "maxProperties": 0}),
        "Any" => {
            json!({"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}})
        }
        "Struct" => json!({"type": "object"}),
        "Value" => json!({}),
        "ListValue" => json!({"type": "array"}),
        "DoubleValue" | "FloatValue" => json!({"type": "number"}),
        "Int32Value" => json!({"type": "integer", "format": "int32"}),
        "UInt32Value" => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        "Int64Value" => json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"}),
        "UInt64Value" => json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"}),
        "BoolValue" => json!({"type": "boolean"}),
        "StringValue" => json!({"type": "string"}),
        "BytesValue" => json!({"type": "string", "contentEncoding": "base64"}),
        _ => return None,
    })
}

/// Whether a well-known type can stand in a query.
pub(super) fn in_query(name: &str) -> bool {
    !matches!(
        name.strip_prefix("google.protobuf."),
        None | Some("Empty" | "Any" | "Struct" | "Value" | "ListValue")
    )
}
