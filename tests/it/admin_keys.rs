//! What needs a key: who may call what, and what the audit log keeps of it.

use chrono::TimeDelta;
use euhub::admin::store::{insert_api_key, revoke_api_key};
use euhub::auth::generate_key;
use euhub::clock::{Clock, system_rng};
use euhub::proto::keyword_service_client::KeywordServiceClient;
use euhub::proto::source_service_client::SourceServiceClient;
use euhub::proto::{DeleteKeywordRequest, ListKeywordsRequest, ListSourcesRequest};
use serde_json::{Value, json};
use sqlx::FromRow;
use tonic::Code;
use tonic::metadata::MetadataValue;

use crate::hub::{Answer, Hub, send};

/// A new key with these scopes; its number and text.
pub async fn key(hub: &Hub, scopes: &[&str], hours: Option<i64>) -> (i64, String) {
    let (key, hash) = generate_key(&mut system_rng());
    let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let now = Clock::system().now();
    let expires = hours.map(|hours| now + TimeDelta::hours(hours));
    let id = insert_api_key(&hub.db, "test", &hash, &scopes, now, expires).await.unwrap();
    (id, key)
}

async fn call(hub: &Hub, method: &str, path: &str, body: &Value, authorization: Option<&str>) -> Answer {
    let mut request = hub.request(method, path);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    send(request).await
}

/// Calls that need the scope `admin`, in an order in which each works; `admin_calls.rs` has them all.
fn admin_calls() -> Vec<(&'static str, &'static str, Value)> {
    let keyword = json!({"displayName": "Audit", "terms": [{"language": "en", "term": "harvest"}]});
    let source = json!({"displayName": "Audit", "country": "IE", "feeds": [{"url": "file:///nowhere"}]});
    vec![
        ("POST", "/api/v1/keywords", keyword),
        ("PATCH", "/api/v1/keywords/audit?updateMask=category", json!({"category": "x"})),
        ("DELETE", "/api/v1/keywords/audit", Value::Null),
        ("GET", "/api/v1/sources", Value::Null),
        ("POST", "/api/v1/sources", source),
        ("GET", "/api/v1/sources/audit", Value::Null),
        ("PATCH", "/api/v1/sources/audit?updateMask=paused", json!({"paused": true})),
        ("POST", "/api/v1/sources/audit:ingest", json!({})),
        ("GET", "/api/v1/sources/audit/runs", Value::Null),
        ("DELETE", "/api/v1/sources/audit", Value::Null),
    ]
}

#[tokio::test]
async fn admin_calls_need_a_key_with_the_scope_admin() {
    let hub = Hub::seeded().await;
    let (_, reader) = key(&hub, &["read", "suggest", "backup"], None).await;
    let (_, expired) = key(&hub, &["admin"], Some(-1)).await;
    let (revoked_id, revoked) = key(&hub, &["admin"], None).await;
    assert!(revoke_api_key(&hub.db, revoked_id, Clock::system().now()).await.unwrap());
    let (_, current) = key(&hub, &["admin"], Some(1)).await;
    let unknown = generate_key(&mut system_rng()).0;
    let almost = format!("{}x", hub.admin_key);

    for (method, path, body) in admin_calls() {
        let what = format!("{method} {path}");
        let wrong = [
            None,
            Some(format!("Bearer {unknown}")),
            Some(format!("Bearer {almost}")),
            Some(format!("Bearer {expired}")),
            Some(format!("Bearer {revoked}")),
            Some(format!("Basic {}", hub.admin_key)),
            Some(hub.admin_key.clone()),
            Some("Bearer ".into()),
            Some(format!("Bearer {}", "x".repeat(10_000))),
        ];
        for authorization in wrong {
            let answer = call(&hub, method, path, &body, authorization.as_deref()).await;
            assert_eq!(answer.status, 401, "{what}: {}", answer.text);
            assert_eq!(answer.headers["www-authenticate"], "Bearer", "{what}");
            let error = &answer.json()["error"];
            assert_eq!(
                (&error["code"], &error["status"]),
                (&json!(401), &json!("UNAUTHENTICATED")),
                "{what}"
            );
            assert!(!answer.text.contains(&hub.admin_key) && !answer.text.contains(&expired), "{what}");
        }
        let answer = call(&hub, method, path, &body, Some(&format!("Bearer {reader}"))).await;
        assert_eq!(answer.status, 403, "{what}: {}", answer.text);
        let error = &answer.json()["error"];
        assert_eq!(error["status"], "PERMISSION_DENIED", "{what}");
        assert!(error["message"].as_str().unwrap().contains("admin"), "{what}: the scope is named");

        let answer = call(&hub, method, path, &body, Some(&format!("bearer {current}"))).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text);
    }
}

