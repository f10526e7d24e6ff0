//! From an HTTP request to gRPC messages.

use std::{
    collections::BTreeMap,
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::body::Body;
use bytes::{Buf, Bytes};
use futures_util::stream;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    request::Parts,
};
use http_body_util::{BodyExt, LengthLimitError, Limited, StreamBody};
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use super::{
    Edge,
    failure::Failure,
    frame::{self, PREFIX},
    negotiate,
    route::{ImpliedMask, RawInput, Route},
    template, wire,
};
use crate::codec::{self, JsonError, JsonErrorKind, Param, ParamError, ParamErrorKind, ParamWriter};
use crate::plan;

/// A parameter with its field path and value.
pub(crate) type Pair = (String, String);

/// Messages for the upstream.
pub(crate) struct Upload {
    pub body: tonic::body::Body,
    /// Set when a streamed body broke its limit on the way, which only the reader of the answer can report.
    pub too_large: Option<Arc<AtomicBool>>,
    /// The JSON body that the messages were made of.
    pub json: Bytes,
}

/// Reads path, query and body of a request into the messages that its route asks for.
pub(crate) async fn read(
    edge: &Edge,
    route: &Route,
    variables: &[Pair],
    parts: &Parts,
    body: Body,
    deadline: Instant,
) -> Result<Upload, Failure> {
    let query = parts.uri.query().unwrap_or_default();
    let fields = parameters(edge, route, variables, query, parts.headers.get("last-event-id"))?;
    if route.client_streaming && route.raw_input.is_none() {
        let message = "client streams of JSON are not offered over HTTP/JSON";
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, "CLIENT_STREAM", message));
    }
    if let Some(place) = route.raw_input {
        return raw(edge, route, place, fields, parts, body, deadline).await;
    }
    let mut message = vec![0; PREFIX];
    let json = read_body(route, &edge.config, parts, body, deadline).await?;
    if !json.is_empty() {
        match &route.binding.body {
            plan::Body::None => {}
            plan::Body::All => {
                codec::from_json(&edge.plan, route.input, &json, &mut message).map_err(json_failure)?
            }
            plan::Body::Field(field) => {
                codec::field_from_json(&edge.plan, route.input, field, &json, &mut message)
                    .map_err(json_failure)?;
            }
        }
        if let Some(mask) = &route.implied_mask
            && !template::pairs(query).flatten().any(|(name, _)| mask.names.iter().any(|mask| *mask == name))
        {
            imply_mask(mask, &json, &mut message);
        }
    }
    // What comes last on the wire wins: the path over the body.
    message.extend_from_slice(&fields);
    Ok(Upload { body: whole(message)?, too_large: None, json })
}

/// The wire bytes of query parameters and path variables.
fn parameters(
    edge: &Edge,
    route: &Route,
    variables: &[Pair],
    query: &str,
    last_event: Option<&HeaderValue>,
) -> Result<Vec<u8>, Failure> {
    let mut fields = Vec::new();
    let bound: Vec<&str> = route.bound.iter().map(String::as_str).collect();
    let mut writer = ParamWriter::new(&edge.plan, route.input, &bound);
    let mut put = |name: &str, value: &str| {
        if route.binding.body == plan::Body::All {
            return Err(Failure::invalid(
                "UNKNOWN_PARAMETER",
                name,
                "this method takes all its fields in the body",
            ));
        }
        writer.write(Param { name, value }, &mut fields).map_err(param_failure)
    };
    let mut resume = route.resume_field.as_ref().zip(last_event.and_then(|id| id.to_str().ok()));
    for pair in template::pairs(query) {
        let (name, value) =
            pair.map_err(|name| Failure::invalid("MALFORMED_QUERY", name, "is not percent-encoded UTF-8"))?;
        resume = resume.filter(|(field, _)| plain(field) != plain(&name));
        put(&name, &value)?;
    }
    if let Some((field, id)) = resume {
        put(field, id)?;
    }
    if !variables.is_empty() {
        let mut writer = ParamWriter::new(&edge.plan, route.input, &[]);
        for (name, value) in variables {
            writer.write(Param { name, value }, &mut fields).map_err(param_failure)?;
        }
    }
    Ok(fields)
}

