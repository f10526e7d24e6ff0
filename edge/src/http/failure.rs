//! Everything that is not an answer: one JSON form for the upstream's errors and the edge's own.

use axum::{body::Body, response::Response};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::status;

/// Seconds after which to try again when an upstream is away.
const RETRY_UNAVAILABLE: u64 = 1;

/// An error on its way to the client.
///
/// Rendered as `{"error":{"code","status","message","details"}}` with the HTTP status, the name of the gRPC code, and
/// the `google.rpc` details as ProtoJSON `Any`s.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    code: Code,
    message: String,
    reason: Option<&'static str>,
    details: Vec<Value>,
    retry_after: Option<u64>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    /// An error of the edge itself; `reason` goes into its `ErrorInfo`.
    pub fn new(status: StatusCode, code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            reason: Some(reason),
            details: Vec::new(),
            retry_after: None,
            headers: Vec::new(),
        }
    }

    /// A 400 that names what is wrong and where: a field path, a parameter or a header.
    pub fn invalid(reason: &'static str, field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        let sentence = if field.is_empty() { description } else { format!("{field}: {description}") };
        Self::violation(reason, field, sentence)
    }

    /// A 400 whose description names the field already.
    pub fn violation(reason: &'static str, field: String, description: String) -> Self {
        let mut failure =
            Self::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, reason, description.clone());
        failure.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": description}],
        }));
        failure
    }

    /// The upstream's own error, with its details already turned to JSON.
    pub fn upstream(code: Code, message: String, details: Vec<Value>, retry_after: Option<u64>) -> Self {
        let mut failure = Self::new(status::http_status(code), code, "", message);
        failure.reason = None;
        failure.details = details;
        failure.retry_after = retry_after;
        if code == Code::Unauthenticated {
            failure.headers.push((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        failure
    }

    /// 404 for a path that no route has.
    pub fn no_route(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, "ROUTE_NOT_FOUND", format!("no such path: {path}"))
    }

    /// 405 with the methods that the path has.
    pub fn method_not_allowed(method: &http::Method, allow: &[http::Method]) -> Self {
        let allow = allow_header(allow);
        let message =
            format!("{method} is not allowed here; allowed: {}", allow.to_str().unwrap_or_default());
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "METHOD_NOT_ALLOWED", message)
            .with(ALLOW, allow)
    }

    /// 413 for a body over its limit.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the request body is longer than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::OutOfRange, "BODY_TOO_LARGE", message)
    }

    /// 503 when the upstream cannot be reached.
    pub fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Unavailable,
            "UPSTREAM_UNAVAILABLE",
            "the service cannot be reached at the moment",
        )
        .retry_after(RETRY_UNAVAILABLE)
    }

    /// 504 when the deadline passes.
    pub fn deadline() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            "the call took longer than its deadline",
        )
    }

    /// 502 for an answer that is not gRPC or not of the declared message.
    pub fn bad_gateway() -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            Code::Internal,
            "UPSTREAM_MALFORMED",
            "the service gave no valid answer",
        )
    }

    /// Adds `Retry-After` and a `RetryInfo` detail.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self.details.push(
            json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")}),
        );
        self
    }

    /// Adds a response header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The JSON form.
    pub fn json(&self, domain: &str) -> Vec<u8> {
        let mut details = Vec::with_capacity(self.details.len() + 1);
        if let Some(reason) = self.reason {
            details.push(json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": domain,
            }));
        }
        details.extend(self.details.iter().cloned());
        let (message, details) = (Value::from(self.message.as_str()), Value::Array(details));
        format!(
            r#"{{"error":{{"code":{},"status":"{}","message":{message},"details":{details}}}}}"#,
            self.status.as_u16(),
            status::name(self.code),
        )
        .into_bytes()
    }

    /// The whole answer.
    pub fn into_response(self, domain: &str) -> Response {
        let mut response = Response::new(Body::from(self.json(domain)));
        *response.status_mut() = self.status;
        // For a client that speaks gRPC-Web.
        response.extensions_mut().insert(Status::new(self.code, self.message));
        let headers = response.headers_mut();
        headers.extend(self.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// `Allow` for a list of methods.
pub fn allow_header(methods: &[http::Method]) -> HeaderValue {
    let list: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
    HeaderValue::from_str(&list.join(", ")).expect("method names are header-safe tokens")
}
