//! The OpenAPI document: everything is in it, and what it says holds.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{Router, body::Body};
use euhub_edge::{
    http::{Upstream, router},
    plan::Plan,
};
use http::{Method, Request, Response};
use serde_json::{Value as Json, json};
use tower::{BoxError, service_fn};

use crate::{json_schema::check, support::*};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The descriptor set of some files, found in folders below the crate's own.
fn compiled(folders: &[&str], files: &[PathBuf]) -> Arc<Plan> {
    let mut compiler =
        protox::Compiler::new(folders.iter().map(|folder| Path::new(HERE).join(folder))).unwrap();
    compiler.include_imports(true).include_source_info(true).open_files(files).unwrap();
    Arc::new(Plan::compile(&compiler.encode_file_descriptor_set()).unwrap())
}

/// A service that uses every rule.
pub fn rules() -> Arc<Plan> {
    compiled(&["tests/proto/published", "tests/proto", "../proto"], &["openapi_test.proto".into()])
}

pub async fn document(plan: Arc<Plan>) -> Json {
    let nobody = service_fn(|_: Request<tonic::body::Body>| async {
        Err::<Response<tonic::body::Body>, BoxError>("nobody is there".into())
    });
    get(&router(plan, Upstream::new(nobody), config()).unwrap(), "/api/openapi.json").await.json()
}

pub fn keys(value: &Json) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// What a document refers to: its own parts, references followed.
pub fn resolved<'d>(document: &'d Json, value: &'d Json) -> &'d Json {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference}")),
        None => value,
    }
}

/// Path, method and operation of everything in a document.
fn operations(document: &Json) -> Vec<(&str, &str, &Json)> {
    let items = document["paths"].as_object().unwrap().iter();
    items
        .flat_map(|(path, item)| {
            let verbs = item.as_object().unwrap().iter();
            verbs.map(|(verb, operation)| (path.as_str(), verb.as_str(), operation))
        })
        .collect()
}

/// The parameters of an operation by name, with their schemas.
pub fn parameters<'d>(document: &'d Json, operation: &'d Json) -> Vec<(&'d str, &'d Json)> {
    let list = operation["parameters"].as_array().unwrap();
    list.iter()
        .map(|parameter| resolved(document, parameter))
        .map(|parameter| (parameter["name"].as_str().unwrap(), parameter))
        .collect()
}

/// What any document has to hold.
fn assert_sound(plan: &Plan, document: &Json) {
    let mut stack = vec![document];
    while let Some(value) = stack.pop() {
        match value {
            Json::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Json::as_str) {
                    assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
                }
                assert_ne!(members.get("description"), Some(&json!("")));
                stack.extend(members.values());
            }
            Json::Array(items) => stack.extend(items),
            _ => {}
        }
    }
    let operations = operations(document);
    let bindings = plan.methods().iter().flat_map(|method| &method.bindings);
    let known = bindings.filter(|binding| binding.verb.as_str() != "REPORT").count();
    assert_eq!(operations.len(), known);
    let ids: BTreeSet<_> =
        operations.iter().map(|(_, _, operation)| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), operations.len(), "operation ids are unique");
    for (path, verb, operation) in operations {
        let found = parameters(document, operation);
        let names: BTreeSet<_> =
            found.iter().map(|(name, parameter)| (name, parameter["in"].as_str())).collect();
        assert_eq!(names.len(), found.len(), "{verb} {path}: {names:?}");
        let in_path = found.iter().filter(|(_, parameter)| parameter["in"] == "path");
        let in_path: BTreeSet<_> = in_path.map(|(name, _)| format!("{{{name}}}")).collect();
        let named =
            path.split(['/', ':']).filter(|segment| segment.starts_with('{')).map(str::to_owned).collect();
        assert_eq!(in_path, named, "{verb} {path}");
        assert_ne!(operation["summary"], "", "{verb} {path}");
    }
}

#[tokio::test]
async fn every_binding_is_described_and_every_reference_resolves() {
    for plan in [plan(), rules()] {
        assert_sound(&plan, &document(plan.clone()).await);
    }
}