#[tokio::test]
async fn grpc_asks_for_the_same_keys() {
    let hub = Hub::seeded().await;
    let (_, reader) = key(&hub, &["read"], None).await;
    let mut sources = SourceServiceClient::new(hub.channel().await);
    let mut keywords = KeywordServiceClient::new(hub.channel().await);
    for (authorization, expected) in [
        (None, Some(Code::Unauthenticated)),
        (Some("Bearer euhub_wrong".to_owned()), Some(Code::Unauthenticated)),
        (Some(format!("Bearer {reader}")), Some(Code::PermissionDenied)),
        (Some(format!("Bearer {}", hub.admin_key)), None),
    ] {
        let value: Option<MetadataValue<_>> = authorization.map(|value| value.parse().unwrap());
        let mut request = tonic::Request::new(ListSourcesRequest::default());
        let mut delete = tonic::Request::new(DeleteKeywordRequest { name: "keywords/housing".into() });
        if let Some(value) = value {
            request.metadata_mut().insert("authorization", value.clone());
            delete.metadata_mut().insert("authorization", value);
        }
        assert_eq!(sources.list_sources(request).await.err().map(|status| status.code()), expected);
        assert_eq!(keywords.delete_keyword(delete).await.err().map(|status| status.code()), expected);
    }
}

#[tokio::test]
async fn reading_is_public_but_a_wrong_key_is_never_a_public_call() {
    let hub = Hub::seeded().await;
    for path in ["/api/v1/keywords", "/api/v1/articles", "/api/v1/articles:search?query=gas&mode=LEXICAL"] {
        assert_eq!(hub.get(path).await.status, 200, "{path}");
        for wrong in ["Bearer euhub_wrong", "Basic YTpi", "nonsense"] {
            let answer = call(&hub, "GET", path, &Value::Null, Some(wrong)).await;
            assert_eq!(answer.status, 401, "{path}: {wrong}");
        }
    }
}

