//! Bindings of the plan, with everything worked out that does not depend on a request.

use std::collections::HashSet;

use http::{HeaderValue, Method, uri::PathAndQuery};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{
    EdgeError,
    config::{EdgeConfig, names_route},
    matcher::{Matcher, RouteId},
    template::Template,
};
use crate::plan::{Body, HttpBinding, MessageId, MethodPlan, Plan};

const HTTP_BODY: &str = "google.api.HttpBody";
const FIELD_MASK: &str = "google.protobuf.FieldMask";

/// One method and path, leading to one RPC.
#[derive(Debug)]
pub(crate) struct Route {
    /// `/pkg.v1.Library/GetBook`.
    pub grpc_path: PathAndQuery,
    /// Request message.
    pub input: MessageId,
    /// Response message.
    pub output: MessageId,
    pub client_streaming: bool,
    pub server_streaming: bool,
    pub binding: HttpBinding,
    /// Fields that the path and the body set, which the query may not.
    pub bound: Vec<String>,
    /// Index into the classes of the configuration; their number for the default class.
    pub class: usize,
    /// Whether no rate limit holds.
    pub rate_exempt: bool,
    /// `Cache-Control` of a GET answer that is anybody's.
    pub cache_control: HeaderValue,
    /// Whether the answer is the bytes of a `google.api.HttpBody`.
    pub raw_output: bool,
    /// Where the request body goes as it is, in a `google.api.HttpBody`.
    pub raw_input: Option<RawInput>,
    /// Request field `resume_token` of a server stream, which `Last-Event-ID` fills.
    pub resume_field: Option<String>,
    /// Number of the response field that carries the event id.
    pub resume_number: Option<u32>,
    /// How a PATCH without `update_mask` gets one.
    pub implied_mask: Option<ImpliedMask>,
}

/// Where a raw request body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RawInput {
    /// The request message is the `HttpBody`.
    Whole,
    /// The `HttpBody` is the request's field of this number.
    Field(u32),
}

/// The update mask that follows from the members of the body (AIP-134).
#[derive(Debug)]
pub(crate) struct ImpliedMask {
    /// Number of the request's `update_mask`.
    pub number: u32,
    /// Both names of the mask, as a query may give it.
    pub names: [String; 2],
    /// Message of the body.
    pub body: MessageDescriptor,
    /// Proto names of the body's fields that the path sets.
    pub in_path: HashSet<String>,
}

/// All routes, with the matcher that finds them.
pub(crate) fn routes(plan: &Plan, config: &EdgeConfig) -> Result<(Vec<Route>, Matcher), EdgeError> {
    let mut routes: Vec<Route> = Vec::new();
    let mut matcher = Matcher::default();
    for method in plan.methods() {
        for binding in &method.bindings {
            let template = Template::parse(&binding.template)?;
            let route = route(plan, config, method, binding, &template)?;
            let id: RouteId = routes.len();
            matcher.insert(binding.verb.clone(), template, &binding.template, id)?;
            routes.push(route);
        }
    }
    Ok((routes, matcher))
}

fn route(
    plan: &Plan,
    config: &EdgeConfig,
    method: &MethodPlan,
    binding: &HttpBinding,
    template: &Template,
) -> Result<Route, EdgeError> {
    let invalid = |reason: String| EdgeError::Binding {
        method: format!("{}.{}", method.service, method.name),
        template: binding.template.clone(),
        reason,
    };
    let message = |id| {
        let name = plan.message_name(id);
        plan.pool().get_message_by_name(name).ok_or_else(|| invalid(format!("no message {name}")))
    };
    let (input, output) = (message(method.input)?, message(method.output)?);
    let mut bound = Vec::new();
    for variable in &template.variables {
        let field = resolve(&input, &variable.field)
            .ok_or_else(|| invalid(format!("no field {}", variable.field)))?;
        if field.is_list() || field.is_map() || matches!(field.kind(), Kind::Message(_)) {
            return Err(invalid(format!("{} is no single value", variable.field)));
        }
        bound.push(variable.field.clone());
    }
    let mut raw_input = None;
    let mut implied_mask = None;
    match &binding.body {
        Body::None => {}
        Body::All => raw_input = (input.full_name() == HTTP_BODY).then_some(RawInput::Whole),
        Body::Field(path) => {
            let field = input
                .get_field_by_name(&path.name)
                .ok_or_else(|| invalid(format!("no field {}", path.name)))?;
            if field.cardinality() != prost_reflect::Cardinality::Repeated && is_message(&field, HTTP_BODY) {
                raw_input = Some(RawInput::Field(field.number()));
            } else if binding.verb == Method::PATCH {
                implied_mask = implied(&input, &field, &bound);
            }
            bound.push(path.name.clone());
        }
    }
    let string = |message: &MessageDescriptor, name: &str| {
        message.get_field_by_name(name).filter(|field| !field.is_list() && field.kind() == Kind::String)
    };
    let resume = ["next_resume_token", "resume_token"].into_iter().find_map(|name| string(&output, name));
    let resume_field = string(&input, "resume_token").filter(|_| method.server_streaming);
    let names = |routes: &[String]| names_route(routes, &binding.verb, &binding.template);
    let class = config.route_classes.iter().position(|class| names(&class.routes));
    let own = class.and_then(|class| config.route_classes[class].cache_control.as_ref());
    let cache_control = HeaderValue::from_str(own.unwrap_or(&config.cache_control))
        .map_err(|error| EdgeError::Setting { setting: "cache_control", reason: error.to_string() })?;
    Ok(Route {
        grpc_path: method.grpc_path.clone(),
        input: method.input,
        output: method.output,
        client_streaming: method.client_streaming,
        server_streaming: method.server_streaming,
        class: class.unwrap_or(config.route_classes.len()),
        rate_exempt: names(&config.rate_exempt),
        cache_control,
        binding: binding.clone(),
        bound,
        raw_output: output.full_name() == HTTP_BODY,
        raw_input,
        resume_field: resume_field.map(|field| field.name().to_owned()),
        resume_number: resume.map(|field| field.number()),
        implied_mask,
    })
}

/// The field at a dotted path of proto names.
fn resolve(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    match path.split_once('.') {
        None => message.get_field_by_name(path),
        Some((first, rest)) => match message.get_field_by_name(first)?.kind() {
            Kind::Message(inner) => resolve(&inner, rest),
            _ => None,
        },
    }
}

fn is_message(field: &FieldDescriptor, name: &str) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.full_name() == name)
}

fn implied(input: &MessageDescriptor, body: &FieldDescriptor, bound: &[String]) -> Option<ImpliedMask> {
    let mask = input.get_field_by_name("update_mask").filter(|mask| is_message(mask, FIELD_MASK))?;
    let Kind::Message(message) = body.kind() else { return None };
    let prefix = format!("{}.", body.name());
    let in_path = bound.iter().filter_map(|field| field.strip_prefix(&prefix)).map(str::to_owned).collect();
    Some(ImpliedMask {
        number: mask.number(),
        names: [mask.name().to_owned(), mask.json_name().to_owned()],
        body: message,
        in_path,
    })
}
