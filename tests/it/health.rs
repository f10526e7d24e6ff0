//! Health from real state: the process outlives its database, says so, and recovers.

use std::os::unix::fs::symlink;
use std::path::Path;

use euhub::clock::Clock;
use euhub::database;
use euhub::embedded::EmbeddedPostgres;
use euhub::llm::{Llm, LlmProvider, LlmSettings};
use euhub::operations::health::LIVENESS;
use euhub::proto::ListKeywordsRequest;
use euhub::proto::keyword_service_client::KeywordServiceClient;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus::{self, NotServing, Serving};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_types::StatusExt;

use crate::cache::RedisServer;
use crate::embedded::{config, scratch};
use crate::hub::Hub;
use crate::llm::model::{Act, Model};
use crate::logs::Program;
use crate::program::{PATIENCE, Running, channel, euhub, free_address, get, grpc_serving, serving, wait_for};

/// Makes the server's socket reachable under a name that stays when the server's port changes.
fn link(folder: &Path, server: &EmbeddedPostgres) -> String {
    let options: PgConnectOptions = server.url().parse().unwrap();
    let socket = options.get_socket().unwrap().join(format!(".s.PGSQL.{}", options.get_port()));
    let name = folder.join(".s.PGSQL.5432");
    if name.is_symlink() {
        std::fs::remove_file(&name).unwrap();
    }
    symlink(socket, name).unwrap();
    format!("postgres:///euhub?host={}&port=5432&user=euhub", folder.display())
}

async fn check(channel: &Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.into() };
    HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner().status()
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    let answer = timeout(PATIENCE, watch.message()).await.expect("a change").unwrap();
    answer.expect("no end").status()
}

#[tokio::test]
async fn health_follows_the_database() {
    let folder = scratch();
    let data = folder.path().join("data");
    let mut postgres = EmbeddedPostgres::start(config(&data)).await.unwrap();
    let db = database::pool(&postgres.url(), 2).unwrap();
    database::migrate(&db).await.unwrap();
    db.close().await;

    let (grpc, rest) = (free_address(), free_address());
    let mut command = euhub(folder.path());
    command.args(["standalone", "--grpc-addr", &grpc.to_string(), "--edge-addr", &rest.to_string()]);
    command.env("DATABASE_URL", link(folder.path(), &postgres));
    let mut process = Running::start(command, folder.path());
    serving(rest, &mut process).await;

    let channel = channel(grpc).await;
    let services: Vec<&str> = euhub::server::SERVICES.into_iter().chain([""]).collect();
    let mut watches = Vec::new();
    for service in &services {
        wait_for(service, async || check(&channel, service).await == Serving).await;
        let request = HealthCheckRequest { service: (*service).into() };
        let mut watch = HealthClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
        assert_eq!(next(&mut watch).await, Serving, "{service}");
        watches.push(watch);
    }

    for outage in 0..2 {
        postgres.stop().await.unwrap();
        for watch in &mut watches {
            assert_eq!(next(watch).await, NotServing, "outage {outage}");
        }
        assert!(process.is_running(), "the process lives: {}", process.log());
        for service in &services {
            assert_eq!(check(&channel, service).await, NotServing, "{service}, outage {outage}");
        }
        wait_for("an unhealthy edge", async || get(rest, "/health").await.status == 503).await;
        let answer = get(rest, "/health").await;
        assert_eq!(answer.json()["error"]["status"], "UNAVAILABLE");

        let health = get(rest, "/api/health/detailed").await.ok();
        assert_eq!(health["status"], "HEALTH_STATUS_DOWN", "{health}");
        assert_eq!(health["database"]["dependency"]["status"], "HEALTH_STATUS_DOWN", "{health}");
        let class = health["database"]["dependency"]["lastError"].as_str().unwrap();
        assert!(["unreachable", "timeout", "refused"].contains(&class), "{health}");
        assert_eq!(health["database"]["version"], "");
        assert_eq!(
            check(&channel, LIVENESS).await,
            Serving,
            "restarting the process would not help its database"
        );

        let status = list_keywords(&channel).await.expect_err("no database, no answer");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.get_details_retry_info().is_some(), "{status}");
        let answer = get(rest, "/api/v1/keywords").await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.headers["retry-after"], "1");
        for inside in ["postgres", "sqlx", "socket", folder.path().to_str().unwrap()] {
            let (text, inside) = (answer.text.to_lowercase(), inside.to_lowercase());
            assert!(!text.contains(&inside), "`{inside}` is of the inside: {text}");
        }
        assert_eq!(get(rest, "/api/v1/status").await.status, 200, "needs no database");

        postgres = EmbeddedPostgres::start(config(&data)).await.unwrap();
        link(folder.path(), &postgres);
        for (service, watch) in services.iter().zip(&mut watches) {
            assert_eq!(next(watch).await, Serving, "{service}, outage {outage}");
            assert_eq!(check(&channel, service).await, Serving, "{service}, outage {outage}");
        }
        serving(rest, &mut process).await;
        list_keywords(&channel).await.expect("an answer");
        assert_eq!(get(rest, "/api/v1/keywords").await.status, 200);
        wait_for("a database that is up in detail", async || {
            let health = get(rest, "/api/health/detailed").await.ok();
            health["database"]["dependency"]["status"] == "HEALTH_STATUS_UP"
        })
        .await;
    }
    drop(watches);
    process.stop().await;
    postgres.stop().await.unwrap();
}