#[tokio::test]
async fn any_annotated_service_is_described() {
    let root = Path::new(HERE).join("../proto");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                files.push(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    let plan = compiled(&["../proto"], &files);
    let document = document(plan.clone()).await;
    assert_sound(&plan, &document);
    // Not every dialect of regular expressions knows Unicode's classes, and validators of documents read patterns in theirs.
    assert!(!document.to_string().contains(r"\\p{"), "a pattern with a class such as \\p{{L}}");
}

#[tokio::test]
async fn the_document_is_the_same_each_time() {
    let bytes = async || document(rules()).await.to_string();
    assert_eq!(bytes().await, bytes().await);
    let etag = async || get(&app(), "/api/openapi.json").await.header("etag").to_owned();
    assert_eq!(etag().await, etag().await);
}

#[tokio::test]
async fn comments_become_descriptions() {
    let document = document(plan()).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(
        document["tags"],
        json!([{"name": "Library", "description": "Answers what it was asked. Never more."}])
    );
    let shelf = &document["paths"]["/v1/shelves/{shelve}"]["get"];
    assert_eq!(
        (&shelf["summary"], &shelf["description"]),
        (&json!("Answers with the request"), &json!("Answers with the request."))
    );
    let schema = &document["components"]["schemas"]["test.v1.EchoMessage"];
    assert_eq!(schema["description"], "A message of many types.");
    assert_eq!(schema["properties"]["name"], json!({"type": "string", "description": "Its name."}));
    let rules = self::document(rules()).await;
    let kind = &rules["components"]["schemas"]["rules.v1.Kind"];
    assert_eq!(
        kind,
        &json!({"type": "string", "enum": ["KIND_UNSPECIFIED", "KIND_ONE", "KIND_TWO"], "description": "- `KIND_ONE`: The first."})
    );
}

#[tokio::test]
async fn every_status_is_documented_where_it_can_come() {
    let document = document(plan()).await;
    let statuses = |path: &str, verb: &str| keys(&document["paths"][path][verb]["responses"]).join(" ");
    let any = "400 401 403 404";
    assert_eq!(
        statuses("/v1/echo", "get"),
        format!("200 304 {any} 406 409 414 429 500 501 502 503 504 default")
    );
    assert_eq!(
        statuses("/v1/echo", "post"),
        format!("200 {any} 406 408 409 413 414 415 429 500 501 502 503 504 default")
    );
    assert_eq!(
        statuses("/v1/events:watch", "get"),
        format!("200 {any} 406 409 414 429 500 501 502 503 504 default")
    );
    assert_eq!(
        statuses("/v1/download", "get"),
        format!("200 304 {any} 409 414 429 500 501 502 503 504 default")
    );
    let response =
        |status: &str| resolved(&document, &document["paths"]["/v1/echo"]["get"]["responses"][status]);
    for (status, header) in [
        ("200", "ETag"),
        ("304", "ETag"),
        ("401", "WWW-Authenticate"),
        ("429", "Retry-After"),
        ("429", "X-RateLimit-Remaining"),
        ("503", "Retry-After"),
        ("default", "X-Request-Id"),
    ] {
        assert!(response(status)["headers"][header].is_object(), "{status} {header}");
    }
    assert_eq!(response("304").get("content"), None);
    let watch = &document["paths"]["/v1/events:watch"]["get"];
    assert!(parameters(&document, watch).iter().any(|(name, _)| *name == "Last-Event-ID"));
    assert!(
        parameters(&document, &document["paths"]["/v1/echo"]["get"])
            .iter()
            .any(|(name, _)| *name == "If-None-Match")
    );
}

/// A request for each operation of the test service: path in the document, method, path and body to send.
const REQUESTS: [(&str, Method, &str, &str); 19] = [
    (
        "/v1/echo",
        Method::GET,
        "/v1/echo?nested.parent.count=1&tags=x&color=77&at=2024-02-29T12:00:00Z&updateMask=a",
        "",
    ),
    ("/v1/echo", Method::POST, "/v1/echo", r#"{"big": "5", "nested": {"parent": {}}, "color": "COLOR_RED"}"#),
    ("/v1/echo", Method::PUT, "/v1/echo", r#"{"id": "x"}"#),
    ("/v1/plain/{name}", Method::GET, "/v1/plain/x", ""),
    ("/v1/shelves/{shelve}", Method::GET, "/v1/shelves/7", ""),
    ("/v1/shelves/{shelve}", Method::DELETE, "/v1/shelves/7", ""),
    ("/v1/files/{file}", Method::GET, "/v1/files/a/b", ""),
    ("/v1/shelves/{shelve}/books/{id}", Method::GET, "/v1/shelves/7/books/9", ""),
    ("/v1/shelves/{shelve}:stamp", Method::POST, "/v1/shelves/7:stamp", "{}"),
    ("/v1/shelves:search", Method::GET, "/v1/shelves:search", ""),
    ("/v1/items/{item}", Method::PATCH, "/v1/items/7", r#"{"pageCount": 3}"#),
    ("/v1/admin/{name}", Method::GET, "/v1/admin/x", ""),
    ("/v1/fail", Method::GET, "/v1/fail?code=5", ""),
    ("/v1/fail", Method::POST, "/v1/fail?code=5", "{}"),
    ("/v1/events:watch", Method::GET, "/v1/events:watch?count=2&fail=true", ""),
    ("/v1/export", Method::GET, "/v1/export", ""),
    ("/v1/download", Method::GET, "/v1/download", ""),
    ("/v1/files/{file}:put", Method::POST, "/v1/files/7:put", "{}"),
    ("/v1/files/{file}:upload", Method::POST, "/v1/files/7:upload", "{}"),
];

/// Checks an answer against what is documented for it, and says under which status that is.
fn assert_documented<'d>(document: &'d Json, operation: &'d Json, answer: &Answer) -> &'d str {
    let responses = operation["responses"].as_object().unwrap();
    let (status, response) = responses
        .get_key_value(answer.status.as_str())
        .unwrap_or_else(|| responses.get_key_value("default").unwrap());
    let content = resolved(document, response)["content"].as_object();
    let media = answer.headers.get("content-type").map(|media| media.to_str().unwrap());
    let Some(media) = media else {
        assert!(content.is_none() && answer.body.is_empty(), "{answer:?}");
        return status;
    };
    let content = content.unwrap();
    let described = content.get(media).or_else(|| content.get("*/*")).unwrap_or_else(|| panic!("no {media}"));
    if let Some(schema) = described.get("schema") {
        let values: Vec<Json> = match media {
            "text/event-stream" => vec![answer.text().into()],
            _ => answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        };
        for value in &values {
            check(document, schema, value).unwrap_or_else(|error| panic!("{error} in {}", answer.text()));
        }
    }
    status
}

#[tokio::test]
async fn every_answer_is_as_documented() {
    let (app, document) = (app(), document(plan()).await);
    let sent: BTreeSet<_> =
        REQUESTS.iter().map(|(path, method, ..)| (*path, method.as_str().to_ascii_lowercase())).collect();
    let mut known: BTreeSet<_> =
        operations(&document).iter().map(|(path, verb, _)| (*path, (*verb).to_owned())).collect();
    known.remove(&("/v1/hang", "get".to_owned()));
    assert_eq!(sent, known);
    for (path, method, uri, body) in REQUESTS {
        let operation = &document["paths"][path][method.as_str().to_ascii_lowercase()];
        let answer = match body {
            "" => send(&app, request(method.clone(), uri, &[], Body::empty())).await,
            body => send_json(&app, method.clone(), uri, body).await,
        };
        let expected = if path == "/v1/fail" { "404" } else { "200" };
        assert_eq!(answer.status.as_str(), expected, "{uri}");
        assert_eq!(assert_documented(&document, operation, &answer), expected, "{uri}");
        if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
            check(&document, schema, &serde_json::from_str(body).unwrap()).unwrap();
        }
    }
    let events = get_with(&app, "/v1/events:watch?count=2", &[("accept", "text/event-stream")]).await;
    assert_documented(&document, &document["paths"]["/v1/events:watch"]["get"], &events);
}

#[tokio::test]
async fn every_error_is_as_documented() {
    let (app, document) = (app(), document(plan()).await);
    let fail = &document["paths"]["/v1/fail"]["get"];
    for code in 1..=16 {
        let answer = get(&app, &format!("/v1/fail?code={code}&details=true")).await;
        let expected = if answer.status == 499 { "default" } else { answer.status.as_str() };
        assert_eq!(assert_documented(&document, fail, &answer), expected);
    }
    let echo = &document["paths"]["/v1/echo"];
    let etag = get(&app, "/v1/echo").await.header("etag").to_owned();
    let get = async |uri: &str, headers: &[(&str, &str)], expected: &str| {
        let answer = get_with(&app, uri, headers).await;
        assert_eq!(assert_documented(&document, &echo["get"], &answer), expected, "{uri} {headers:?}");
    };
    get("/v1/echo", &[("if-none-match", &etag)], "304").await;
    get("/v1/echo", &[("accept", "text/html")], "406").await;
    get("/v1/echo?colour=red", &[], "400").await;
    get(&format!("/v1/echo?name={}", "x".repeat(2100)), &[], "414").await;
    let post = async |app: &Router, media: &str, body: &str, expected: &str| {
        let sent = request(Method::POST, "/v1/echo", &[("content-type", media)], body.to_owned());
        let answer = send(app, sent).await;
        assert_eq!(assert_documented(&document, &echo["post"], &answer), expected, "{body}");
    };
    post(&app, "application/json", &" ".repeat(2000), "413").await;
    post(&app, "text/plain", "x", "415").await;
    post(&app_without_upstream(), "application/json", "{}", "503").await;
}
