//! The OpenAPI 3.1 document of a plan, built once from the descriptors that the calls are made by.

mod comments;
mod options;
mod parameters;
mod pattern;
mod responses;
mod rules;
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use serde_json::{Map, Value, json};

use crate::{
    http::template::Template,
    plan::{Body, HttpBinding, MethodPlan, Plan},
};
use comments::Comments;
use schema::{Role, Schemas, describe};

const HTTP_BODY: &str = "google.api.HttpBody";

const DESCRIPTION: &str = "JSON is ProtoJSON: names in lowerCamelCase, 64-bit integers as strings, times in RFC 3339, \
    enums by name. An answer holds every field that cannot be absent, with its default value if need be. A request is \
    refused for a parameter or member that is not known or comes twice; `null` stands for no value, and names may be \
    written as in the .proto files too.\n\nEvery GET answers HEAD too. Every call takes `X-Request-Id` (up to 128 letters, \
    digits and `-_.:/+=`), which answer and logs repeat, and `X-Request-Timeout` (`5`, `500ms`, `1m30s`) for less than the \
    server's deadline.";

const STREAM: &str = "One message a line, or an event (with its resume token as `id`), as `Accept` has it. A stream that \
    fails ends with an error, in an event named `error`.";

/// The document as JSON bytes.
pub(crate) fn document(plan: &Plan, title: &str, version: &str) -> Vec<u8> {
    let comments = Comments::of(plan.pool());
    let answered = answered(plan);
    let mut schemas = Schemas::new(&comments, &answered);
    let mut paths = Paths::default();
    let mut tags = Vec::new();
    for service in services(plan) {
        let name = short_name(plan, &service);
        let mut bound = false;
        for method in service.methods() {
            let Some(planned) = planned(plan, &method) else { continue };
            for (number, binding) in planned.bindings.iter().enumerate() {
                // The router refuses malformed templates before it asks for a document.
                let Ok(template) = Template::parse(&binding.template) else { continue };
                // OpenAPI 3.1 has no place for other methods.
                let Some(verb) = verb(&binding.verb) else { continue };
                let item = paths.item(&template);
                let suffix = if number == 0 { String::new() } else { format!("_{}", number + 1) };
                let context = Context {
                    id: format!("{name}_{}{suffix}", method.name()),
                    tag: &name,
                    comments: &comments,
                    method: &method,
                    planned,
                    binding,
                    template: &template,
                };
                item.operations.insert(verb, context.operation(&mut schemas, &item.names));
                bound = true;
            }
        }
        if bound {
            let mut tag = json!({"name": name});
            describe(&mut tag, &comments.get(&service.parent_file(), service.path()));
            tags.push(tag);
        }
    }
    let mut components = schemas.finish();
    components.insert("Error".to_owned(), responses::error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}],
        "tags": tags,
        "paths": paths.finish(),
        "components": {
            "schemas": components,
            "parameters": parameters::components(),
            "headers": responses::header_components(),
            "responses": responses::components(),
            "securitySchemes": {"bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "`Authorization: Bearer` with the caller's key, for what is not public.",
            }},
        },
    })
    .to_string()
    .into_bytes()
}

/// All services in an order that does not hang on that of the files in the descriptor set.
fn services(plan: &Plan) -> Vec<ServiceDescriptor> {
    let mut services: Vec<_> = plan.pool().services().collect();
    services.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    services
}

/// The name of a service without its package, unless two packages have one of that name.
fn short_name(plan: &Plan, service: &ServiceDescriptor) -> String {
    let alone = plan.pool().services().filter(|other| other.name() == service.name()).count() == 1;
    if alone { service.name().to_owned() } else { service.full_name().to_owned() }
}

fn planned<'p>(plan: &'p Plan, method: &MethodDescriptor) -> Option<&'p MethodPlan> {
    let service = method.parent_service().full_name().to_owned();
    plan.methods().iter().find(|planned| planned.service == service && planned.name == method.name())
}

/// Full names of the messages that some answer holds.
fn answered(plan: &Plan) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for method in services(plan).iter().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        if planned(plan, &method).is_some_and(|planned| !planned.bindings.is_empty()) {
            schema::collect(&method.input(), false, &mut seen);
            schema::collect(&method.output(), true, &mut seen);
        }
    }
    seen.into_iter().filter(|(answer, _)| *answer).map(|(_, name)| name).collect()
}

/// The member of a path item for an HTTP method.
fn verb(method: &Method) -> Option<String> {
    const KNOWN: [Method; 8] = [
        Method::GET,
        Method::PUT,
        Method::POST,
        Method::DELETE,
        Method::OPTIONS,
        Method::HEAD,
        Method::PATCH,
        Method::TRACE,
    ];
    KNOWN.contains(method).then(|| method.as_str().to_ascii_lowercase())
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
    id: String,
    tag: &'a str,
    comments: &'a Comments,
    method: &'a MethodDescriptor,
    planned: &'a MethodPlan,
    binding: &'a HttpBinding,
    template: &'a Template,
}

