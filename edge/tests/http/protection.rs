//! Headers, CORS and rate limits.

use std::{
    future::ready,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use euhub_edge::http::{EdgeConfig, RateLimit, RouteClass, SharedLimiter, Take};
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};

use crate::support::*;

#[tokio::test]
async fn security_headers_are_on_every_answer() {
    let (app, _) = app_with(EdgeConfig { hsts: true, ..config() });
    for uri in [
        "/v1/echo",
        "/v1/nothing",
        "/v1/fail?code=13",
        "/health",
        "/",
        "/v1/export",
        "/v1/events:watch?count=1",
    ] {
        let answer = get(&app, uri).await;
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{uri}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{uri}");
        assert_eq!(answer.header("x-frame-options"), "SAMEORIGIN", "{uri}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{uri}");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin", "{uri}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{uri}");
        assert!(answer.header("permissions-policy").contains("geolocation=()"), "{uri}");
        assert!(answer.header("strict-transport-security").starts_with("max-age="), "{uri}");
        assert!(answer.headers.contains_key("x-request-id"), "{uri}");
    }
    assert!(!get(&crate::support::app(), "/v1/echo").await.headers.contains_key("strict-transport-security"));
}

#[tokio::test]
async fn cors_allows_the_listed_origins_only() {
    let origins = vec!["https://app.example".to_owned()];
    let (app, _) = app_with(EdgeConfig { cors_origins: origins, ..config() });
    let allowed = get_with(&app, "/v1/echo", &[("origin", "https://app.example")]).await;
    assert_eq!(allowed.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(allowed.header("access-control-allow-credentials"), "true");
    for other in ["https://app.example.evil", "http://app.example", "null"] {
        let answer = get_with(&app, "/v1/echo", &[("origin", other)]).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{other}");
    }
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "content-type"),
    ];
    let answer = send(&app, request(Method::OPTIONS, "/v1/items/7", &preflight, Body::empty())).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
    assert!(answer.header("access-control-allow-methods").contains("PATCH"));
    assert_eq!(answer.header("access-control-max-age"), "7200");
}

fn limited() -> Router {
    app_with(EdgeConfig {
        rate_limit: RateLimit::per_minute(2),
        route_classes: vec![
            RouteClass::new("search", RateLimit::per_minute(1), &["GET *:search"]),
            RouteClass::new("free", RateLimit::OFF, &["GET /v1/plain/*"]),
        ],
        rate_exempt: vec!["GET /health".to_owned(), "GET /v1/download".to_owned()],
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        ..config()
    })
    .0
}

async fn from(app: &Router, peer: &str, forwarded: &str, uri: &str) -> Answer {
    let mut request = request(Method::GET, uri, &[], Body::empty());
    if !forwarded.is_empty() {
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
    }
    let peer: SocketAddr = peer.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    send(app, request).await
}

#[tokio::test]
async fn rate_limits_answer_429_with_retry_after() {
    let app = limited();
    let first = from(&app, "1.1.1.1:1", "", "/v1/echo").await;
    assert_eq!((first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining")), ("2", "1"));
    assert_eq!(from(&app, "1.1.1.1:2", "", "/v1/echo").await.status, StatusCode::OK);
    let refused = from(&app, "1.1.1.1:3", "", "/v1/echo").await;
    assert_eq!((refused.status, refused.error().0.as_str()), (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    assert!(refused.text().contains("google.rpc.RetryInfo"));
    assert_eq!(refused.header("x-content-type-options"), "nosniff");
    // Unknown paths cost as much as known ones; other clients are not touched.
    assert_eq!(from(&app, "1.1.1.1:4", "", "/v1/nothing").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(from(&app, "1.1.1.2:1", "", "/v1/echo").await.status, StatusCode::OK);
}

#[tokio::test]
async fn rate_classes_count_apart_and_exempt_routes_are_not_counted() {
    let app = limited();
    assert_eq!(from(&app, "1.1.1.1:1", "", "/v1/shelves:search").await.status, StatusCode::OK);
    assert_eq!(from(&app, "1.1.1.1:1", "", "/v1/shelves:search").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(from(&app, "1.1.1.1:1", "", "/v1/echo").await.status, StatusCode::OK);
    assert_eq!(from(&app, "1.1.1.1:1", "", "/").await.status, StatusCode::OK);
    assert_eq!(from(&app, "1.1.1.1:1", "", "/").await.status, StatusCode::TOO_MANY_REQUESTS);
    for _ in 0..5 {
        assert_eq!(from(&app, "1.1.1.1:1", "", "/v1/plain/x").await.status, StatusCode::OK);
        assert_eq!(from(&app, "1.1.1.1:1", "", "/health").await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(from(&app, "1.1.1.1:1", "", "/v1/download").await.status, StatusCode::OK);
    }
}

/// A shared count that has `left` tokens for everybody, or is away.
struct OneBucket {
    left: AtomicU32,
    away: AtomicBool,
}

impl SharedLimiter for OneBucket {
    fn take<'a>(&'a self, class: &'a str, _: u128, limit: RateLimit) -> BoxFuture<'a, Option<Take>> {
        assert_eq!((class, limit), ("default", RateLimit::per_minute(5)));
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        let take = match left {
            0 => Take::Refused { after: Duration::from_millis(6100) },
            _ => Take::Granted { remaining: left - 1 },
        };
        Box::pin(ready(Some(take).filter(|_| !self.away.load(Ordering::Relaxed))))
    }
}

#[tokio::test]
async fn a_shared_limit_holds_over_several_edges_and_the_local_one_without_it() {
    let bucket = Arc::new(OneBucket { left: AtomicU32::new(3), away: AtomicBool::new(false) });
    let [first, second] = [(); 2].map(|()| {
        app_with(EdgeConfig {
            rate_limit: RateLimit::per_minute(5),
            shared_limiter: Some(bucket.clone()),
            ..config()
        })
        .0
    });
    assert_eq!(get(&first, "/v1/echo").await.header("x-ratelimit-remaining"), "2");
    assert_eq!(get(&second, "/v1/echo").await.header("x-ratelimit-remaining"), "1");
    assert_eq!(get(&first, "/v1/echo").await.header("x-ratelimit-remaining"), "0");
    for app in [&first, &second] {
        let refused = get(app, "/v1/echo").await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!((refused.header("retry-after"), refused.header("x-ratelimit-remaining")), ("7", "0"));
    }
    bucket.away.store(true, Ordering::Relaxed);
    // Two were granted here and one refused: two of five are left.
    for left in ["1", "0"] {
        assert_eq!(get(&first, "/v1/echo").await.header("x-ratelimit-remaining"), left);
    }
    assert_eq!(get(&first, "/v1/echo").await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn clients_are_known_by_address_behind_trusted_proxies_and_ipv6_by_network() {
    let app = limited();
    let status =
        async |peer: &str, forwarded: &str| from(&app, peer, forwarded, "/v1/shelves:search").await.status;
    assert_eq!(status("10.0.0.1:1", "2.2.2.2").await, StatusCode::OK);
    assert_eq!(status("10.0.0.1:1", "3.3.3.3").await, StatusCode::OK);
    assert_eq!(status("10.0.0.9:1", "9.9.9.9, 2.2.2.2").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(status("4.4.4.4:1", "5.5.5.5").await, StatusCode::OK);
    assert_eq!(status("4.4.4.4:1", "6.6.6.6").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(status("[2001:db8::1]:1", "").await, StatusCode::OK);
    assert_eq!(status("[2001:db8::2]:1", "").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(status("[2001:db8:0:1::2]:1", "").await, StatusCode::OK);
}
