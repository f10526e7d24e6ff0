//! `google.api.http` rules (google/api/http.proto), read by reflection so that no generated type is needed.

use ::http::Method;
use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage, Value};

use super::{MessageId, Plan};

/// `extend google.protobuf.MethodOptions { HttpRule http = 72295728; }`
const HTTP_EXTENSION: u32 = 72_295_728;

/// One way to reach a method over HTTP.
#[derive(Debug, Clone)]
pub struct HttpBinding {
    /// HTTP method; that of a `custom` rule may be any token.
    pub verb: Method,
    /// Path template as written, such as `/v1/{name=books/*}:archive`.
    pub template: String,
    /// What the HTTP body carries.
    pub body: Body,
    /// The response field that makes up the HTTP response body; the whole message when `None`.
    pub response_body: Option<FieldPath>,
}

/// What the HTTP request body carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing: all fields come from path and query.
    None,
    /// The whole request message (`body: "*"`).
    All,
    /// One top-level field of it.
    Field(FieldPath),
}

/// A top-level field of the message that it was resolved against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    /// The proto name.
    pub name: String,
    pub(crate) index: usize,
}

pub(super) fn bindings(
    plan: &Plan,
    method: &MethodDescriptor,
    input: MessageId,
    output: MessageId,
) -> Result<Vec<HttpBinding>, String> {
    let options = method.options();
    let Some(extension) = options.descriptor().get_extension(HTTP_EXTENSION) else { return Ok(Vec::new()) };
    if !options.has_extension(&extension) {
        return Ok(Vec::new());
    }
    let value = options.get_extension(&extension);
    let rule = value.as_message().ok_or("google.api.http is no message")?;
    let mut bindings = vec![binding(plan, rule, input, output)?];
    for additional in list(rule, "additional_bindings") {
        let additional = additional.as_message().ok_or("additional_bindings are no messages")?;
        if !list(additional, "additional_bindings").is_empty() {
            return Err("additional_bindings cannot be nested".to_owned());
        }
        bindings.push(binding(plan, additional, input, output)?);
    }
    Ok(bindings)
}

fn binding(
    plan: &Plan,
    rule: &DynamicMessage,
    input: MessageId,
    output: MessageId,
) -> Result<HttpBinding, String> {
    let (verb, template) = pattern(rule)?;
    let resolve = |message, name: &str| {
        plan.field(message, name)
            .ok_or_else(|| format!("{} has no field `{name}`", plan.message_name(message)))
    };
    let body = match text(rule, "body").as_str() {
        "" => Body::None,
        "*" => Body::All,
        name => Body::Field(resolve(input, name)?),
    };
    let response_body = match text(rule, "response_body").as_str() {
        "" => None,
        name => Some(resolve(output, name)?),
    };
    Ok(HttpBinding { verb, template, body, response_body })
}

fn pattern(rule: &DynamicMessage) -> Result<(Method, String), String> {
    const VERBS: [(&str, Method); 5] = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    for (field, verb) in VERBS {
        if rule.has_field_by_name(field) {
            return Ok((verb, text(rule, field)));
        }
    }
    let custom = rule.get_field_by_name("custom").filter(|_| rule.has_field_by_name("custom"));
    let custom = custom.as_deref().and_then(Value::as_message).ok_or("its rule has no path template")?;
    let kind = text(custom, "kind");
    let verb = Method::from_bytes(kind.as_bytes()).map_err(|_| format!("`{kind}` is no HTTP method"))?;
    Ok((verb, text(custom, "path")))
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn list(message: &DynamicMessage, field: &str) -> Vec<Value> {
    message
        .get_field_by_name(field)
        .and_then(|value| value.as_list().map(<[Value]>::to_vec))
        .unwrap_or_default()
}
