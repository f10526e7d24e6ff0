//! Index, health and the OpenAPI document.

use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn the_index_links_onwards() {
    let answer = get(&app(), "/").await;
    assert_eq!(answer.json()["links"], json!({"openapi": "/api/openapi.json", "health": "/health"}));
}

#[tokio::test(start_paused = true)]
async fn health_is_the_upstreams_and_holds_for_a_second() {
    let (app, seen) = app_with(config());
    let down = get(&app, "/health").await;
    assert_eq!(
        (down.status, &down.json()["error"]["status"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("UNAVAILABLE"))
    );
    seen.healthy.store(true, Ordering::Relaxed);
    assert_eq!(get(&app, "/health").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(seen.calls.load(Ordering::Relaxed), 1);
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    let up = get(&app, "/health").await;
    assert_eq!((up.status, up.json()), (StatusCode::OK, json!({"status": "SERVING"})));
    assert_eq!(up.header("cache-control"), "no-store");
    assert_eq!(get(&app_without_upstream(), "/health").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn openapi_describes_every_binding() {
    let answer = get(&app(), "/api/openapi.json").await;
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    for method in plan().methods() {
        for binding in &method.bindings {
            let verb = binding.verb.as_str().to_ascii_lowercase();
            let described = document["paths"].as_object().unwrap().values().any(|item| {
                item[&verb]["operationId"]
                    .as_str()
                    .is_some_and(|id| id.starts_with(&format!("Library_{}", method.name)))
            });
            assert!(described, "{verb} {}", binding.template);
        }
    }
    let shelf = &document["paths"]["/v1/shelves/{shelve}"];
    assert_eq!(shelf["get"]["description"], "Answers with the request.");
    assert_eq!(shelf["get"]["parameters"][0]["name"], "shelve");
    let echo = &document["paths"]["/v1/echo"]["get"];
    let names: Vec<_> =
        echo["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"nested.pageCount") && names.contains(&"updateMask"), "{names:?}");
    let schema = &document["components"]["schemas"]["test.v1.EchoMessage"];
    assert_eq!(schema["properties"]["name"], json!({"type": "string", "description": "Its name."}));
    assert_eq!(schema["properties"]["at"], json!({"type": "string", "format": "date-time"}));
    assert_eq!(
        document["components"]["schemas"]["test.v1.Color"]["enum"],
        json!(["COLOR_UNSPECIFIED", "COLOR_RED"])
    );
    let watch = &document["paths"]["/v1/events:watch"]["get"]["responses"]["200"]["content"];
    assert!(watch["application/x-ndjson"].is_object() && watch["text/event-stream"].is_object());
}

#[tokio::test]
async fn every_reference_of_the_openapi_document_resolves() {
    let document = get(&app(), "/api/openapi.json").await.json();
    let mut stack = vec![&document];
    let mut references = 0;
    while let Some(value) = stack.pop() {
        match value {
            serde_json::Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(|reference| reference.as_str()) {
                    references += 1;
                    assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
                }
                stack.extend(members.values());
            }
            serde_json::Value::Array(items) => stack.extend(items),
            _ => {}
        }
    }
    assert!(references > 10);
}
