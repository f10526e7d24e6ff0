//! Backups over the API, made by a worker.

use euhub::proto::backup_service_client::BackupServiceClient;
use euhub::proto::{BackupOperationState, BackupState, WatchBackupRequest};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::hub::Hub;
use crate::jobs::Worker;
use crate::keywords::number;
use crate::program::{PATIENCE, wait_for};

const BACKUPS: &str = "/api/v1/backups";

/// Asks for a backup; its name.
async fn ask(hub: &Hub) -> String {
    let asked = hub.admin("POST", BACKUPS, json!({})).await.ok();
    assert_eq!(asked["state"], "BACKUP_STATE_CREATING");
    asked["name"].as_str().unwrap().to_owned()
}

/// The backup, once nothing more is being done with it.
async fn ended(hub: &Hub, name: &str, kind: &str) -> Value {
    let kind = format!("BACKUP_OPERATION_KIND_{kind}");
    wait_for("the end of the work on a backup", async || {
        let operation = &shown(hub, name).await["operation"];
        operation["kind"] == kind.as_str() && !operation["endTime"].is_null()
    })
    .await;
    shown(hub, name).await
}

async fn shown(hub: &Hub, name: &str) -> Value {
    hub.admin("GET", &format!("/api/v1/{name}"), Value::Null).await.ok()
}

#[tokio::test]
async fn a_backup_is_made_restored_and_compared_and_its_watcher_sees_it() {
    let hub = Hub::seeded().await;
    let name = ask(&hub).await;
    let again = hub.admin("POST", BACKUPS, json!({})).await;
    again.error(409, "ALREADY_EXISTS");
    assert!(again.text.contains(&name), "it names the one that is being made: {}", again.text);

    let mut client = BackupServiceClient::new(hub.channel().await);
    let mut request = Request::new(WatchBackupRequest { name: name.clone() });
    let key: MetadataValue<_> = format!("Bearer {}", hub.admin_key).parse().unwrap();
    request.metadata_mut().insert("authorization", key);
    let mut watch = client.watch_backup(request).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap().backup.unwrap();
    assert_eq!(first.state(), BackupState::Creating);
    assert_eq!(first.operation.unwrap().state(), BackupOperationState::Queued);

    let worker = Worker::start(&hub).await;
    let mut last = None;
    while let Some(message) = timeout(PATIENCE, watch.message()).await.unwrap().unwrap() {
        last = message.backup;
    }
    let last = last.unwrap();
    let operation = last.operation.unwrap();
    assert_eq!(operation.state(), BackupOperationState::Succeeded, "{}", operation.error);

    let backup = ended(&hub, &name, "VERIFY").await;
    assert_eq!(backup["state"], "BACKUP_STATE_VERIFIED");
    assert_eq!(backup["sha256"].as_str().unwrap().len(), 64);
    assert!(backup["actor"].as_str().unwrap().starts_with("key:"));
    let articles =
        backup["tables"].as_array().unwrap().iter().find(|table| table["name"] == "public.articles");
    let stored = number(&hub, "SELECT count(*) FROM articles").await;
    assert_eq!(articles.unwrap()["rowCount"], stored.to_string());

    let into = format!("restored_{}", &name[name.len() - 6..]);
    let asked = hub.admin("POST", &format!("/api/v1/{name}:restore"), json!({ "database": into })).await.ok();
    assert_eq!(asked["operation"]["database"], into.as_str());
    let restored = ended(&hub, &name, "RESTORE").await;
    assert_eq!(restored["operation"]["state"], "BACKUP_OPERATION_STATE_SUCCEEDED", "{restored}");
    let url = hub.database_url.replace(&database(&hub).await, &into);
    let mut copy = PgConnection::connect(&url).await.unwrap();
    let copied: i64 = sqlx::query_scalar("SELECT count(*) FROM articles").fetch_one(&mut copy).await.unwrap();
    assert_eq!(copied, stored);
    copy.close().await.unwrap();

    hub.admin("POST", &format!("/api/v1/{name}:restore"), json!({ "database": into })).await.ok();
    wait_for("a refusal", async || {
        !shown(&hub, &name).await["operation"]["error"].as_str().unwrap().is_empty()
    })
    .await;
    let refused = ended(&hub, &name, "RESTORE").await;
    assert_eq!(refused["operation"]["state"], "BACKUP_OPERATION_STATE_FAILED");
    assert!(refused["operation"]["error"].as_str().unwrap().contains("exists already"), "{refused}");
    worker.stop().await;

    for (action, n) in [("backups.create", 1), ("backups.restore", 2), ("backups.verify", 0)] {
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM audit_log WHERE action = $1 AND outcome = 'ok'")
                .bind(action)
                .fetch_one(&hub.db)
                .await
                .unwrap();
        assert_eq!(rows, n, "{action}");
    }
}

async fn database(hub: &Hub) -> String {
    sqlx::query_scalar("SELECT current_database()::text").fetch_one(&hub.db).await.unwrap()
}

#[tokio::test]
async fn a_request_id_makes_one_backup_and_the_list_is_paged_newest_first() {
    let hub = Hub::empty().await;
    let body = json!({ "requestId": "nightly-1" });
    let first = hub.admin("POST", BACKUPS, body.clone()).await.ok();
    let second = hub.admin("POST", BACKUPS, body).await.ok();
    assert_eq!(first["name"], second["name"]);
    let worker = Worker::start(&hub).await;
    ended(&hub, first["name"].as_str().unwrap(), "VERIFY").await;
    for _ in 0..2 {
        let name = ask(&hub).await;
        ended(&hub, &name, "VERIFY").await;
    }
    worker.stop().await;
    let waiting = ask(&hub).await;

    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!("{BACKUPS}?pageSize=2&pageToken={token}");
        let page = hub.admin("GET", &path, Value::Null).await.ok();
        for backup in page["backups"].as_array().unwrap() {
            assert_eq!(backup["tables"], json!([]), "lists leave the tables out");
            names.push(backup["name"].as_str().unwrap().to_owned());
        }
        token = page["nextPageToken"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), 4);
    assert_eq!(names[0], waiting, "what is only asked for is shown too");
    assert!(names.is_sorted_by(|a, b| a > b), "{names:?}");
}

