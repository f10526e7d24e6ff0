//! From path, query and body to the request message, and its answer.

use axum::body::Body;
use euhub_edge::http::{EdgeConfig, RateLimit, RouteClass};
use http::{Method, StatusCode};
use serde_json::json;

use crate::support::*;

/// `name` of the echoed message, by GET.
async fn name(uri: &str) -> String {
    let answer = get(&app(), uri).await;
    assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.text());
    answer.json()["name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn templates_with_a_plain_variable() {
    assert_eq!(name("/v1/plain/word").await, "word");
    assert_eq!(name("/v1/plain/a%2Fb%20%C3%A9:x").await, "a/b \u{e9}:x");
}

#[tokio::test]
async fn templates_with_a_pattern_in_the_variable() {
    assert_eq!(name("/v1/shelves/7").await, "shelves/7");
    assert_eq!(name("/v1/shelves/a%2Fb").await, "shelves/a%2Fb");
}

#[tokio::test]
async fn templates_with_a_double_star() {
    assert_eq!(name("/v1/files/a/b/c%20d").await, "files/a/b/c d");
}

#[tokio::test]
async fn templates_decode_percent_escapes() {
    assert_eq!(name("/v1/plain/a%2Fb%20c").await, "a/b c");
    assert_eq!(name("/v1/plain/%E6%97%A5%E6%9C%AC+1").await, "\u{65e5}\u{672c}+1");
    // In a variable of several segments a slash that was escaped stays so, or it could not be told from the others.
    assert_eq!(name("/v1/files/a%2Fb/c%25d").await, "files/a%2Fb/c%d");
    for bad in ["/v1/plain/%", "/v1/plain/%4", "/v1/plain/%zz", "/v1/plain/%FF"] {
        let answer = get(&app(), bad).await;
        assert_eq!((answer.status, answer.error().0.as_str()), (StatusCode::BAD_REQUEST, "MALFORMED_PATH"));
    }
}

#[tokio::test]
async fn templates_with_nested_fields_and_literals_after_variables() {
    let answer = get(&app(), "/v1/shelves/7/books/9").await.json();
    assert_eq!(answer["name"], "shelves/7");
    assert_eq!(answer["nested"]["id"], "9");
}