async fn list_keywords(channel: &Channel) -> Result<(), tonic::Status> {
    let mut client = KeywordServiceClient::new(channel.clone());
    client.list_keywords(ListKeywordsRequest::default()).await.map(|_| ())
}

#[tokio::test]
async fn a_watch_of_articles_outlives_a_lost_database_or_says_that_it_ended() {
    use euhub::proto::WatchArticlesRequest;
    use euhub::proto::article_service_client::ArticleServiceClient;

    let folder = scratch();
    let data = folder.path().join("data");
    let postgres = EmbeddedPostgres::start(config(&data)).await.unwrap();
    let db = database::pool(&postgres.url(), 2).unwrap();
    database::migrate(&db).await.unwrap();
    db.close().await;
    let grpc = free_address();
    let mut command = euhub(folder.path());
    command.args(["serve", "--grpc-addr", &grpc.to_string()]);
    command.env("DATABASE_URL", link(folder.path(), &postgres));
    let mut process = Running::start(command, folder.path());
    grpc_serving(grpc, &mut process, folder.path()).await;
    let mut client = ArticleServiceClient::new(channel(grpc).await);
    let mut watch = client.watch_articles(WatchArticlesRequest::default()).await.unwrap().into_inner();
    postgres.stop().await.unwrap();
    let status = timeout(PATIENCE, watch.message()).await.expect("an end").expect_err("a status");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.get_details_retry_info().is_some(), "{status}");
    process.stop().await;
}

#[tokio::test]
async fn detailed_health_tells_how_each_dependency_is() {
    let hub = Hub::seeded().await;
    let answer = hub.get("/api/health/detailed").await;
    let health = answer.ok();
    assert_eq!(health["status"], "HEALTH_STATUS_UP", "{health}");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["uptime"].as_str().unwrap().ends_with('s'), "{health}");
    let database = &health["database"];
    let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&hub.db).await.unwrap();
    assert!(version.starts_with(database["version"].as_str().unwrap()), "{version}: {database}");
    assert_ne!(database["version"], "");
    assert_eq!((database["role"].as_str(), database["connectionsMax"].as_u64()), (Some("primary"), Some(10)));
    assert_eq!(database["dependency"]["lastError"], "");
    assert!(database["dependency"]["latencyMs"].as_f64().unwrap() > 0.0, "{database}");
    assert_eq!(health["jobQueue"]["status"], "HEALTH_STATUS_UP");
    let waiting = "SELECT count(*) FROM graphile_worker.jobs";
    let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&hub.db).await.unwrap();
    assert_eq!(health["jobQueue"]["waitingCount"], waiting, "no worker takes any");
    assert_ne!(health["jobQueue"]["oldestAge"], "0s");
    assert_eq!(health["ingest"]["failingFeedCount"], 0);
    assert!(health["ingest"]["feedCount"].as_u64().unwrap() > 0, "{health}");
    assert_eq!(health["backup"]["status"], "HEALTH_STATUS_UNSPECIFIED", "there is none yet: {health}");
    assert_eq!(health["model"]["name"], "all-MiniLM-L6-v2");
    assert!(health["redis"].is_null() && health["llm"].is_null(), "neither is set up: {health}");
    for inside in ["socket", "password", "postgres:", hub.db.connect_options().get_host()] {
        assert!(!answer.text.contains(inside), "{inside}: {}", answer.text);
    }
}

