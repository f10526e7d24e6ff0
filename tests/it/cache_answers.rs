//! Cached answers of whole cores on one database: never from before a write.

use euhub::proto::admin_service_client::AdminServiceClient;
use euhub::proto::keyword_service_client::KeywordServiceClient;
use euhub::proto::{GetCacheStatsRequest, GetKeywordRequest, InvalidateCacheRequest};
use serde_json::{Value, json};

use crate::cache::RedisServer;
use crate::hub::Hub;
use crate::program::wait_for;

const ENERGY: &str = "/api/v1/keywords/energy";
const CACHE: &str = "/api/v1/admin/cache";

/// Renames a keyword through this core.
pub async fn rename(hub: &Hub, name: &str) {
    let path = format!("{ENERGY}?updateMask=displayName");
    hub.admin("PATCH", &path, json!({"displayName": name})).await.ok();
}

/// The keyword's name as this core tells it.
pub async fn name_of(hub: &Hub) -> String {
    hub.get(ENERGY).await.ok()["displayName"].as_str().unwrap().to_owned()
}

/// What REST tells of a kind.
pub async fn count(hub: &Hub, kind: &str, what: &str) -> u64 {
    let stats = hub.admin("GET", CACHE, Value::Null).await.ok();
    let kinds = stats["kinds"].as_array().unwrap();
    kinds.iter().find(|stats| stats["kind"] == kind).unwrap()[what].as_u64().unwrap()
}

#[tokio::test]
async fn two_cores_on_one_redis_never_answer_from_before_a_write() {
    let (ground, server) = (Hub::seeded().await, RedisServer::start().await);
    let (a, b) = (ground.core(Some(&server.url())).await, ground.core(Some(&server.url())).await);
    let mut grpc = KeywordServiceClient::new(b.channel().await);
    for round in 0..40 {
        let name = format!("Energy {round}");
        let (writer, reader) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        rename(writer, &name).await;
        assert_eq!(name_of(reader).await, name);
        assert_eq!(name_of(writer).await, name);
        let request = GetKeywordRequest { name: "keywords/energy".into() };
        assert_eq!(grpc.get_keyword(request).await.unwrap().into_inner().display_name, name);
        let listed = reader.get("/api/v1/keywords?query=energy").await.ok();
        assert_eq!(listed["keywords"][0]["displayName"], name);
    }
    wait_for("a hit", async || {
        name_of(&a).await;
        count(&a, "keywords", "hits").await > 0
    })
    .await;
}

#[tokio::test]
async fn a_write_is_read_at_once_where_it_was_made_and_soon_by_others_without_redis() {
    let ground = Hub::seeded().await;
    let (a, b) = (ground.core(None).await, ground.core(None).await);
    for round in 0..20 {
        let name = format!("Energy {round}");
        name_of(&b).await;
        rename(&a, &name).await;
        assert_eq!(name_of(&a).await, name);
        wait_for("the other core's answer", async || name_of(&b).await == name).await;
        assert_eq!(name_of(&b).await, name, "and it stays");
    }
}

#[tokio::test]
async fn what_any_process_writes_ends_every_answer_made_from_it() {
    let ground = Hub::seeded().await;
    let core = ground.core(None).await;
    let article = "/api/v1/articles?keyword=energy&pageSize=1";
    let first = core.get(article).await.ok()["articles"][0].clone();
    let article_path = format!("/api/v1/{}", first["name"].as_str().unwrap());
    let source = first["source"].as_str().unwrap().trim_start_matches("sources/").to_owned();
    let paths = [
        article.to_owned(),
        article_path,
        format!("{ENERGY}/articles?pageSize=100"),
        format!("/api/v1/search:autocomplete?query={}", crate::hub::encode("Renamed")),
    ];
    for path in &paths {
        core.get(path).await.ok();
    }
    sqlx::query("UPDATE sources SET display_name = 'Renamed Times' WHERE slug = $1")
        .bind(source)
        .execute(&ground.db)
        .await
        .unwrap();
    for path in &paths {
        wait_for(path, async || core.get(path).await.ok().to_string().contains("Renamed Times")).await;
    }

    let paths = [format!("{ENERGY}/sentiment"), format!("{ENERGY}/sentiment/timeline?days=60")];
    for path in &paths {
        core.get(path).await.ok();
    }
    sqlx::query("UPDATE keyword_daily SET n = n + 1000").execute(&ground.db).await.unwrap();
    for path in &paths {
        let fresh = ground.get(path).await.ok();
        wait_for(path, async || core.get(path).await.ok() == fresh).await;
    }
}

