//! gRPC-Web beside REST: the same services, for browsers that speak protobuf.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use futures_util::TryFutureExt;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::Limited;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_web::GrpcWebLayer;
use tower::{Layer, ServiceExt};

use super::{Edge, call, failure::Failure, request::declared_size};

const MEDIA: &str = "application/grpc-web";

/// Response headers that belong to the protocol.
const PROTOCOL: [HeaderName; 4] = [
    CONTENT_TYPE,
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
];

/// Whether a request speaks gRPC-Web.
pub(crate) fn spoken(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|media| media.as_bytes().starts_with(MEDIA.as_bytes()))
}

/// Passes a call of a known method on, its metadata by the same allow-lists as over REST.
pub(crate) async fn answer(edge: Arc<Edge>, request: Request) -> Response {
    let answer = forward(&edge, request).await;
    answer.unwrap_or_else(|failure| failure.into_response(&edge.config.error_domain))
}

async fn forward(edge: &Edge, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    if !edge.grpc_classes.contains_key(parts.uri.path()) {
        return Err(Failure::no_route(parts.uri.path()));
    }
    if parts.method != Method::POST {
        return Err(Failure::method_not_allowed(&parts.method, &[Method::POST]));
    }
    let limit = edge.config.max_upload_bytes;
    declared_size(&parts.headers, limit)?;
    let asked = parts.headers.get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
    let time = asked.map_or(edge.config.deadline, |asked| asked.min(edge.config.deadline));

    let mut call = http::Request::new(tonic::body::Body::new(Limited::new(body, limit)));
    *call.method_mut() = Method::POST;
    *call.version_mut() = Version::HTTP_2;
    *call.uri_mut() = parts.uri.clone();
    *call.headers_mut() = call::metadata(edge, &parts, asked);
    for name in [CONTENT_TYPE, ACCEPT] {
        if let Some(value) = parts.headers.get(&name) {
            call.headers_mut().insert(name, value.clone());
        }
    }
    let answer = GrpcWebLayer::new().layer(edge.upstream.clone()).oneshot(call);
    let answer = timeout(time, answer.map_err(|error| edge.unreachable(&*error))).await;
    let (mut head, body) = answer.unwrap_or_else(|_| Err(Failure::deadline()))?.into_parts();
    edge.note_actor(&parts, &head.headers);
    let allowed = &edge.config.response_metadata;
    head.headers = head
        .headers
        .iter()
        .filter(|(name, _)| PROTOCOL.contains(name) || allowed.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(Response::from_parts(head, Body::new(body)))
}

/// `grpc-timeout` as the protocol writes it: at most eight digits and a unit; `None` when it is anything else.
pub fn grpc_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// The edge's own error as gRPC-Web has it: an answer of headers alone.
pub(crate) fn refusal(mut response: Response) -> Response {
    let Some(status) = response.extensions_mut().remove::<Status>() else { return response };
    let (mut head, _) = response.into_parts();
    head.status = StatusCode::OK;
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc-web+proto"));
    if status.add_header(&mut head.headers).is_err() {
        head.headers.insert("grpc-status", (Code::Internal as i32).into());
    }
    Response::from_parts(head, Body::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        let asked = grpc_timeout;
        assert_eq!(asked("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(asked("2S"), Some(Duration::from_secs(2)));
        assert_eq!(asked("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(asked("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(asked("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "5", "5x", "-5m", "+5m", "123456789m", "5é"] {
            assert_eq!(asked(bad), None, "{bad}");
        }
    }
}
