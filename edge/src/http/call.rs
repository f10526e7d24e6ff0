//! One request through the upstream and back.

use std::{
    error::Error,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, TE, USER_AGENT},
};
use prost::Message as _;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};
use tower::ServiceExt;

use super::{
    Edge, cache,
    failure::Failure,
    frame::{Broken, Frames},
    matcher::Outcome,
    negotiate::{self, StreamForm},
    request::{self, Upload},
    route::Route,
    spelling::Spelling,
    stream,
    wire::HttpBody,
};
use crate::{codec, protect::Client};

const OCTET_STREAM: &str = "application/octet-stream";
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Answers a matched request; whatever goes wrong becomes a JSON error.
pub(crate) async fn answer(edge: Arc<Edge>, request: Request<Body>) -> Response {
    let head = *request.method() == Method::HEAD;
    let domain = edge.config.error_domain.clone();
    let response = transcode(edge, request).await.unwrap_or_else(|failure| failure.into_response(&domain));
    if head { without_body(response) } else { response }
}

/// The answer to HEAD: that to GET with the length of its body, but not the body.
fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(parts, Body::empty())
}

async fn transcode(edge: Arc<Edge>, request: Request<Body>) -> Result<Response, Failure> {
    let (mut parts, body) = request.into_parts();
    let (id, variables) = match parts.extensions.remove::<Outcome>() {
        Some(Outcome::Found(id, variables)) => (id, variables),
        Some(Outcome::MethodNotAllowed(allow)) => {
            return Err(Failure::method_not_allowed(&parts.method, &allow));
        }
        Some(Outcome::Malformed) => {
            return Err(Failure::invalid("MALFORMED_PATH", "", "the path is not percent-encoded UTF-8"));
        }
        Some(Outcome::NotFound) | None => return Err(Failure::no_route(parts.uri.path())),
    };
    let route = &edge.routes[id];
    let asked = negotiate::request_timeout(&parts.headers)?;
    let time = asked.map_or(edge.config.deadline, |asked| asked.min(edge.config.deadline));
    let deadline = Instant::now() + time;
    let form = match (route.raw_output, route.server_streaming) {
        (true, _) => None,
        (false, true) => Some(negotiate::accept_stream(&parts.headers)?),
        (false, false) => {
            negotiate::accept_json(&parts.headers)?;
            None
        }
    };
    let upload = request::read(&edge, route, &variables, &parts, body, deadline).await?;
    // A stream may outlive the deadline, by which it only has to begin, unless the caller set one.
    let (timeout, end) = match (route.server_streaming, asked) {
        (false, _) => (Some(time), Some(deadline)),
        (true, Some(asked)) => (Some(asked), Some(deadline + (asked - time))),
        (true, None) => (None, None),
    };
    let too_large = upload.too_large.clone();
    let spelling = Spelling {
        plan: &edge.plan,
        input: route.input,
        query: parts.uri.query().unwrap_or_default(),
        json: upload.json.clone(),
    };
    let call = Call { edge: &edge, route, parts: &parts, timeout, spelling };
    let exchange = async {
        let (headers, frames) = call.open(upload).await?;
        match form {
            Some(form) => Ok(call.stream(&edge, id, form, headers, frames, end)),
            None if route.server_streaming => call.raw_stream(&edge, headers, frames, end).await,
            None => call.unary(headers, frames).await,
        }
    };
    let outcome = timeout_at(deadline, exchange).await.unwrap_or_else(|_| Err(Failure::deadline()));
    if too_large.is_some_and(|flag| flag.load(Ordering::Acquire)) {
        return Err(Failure::too_large(edge.config.max_upload_bytes));
    }
    outcome
}

struct Call<'a> {
    edge: &'a Edge,
    route: &'a Route,
    parts: &'a http::request::Parts,
    timeout: Option<Duration>,
    spelling: Spelling<'a>,
}