#[tokio::test]
async fn where_reading_is_not_public_every_call_needs_a_key() {
    let hub = Hub::private().await;
    let (_, reader) = key(&hub, &["read"], None).await;
    let (_, backup) = key(&hub, &["backup"], None).await;
    let paths = [
        "/api/v1/keywords",
        "/api/v1/keywords/energy",
        "/api/v1/articles",
        "/api/v1/articles:export",
        "/api/v1/articles:search?query=gas&mode=LEXICAL",
        "/api/v1/search:autocomplete?query=gas",
        "/api/v1/keywords/energy/sentiment",
    ];
    for path in paths {
        assert_eq!(hub.get(path).await.status, 401, "{path}");
        for (key, expected) in [(&reader, 200), (&hub.admin_key, 200), (&backup, 403)] {
            let answer = call(&hub, "GET", path, &Value::Null, Some(&format!("Bearer {key}"))).await;
            assert_eq!(answer.status, expected, "{path}: {}", answer.text);
        }
    }
    let status = hub.get("/api/v1/status").await.ok();
    assert_eq!(status["publicRead"], false, "what the server is stays public");
    let mut keywords = KeywordServiceClient::new(hub.channel().await);
    let refused = keywords.list_keywords(ListKeywordsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_key_is_stored_as_a_hash_only() {
    let hub = Hub::empty().await;
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT api_keys::text FROM api_keys").fetch_all(&hub.db).await.unwrap();
    assert_eq!(rows.len(), 1);
    let secret = hub.admin_key.trim_start_matches("euhub_");
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!rows[0].contains(secret) && !rows[0].contains(&hex), "{}", rows[0]);
}

/// A row of the audit log.
#[derive(Debug, FromRow)]
pub struct Audit {
    pub actor: String,
    pub action: String,
    pub resource: String,
    pub client: String,
    pub outcome: String,
    pub request_id: String,
}

/// The audit log, oldest first.
pub async fn audit(hub: &Hub) -> Vec<Audit> {
    sqlx::query_as("SELECT actor, action, resource, client, outcome, request_id FROM audit_log ORDER BY id")
        .fetch_all(&hub.db)
        .await
        .unwrap()
}

#[tokio::test]
async fn every_admin_call_leaves_an_audit_row() {
    let hub = Hub::seeded().await;
    let (id, admin) = key(&hub, &["admin"], None).await;
    for (number, (method, path, body)) in admin_calls().into_iter().enumerate() {
        let mut request = hub
            .request(method, path)
            .bearer_auth(&admin)
            .header("x-request-id", format!("audit-{number}"))
            .header("x-forwarded-for", "6.6.6.6");
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        send(request).await.ok();
    }
    let rows = audit(&hub).await;
    let found: Vec<(&str, &str, &str)> = rows
        .iter()
        .map(|row| (row.action.as_str(), row.resource.as_str(), row.request_id.as_str()))
        .collect();
    let expected = [
        ("keywords.create", "keywords/audit", "audit-0"),
        ("keywords.update", "keywords/audit", "audit-1"),
        ("keywords.delete", "keywords/audit", "audit-2"),
        ("SourceService/ListSources", "", "audit-3"),
        ("sources.create", "sources/audit", "audit-4"),
        ("SourceService/GetSource", "", "audit-5"),
        ("sources.update", "sources/audit", "audit-6"),
        ("sources.ingest", "sources/audit", "audit-7"),
        ("SourceService/ListSourceRuns", "", "audit-8"),
        ("sources.delete", "sources/audit", "audit-9"),
    ];
    assert_eq!(found, expected);
    for row in rows {
        assert_eq!(row.actor, format!("key:{id}"), "{row:?}");
        assert_eq!(row.outcome, "ok", "{row:?}");
        assert_eq!(row.client, "127.0.0.1", "only a trusted proxy's X-Forwarded-For is believed: {row:?}");
    }
}

#[tokio::test]
async fn a_refused_admin_call_leaves_a_row_and_a_public_one_none() {
    let hub = Hub::seeded().await;
    let (id, reader) = key(&hub, &["read"], None).await;
    for authorization in [None, Some("Bearer euhub_wrong".to_owned()), Some(format!("Bearer {reader}"))] {
        let answer = call(&hub, "DELETE", "/api/v1/keywords/energy", &Value::Null, authorization.as_deref());
        assert!(matches!(answer.await.status, 401 | 403));
    }
    assert_eq!(hub.get("/api/v1/keywords/energy").await.status, 200);
    let found: Vec<_> = audit(&hub).await.into_iter().map(|row| (row.actor, row.outcome)).collect();
    let expected = [
        ("public".to_owned(), "UNAUTHENTICATED".to_owned()),
        ("public".to_owned(), "UNAUTHENTICATED".to_owned()),
        (format!("key:{id}"), "PERMISSION_DENIED".to_owned()),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn wrong_keys_are_limited_by_address() {
    let hub = Hub::seeded().await;
    let wrong = async |number: u32| {
        let authorization = format!("Bearer euhub_wrong{number}");
        call(&hub, "GET", "/api/v1/sources", &Value::Null, Some(&authorization)).await.status
    };
    for number in 0..100 {
        assert_eq!(wrong(number).await, 401);
    }
    assert_eq!(wrong(100).await, 429);
    assert_eq!(hub.admin("GET", "/api/v1/sources", Value::Null).await.status, 429, "no key is looked at");
    assert_eq!(hub.get("/api/v1/keywords").await.status, 200, "what needs no key goes on");
    assert_eq!(audit(&hub).await.len(), 100, "a flood does not fill the log");
}

#[tokio::test]
async fn a_change_over_grpc_says_where_it_came_from() {
    let hub = Hub::seeded().await;
    let mut client = KeywordServiceClient::new(hub.channel().await);
    let mut request = tonic::Request::new(DeleteKeywordRequest { name: "keywords/housing".into() });
    let value: MetadataValue<_> = format!("Bearer {}", hub.admin_key).parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request.metadata_mut().insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
    request.metadata_mut().insert("x-request-id", "grpc-1".parse().unwrap());
    client.delete_keyword(request).await.unwrap();
    let rows = audit(&hub).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].client.as_str(), rows[0].request_id.as_str()), ("127.0.0.1", "grpc-1"));
}

#[tokio::test]
async fn a_change_that_failed_leaves_no_row_that_says_it_was_made() {
    let hub = Hub::seeded().await;
    let taken = json!({"displayName": "Energy", "terms": [{"language": "en", "term": "power"}]});
    assert_eq!(hub.admin("POST", "/api/v1/keywords", taken).await.status, 409);
    let stop = json!({"displayName": "Stop", "terms": [{"language": "en", "term": "the"}]});
    assert_eq!(hub.admin("POST", "/api/v1/keywords", stop).await.status, 400);
    assert_eq!(hub.admin("DELETE", "/api/v1/sources/no-such", Value::Null).await.status, 404);
    let rows = audit(&hub).await;
    let found: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.outcome.as_str())).collect();
    let expected = [
        ("KeywordService/CreateKeyword", "ALREADY_EXISTS"),
        ("KeywordService/CreateKeyword", "INVALID_ARGUMENT"),
        ("SourceService/DeleteSource", "NOT_FOUND"),
    ];
    assert_eq!(found, expected);
}
