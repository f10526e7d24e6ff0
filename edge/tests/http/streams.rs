//! Server streams as NDJSON and SSE, and what ends them.

use std::time::Duration;

use axum::body::Body;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use crate::support::*;

const SSE: (&str, &str) = ("accept", "text/event-stream");

#[tokio::test]
async fn ndjson_is_one_message_a_line() {
    let answer = get(&app(), "/v1/events:watch?count=3").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert_eq!(answer.header("cache-control"), "no-store");
    let lines: Vec<Json> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2]["text"], "event 2\nof many");
}

#[tokio::test]
async fn sse_carries_ids_and_data() {
    let answer = get_with(&app(), "/v1/events:watch?count=2", &[SSE]).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let events: Vec<&str> = answer.text().split_terminator("\n\n").collect();
    assert_eq!(events.len(), 2, "{events:?}");
    let (id, data) = events[1].split_once('\n').unwrap();
    assert_eq!(id, "id: 2");
    let data: Json = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(data["text"], "event 1\nof many");
}

#[tokio::test]
async fn last_event_id_resumes() {
    let answer = get_with(&app(), "/v1/events:watch?count=1", &[SSE, ("last-event-id", "41")]).await;
    assert!(answer.text().starts_with("id: 42\n"), "{}", answer.text());
    let explicit =
        get_with(&app(), "/v1/events:watch?count=1&resumeToken=7", &[SSE, ("last-event-id", "41")]).await;
    assert!(explicit.text().starts_with("id: 8\n"), "{}", explicit.text());
}

#[tokio::test]
async fn a_failure_in_the_middle_is_one_last_frame() {
    let lines = get(&app(), "/v1/events:watch?count=2&fail=true").await;
    assert_eq!(lines.status, StatusCode::OK);
    let last: Json = serde_json::from_str(lines.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["status"], "DATA_LOSS");
    assert_eq!(lines.text().lines().count(), 3);
    let events = get_with(&app(), "/v1/events:watch?count=2&fail=true", &[SSE]).await;
    let last = events.text().split_terminator("\n\n").last().unwrap();
    let data: Json = serde_json::from_str(last.strip_prefix("event: error\ndata: ").unwrap()).unwrap();
    assert_eq!(data["error"]["message"], "lost the thread");
}

#[tokio::test(start_paused = true)]
async fn silence_is_filled_with_heartbeats() {
    let request = request(Method::GET, "/v1/events:watch?count=1&stay=true", &[SSE], Body::empty());
    let mut body = app().oneshot(request).await.unwrap().into_body();
    let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(next().await.starts_with(b"id: 1\n"));
    assert_eq!(next().await, ": keep-alive\n\n");
    assert_eq!(next().await, ": keep-alive\n\n");
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_deadline_unless_the_caller_set_one() {
    let (app, seen) = app_with(config());
    let request =
        |headers: &[(&str, &str)]| request(Method::GET, "/v1/events:watch?stay=true", headers, Body::empty());
    let mut body = app.clone().oneshot(request(&[SSE])).await.unwrap().into_body();
    for _ in 0..3000 {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), ": keep-alive\n\n");
    }
    assert!(!seen.metadata.lock().unwrap().contains_key("grpc-timeout"));
    let answer = send(&app, request(&[("x-request-timeout", "2")])).await;
    assert_eq!(serde_json::from_str::<Json>(answer.text()).unwrap()["error"]["status"], "DEADLINE_EXCEEDED");
}

/// Sends a request over a socket, reads until `expected` has come, and leaves.
async fn visit(uri: &str, expected: &str) {
    let (app, seen) = app_with(config());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(format!("GET {uri} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(expected) {
        assert_ne!(socket.read_buf(&mut read).await.unwrap(), 0);
    }
    while seen.calls.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    drop(socket);
    // A call that is never cancelled would hang here.
    tokio::time::timeout(Duration::from_secs(60), seen.cancelled.notified()).await.unwrap();
    server.abort();
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_stream() {
    visit("/v1/events:watch?count=1&stay=true", "event 0").await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_unary_call() {
    visit("/v1/hang", "").await;
}