impl Call<'_> {
    /// Sends the request and takes the head of the answer.
    async fn open(&self, upload: Upload) -> Result<(HeaderMap, Frames), Failure> {
        let mut request = Request::new(upload.body);
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.route.grpc_path.clone().into();
        *request.headers_mut() = metadata(self.edge, self.parts, self.timeout);
        let response = self
            .edge
            .upstream
            .clone()
            .oneshot(request)
            .await
            .map_err(|error| self.edge.unreachable(&*error))?;
        let (head, body) = response.into_parts();
        self.edge.note_actor(self.parts, &head.headers);
        if head.status != StatusCode::OK {
            tracing::warn!(status = head.status.as_u16(), "upstream answered without gRPC");
            return Err(match head.status.as_u16() {
                429 | 502..=504 => Failure::unavailable(),
                _ => Failure::bad_gateway(),
            });
        }
        // An answer without messages may carry its status in the head.
        if let Some(status) =
            Status::from_header_map(&head.headers).filter(|status| status.code() != Code::Ok)
        {
            return Err(self.failure(&status));
        }
        Ok((head.headers, Frames::new(body, self.edge.config.max_message_bytes)))
    }

    /// The one message of a unary answer, once its status is known to be OK.
    async fn unary(&self, headers: HeaderMap, mut frames: Frames) -> Result<Response, Failure> {
        let broken = |broken| self.edge.broken(broken);
        let message = frames.next().await.map_err(broken)?;
        let more = message.is_some() && frames.next().await.map_err(broken)?.is_some();
        self.finished(&headers, &frames)?;
        let Some(message) = message.filter(|_| !more) else {
            tracing::warn!(path = %self.route.grpc_path, "upstream sent no message, or several, for a unary call");
            return Err(Failure::bad_gateway());
        };
        if self.route.raw_output {
            let body = HttpBody::decode(message).map_err(|_| Failure::bad_gateway())?;
            return Ok(self.whole(&headers, &content_type(&body), body.data.clone()).await);
        }
        let mut json = Vec::with_capacity(message.len() * 2);
        let plan = &self.edge.plan;
        match &self.route.binding.response_body {
            None => codec::to_json(plan, self.route.output, &message, &mut json),
            Some(field) => codec::field_to_json(plan, self.route.output, field, &message, &mut json),
        }
        .map_err(|error| {
            tracing::error!(%error, path = %self.route.grpc_path, "upstream's message has no JSON form");
            Failure::bad_gateway()
        })?;
        Ok(self.whole(&headers, negotiate::JSON, json.into()).await)
    }

    /// A good answer whose body is at hand: named by an ETag, 304 when the client has it, compressed from what is kept.
    async fn whole(&self, metadata: &HeaderMap, media: &str, body: Bytes) -> Response {
        let given = &self.parts.headers;
        let response = self.finish(metadata, media, Body::from(body.clone()));
        if !self.is_safe() {
            return response;
        }
        let response = cache::revalidate(given, &body, response);
        let compressible = media == negotiate::JSON || media.starts_with("text/");
        if response.status() != StatusCode::OK || self.is_private() || !compressible {
            return response;
        }
        self.edge.compressed.apply(given, &body, response).await
    }

    /// A server stream of messages as NDJSON or SSE.
    fn stream(
        &self,
        edge: &Arc<Edge>,
        route: usize,
        form: StreamForm,
        headers: HeaderMap,
        frames: Frames,
        end: Option<Instant>,
    ) -> Response {
        let media = match form {
            StreamForm::NdJson => negotiate::NDJSON,
            StreamForm::Sse => negotiate::SSE,
        };
        let body = stream::messages(edge.clone(), route, form, headers.clone(), frames, end);
        let mut response = self.finish(&headers, media, body);
        response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
        // Tells nginx not to hold events back.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }

    /// A server stream of `HttpBody`: the first message says what the bytes are.
    async fn raw_stream(
        &self,
        edge: &Arc<Edge>,
        headers: HeaderMap,
        mut frames: Frames,
        end: Option<Instant>,
    ) -> Result<Response, Failure> {
        let Some(first) = frames.next().await.map_err(|broken| self.edge.broken(broken))? else {
            self.finished(&headers, &frames)?;
            return Ok(self.finish(&headers, OCTET_STREAM, Body::empty()));
        };
        let first = HttpBody::decode(first).map_err(|_| Failure::bad_gateway())?;
        let media = content_type(&first).into_owned();
        let body = stream::raw(edge.clone(), headers.clone(), first.data, frames, end);
        Ok(self.finish(&headers, &media, body))
    }

    /// Head and cache rules of a good answer.
    fn finish(&self, metadata: &HeaderMap, media: &str, body: Body) -> Response {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        for name in &self.edge.config.response_metadata {
            if let Some(value) = metadata.get(name) {
                headers.insert(name, value.clone());
            }
        }
        let media = HeaderValue::from_str(media).unwrap_or(HeaderValue::from_static(OCTET_STREAM));
        headers.insert(CONTENT_TYPE, media);
        let shared = if self.is_private() { NO_STORE } else { self.route.cache_control.clone() };
        headers.insert(CACHE_CONTROL, shared);
        response
    }

    fn is_safe(&self) -> bool {
        matches!(self.parts.method, Method::GET | Method::HEAD)
    }

    /// Whether the answer is for this caller alone.
    fn is_private(&self) -> bool {
        !self.is_safe()
            || self.parts.headers.contains_key(AUTHORIZATION)
            || self.route.cache_control == NO_STORE
    }

    /// The error for a gRPC status, its fields named as the caller did.
    fn failure(&self, status: &Status) -> Failure {
        self.edge.details.failure(&self.edge.plan, status, Some(&self.spelling))
    }

    /// Whether the status behind the last message is OK.
    fn finished(&self, headers: &HeaderMap, frames: &Frames) -> Result<(), Failure> {
        self.edge.final_status(headers, frames)?.map_or(Ok(()), |status| Err(self.failure(&status)))
    }
}

