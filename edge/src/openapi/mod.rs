//! The OpenAPI 3.1 document of a plan, built once from the descriptors that the calls are made by.

mod comments;
mod options;
mod parameters;
mod schema;

use std::collections::BTreeMap;

use prost_reflect::{MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use crate::{
    http::template::Template,
    plan::{Body, HttpBinding, MethodPlan, Plan},
};
use comments::Comments;
use schema::Schemas;

const HTTP_BODY: &str = "google.api.HttpBody";

/// The document as JSON bytes.
pub(crate) fn document(plan: &Plan, title: &str, version: &str) -> Vec<u8> {
    let comments = Comments::of(plan.pool());
    let mut schemas = Schemas::new(&comments);
    let mut paths = Paths::default();
    let mut tags = Vec::new();
    for service in plan.pool().services() {
        let mut bound = false;
        for method in service.methods() {
            let planned =
                plan.methods().iter().find(|m| m.service == service.full_name() && m.name == method.name());
            let Some(planned) = planned else { continue };
            for (number, binding) in planned.bindings.iter().enumerate() {
                // The router refuses malformed templates before it asks for a document.
                let Ok(template) = Template::parse(&binding.template) else { continue };
                let item = paths.item(&template);
                let context =
                    Context { comments: &comments, method: &method, planned, binding, template: &template };
                let operation = context.operation(&mut schemas, number, &item.names);
                item.operations.insert(binding.verb.as_str().to_ascii_lowercase(), operation);
                bound = true;
            }
        }
        if bound {
            tags.push(json!({
                "name": service.name(),
                "description": comments.get(&service.parent_file(), service.path()),
            }));
        }
    }
    let mut components = schemas.finish();
    components.insert("Error".to_owned(), error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}],
        "tags": tags,
        "paths": paths.finish(),
        "components": {
            "schemas": components,
            "responses": {"Error": {
                "description": "What went wrong, with its details.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    })
    .to_string()
    .into_bytes()
}

/// The JSON form of every error.
fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "An error: the HTTP status, the gRPC code by name, a sentence for people, and `google.rpc` details.",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code", "status", "message", "details"],
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "status": {"type": "string", "description": "The gRPC code by name."},
                "message": {"type": "string", "description": "One sentence for people."},
                "details": {
                    "type": "array",
                    "description": "Details as google.rpc messages, told apart by `@type`.",
                    "items": {
                        "type": "object",
                        "required": ["@type"],
                        "properties": {"@type": {"type": "string"}},
                    },
                },
            },
        }},
    })
}

/// Paths by their shape, so that bindings of one shape share an item and its parameter names.
#[derive(Default)]
struct Paths(BTreeMap<String, PathItem>);

struct PathItem {
    path: String,
    names: Vec<String>,
    operations: Map<String, Value>,
}

impl Paths {
    fn item(&mut self, template: &Template) -> &mut PathItem {
        let (shape, path, names) = parameters::path(template);
        self.0.entry(shape).or_insert_with(|| PathItem { path, names, operations: Map::new() })
    }

    fn finish(self) -> Map<String, Value> {
        self.0.into_values().map(|item| (item.path, Value::Object(item.operations))).collect()
    }
}

struct Context<'a> {
    comments: &'a Comments,
    method: &'a MethodDescriptor,
    planned: &'a MethodPlan,
    binding: &'a HttpBinding,
    template: &'a Template,
}

impl Context<'_> {
    fn operation(&self, schemas: &mut Schemas<'_>, number: usize, names: &[String]) -> Value {
        let service = self.method.parent_service().name().to_owned();
        let description = self.comments.get(&self.method.parent_file(), self.method.path());
        let suffix = if number == 0 { String::new() } else { format!("_{}", number + 1) };
        let input = self.method.input();
        let mut parameters = parameters::in_path(self.comments, &input, self.template, names);
        if self.binding.body != Body::All {
            parameters.extend(parameters::in_query(schemas, &input, self.template, &self.binding.body));
        }
        let mut operation = json!({
            "operationId": format!("{service}_{}{suffix}", self.method.name()),
            "tags": [service],
            "summary": summary(&description),
            "description": description,
            "parameters": parameters,
            "responses": {
                "200": {"description": "The answer.", "content": self.content(schemas)},
                "default": {"$ref": "#/components/responses/Error"},
            },
        });
        if let Some(body) = self.body(schemas, &input) {
            operation["requestBody"] = body;
        }
        if options::deprecated(&self.method.options()) {
            operation["deprecated"] = true.into();
        }
        operation
    }

    fn body(&self, schemas: &mut Schemas<'_>, input: &MessageDescriptor) -> Option<Value> {
        let raw = json!({"content": {"*/*": {}}});
        let schema = match &self.binding.body {
            Body::None => return None,
            Body::All if input.full_name() == HTTP_BODY => return Some(raw),
            Body::All => schemas.reference(input),
            Body::Field(path) => {
                let field = input.get_field_by_name(&path.name)?;
                if field.kind().as_message().is_some_and(|message| message.full_name() == HTTP_BODY) {
                    return Some(raw);
                }
                schemas.field(&field)
            }
        };
        Some(json!({"content": {"application/json": {"schema": schema}}, "required": true}))
    }

    fn content(&self, schemas: &mut Schemas<'_>) -> Value {
        let output = self.method.output();
        if output.full_name() == HTTP_BODY {
            return json!({"*/*": {}});
        }
        let field = self.binding.response_body.as_ref().and_then(|path| output.get_field_by_name(&path.name));
        let schema = match field {
            Some(field) => schemas.field(&field),
            None => schemas.reference(&output),
        };
        if self.planned.server_streaming {
            json!({
                "application/x-ndjson": {"schema": schema},
                "text/event-stream": {"schema": {"type": "string"}},
            })
        } else {
            json!({"application/json": {"schema": schema}})
        }
    }
}

/// The first sentence of a comment, without its full stop.
fn summary(description: &str) -> &str {
    let line = description.lines().next().unwrap_or_default();
    let sentence = line.find(". ").map_or(line, |end| &line[..end]);
    sentence.trim_end_matches(['.', ':'])
}