#[tokio::test]
async fn a_write_while_redis_is_away_is_read_then_and_after_it_is_back() {
    let (ground, mut server) = (Hub::seeded().await, RedisServer::start().await);
    let (a, b) = (ground.core(Some(&server.url())).await, ground.core(Some(&server.url())).await);
    rename(&a, "Before").await;
    assert_eq!((name_of(&a).await, name_of(&b).await), ("Before".into(), "Before".into()));
    // What Redis held comes back with it.
    server.save().await;
    server.down().await;
    rename(&a, "Meanwhile").await;
    assert_eq!((name_of(&a).await, name_of(&b).await), ("Meanwhile".into(), "Meanwhile".into()));
    server.up().await;
    for core in [&a, &b] {
        let hits = count(core, "keywords", "hits").await;
        wait_for("hits after Redis is back", async || {
            assert_eq!(name_of(core).await, "Meanwhile");
            count(core, "keywords", "hits").await > hits
        })
        .await;
    }
}

#[tokio::test]
async fn a_cache_that_never_listened_is_passed_by() {
    // The usual core of the tests listens to nothing.
    let ground = Hub::seeded().await;
    rename(&ground, "Ground").await;
    assert_eq!(name_of(&ground).await, "Ground");
    assert_eq!(count(&ground, "keywords", "bypassed").await, 1);
    assert_eq!(ground.admin("GET", CACHE, Value::Null).await.ok()["listening"], false);
}

#[tokio::test]
async fn administrators_see_the_hit_ratio_and_end_answers_everywhere() {
    let ground = Hub::seeded().await;
    let (a, b) = (ground.core(None).await, ground.core(None).await);
    for core in [&a, &b] {
        for _ in 0..4 {
            name_of(core).await;
        }
    }
    let stats = a.admin("GET", CACHE, Value::Null).await.ok();
    assert_eq!((&stats["store"], &stats["listening"]), (&json!("memory"), &json!(true)));
    let kind = &stats["kinds"][0];
    assert_eq!((&kind["kind"], &kind["hits"], &kind["misses"]), (&json!("keywords"), &json!(3), &json!(1)));
    assert_eq!(kind["hitRatio"], 0.75);

    let ended = a.admin("POST", &format!("{CACHE}:invalidate"), json!({"kinds": ["keywords"]})).await.ok();
    assert_eq!(ended["kinds"], json!(["keywords"]));
    name_of(&a).await;
    assert_eq!(count(&a, "keywords", "misses").await, 2);
    wait_for("the end in the other core", async || {
        name_of(&b).await;
        count(&b, "keywords", "misses").await == 2
    })
    .await;
    let log = a.admin("GET", "/api/v1/admin/audit?action=cache.invalidate", Value::Null).await.ok();
    assert_eq!(log["auditEntries"][0]["resource"], "keywords");

    let unknown = a.admin("POST", &format!("{CACHE}:invalidate"), json!({"kinds": ["all"]})).await;
    assert_eq!(unknown.violation(), "kinds[0]");
    assert_eq!(a.get(CACHE).await.status, 401);

    let mut grpc = AdminServiceClient::new(a.channel().await);
    let status = grpc.get_cache_stats(GetCacheStatsRequest {}).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    let mut request = tonic::Request::new(InvalidateCacheRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {}", a.admin_key).parse().unwrap());
    assert_eq!(grpc.invalidate_cache(request).await.unwrap().into_inner().kinds.len(), 5);
    let mut request = tonic::Request::new(GetCacheStatsRequest {});
    request.metadata_mut().insert("authorization", format!("Bearer {}", a.admin_key).parse().unwrap());
    let stats = grpc.get_cache_stats(request).await.unwrap().into_inner();
    assert!(stats.kinds.iter().all(|kind| kind.invalidations > 0), "{stats:?}");
}

#[tokio::test]
async fn a_kept_answer_is_the_same_over_grpc_and_rest_and_an_error_is_not_kept() {
    let ground = Hub::seeded().await;
    let core = ground.core(None).await;
    for path in [ENERGY, "/api/v1/keywords?pageSize=5&showTotal=true", "/api/v1/articles?pageSize=5"] {
        let fresh = core.get(path).await;
        assert_eq!(core.get(path).await.text, fresh.text, "{path}");
        assert_eq!(ground.get(path).await.text, fresh.text, "{path}, from the database");
    }
    assert_eq!((count(&core, "keywords", "hits").await, count(&core, "articles", "hits").await), (2, 1));
    let mut grpc = KeywordServiceClient::new(core.channel().await);
    let request = || GetKeywordRequest { name: "keywords/energy".into() };
    let kept = grpc.get_keyword(request()).await.unwrap().into_inner();
    assert_eq!(
        kept,
        KeywordServiceClient::new(ground.channel().await).get_keyword(request()).await.unwrap().into_inner()
    );
    assert_eq!(count(&core, "keywords", "hits").await, 3, "REST and gRPC share it");

    for (path, status) in [("/api/v1/keywords/no-such", 404), ("/api/v1/keywords?orderBy=colour", 400)] {
        let misses = count(&core, "keywords", "misses").await;
        for _ in 0..2 {
            let answer = core.get(path).await;
            assert_eq!((answer.status, &answer.text), (status, &ground.get(path).await.text), "{path}");
        }
        assert_eq!(count(&core, "keywords", "misses").await, misses + 2, "{path}");
    }
    let long = GetKeywordRequest { name: "k".repeat(65 * 1024) };
    let status = grpc.get_keyword(long).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
}
