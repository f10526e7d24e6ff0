//! `GET /metrics`: on the edge, and on a port of its own for processes without one.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use euhub_edge::http::Page;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use super::metrics::Exposition;

/// Where the metrics are.
pub const PATH: &str = "/metrics";

fn answer(headers: &HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let exposition = Exposition::accepted(accept);
    let mut response = Response::new(Body::from(exposition.write()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(exposition.media_type()));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The page for an edge.
pub fn page() -> Page {
    Page { path: PATH, answer: Arc::new(|headers| Box::pin(async move { answer(&headers) })) }
}

/// The page alone.
pub fn router() -> Router {
    Router::new().route(PATH, get(async |headers: HeaderMap| answer(&headers)))
}