#[tokio::test]
async fn a_broken_backup_is_found_shown_and_may_be_removed_but_the_verified_stay() {
    let hub = Hub::empty().await;
    let worker = Worker::start(&hub).await;
    let mut names = Vec::new();
    for _ in 0..3 {
        let name = ask(&hub).await;
        ended(&hub, &name, "VERIFY").await;
        names.push(name);
    }
    let delete = async |name: &str| hub.admin("DELETE", &format!("/api/v1/{name}"), Value::Null).await;
    for kept in &names[1..] {
        delete(kept).await.error(400, "FAILED_PRECONDITION");
    }
    delete(&names[0]).await.ok();
    hub.admin("GET", &format!("/api/v1/{}", names[0]), Value::Null).await.error(404, "NOT_FOUND");

    let dump =
        hub.backups.backups.storage().place().to_owned() + "/" + &names[2]["backups/".len()..] + ".dump";
    let mut bytes = std::fs::read(&dump).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&dump, bytes).unwrap();
    let path = format!("/api/v1/{}:verify", names[2]);
    hub.admin("POST", &path, json!({ "depth": "BACKUP_DEPTH_CHECKSUM" })).await.ok();
    wait_for("the discovery", async || shown(&hub, &names[2]).await["state"] == "BACKUP_STATE_BROKEN").await;
    let broken = shown(&hub, &names[2]).await;
    assert!(broken["problem"].as_str().unwrap().contains("another checksum"), "{broken}");
    delete(&names[2]).await.ok();
    worker.stop().await;
}

#[tokio::test]
async fn a_backup_that_cannot_be_made_says_why_and_waits_to_be_tried_again() {
    let hub = Hub::empty().await;
    let name = ask(&hub).await;
    let id = &name["backups/".len()..];
    // A folder where the dump is to go: storage refuses.
    std::fs::create_dir(format!("{}/{id}.dump", hub.backups.backups.storage().place())).unwrap();
    let worker = Worker::start(&hub).await;
    wait_for("a failed try", async || {
        !shown(&hub, &name).await["operation"]["error"].as_str().unwrap().is_empty()
    })
    .await;
    let failed = shown(&hub, &name).await;
    assert!(failed["operation"]["error"].as_str().unwrap().contains("storage failed"), "{failed}");
    std::fs::remove_dir(format!("{}/{id}.dump", hub.backups.backups.storage().place())).unwrap();
    let made = ended(&hub, &name, "VERIFY").await;
    assert_eq!(made["state"], "BACKUP_STATE_VERIFIED", "the next try made it: {made}");
    worker.stop().await;
}

#[tokio::test]
async fn odd_names_and_keys_without_the_scope_are_refused() {
    let hub = Hub::empty().await;
    for odd in ["x", "latest", "..", "20261124T010000Z-1A2B3C", "%2e%2e%2fetc"] {
        hub.admin("GET", &format!("{BACKUPS}/{odd}"), Value::Null).await.error(404, "NOT_FOUND");
        hub.admin("DELETE", &format!("{BACKUPS}/{odd}"), Value::Null).await.error(404, "NOT_FOUND");
    }
    let missing = format!("{BACKUPS}/20261124T010000Z-1a2b3c");
    for verb in ["verify", "restore"] {
        hub.admin("POST", &format!("{missing}:{verb}"), json!({})).await.error(404, "NOT_FOUND");
    }
    let bad = hub.admin("POST", &format!("{missing}:restore"), json!({ "database": "a\"; DROP" })).await;
    bad.error(400, "INVALID_ARGUMENT");
    hub.get(BACKUPS).await.error(401, "UNAUTHENTICATED");
    let body = json!({ "displayName": "only admin", "scopes": ["admin"] });
    let key = hub.admin("POST", "/api/v1/admin/apiKeys", body).await.ok();
    let request = hub.request("GET", BACKUPS).bearer_auth(key["secret"].as_str().unwrap());
    crate::hub::send(request).await.error(403, "PERMISSION_DENIED");
}

#[tokio::test]
async fn the_nightly_jobs_make_a_backup_and_prune() {
    let hub = Hub::empty().await;
    let worker = Worker::start(&hub).await;
    for job in ["create-backup", "prune-backups"] {
        hub.admin("POST", &format!("/api/v1/admin/jobs/{job}:run"), json!({})).await.ok();
        let task = job.replace('-', "_");
        wait_for(job, async || {
            let ran: Option<String> = sqlx::query_scalar("SELECT error FROM job_status WHERE task = $1")
                .bind(&task)
                .fetch_optional(&hub.db)
                .await
                .unwrap();
            ran.as_deref() == Some("")
        })
        .await;
    }
    worker.stop().await;
    let page = hub.admin("GET", BACKUPS, Value::Null).await.ok();
    assert_eq!(page["backups"][0]["state"], "BACKUP_STATE_VERIFIED");
    assert_eq!(page["backups"][0]["actor"], "schedule");
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM backup_runs WHERE state <> 'succeeded'")
        .fetch_one(&hub.db)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
