//! What a deployment may choose, with the defaults of the design.

use std::{fmt, sync::Arc, time::Duration};

use axum::response::Response;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use super::observe::Observer;
use crate::protect::SharedLimiter;

/// Makes the id of a request that brought none of its own.
pub type RequestIds = Arc<dyn Fn() -> String + Send + Sync>;

/// A page of the service's own beside its bindings, such as `/metrics`.
#[derive(Clone)]
pub struct Page {
    /// Its exact path.
    pub path: &'static str,
    /// Answers GET and HEAD.
    pub answer: Arc<dyn Fn(HeaderMap) -> BoxFuture<'static, Response> + Send + Sync>,
}

/// Settings of the edge.
#[derive(Clone)]
pub struct EdgeConfig {
    /// Largest JSON request body, in bytes; a longer one is a 413.
    pub max_body_bytes: usize,
    /// Largest raw (`google.api.HttpBody`) request body, in bytes; a longer one is a 413.
    pub max_upload_bytes: usize,
    /// Largest message that the upstream may send, in bytes of protobuf.
    pub max_message_bytes: usize,
    /// Longest path with query, in characters after its escapes are decoded; a longer one is a 414.
    pub max_uri_characters: usize,
    /// Longest path with query as it is sent, in bytes; a longer one is a 414.
    pub max_uri_bytes: usize,
    /// Time for a unary call, and for a stream to begin. A caller may ask for less by `X-Request-Timeout`.
    pub deadline: Duration,
    /// Silence after which an SSE stream carries a comment, so that proxies keep it open.
    pub heartbeat: Duration,
    /// Origins (`https://app.example`) that browsers may call from; none by default.
    pub cors_origins: Vec<String>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Rate limit of the routes that no class claims.
    pub rate_limit: RateLimit,
    /// Classes of routes with rules of their own; the first that matches claims a route.
    pub route_classes: Vec<RouteClass>,
    /// Routes without a rate limit, as [`RouteClass::routes`] names them. The edge's own routes go by their path.
    pub rate_exempt: Vec<String>,
    /// Clients that a class keeps count of one by one; beyond that, they share counts by network.
    pub max_clients: usize,
    /// Counts that hold over several edges; each counts alone when `None`.
    pub shared_limiter: Option<Arc<dyn SharedLimiter>>,
    /// Whether to send `Strict-Transport-Security`: set it when TLS ends here or in front.
    pub hsts: bool,
    /// `Cache-Control` of GET answers whose class has none of its own.
    pub cache_control: String,
    /// Bytes of compressed answers, and of what they were made from, that are kept for the next client.
    pub compressed_cache_bytes: u64,
    /// Request headers passed on as metadata, beside what the edge sets itself.
    pub request_metadata: Vec<HeaderName>,
    /// Response metadata passed back as headers.
    pub response_metadata: Vec<HeaderName>,
    /// Response metadata in which the upstream says who the caller is, for the observer.
    pub actor_metadata: Option<HeaderName>,
    /// `domain` of the `google.rpc.ErrorInfo` in the edge's own errors.
    pub error_domain: String,
    /// `info.title` of the OpenAPI document.
    pub api_title: String,
    /// `info.version` of the OpenAPI document.
    pub api_version: String,
    /// Request ids; UUIDv7 by default.
    pub request_ids: RequestIds,
    /// Pages beside the bindings.
    pub pages: Vec<Page>,
    /// Who is told of every request, for metrics, access lines and traces.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            max_upload_bytes: 10 << 20,
            max_message_bytes: 16 << 20,
            max_uri_characters: 2048,
            max_uri_bytes: 8192,
            deadline: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            rate_limit: RateLimit::per_minute(60),
            route_classes: vec![
                RouteClass::new("upload", RateLimit::per_minute(10), &["* *:upload"]),
                RouteClass::new("search", RateLimit::per_minute(60), &["GET *search*", "GET *:similar"]),
                RouteClass::new(
                    "write",
                    RateLimit::per_minute(30),
                    &["POST *", "PUT *", "PATCH *", "DELETE *"],
                ),
            ],
            rate_exempt: vec!["GET /health".to_owned()],
            max_clients: 100_000,
            shared_limiter: None,
            hsts: false,
            cache_control: "no-cache".to_owned(),
            compressed_cache_bytes: 8 << 20,
            request_metadata: vec![
                header::AUTHORIZATION,
                header::ACCEPT_LANGUAGE,
                HeaderName::from_static("traceparent"),
                HeaderName::from_static("tracestate"),
            ],
            response_metadata: vec![
                header::CONTENT_DISPOSITION,
                header::CONTENT_LANGUAGE,
                header::LAST_MODIFIED,
                header::LOCATION,
                HeaderName::from_static("deprecation"),
                HeaderName::from_static("sunset"),
            ],
            actor_metadata: None,
            error_domain: "edge".to_owned(),
            api_title: "API".to_owned(),
            api_version: "v1".to_owned(),
            request_ids: Arc::new(|| uuid::Uuid::now_v7().to_string()),
            pages: Vec::new(),
            observer: None,
        }
    }
}

