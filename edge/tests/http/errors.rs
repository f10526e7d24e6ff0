//! What goes wrong, in JSON.

use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn status_codes_map_to_http() {
    let expected = [
        (1, 499, "CANCELLED"),
        (2, 500, "UNKNOWN"),
        (3, 400, "INVALID_ARGUMENT"),
        (4, 504, "DEADLINE_EXCEEDED"),
        (5, 404, "NOT_FOUND"),
        (6, 409, "ALREADY_EXISTS"),
        (7, 403, "PERMISSION_DENIED"),
        (8, 429, "RESOURCE_EXHAUSTED"),
        (9, 400, "FAILED_PRECONDITION"),
        (10, 409, "ABORTED"),
        (11, 400, "OUT_OF_RANGE"),
        (12, 501, "UNIMPLEMENTED"),
        (13, 500, "INTERNAL"),
        (14, 503, "UNAVAILABLE"),
        (15, 500, "DATA_LOSS"),
        (16, 401, "UNAUTHENTICATED"),
    ];
    for (code, status, name) in expected {
        for late in [false, true] {
            let answer = get(&app(), &format!("/v1/fail?code={code}&late={late}")).await;
            assert_eq!(answer.status.as_u16(), status, "{name}");
            let json = answer.json();
            assert_eq!(json["error"]["code"], status);
            assert_eq!(json["error"]["status"], name);
            assert_eq!(json["error"]["message"], "as \u{e4}sked");
        }
    }
    assert_eq!(get(&app(), "/v1/fail?code=16").await.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn details_are_typed_json_and_retry_info_sets_retry_after() {
    let answer = get(&app(), "/v1/fail?code=8&details=true").await;
    assert_eq!(answer.header("retry-after"), "3");
    assert_eq!(answer.header("content-type"), "application/json");
    let details = answer.json()["error"]["details"].as_array().unwrap().clone();
    let find = |name: &str| {
        details
            .iter()
            .find(|d| d["@type"] == format!("type.googleapis.com/google.rpc.{name}"))
            .unwrap()
            .clone()
    };
    let info = find("ErrorInfo");
    assert_eq!(
        (&info["reason"], &info["domain"], &info["metadata"]),
        (&json!("NO_SUCH_SHELF"), &json!("library.example"), &json!({"shelf": "7"}))
    );
    assert_eq!(find("BadRequest")["fieldViolations"][0]["field"], "nested.id");
    assert_eq!(find("RetryInfo")["retryDelay"], "2.500s");
    assert_eq!(find("LocalizedMessage")["locale"], "de-DE");
    assert!(!answer.text().contains("secret"), "DebugInfo is not for clients");
}

#[tokio::test]
async fn an_unknown_path_is_404_with_the_path() {
    let answer = get(&app(), "/v1/no/such'b").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let (reason, message, _) = answer.error();
    assert_eq!(reason, "ROUTE_NOT_FOUND");
    assert!(message.contains("/v1/no/such'b"), "{message}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(get(&app(), "/v1/plain/%zz").await.error().0, "MALFORMED_PATH");
}

#[tokio::test]
async fn a_wrong_method_is_405_with_allow() {
    let answer = send(&app(), request(Method::PUT, "/v1/shelves/7", &[], Body::empty())).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.header("allow"), "DELETE, GET, HEAD, OPTIONS");
    assert_eq!(answer.error().0, "METHOD_NOT_ALLOWED");
    let answer = send(&app(), request(Method::POST, "/health", &[], Body::empty())).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS");
    assert_eq!(answer.error().0, "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn an_accept_that_nothing_meets_is_406() {
    assert_eq!(
        get_with(&app(), "/v1/echo", &[("accept", "text/html")]).await.status,
        StatusCode::NOT_ACCEPTABLE
    );
    let answer = get_with(&app(), "/v1/events:watch", &[("accept", "application/xml")]).await;
    assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(answer.error().0, "NOT_ACCEPTABLE");
    assert_eq!(
        get_with(&app(), "/v1/echo", &[("accept", "text/html, */*;q=0.1")]).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_long_body_is_413_at_one_byte_past_the_limit() {
    let body = |length: usize| {
        let empty = r#"{"name":""}"#;
        format!(r#"{{"name":"{}"}}"#, "x".repeat(length - empty.len()))
    };
    assert_eq!(send_json(&app(), Method::POST, "/v1/echo", &body(1000)).await.status, StatusCode::OK);
    let answer = send_json(&app(), Method::POST, "/v1/echo", &body(1001)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.error().0, "BODY_TOO_LARGE");
    // Without a declared length, and with a false one.
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(body(600)), Ok(body(600))]);
    let request_ =
        request(Method::POST, "/v1/echo", &[("content-type", "application/json")], Body::from_stream(chunks));
    assert_eq!(send(&app(), request_).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let declared = [("content-type", "application/json"), ("content-length", "1001")];
    let answer = send(&app(), request(Method::POST, "/v1/echo", &declared, "{}")).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_long_uri_is_414_at_one_character_past_the_limit() {
    // A letter counts once, however many escapes it takes: 1, 3, 6 and 12 bytes.
    for letter in ["x", "%78", "%C3%A9", "%F0%9F%98%80"] {
        let uri = |letters: usize, more: usize| {
            let letters = letter.repeat(letters);
            format!("/v1/plain/{letters}{}", "x".repeat(more))
        };
        let start = "/v1/plain/".len();
        let letters = 500;
        assert_eq!(
            get(&app(), &uri(letters, 2048 - letters - start)).await.status,
            StatusCode::OK,
            "{letter}"
        );
        let answer = get(&app(), &uri(letters, 2049 - letters - start)).await;
        assert_eq!(answer.status, StatusCode::URI_TOO_LONG, "{letter}");
        assert_eq!(answer.error().0, "URI_TOO_LONG");
    }
}

#[tokio::test]
async fn a_long_uri_is_414_at_one_byte_past_the_limit() {
    // 680 letters of 12 bytes, far from too many characters.
    let letters = "%F0%9F%98%80".repeat(680);
    let uri = |bytes: usize| {
        let start = format!("/v1/plain/{letters}");
        format!("{start}{}", "x".repeat(bytes - start.len()))
    };
    assert_eq!(get(&app(), &uri(8192)).await.status, StatusCode::OK);
    assert_eq!(get(&app(), &uri(8193)).await.status, StatusCode::URI_TOO_LONG);
    // What is no escaped UTF-8 is counted as it is sent.
    let broken = |bytes: usize| format!("/v1/plain/%ff{}", "x".repeat(bytes - "/v1/plain/%ff".len()));
    assert_eq!(get(&app(), &broken(2048)).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(get(&app(), &broken(2049)).await.status, StatusCode::URI_TOO_LONG);
}

#[tokio::test]
async fn a_body_that_is_not_json_is_415() {
    let post = |headers: &'static [(&str, &str)]| async move {
        send(&app(), request(Method::POST, "/v1/echo", headers, "{}")).await.status
    };
    for bad in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/json; charset=latin1")],
        &[("content-type", "application/json"), ("content-encoding", "gzip")],
    ] {
        assert_eq!(post(bad).await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{bad:?}");
    }
    for good in ["application/json", "Application/JSON; charset=UTF-8", "application/merge-patch+json"] {
        let request = request(Method::POST, "/v1/echo", &[("content-type", good)], "{}");
        assert_eq!(send(&app(), request).await.status, StatusCode::OK, "{good}");
    }
}

#[tokio::test]
async fn a_body_where_none_belongs_is_400() {
    let answer = send_json(&app(), Method::DELETE, "/v1/shelves/7", "{}").await;
    assert_eq!((answer.status, answer.error().0.as_str()), (StatusCode::BAD_REQUEST, "UNEXPECTED_BODY"));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_504() {
    let (app, seen) = app_with(config());
    let answer = get_with(&app, "/v1/hang", &[("x-request-timeout", "250ms")]).await;
    assert_eq!(
        (answer.status, answer.error().0.as_str()),
        (StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED")
    );
    assert_eq!(seen.metadata.lock().unwrap()["grpc-timeout"], "250m");
    seen.cancelled.notified().await;
    // The edge's own deadline holds when the caller asks for more, or for nothing.
    let answer = get_with(&app, "/v1/hang", &[("x-request-timeout", "10m")]).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(seen.metadata.lock().unwrap()["grpc-timeout"], "30000m");
    let answer = get_with(&app, "/v1/hang", &[("x-request-timeout", "soon")]).await;
    assert_eq!((answer.status, answer.error().2.as_str()), (StatusCode::BAD_REQUEST, "X-Request-Timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_408() {
    let body = Body::from_stream(futures_util::stream::pending::<Result<String, std::io::Error>>());
    let answer =
        send(&app(), request(Method::POST, "/v1/echo", &[("content-type", "application/json")], body)).await;
    assert_eq!((answer.status, answer.error().0.as_str()), (StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT"));
}

#[tokio::test]
async fn an_upstream_that_is_down_is_503_and_says_nothing_of_itself() {
    let answer = get(&app_without_upstream(), "/v1/echo").await;
    assert_eq!(
        (answer.status, answer.error().0.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    );
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.text().contains("google.rpc.RetryInfo"));
    assert!(!answer.text().contains("10.1.2.3"), "{}", answer.text());
}

#[tokio::test]
async fn fields_at_fault_are_named_as_the_caller_wrote_them() {
    for (uri, field, named) in [
        ("/v1/fail?badField=code", "code", "code"),
        ("/v1/fail?badField=bad_field", "bad_field", "badField"),
        ("/v1/fail?bad_field=bad_field", "bad_field", "bad_field"),
        ("/v1/fail?badField=deep_value.page_count", "deep_value.page_count", "deepValue.pageCount"),
        (
            "/v1/fail?badField=deep_value.page_count&deepValue.page_count=1",
            "deep_value.page_count",
            "deepValue.page_count",
        ),
        (
            "/v1/fail?badField=deep_value.parent.tags%5B2%5D",
            "deep_value.parent.tags[2]",
            "deepValue.parent.tags[2]",
        ),
        (
            "/v1/fail?badField=by_key%5B%22a.b%5D_%5C%22c%22%5D.page_count",
            r#"by_key["a.b]_\"c"].page_count"#,
            r#"byKey["a.b]_\"c"].pageCount"#,
        ),
        ("/v1/fail?badField=no_field.page_count", "no_field.page_count", "no_field.page_count"),
        ("/v1/fail?badField=a..%5Bb_c", "a..[b_c", "a..[b_c"),
    ] {
        let answer = get(&app(), uri).await;
        let (_, message, found) = answer.error();
        assert_eq!((found.as_str(), answer.status), (named, StatusCode::BAD_REQUEST), "{field}");
        assert_eq!(message, format!("{named}: Must be better."), "{field}");
    }
    for (body, named) in [("pageCount", "deepValue.pageCount"), ("page_count", "deepValue.page_count")] {
        let body = format!("{{\"{body}\": 1}}");
        let uri = "/v1/fail?badField=deep_value.page_count";
        assert_eq!(send_json(&app(), Method::POST, uri, &body).await.error().2, named);
    }
}
