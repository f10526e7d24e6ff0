//! `/api/v1/admin/*`: keys and the audit log.

use serde_json::{Value, json};

use crate::hub::{Answer, Hub, send};

const KEYS: &str = "/api/v1/admin/apiKeys";
const AUDIT: &str = "/api/v1/admin/audit";

async fn with_key(hub: &Hub, key: &str, path: &str) -> Answer {
    send(hub.request("GET", path).bearer_auth(key)).await
}

#[tokio::test]
async fn a_key_is_shown_once_works_at_once_and_ends_at_once() {
    let hub = Hub::seeded().await;
    let body = json!({"displayName": "a program", "scopes": ["admin"], "expireTime": "2999-01-01T00:00:00Z"});
    let made = hub.admin("POST", KEYS, body).await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let made = made.ok();
    let (name, secret) = (made["apiKey"]["name"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert_eq!(made["apiKey"]["expireTime"], "2999-01-01T00:00:00Z");
    assert_eq!(with_key(&hub, secret, "/api/v1/sources").await.status, 200);

    let listed = hub.admin("GET", KEYS, Value::Null).await;
    assert!(!listed.text.contains(secret));
    let listed = listed.ok();
    let key = &listed["apiKeys"][0];
    assert_eq!((key["name"].as_str(), key["displayName"].as_str()), (Some(name), Some("a program")));
    assert!(key["lastUseTime"].is_string() && key["revokeTime"].is_null(), "{key}");

    let path = format!("/api/v1/admin/{name}");
    hub.admin("DELETE", &path, Value::Null).await.ok();
    assert_eq!(with_key(&hub, secret, "/api/v1/sources").await.status, 401);
    assert_eq!(hub.admin("DELETE", &path, Value::Null).await.status, 404, "revoked already");
    assert!(hub.admin("GET", KEYS, Value::Null).await.ok()["apiKeys"][0]["revokeTime"].is_string());
    let log = hub.admin("GET", &format!("{AUDIT}?resource={name}"), Value::Null).await.ok();
    let actions: Vec<_> =
        log["auditEntries"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["apikeys.revoke", "apikeys.create"]);
}

#[tokio::test]
async fn keys_that_make_no_sense_are_refused() {
    let hub = Hub::empty().await;
    for (body, field) in [
        (json!({"scopes": ["read"]}), "apiKey.displayName"),
        (json!({"displayName": "x"}), "apiKey.scopes"),
        (json!({"displayName": "x", "scopes": ["root"]}), "apiKey.scopes[0]"),
        (json!({"displayName": "x", "scopes": ["read", "read"]}), "apiKey.scopes"),
        (
            json!({"displayName": "x", "scopes": ["read"], "expireTime": "2020-01-01T00:00:00Z"}),
            "apiKey.expireTime",
        ),
    ] {
        let answer = hub.admin("POST", KEYS, body.clone()).await;
        assert_eq!((answer.status, answer.violation()), (400, field.to_owned()), "{body}");
    }
    assert_eq!(hub.get(KEYS).await.status, 401);
    assert_eq!(hub.admin("GET", KEYS, Value::Null).await.ok()["apiKeys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_audit_log_is_filtered_paged_and_exported() {
    let hub = Hub::seeded().await;
    for path in ["/api/v1/keywords/housing", "/api/v1/keywords/no-such", "/api/v1/keywords/energy"] {
        hub.admin("DELETE", path, Value::Null).await;
    }
    let list = async |query: &str| {
        let answer = hub.admin("GET", &format!("{AUDIT}?{query}"), Value::Null).await.ok();
        let entries = answer["auditEntries"].as_array().unwrap().clone();
        (entries, answer["nextPageToken"].as_str().unwrap().to_owned())
    };
    let (entries, _) = list("action=keywords.").await;
    let resources: Vec<_> = entries.iter().map(|entry| entry["resource"].as_str().unwrap()).collect();
    assert_eq!(resources, ["keywords/energy", "keywords/housing"]);
    let (refused, _) = list("outcome=NOT_FOUND").await;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["action"], "KeywordService/DeleteKeyword");
    assert_eq!(list("createdAfter=2999-01-01T00:00:00Z").await.0.len(), 0);
    assert_eq!(list("actor=key:999").await.0.len(), 0);

    let (first, token) = list("action=keywords.&pageSize=1").await;
    let (second, end) = list(&format!("action=keywords.&pageSize=1&pageToken={token}")).await;
    assert_eq!((&first[0], &second[0], end.as_str()), (&entries[0], &entries[1], ""));

    let export = async |query: &str| {
        let path = format!("{AUDIT}:export?action=keywords.{query}");
        hub.admin("GET", &path, Value::Null).await
    };
    for format in ["", "&format=EXPORT_FORMAT_JSON_LINES"] {
        let lines = export(format).await;
        assert_eq!(lines.headers["content-type"], "application/x-ndjson");
        let lines: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, entries, "a line is an entry as the list has it");
    }
    let nothing = export("nothing").await;
    assert_eq!((nothing.status, nothing.text.as_str()), (200, ""));
    assert_eq!(nothing.headers["content-type"], "application/x-ndjson");
    assert_eq!(export("&format=77").await.violation(), "format");
    let csv = export("&format=EXPORT_FORMAT_CSV").await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let lines: Vec<&str> = csv.text.lines().collect();
    assert_eq!(lines[0], "name,create_time,actor,action,resource,client,outcome,request_id");
    assert_eq!(lines.len(), 3, "{}", csv.text);
    assert!(lines[1].contains("keywords.delete,keywords/energy,127.0.0.1,ok"), "{}", lines[1]);
    // Looking at the log is a call to administration too.
    assert_eq!(list("action=AdminService/ExportAuditEntries").await.0.len(), 5);
}

#[tokio::test]
async fn the_audit_log_is_append_only_for_its_owner_too() {
    let hub = Hub::seeded().await;
    hub.admin("DELETE", "/api/v1/keywords/housing", Value::Null).await.ok();
    for change in ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log", "TRUNCATE audit_log"] {
        let error = sqlx::query(change).execute(&hub.db).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{change}: {error}");
    }
    let actors: Vec<String> =
        sqlx::query_scalar("SELECT actor FROM audit_log").fetch_all(&hub.db).await.unwrap();
    assert_eq!(actors.len(), 1);
    assert_ne!(actors[0], "nobody");
}
