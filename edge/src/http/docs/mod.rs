//! `GET /docs`: Swagger UI over the OpenAPI document, served from here under a CSP without any `unsafe-*`.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_SECURITY_POLICY};
use http_body_util::BodyExt;
use swagger_ui_dist::{ApiDefinition, OpenApiSource};
use tower::ServiceExt;

use super::{Edge, failure::Failure, fixed};

/// Paths of the page and its parts.
pub(crate) const PATHS: [&str; 4] =
    ["/docs", "/docs/init.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"];

/// What the page may do: run and style itself from here, show its own icons (`data:`) and images that answers hold
/// (`blob:`), and call the API.
const PAGE_CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// The files of Swagger UI; the crate has them as routes only, of which its own page, with a script inline, is not used.
pub(crate) struct Assets(Router);

impl Assets {
    pub(crate) fn new() -> Self {
        Self(swagger_ui_dist::generate_routes(ApiDefinition {
            uri_prefix: "/docs",
            api_definition: OpenApiSource::Uri("/api/openapi.json"),
            title: None,
        }))
    }

    async fn file(&self, path: &str) -> Option<Bytes> {
        let request = Request::get(path).body(Body::empty()).ok()?;
        let Ok(response) = self.0.clone().oneshot(request).await;
        if !response.status().is_success() {
            return None;
        }
        // The body is static: nothing is copied.
        Some(response.into_body().collect().await.ok()?.to_bytes())
    }
}

/// The page.
pub(crate) async fn page(State(edge): State<Arc<Edge>>, headers: HeaderMap) -> Response {
    let page = Bytes::from_static(include_bytes!("index.html"));
    let mut response = fixed::document(&edge, &headers, "text/html; charset=utf-8", page).await;
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, PAGE_CSP);
    response
}

/// Starts Swagger UI.
pub(crate) async fn init(State(edge): State<Arc<Edge>>, headers: HeaderMap) -> Response {
    fixed::document(&edge, &headers, JAVASCRIPT, Bytes::from_static(include_bytes!("init.js"))).await
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of Swagger UI.
pub(crate) async fn asset(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    let path = request.uri().path();
    let media = if path.ends_with(".css") { "text/css; charset=utf-8" } else { JAVASCRIPT };
    match edge.assets.file(path).await {
        Some(bytes) => fixed::document(&edge, request.headers(), media, bytes).await,
        None => Failure::no_route(path).into_response(&edge.config.error_domain),
    }
}