#[tokio::test]
async fn custom_verbs() {
    let answer = send_json(&app(), Method::POST, "/v1/shelves/7:stamp", r#"{"count": 3}"#).await.json();
    assert_eq!((&answer["name"], &answer["count"]), (&json!("shelves/7"), &json!(3)));
    assert_eq!(get(&app(), "/v1/shelves:search?count=4").await.json()["count"], 4);
}

#[tokio::test]
async fn the_path_wins_over_the_body() {
    let answer = send_json(&app(), Method::POST, "/v1/shelves/7:stamp", r#"{"name": "shelves/8"}"#).await;
    assert_eq!(answer.json()["name"], "shelves/7");
}

#[tokio::test]
async fn query_parameters_of_every_kind() {
    let uri = "/v1/echo?name=a+b%26c&nested.page_count=5&nested.parent.name=up&tags=x&tags=y&color=COLOR_RED\
               &big=9223372036854775807&at=2024-02-29T12:00:00Z&updateMask=a,bC";
    let answer = get(&app(), uri).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let json = answer.json();
    assert_eq!(json["name"], "a b&c");
    assert_eq!(json["nested"]["pageCount"], 5);
    assert_eq!(json["nested"]["parent"]["name"], "up");
    assert_eq!(json["tags"], json!(["x", "y"]));
    assert_eq!(json["color"], "COLOR_RED");
    assert_eq!(json["big"], "9223372036854775807");
    assert_eq!(json["at"], "2024-02-29T12:00:00Z");
    assert_eq!(json["updateMask"], "a,bC");
    assert_eq!(get(&app(), "/v1/echo?color=1").await.json()["color"], "COLOR_RED");
}

#[tokio::test]
async fn an_unknown_parameter_is_named() {
    let answer = get(&app(), "/v1/echo?nested.colour=red").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let (reason, message, field) = answer.error();
    assert_eq!((reason.as_str(), field.as_str()), ("UNKNOWN_PARAMETER", "nested.colour"));
    assert!(message.contains("nested.colour"), "{message}");
    let answer = send_json(&app(), Method::POST, "/v1/echo?count=1", "{}").await;
    assert_eq!(answer.error().2, "count");
}

#[tokio::test]
async fn a_duplicate_or_wrong_parameter_is_named() {
    for (uri, reason, field) in [
        ("/v1/echo?count=1&count=2", "DUPLICATE_PARAMETER", "count"),
        ("/v1/echo?count=many", "INVALID_VALUE", "count"),
        ("/v1/shelves/7?name=shelves/8", "PARAMETER_ALREADY_BOUND", "name"),
        ("/v1/echo?name=%ff", "MALFORMED_QUERY", "name"),
    ] {
        let answer = get(&app(), uri).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
        let error = answer.error();
        assert_eq!((error.0.as_str(), error.2.as_str()), (reason, field), "{uri}");
    }
}

#[tokio::test]
async fn unknown_fields_and_wrong_types_in_the_body_are_named() {
    for (body, reason, field) in [
        (r#"{"nested": {"size": 1}}"#, "UNKNOWN_FIELD", "nested.size"),
        (r#"{"count": {}}"#, "WRONG_TYPE", "count"),
        (r#"{"count": 1.5}"#, "INVALID_VALUE", "count"),
        (r#"{"count": 1, "count": 2}"#, "DUPLICATE_FIELD", "count"),
        (r#"{"count": "#, "MALFORMED_JSON", "count"),
    ] {
        let answer = send_json(&app(), Method::POST, "/v1/echo", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        let error = answer.error();
        assert_eq!((error.0.as_str(), error.2.as_str()), (reason, field), "{body}: {}", answer.text());
    }
}

#[tokio::test]
async fn body_of_one_field_and_response_body() {
    let answer = send_json(&app(), Method::PUT, "/v1/echo", r#"{"id": "x", "page_count": 2}"#).await.json();
    assert_eq!(answer, json!({"id": "x", "name": "", "pageCount": 2}));
}

#[tokio::test]
async fn patch_implies_its_update_mask() {
    let patch = |uri: &'static str| async move {
        send_json(&app(), Method::PATCH, uri, r#"{"id": "x", "name": "items/other", "pageCount": 2}"#)
            .await
            .json()
    };
    let answer = patch("/v1/items/7").await;
    assert_eq!(answer["updateMask"], "id,pageCount");
    assert_eq!(answer["nested"]["name"], "items/7");
    assert_eq!(patch("/v1/items/7?update_mask=id").await["updateMask"], "id");
    let empty = send_json(&app(), Method::PATCH, "/v1/items/7", "{}").await.json();
    assert_eq!(empty.get("updateMask"), None);
}

#[tokio::test]
async fn an_empty_body_is_an_empty_message() {
    let answer = send(&app(), request(Method::POST, "/v1/echo", &[], Body::empty())).await;
    assert_eq!((answer.status, &answer.json()["count"]), (StatusCode::OK, &json!(0)));
}

#[tokio::test]
async fn metadata_goes_by_the_allow_list() {
    let (app, seen) = app_with(config());
    let headers = [
        ("authorization", "Bearer token"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("user-agent", "curl/8"),
        ("x-request-id", "my-request.1"),
        ("x-request-timeout", "1.5"),
        ("x-forwarded-for", "6.6.6.6"),
        ("cookie", "secret"),
        ("grpc-status", "5"),
    ];
    let answer = get_with(&app, "/v1/echo", &headers).await;
    assert_eq!(answer.header("x-request-id"), "my-request.1");
    let metadata = seen.metadata.lock().unwrap().clone();
    assert_eq!(metadata["authorization"], "Bearer token");
    assert_eq!(metadata["traceparent"], headers[1].1);
    assert_eq!(metadata["x-user-agent"], "curl/8");
    assert_eq!(metadata["x-request-id"], "my-request.1");
    assert_eq!(metadata["grpc-timeout"], "1500m");
    assert_eq!(metadata["x-forwarded-for"], "0.0.0.0");
    assert!(!metadata.contains_key("cookie") && !metadata.contains_key("grpc-status"));
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"x.csv\"");
    assert!(!answer.headers.contains_key("x-internal"));
}

#[tokio::test]
async fn a_request_id_is_made_when_none_or_a_bad_one_is_given() {
    for headers in [&[][..], &[("x-request-id", "a b")], &[("x-request-id", "")]] {
        let answer = get_with(&app(), "/v1/echo", headers).await;
        assert_eq!(answer.header("x-request-id").len(), 36, "{headers:?}");
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let got = get(&app(), "/v1/echo").await;
    let head = send(&app(), request(Method::HEAD, "/v1/echo", &[], Body::empty())).await;
    assert_eq!(head.status, StatusCode::OK);
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), got.body.len().to_string());
    assert_eq!(head.header("etag"), got.header("etag"));
    let missing = send(&app(), request(Method::HEAD, "/v1/nothing", &[], Body::empty())).await;
    assert_eq!((missing.status, missing.body.len()), (StatusCode::NOT_FOUND, 0));
}

#[tokio::test]
async fn options_names_the_methods() {
    let answer = send(&app(), request(Method::OPTIONS, "/v1/shelves/7", &[], Body::empty())).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.header("allow"), "DELETE, GET, HEAD, OPTIONS");
}

#[tokio::test]
async fn etags_revalidate() {
    let first = get(&app(), "/v1/plain/x").await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with("W/\""));
    assert_eq!(first.header("cache-control"), "no-cache");
    for given in [tag.clone(), format!("\"other\", {tag}"), tag.replace("W/", ""), "*".to_owned()] {
        let again = get_with(&app(), "/v1/plain/x", &[("if-none-match", &given)]).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0), "{given}");
        assert_eq!(again.header("etag"), tag);
        assert_eq!(again.header("x-content-type-options"), "nosniff");
    }
    let changed = get_with(&app(), "/v1/plain/y", &[("if-none-match", &tag)]).await;
    assert_eq!(changed.status, StatusCode::OK);
}

#[tokio::test]
async fn private_answers_are_not_stored() {
    assert_eq!(get(&app(), "/v1/admin/x").await.header("cache-control"), "no-store");
    let authorized = get_with(&app(), "/v1/echo", &[("authorization", "Bearer x")]).await;
    assert_eq!(authorized.header("cache-control"), "no-store");
    let posted = send_json(&app(), Method::POST, "/v1/echo", "{}").await;
    assert_eq!(posted.header("cache-control"), "no-store");
    assert!(!posted.headers.contains_key("etag"));
}

#[tokio::test]
async fn cache_control_is_the_route_class_s() {
    let minute = RouteClass::new("plain", RateLimit::OFF, &["GET /v1/plain/*"]).cache_control("max-age=60");
    let (app, _) = app_with(EdgeConfig { route_classes: vec![minute], ..config() });
    assert_eq!(get(&app, "/v1/plain/x").await.header("cache-control"), "max-age=60");
    assert_eq!(get(&app, "/v1/echo").await.header("cache-control"), "no-cache");
    let authorized = get_with(&app, "/v1/plain/x", &[("authorization", "Bearer x")]).await;
    assert_eq!(authorized.header("cache-control"), "no-store");
    assert_eq!(get(&app, "/v1/fail?code=5").await.header("cache-control"), "no-store");
}