impl Context<'_> {
    fn operation(&self, schemas: &mut Schemas<'_>, names: &[String]) -> Value {
        let description = self.comments.get(&self.method.parent_file(), self.method.path());
        let (input, output) = (self.method.input(), self.method.output());
        let mut parameters = parameters::in_path(schemas, &input, self.template, names);
        if self.binding.body != Body::All {
            parameters.extend(parameters::in_query(schemas, &input, self.template, &self.binding.body));
        }
        let streaming = self.planned.server_streaming;
        let revalidates = self.binding.verb == Method::GET && !streaming;
        if revalidates {
            parameters.push(parameters::if_none_match());
        }
        if streaming {
            parameters.extend(parameters::last_event_id(schemas, &input));
        }
        let body = self.body(schemas, &input);
        let negotiated = output.full_name() != HTTP_BODY;
        let good = self.answer(schemas, &output);
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": Some(summary(&description)).filter(|text| !text.is_empty()).unwrap_or(self.method.name()),
            "parameters": parameters,
            "responses": responses::responses(good, revalidates, negotiated, body.is_some()),
        });
        describe(&mut operation, &description);
        if let Some(body) = body {
            operation["requestBody"] = body;
        }
        if options::deprecated(&self.method.options()) {
            operation["deprecated"] = true.into();
        }
        operation
    }

    fn body(&self, schemas: &mut Schemas<'_>, input: &MessageDescriptor) -> Option<Value> {
        // A PATCH holds what is to change.
        let patch = (self.binding.verb == Method::PATCH).then_some(Role::Update);
        let bound: Vec<&str> = self.template.variables.iter().map(|variable| &*variable.field).collect();
        let (schema, required) = match &self.binding.body {
            Body::None => return None,
            Body::All if input.full_name() == HTTP_BODY => (None, false),
            Body::All => {
                let role = patch.unwrap_or(Role::Input);
                let must = |field: FieldDescriptor| Schemas::must(&field) && !schema::sets(&bound, &field);
                let required = role == Role::Input && input.fields().any(must);
                (Some(schemas.body(input, role, &bound)), required)
            }
            Body::Field(path) => {
                let field = input.get_field_by_name(&path.name)?;
                let prefix = format!("{}.", path.name);
                let bound: Vec<&str> = bound.iter().filter_map(|path| path.strip_prefix(&prefix)).collect();
                let schema = match field.kind() {
                    Kind::Message(of) if of.full_name() == HTTP_BODY && !field.is_list() => None,
                    Kind::Message(of) if !field.is_list() && !field.is_map() => {
                        let role = patch.unwrap_or(schema::below(&field, Role::Input));
                        Some(schemas.body(&of, role, &bound))
                    }
                    _ => Some(schemas.field(&field, Role::Input)),
                };
                (schema, Schemas::must(&field))
            }
        };
        let content = match schema {
            Some(schema) => json!({"application/json": {"schema": schema}}),
            None => json!({"*/*": {}}),
        };
        Some(json!({"content": content, "required": required}))
    }

    /// The answer that the operation is there for.
    fn answer(&self, schemas: &mut Schemas<'_>, output: &MessageDescriptor) -> Value {
        if output.full_name() == HTTP_BODY {
            return json!({"description": "The file.", "content": {"*/*": {}}});
        }
        let field = self.binding.response_body.as_ref().and_then(|path| output.get_field_by_name(&path.name));
        let (schema, comment) = match field {
            Some(field) => {
                let schema = schemas.values(&field, Role::Answer);
                // Absent, it is `null`.
                let schema = match field.supports_presence() {
                    true => json!({"anyOf": [schema, {"type": "null"}]}),
                    false => schema,
                };
                (schema, schemas.comment(&field))
            }
            None => (schemas.message(output, Role::Answer), schemas.comment_of(output)),
        };
        let (content, note) = if self.planned.server_streaming {
            let line = json!({"anyOf": [schema, {"$ref": "#/components/schemas/Error"}]});
            let content = json!({
                "application/x-ndjson": {"schema": line},
                "text/event-stream": {"schema": {"type": "string"}},
            });
            (content, STREAM)
        } else {
            (json!({"application/json": {"schema": schema}}), "")
        };
        let mut response = json!({"content": content, "description": note});
        describe(&mut response, if comment.is_empty() && note.is_empty() { "The answer." } else { &comment });
        response
    }
}

/// The first sentence of a comment, without its full stop.
fn summary(description: &str) -> &str {
    let line = description.lines().next().unwrap_or_default();
    let sentence = line.find(". ").map_or(line, |end| &line[..end]);
    sentence.trim_end_matches(['.', ':'])
}