#[tokio::test]
async fn detailed_health_tells_of_backups_that_are_too_old() {
    for (hours, status) in [(25, "HEALTH_STATUS_UP"), (27, "HEALTH_STATUS_DEGRADED")] {
        let hub = Hub::empty().await;
        sqlx::query(
            "INSERT INTO backup_runs (operation, backup, argument, actor, state, create_time, update_time, end_time)
             SELECT operation, '20261124T010000Z-1a2b3c', argument, 'schedule', 'succeeded', time, time, time
             FROM (VALUES ('create', ''), ('verify', 'full')) AS run (operation, argument),
                 (SELECT now() - make_interval(hours => $1) AS time) AS ago",
        )
        .bind(hours)
        .execute(&hub.db)
        .await
        .unwrap();
        let health = hub.get("/api/health/detailed").await.ok();
        assert_eq!(
            (&health["status"], &health["backup"]["status"]),
            (&status.into(), &status.into()),
            "{health}"
        );
        assert!(health["backup"]["lastVerifyTime"].is_string(), "{health}");
    }
}

#[tokio::test]
async fn detailed_health_follows_redis() {
    let hub = Hub::empty().await;
    let mut redis = RedisServer::start().await;
    let program = Program::start(&hub, &[("REDIS_URL", &redis.url())]).await;
    let told = async |status: &str| {
        let mut health = Value::Null;
        wait_for(status, async || {
            health = get(program.rest, "/api/health/detailed").await.ok();
            health["redis"]["status"] == status
        })
        .await;
        health
    };
    let health = told("HEALTH_STATUS_UP").await;
    assert_eq!(health["redis"]["lastError"], "", "{health}");
    assert!(health["redis"]["latencyMs"].as_f64().unwrap() > 0.0, "{health}");

    redis.down().await;
    let health = told("HEALTH_STATUS_DOWN").await;
    assert_eq!(health["status"], "HEALTH_STATUS_DEGRADED", "a slow day, no outage: {health}");
    let class = health["redis"]["lastError"].as_str().unwrap().to_owned();
    assert!(["unreachable", "timeout", "error"].contains(&class.as_str()), "{health}");
    assert!(!health.to_string().contains(redis.url().trim_start_matches("redis://")), "{health}");
    assert_eq!(get(program.rest, "/health").await.status, 200, "it serves without a cache");

    redis.up().await;
    let health = told("HEALTH_STATUS_UP").await;
    assert_eq!(
        (&health["redis"]["lastError"], &health["status"]),
        (&class.into(), &"HEALTH_STATUS_UP".into())
    );
    program.process.stop().await;
}

#[tokio::test]
async fn detailed_health_follows_the_breaker_of_the_language_model() {
    let model = Model::start(LlmProvider::OpenAi, [Act::Status(500, None)]).await;
    let settings = LlmSettings { breaker_failures: 1, ..model.settings() };
    let llm = Llm::new(settings, Clock::system()).unwrap();
    let hub = Hub::with_llm(llm.clone()).await;
    let health = hub.get("/api/health/detailed").await.ok();
    assert_eq!(
        (&health["llm"]["status"], &health["llm"]["name"]),
        (&"HEALTH_STATUS_UP".into(), &"tone-1".into())
    );
    llm.sentiment("Krise", "").await.expect_err("the server fails");
    wait_for("an open breaker", async || {
        let health = hub.get("/api/health/detailed").await.ok();
        health["llm"]["status"] == "HEALTH_STATUS_DOWN" && health["status"] == "HEALTH_STATUS_DEGRADED"
    })
    .await;
}

#[tokio::test]
async fn a_private_hub_tells_details_to_administrators_alone() {
    let hub = Hub::private().await;
    let told = hub.get("/api/health/detailed").await.ok();
    assert_eq!(told["status"], "HEALTH_STATUS_UP");
    assert!(told["database"].is_null() && told["version"] == "" && told["uptime"].is_null(), "{told}");
    let told = hub.admin("GET", "/api/health/detailed", serde_json::Value::Null).await.ok();
    assert_eq!(told["database"]["role"], "primary", "{told}");
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_log").fetch_one(&hub.db).await.unwrap();
    assert_eq!(rows, 0, "probes leave nothing in the audit log");
}

#[tokio::test]
async fn an_unknown_service_is_not_found() {
    let hub = Hub::empty().await;
    let channel = hub.channel().await;
    let request = || HealthCheckRequest { service: "euhub.v1.NoSuchService".into() };
    let status = HealthClient::new(channel.clone()).check(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}
