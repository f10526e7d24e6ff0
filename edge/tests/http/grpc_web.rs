//! gRPC-Web on the port of REST.

use axum::{Router, body::Body};
use base64::{Engine, engine::general_purpose::STANDARD};
use euhub_edge::http::{EdgeConfig, RateLimit, RouteClass};
use http::{Method, StatusCode};

use crate::support::*;

const MEDIA: &str = "application/grpc-web+proto";

async fn call(app: &Router, method: &str, headers: &[(&str, &str)], message: &[u8]) -> Answer {
    let headers = [&[("content-type", MEDIA), ("x-grpc-web", "1")], headers].concat();
    let uri = format!("/test.v1.Library/{method}");
    send(app, request(Method::POST, &uri, &headers, framed(message))).await
}

/// The messages of an answer, and the trailers behind them.
fn parts(mut body: &[u8]) -> (Vec<Vec<u8>>, String) {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while let Some((prefix, rest)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
        match prefix[0] {
            0 => messages.push(rest[..length].to_vec()),
            _ => trailers = String::from_utf8(rest[..length].to_vec()).unwrap(),
        }
        body = &rest[length..];
    }
    (messages, trailers)
}

#[tokio::test]
async fn a_unary_call() {
    let message = [0x0a, 3, b'a', b'b', b'c'];
    let answer = call(&app(), "Echo", &[], &message).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, MEDIA));
    let (messages, trailers) = parts(&answer.body);
    assert_eq!(messages, [message]);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_unary_call_as_text() {
    let message = [0x0a, 3, b'a', b'b', b'c'];
    let headers = [("content-type", "application/grpc-web-text"), ("accept", "application/grpc-web-text")];
    let body = STANDARD.encode(framed(&message));
    let answer = send(&app(), request(Method::POST, "/test.v1.Library/Echo", &headers, body)).await;
    // Each piece is encoded by itself, so padding may stand in the middle.
    let plain: Vec<u8> =
        answer.text().as_bytes().chunks(4).flat_map(|four| STANDARD.decode(four).unwrap()).collect();
    assert_eq!(parts(&plain).0, [message]);
}

#[tokio::test]
async fn a_server_stream() {
    let answer = call(&app(), "Watch", &[], &[0x10, 3]).await;
    let (messages, trailers) = parts(&answer.body);
    assert_eq!(messages.len(), 3);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn an_error_of_the_service_keeps_its_status_and_details() {
    let answer = call(&app(), "Fail", &[], &[0x08, 5, 0x10, 1]).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, "5"));
    assert_eq!(answer.header("grpc-message"), "as%20%C3%A4sked");
    assert!(answer.headers.contains_key("grpc-status-details-bin"));
}

#[tokio::test]
async fn errors_of_the_edge_are_grpc_statuses() {
    let unknown = call(&app(), "Nothing", &[], &[]).await;
    assert_eq!((unknown.status, unknown.header("grpc-status")), (StatusCode::OK, "5"));
    assert!(unknown.body.is_empty());
    let away = call(&app_without_upstream(), "Echo", &[], &[]).await;
    assert_eq!((away.header("grpc-status"), away.header("retry-after")), ("14", "1"));
    let long = call(&app(), "Echo", &[("content-length", "5001")], &[]).await;
    assert_eq!(long.header("grpc-status"), "11");
    let wrong = request(Method::GET, "/test.v1.Library/Echo", &[("content-type", MEDIA)], Body::empty());
    assert_eq!(send(&app(), wrong).await.header("grpc-status"), "12");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_the_callers_if_it_is_shorter() {
    let (app, seen) = app_with(config());
    let answer = call(&app, "Hang", &[("grpc-timeout", "200m")], &[]).await;
    assert_eq!(answer.header("grpc-status"), "4");
    assert_eq!(seen.metadata.lock().unwrap()["grpc-timeout"], "200m");
}

#[tokio::test]
async fn metadata_goes_by_the_allow_list() {
    let (app, seen) = app_with(config());
    let headers = [("authorization", "Bearer x"), ("cookie", "a=b"), ("x-forwarded-for", "9.9.9.9")];
    call(&app, "Echo", &headers, &[]).await;
    let metadata = seen.metadata.lock().unwrap();
    assert_eq!(metadata["authorization"], "Bearer x");
    assert!(!metadata.contains_key("cookie"));
    assert_ne!(metadata["x-forwarded-for"], "9.9.9.9");
    assert!(metadata.contains_key("x-request-id"));
}

#[tokio::test]
async fn a_call_counts_towards_the_limit_of_its_rest_route() {
    let (app, _) = app_with(EdgeConfig {
        route_classes: vec![RouteClass::new("echo", RateLimit::per_minute(1), &["GET /v1/echo"])],
        ..config()
    });
    assert_eq!(get(&app, "/v1/echo").await.status, StatusCode::OK);
    let refused = call(&app, "Echo", &[], &[]).await;
    assert_eq!((refused.status, refused.header("grpc-status")), (StatusCode::OK, "8"));
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn browsers_of_allowed_origins_may_call() {
    let (app, _) = app_with(EdgeConfig { cors_origins: vec!["https://app.example".into()], ..config() });
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-grpc-web,x-user-agent,grpc-timeout"),
    ];
    let answer =
        send(&app, request(Method::OPTIONS, "/test.v1.Library/Echo", &preflight, Body::empty())).await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
    assert!(answer.header("access-control-allow-headers").contains("x-grpc-web"));
    let answer = call(&app, "Echo", &[("origin", "https://app.example")], &[]).await;
    assert!(answer.header("access-control-expose-headers").contains("grpc-status"));
}