/// What the upstream is told beside the message: the caller's headers by the allow-list, and the edge's own.
pub(crate) fn metadata(edge: &Edge, parts: &http::request::Parts, timeout: Option<Duration>) -> HeaderMap {
    let given = &parts.headers;
    let mut metadata = HeaderMap::with_capacity(12);
    for name in &edge.config.request_metadata {
        if let Some(value) = given.get(name) {
            metadata.insert(name, value.clone());
        }
    }
    if let Some(agent) = given.get(USER_AGENT) {
        metadata.insert(HeaderName::from_static("x-user-agent"), agent.clone());
    }
    if let Some(client) = parts.extensions.get::<Client>() {
        metadata.insert(HeaderName::from_static("x-request-id"), client.request_id.clone());
        if let Some(traceparent) = &client.traceparent {
            metadata.insert(HeaderName::from_static("traceparent"), traceparent.clone());
        }
        if let Ok(address) = HeaderValue::from_str(&client.address.to_string()) {
            metadata.insert(HeaderName::from_static("x-forwarded-for"), address);
        }
    }
    if let Some(timeout) = timeout {
        metadata.insert(HeaderName::from_static("grpc-timeout"), grpc_timeout(timeout));
    }
    metadata.insert(TE, HeaderValue::from_static("trailers"));
    metadata.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata
}

fn content_type(body: &HttpBody) -> std::borrow::Cow<'_, str> {
    if body.content_type.is_empty() { OCTET_STREAM.into() } else { body.content_type.as_str().into() }
}

/// `grpc-timeout`: at most eight digits and a unit.
fn grpc_timeout(timeout: Duration) -> HeaderValue {
    let millis = timeout.as_millis().max(1);
    let text = if millis < 100_000_000 {
        format!("{millis}m")
    } else {
        format!("{}S", timeout.as_secs().min(99_999_999))
    };
    HeaderValue::from_str(&text).expect("digits and a letter are header-safe")
}

impl Edge {
    /// Keeps who the upstream says that the caller is.
    pub(crate) fn note_actor(&self, parts: &http::request::Parts, metadata: &HeaderMap) {
        let actor = self.config.actor_metadata.as_ref().and_then(|name| metadata.get(name));
        if let (Some(actor), Some(client)) = (actor, parts.extensions.get::<Client>()) {
            client.actor.get_or_init(|| actor.clone());
        }
    }

    /// The error for an upstream that did not answer at all, or refused through a layer of its own.
    pub(crate) fn unreachable(&self, error: &(dyn Error + 'static)) -> Failure {
        let mut cause = Some(error);
        while let Some(current) = cause {
            // A status with a cause wraps a library's error, whose text is not for clients.
            if let Some(status) = current.downcast_ref::<Status>().filter(|status| status.source().is_none())
            {
                return self.details.failure(&self.plan, status, None);
            }
            cause = current.source();
        }
        tracing::warn!(error, "upstream cannot be reached");
        Failure::unavailable()
    }

    /// The error for a stream of messages that broke off.
    pub(crate) fn broken(&self, broken: Broken) -> Failure {
        match broken {
            Broken::Transport(status) => {
                tracing::warn!(error = %status, "connection to the upstream broke off");
                Failure::unavailable()
            }
            Broken::Malformed(reason) => {
                tracing::error!(reason, "upstream sent malformed gRPC");
                Failure::bad_gateway()
            }
        }
    }

    /// The status behind the last message, unless it is OK.
    fn final_status(&self, headers: &HeaderMap, frames: &Frames) -> Result<Option<Status>, Failure> {
        let status =
            frames.trailers().and_then(Status::from_header_map).or_else(|| Status::from_header_map(headers));
        match status {
            Some(status) => Ok(Some(status).filter(|status| status.code() != Code::Ok)),
            None => {
                tracing::warn!("upstream ended without a status");
                Err(Failure::bad_gateway())
            }
        }
    }

    /// Whether a stream has ended well.
    pub(crate) fn finished(&self, headers: &HeaderMap, frames: &Frames) -> Result<(), Failure> {
        let failed = self.final_status(headers, frames)?;
        failed.map_or(Ok(()), |status| Err(self.details.failure(&self.plan, &status, None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_fit_eight_digits() {
        assert_eq!(grpc_timeout(Duration::from_millis(1500)), "1500m");
        assert_eq!(grpc_timeout(Duration::from_nanos(5)), "1m");
        assert_eq!(grpc_timeout(Duration::from_secs(200_000)), "200000S");
    }
}
