//! The routes that every edge has: index, health and the OpenAPI document; the page over it is in `docs`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{CACHE_CONTROL, CONTENT_TYPE, TE},
};
use prost::Message;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tonic::{Code, Status};
use tower::ServiceExt;

use super::{
    Edge, cache,
    failure::Failure,
    frame::{Frames, PREFIX},
    negotiate,
};

/// How long one health check of the upstream holds.
const HEALTH_TTL: Duration = Duration::from_secs(1);
/// How long a health check may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a probe waits for it before it is told what was last known: an upstream that hangs must not make its probes hang.
const HEALTH_PATIENCE: Duration = Duration::from_millis(3);
/// `grpc.health.v1.HealthCheckResponse.SERVING`.
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// What is known of the upstream's health.
#[derive(Default)]
pub(crate) struct Health {
    /// When the last check was made, and whether the upstream served.
    last: watch::Sender<Option<(Instant, bool)>>,
    /// A check is being made.
    checking: AtomicBool,
}

/// `GET /`: where to go from here.
pub(crate) async fn index(State(edge): State<Arc<Edge>>, headers: HeaderMap) -> Response {
    let body = json!({
        "title": edge.config.api_title,
        "version": edge.config.api_version,
        "links": {"docs": "/docs", "openapi": "/api/openapi.json", "health": "/health"},
    });
    json_document(&edge, &headers, Bytes::from(body.to_string())).await
}

/// `GET /api/openapi.json`.
pub(crate) async fn openapi(State(edge): State<Arc<Edge>>, headers: HeaderMap) -> Response {
    json_document(&edge, &headers, edge.openapi.clone()).await
}

async fn json_document(edge: &Edge, headers: &HeaderMap, json: Bytes) -> Response {
    match negotiate::accept_json(headers) {
        Ok(()) => document(edge, headers, negotiate::JSON, json).await,
        Err(failure) => failure.into_response(&edge.config.error_domain),
    }
}

/// A document that holds as long as this process: revalidated by its ETag, compressed once.
pub(crate) async fn document(edge: &Edge, headers: &HeaderMap, media: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body.clone()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let response = cache::revalidate(headers, &body, response);
    if response.status() == StatusCode::OK {
        edge.compressed.apply(headers, &body, response).await
    } else {
        response
    }
}

/// `GET /health`: 200 while the upstream serves, else 503.
pub(crate) async fn health(State(edge): State<Arc<Edge>>) -> Response {
    let serving = serving(&edge).await;
    let mut response = if serving {
        Response::new(Body::from(json!({"status": "SERVING"}).to_string()))
    } else {
        Failure::unavailable().into_response(&edge.config.error_domain)
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(negotiate::JSON));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Asks the upstream at most once in [`HEALTH_TTL`], however many ask here.
async fn serving(edge: &Arc<Edge>) -> bool {
    let mut last = edge.health.last.subscribe();
    let known = *last.borrow_and_update();
    if let Some((at, serving)) = known
        && at.elapsed() < HEALTH_TTL
    {
        return serving;
    }
    if !edge.health.checking.swap(true, Ordering::AcqRel) {
        let edge = edge.clone();
        tokio::spawn(async move {
            let serving = timeout(HEALTH_TIMEOUT, check(&edge)).await.unwrap_or(false);
            edge.health.last.send_replace(Some((Instant::now(), serving)));
            edge.health.checking.store(false, Ordering::Release);
        });
    }
    match timeout(HEALTH_PATIENCE, last.changed()).await {
        Ok(_) => last.borrow().is_some_and(|(_, serving)| serving),
        Err(_) => known.is_some_and(|(_, serving)| serving),
    }
}

async fn check(edge: &Edge) -> bool {
    let mut request = http::Request::new(tonic::body::Body::new(http_body_util::Full::new(
        Bytes::from_static(&[0; PREFIX]),
    )));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static("/grpc.health.v1.Health/Check");
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let response = match edge.upstream.clone().oneshot(request).await {
        Ok(response) if response.status() == StatusCode::OK => response,
        _ => return false,
    };
    // A service without the health protocol that can say so is up.
    if let Some(status) =
        Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok)
    {
        return status.code() == Code::Unimplemented;
    }
    let mut frames = Frames::new(response.into_body(), 1024);
    let Ok(Some(message)) = frames.next().await else { return false };
    HealthCheckResponse::decode(message).is_ok_and(|response| response.status == SERVING)
}

/// 405 for the fixed routes.
pub(crate) async fn method_not_allowed(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    let allow = [Method::GET, Method::HEAD, Method::OPTIONS];
    Failure::method_not_allowed(request.method(), &allow).into_response(&edge.config.error_domain)
}