/// A field name without its case and underscores, in which its proto and JSON names agree.
fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

/// The JSON body; empty when there is none.
async fn read_body(
    route: &Route,
    config: &super::EdgeConfig,
    parts: &Parts,
    body: Body,
    deadline: Instant,
) -> Result<Bytes, Failure> {
    if http_body::Body::is_end_stream(&body) {
        return Ok(Bytes::new());
    }
    if route.binding.body == plan::Body::None {
        // One byte is enough to know.
        return match collect(&parts.headers, body, 1, deadline).await {
            Ok(bytes) if bytes.is_empty() => Ok(bytes),
            _ => Err(Failure::invalid("UNEXPECTED_BODY", "", "this method takes no request body")),
        };
    }
    negotiate::plain_coding(&parts.headers)?;
    let typed = parts.headers.contains_key(CONTENT_TYPE);
    if typed {
        negotiate::json_body(&parts.headers)?;
    }
    let json = collect(&parts.headers, body, config.max_body_bytes, deadline).await?;
    if !typed && !json.is_empty() {
        negotiate::json_body(&parts.headers)?;
    }
    Ok(json)
}

async fn collect(headers: &HeaderMap, body: Body, limit: usize, deadline: Instant) -> Result<Bytes, Failure> {
    declared_size(headers, limit)?;
    match timeout_at(deadline, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::too_large(limit)),
        Ok(Err(error)) => {
            tracing::debug!(error = &*error, "request body broke off");
            Err(Failure::invalid("BODY_BROKEN", "", "the request body broke off"))
        }
        Err(_) => Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            Code::DeadlineExceeded,
            "BODY_TIMEOUT",
            "the request body did not arrive in time",
        )),
    }
}

pub(crate) fn declared_size(headers: &HeaderMap, limit: usize) -> Result<(), Failure> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) { Err(Failure::too_large(limit)) } else { Ok(()) }
}

/// One message, its prefix still to be filled, as a body.
fn whole(mut message: Vec<u8>) -> Result<tonic::body::Body, Failure> {
    frame::seal(&mut message).ok_or_else(|| Failure::too_large(u32::MAX as usize))?;
    Ok(tonic::body::Body::new(http_body_util::Full::new(Bytes::from(message))))
}

/// Wraps a chunk of a raw body into a framed message; `fields` and `content_type` go into the first only.
fn raw_message(place: RawInput, fields: &[u8], content_type: &str, chunk: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(content_type.len() + 24);
    if !content_type.is_empty() {
        wire::put_bytes(1, content_type.as_bytes(), &mut head);
    }
    wire::put_header(2, chunk.len(), &mut head);
    let mut message = Vec::with_capacity(PREFIX + fields.len() + head.len() + chunk.len() + 16);
    message.resize(PREFIX, 0);
    if let RawInput::Field(number) = place {
        wire::put_header(number, head.len() + chunk.len(), &mut message);
    }
    message.extend_from_slice(&head);
    message.extend_from_slice(chunk);
    message.extend_from_slice(fields);
    message
}

/// A raw body: one message when the method is unary, else a message a chunk, as fast as the upstream takes them.
async fn raw(
    edge: &Edge,
    route: &Route,
    place: RawInput,
    fields: Vec<u8>,
    parts: &Parts,
    body: Body,
    deadline: Instant,
) -> Result<Upload, Failure> {
    negotiate::plain_coding(&parts.headers)?;
    let limit = edge.config.max_upload_bytes;
    let content_type = match parts.headers.get(CONTENT_TYPE).map(|value| value.to_str()) {
        Some(Ok(given)) => given.to_owned(),
        Some(Err(_)) => return Err(Failure::invalid("INVALID_HEADER", "Content-Type", "is not text")),
        None => String::new(),
    };
    if !route.client_streaming {
        let data = collect(&parts.headers, body, limit, deadline).await?;
        let message = raw_message(place, &fields, &content_type, &data);
        return Ok(Upload { body: whole(message)?, too_large: None, json: Bytes::new() });
    }
    declared_size(&parts.headers, limit)?;
    let too_large = Arc::new(AtomicBool::new(false));
    let upload = Chunks {
        body,
        place,
        first: Some((fields, content_type)),
        left: limit,
        too_large: too_large.clone(),
    };
    let messages = stream::unfold(upload, |mut upload| async { Some((upload.next().await?, upload)) });
    let body = tonic::body::Body::new(StreamBody::new(messages));
    Ok(Upload { body, too_large: Some(too_large), json: Bytes::new() })
}