impl fmt::Debug for EdgeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeConfig")
            .field("deadline", &self.deadline)
            .field("cors_origins", &self.cors_origins)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("rate_limit", &self.rate_limit)
            .field("route_classes", &self.route_classes)
            .finish_non_exhaustive()
    }
}

/// A token bucket for each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests that come back each minute; 0 turns the limit off.
    pub per_minute: u32,
    /// Requests that may come at once; 0 turns the limit off.
    pub burst: u32,
}

impl RateLimit {
    /// That many a minute, all of which may come at once.
    pub const fn per_minute(per_minute: u32) -> Self {
        Self { per_minute, burst: per_minute }
    }

    /// No limit.
    pub const OFF: Self = Self::per_minute(0);
}

/// Routes that share a rate limit and a `Cache-Control`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteClass {
    /// Its name, as logs and settings call it.
    pub name: String,
    /// Its limit.
    pub limit: RateLimit,
    /// `Cache-Control` of its GET answers; [`EdgeConfig::cache_control`] when `None`.
    pub cache_control: Option<String>,
    /// Its routes: `METHOD PATTERN`, matched against the path template as the service wrote it; `*` stands for any
    /// method, and in the pattern for any text.
    pub routes: Vec<String>,
}

impl RouteClass {
    /// A class of the routes that match one of `routes`.
    pub fn new(name: &str, limit: RateLimit, routes: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            limit,
            cache_control: None,
            routes: routes.iter().map(|route| (*route).to_owned()).collect(),
        }
    }

    /// The class with a `Cache-Control` of its own.
    pub fn cache_control(mut self, value: &str) -> Self {
        self.cache_control = Some(value.to_owned());
        self
    }
}

/// Whether one of `routes` (`METHOD PATTERN`) names this one.
pub(crate) fn names_route(routes: &[String], method: &http::Method, template: &str) -> bool {
    routes.iter().any(|route| {
        let (verb, pattern) = route.split_once(' ').unwrap_or(("*", route));
        (verb == "*" || verb == method.as_str()) && glob(pattern, template)
    })
}

/// Whether `text` is `pattern` with each `*` standing for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn routes_are_named_by_method_and_pattern() {
        let routes = ["GET *:search", "GET /v1/search*", "* *:up*d"].map(str::to_owned);
        let names = |method, template| names_route(&routes, &method, template);
        assert!(names(Method::GET, "/v1/books:search"));
        assert!(names(Method::GET, "/v1/search:autocomplete"));
        assert!(names(Method::PUT, "/v1/{name=files/**}:upload"));
        assert!(!names(Method::POST, "/v1/books:search"));
        assert!(!names(Method::GET, "/v1/books:searching"));
        assert!(glob("/a", "/a") && !glob("/a", "/ab") && glob("*", "") && !glob("a*a", "a"));
    }
}
