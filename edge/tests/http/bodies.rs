//! Raw bodies by `google.api.HttpBody`, and compressed ones.

use axum::body::Body;
use http::{Method, StatusCode};

use crate::support::*;

const CSV: (&str, &str) = ("content-type", "text/csv");

#[tokio::test]
async fn http_body_answers_are_raw() {
    let answer = get_with(&app(), "/v1/download", &[("accept", "text/csv")]).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "a,b\n"));
    assert_eq!(answer.header("content-type"), "text/csv");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn http_body_streams_are_raw_and_typed_by_their_first_message() {
    let answer = get(&app(), "/v1/export").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "a,b\n1,2\n"));
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"x.csv\"");
}

#[tokio::test]
async fn http_body_requests_are_raw() {
    let answer = send(&app(), request(Method::POST, "/v1/files/7:put", &[CSV], "a,b\n1,2\n")).await;
    let json = answer.json();
    assert_eq!((&json["name"], &json["contentType"]), (&"files/7".into(), &"text/csv".into()));
    assert_eq!((&json["size"], &json["messages"]), (&8.into(), &1.into()));
}

#[tokio::test]
async fn http_body_requests_stream() {
    let chunks = ["first,", "second,", "third"].map(Ok::<_, std::io::Error>);
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let json = send(&app(), request(Method::POST, "/v1/files/7:upload", &[CSV], body)).await.json();
    assert_eq!((&json["name"], &json["contentType"]), (&"files/7".into(), &"text/csv".into()));
    assert_eq!((&json["size"], &json["messages"]), (&18.into(), &3.into()));
    let empty = send(&app(), request(Method::POST, "/v1/files/7:upload", &[CSV], Body::empty())).await.json();
    assert_eq!((&empty["name"], &empty["messages"]), (&"files/7".into(), &1.into()));
}

#[tokio::test]
async fn a_raw_body_over_its_limit_is_413() {
    for verb in ["put", "upload"] {
        let uri = format!("/v1/files/7:{verb}");
        let at = send(&app(), request(Method::POST, &uri, &[CSV], vec![b'x'; 5000])).await;
        assert_eq!((at.status, &at.json()["size"]), (StatusCode::OK, &5000.into()), "{verb}");
        let past = send(&app(), request(Method::POST, &uri, &[CSV], vec![b'x'; 5001])).await;
        assert_eq!(past.status, StatusCode::PAYLOAD_TOO_LARGE, "{verb}");
        let chunks = [vec![b'x'; 3000], vec![b'x'; 3000]].map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        let undeclared = send(&app(), request(Method::POST, &uri, &[CSV], body)).await;
        assert_eq!(
            (undeclared.status, undeclared.error().0.as_str()),
            (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE")
        );
    }
}

#[tokio::test]
async fn answers_are_compressed_when_asked() {
    let uri = format!("/v1/plain/{}", "x".repeat(500));
    for coding in ["gzip", "br", "zstd"] {
        let answer = get_with(&app(), &uri, &[("accept-encoding", coding)]).await;
        assert_eq!(answer.header("content-encoding"), coding);
        assert!(answer.body.len() < 200, "{coding}");
        assert!(answer.header("etag").starts_with("W/"));
    }
    let stream = get_with(&app(), "/v1/events:watch?count=9", &[("accept-encoding", "gzip")]).await;
    assert!(!stream.headers.contains_key("content-encoding"));
}