struct Chunks {
    body: Body,
    place: RawInput,
    first: Option<(Vec<u8>, String)>,
    left: usize,
    too_large: Arc<AtomicBool>,
}

impl Chunks {
    async fn next(&mut self) -> Option<Result<http_body::Frame<Bytes>, tonic::Status>> {
        loop {
            let chunk = match self.body.frame().await {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    tracing::debug!(error = error.source(), "request body broke off");
                    return Some(Err(tonic::Status::cancelled("the request body broke off")));
                }
                // Even an empty body is one message: it carries the fields.
                None if self.first.is_some() => Bytes::new(),
                None => return None,
            };
            if chunk.is_empty() && self.first.is_none() {
                continue;
            }
            let Some(left) = self.left.checked_sub(chunk.remaining()) else {
                self.too_large.store(true, Ordering::Release);
                return Some(Err(tonic::Status::out_of_range("the request body is over its limit")));
            };
            self.left = left;
            let (fields, content_type) = self.first.take().unwrap_or_default();
            let mut message = raw_message(self.place, &fields, &content_type, &chunk);
            return match frame::seal(&mut message) {
                Some(()) => Some(Ok(http_body::Frame::data(Bytes::from(message)))),
                None => Some(Err(tonic::Status::out_of_range("a chunk is too long for one message"))),
            };
        }
    }
}

/// Appends the mask of the body's members, unless there are none.
fn imply_mask(mask: &ImpliedMask, json: &[u8], message: &mut Vec<u8>) {
    // The body has been decoded already: it is an object of known fields, or `null`.
    let Ok(members) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(json) else { return };
    let mut paths = Vec::new();
    for member in members.keys() {
        let field = mask.body.get_field_by_json_name(member).or_else(|| mask.body.get_field_by_name(member));
        if let Some(field) = field.filter(|field| !mask.in_path.contains(field.name())) {
            wire::put_bytes(1, field.name().as_bytes(), &mut paths);
        }
    }
    if !paths.is_empty() {
        wire::put_bytes(mask.number, &paths, message);
    }
}

fn json_failure(error: JsonError) -> Failure {
    let reason = match error.kind {
        JsonErrorKind::Syntax => "MALFORMED_JSON",
        JsonErrorKind::UnknownField => "UNKNOWN_FIELD",
        JsonErrorKind::DuplicateField => "DUPLICATE_FIELD",
        JsonErrorKind::OneofConflict => "ONEOF_CONFLICT",
        JsonErrorKind::WrongType => "WRONG_TYPE",
        JsonErrorKind::InvalidValue => "INVALID_VALUE",
        JsonErrorKind::TooDeep => "TOO_DEEP",
    };
    Failure::violation(reason, error.path, error.description)
}

fn param_failure(error: ParamError) -> Failure {
    let reason = match error.kind {
        ParamErrorKind::Unknown => "UNKNOWN_PARAMETER",
        ParamErrorKind::Unsupported => "UNSUPPORTED_PARAMETER",
        ParamErrorKind::InvalidValue => "INVALID_VALUE",
        ParamErrorKind::Duplicate => "DUPLICATE_PARAMETER",
        ParamErrorKind::AlreadyBound => "PARAMETER_ALREADY_BOUND",
        ParamErrorKind::OneofConflict => "ONEOF_CONFLICT",
    };
    Failure::violation(reason, error.name, error.description)
}
