//! The cache, in this process and in a real Redis that comes and goes.

use std::process::Stdio;
use std::time::Duration;

use bb8_redis::redis::cmd;
use bytes::Bytes;
use euhub::articles::filter::Filter;
use euhub::cache::Cache;
use euhub::redis::{Connection, Redis};
use euhub::search::service::Search;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::embedded::scratch;
use crate::hub::{Hub, embedder};
use crate::program::{free_address, wait_for};

/// How long a call may take when Redis is away: the cache's own limit is a tenth of a second.
const BOUND: Duration = Duration::from_secs(2);

pub struct RedisServer {
    folder: TempDir,
    address: std::net::SocketAddr,
    child: Option<Child>,
}

impl RedisServer {
    pub async fn start() -> Self {
        let mut redis = Self { folder: scratch(), address: free_address(), child: None };
        redis.up().await;
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub async fn up(&mut self) {
        let port = self.address.port().to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        wait_for("Redis", async || TcpStream::connect(self.address).await.is_ok()).await;
    }

    pub async fn down(&mut self) {
        self.child.take().expect("it is up").kill().await.expect("own process");
    }
}

fn redis_cache(url: &str) -> Cache {
    Cache::Redis(Redis::open(url).unwrap())
}

async fn keeps_values(cache: &Cache) {
    assert_eq!(cache.get("key").await, None);
    cache.put("key".into(), Bytes::from_static(b"value\0\xff")).await;
    assert_eq!(cache.get("key").await, Some(Bytes::from_static(b"value\0\xff")));
    cache.put("key".into(), Bytes::new()).await;
    assert_eq!(cache.get("key").await, Some(Bytes::new()));
    assert_eq!(cache.get("other").await, None);
}

#[tokio::test]
async fn memory_and_redis_keep_values_alike() {
    let memory = Cache::memory();
    assert_eq!(memory.kind(), "memory");
    keeps_values(&memory).await;

    let server = RedisServer::start().await;
    let redis = redis_cache(&server.url());
    assert_eq!(redis.kind(), "redis");
    keeps_values(&redis).await;
    let other = redis_cache(&server.url());
    assert_eq!(other.get("key").await, Some(Bytes::new()), "processes share it");
}

#[tokio::test]
async fn redis_away_is_a_miss_and_back_is_a_cache() {
    let mut server = RedisServer::start().await;
    let cache = redis_cache(&server.url());
    cache.put("key".into(), Bytes::from_static(b"value")).await;
    assert!(cache.get("key").await.is_some());

    server.down().await;
    for _ in 0..20 {
        assert_eq!(timeout(BOUND, cache.get("key")).await.expect("a miss in time"), None);
        timeout(BOUND, cache.put("key".into(), Bytes::from_static(b"lost"))).await.expect("an end in time");
    }

    server.up().await;
    wait_for("a cache that works again", async || {
        cache.put("key".into(), Bytes::from_static(b"again")).await;
        cache.get("key").await.as_deref() == Some(b"again")
    })
    .await;
    // Every connection has recovered, not the first alone.
    let reads = (0..40).map(|_| async { cache.get("key").await.is_some() });
    assert!(futures_util::future::join_all(reads).await.into_iter().all(|hit| hit));
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_a_miss() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cache = redis_cache(&format!("redis://{}", listener.local_addr().unwrap()));
    for _ in 0..10 {
        assert_eq!(timeout(BOUND, cache.get("key")).await.expect("a miss in time"), None);
    }
}

#[tokio::test]
async fn search_works_whatever_the_cache_does() {
    let hub = Hub::seeded().await;
    let mut server = RedisServer::start().await;
    let cache = redis_cache(&server.url());
    let search = Search { db: hub.db.clone(), cache, embedder: Some(embedder()) };
    let found = async |query: &str| -> Vec<i64> {
        let hits = search.semantic(query, &Filter::default()).await.unwrap();
        hits.into_iter().take(10).map(|ranked| ranked.hit.id).collect()
    };
    let with_redis = found("rising power bills").await;
    assert_eq!(with_redis.len(), 10);
    assert_eq!(found("rising power bills").await, with_redis, "from the cache");
    server.down().await;
    assert_eq!(timeout(PATIENT, found("rising power bills")).await.expect("in time"), with_redis);
    server.up().await;
    wait_for("a cached vector", async || {
        found("rising power bills").await == with_redis && cached(&search.cache).await
    })
    .await;
}

/// A search away from Redis embeds its query, which takes a moment in an unoptimised build.
const PATIENT: Duration = Duration::from_secs(20);

/// Whether Redis holds any query vector.
async fn cached(cache: &Cache) -> bool {
    let Cache::Redis(redis) = cache else { panic!("not Redis") };
    let size =
        async |mut connection: Connection<'_>| cmd("DBSIZE").query_async::<i64>(&mut *connection).await;
    redis.run(size).await.is_some_and(|keys| keys > 0)
}

#[tokio::test]
async fn a_process_serves_with_a_redis_that_is_not_there() {
    use crate::program::{Running, euhub_on, get, serving};

    let (hub, folder) = (Hub::seeded().await, scratch());
    let (grpc, rest, redis) = (free_address(), free_address(), free_address());
    let mut command = euhub_on(&hub, folder.path());
    command.args(["standalone", "--grpc-addr", &grpc.to_string(), "--edge-addr", &rest.to_string()]);
    command.env("REDIS_URL", format!("redis://:hunter2@{redis}"));
    let mut process = Running::start(command, folder.path());
    serving(rest, &mut process).await;
    assert_eq!(get(rest, "/api/v1/articles:search?query=energy").await.status, 200);
    assert_eq!(get(rest, "/api/v1/status").await.ok()["cache"], "redis");
    assert!(!process.log().contains("hunter2"));
    process.stop().await;
}

#[test]
fn an_invalid_address_is_refused_without_showing_it() {
    for url in ["", "http://:hunter2@cache.example", "redis://:hunter2@"] {
        let error = Redis::open(url).map(|_| ()).expect_err(url);
        assert!(error.contains("REDIS_URL") && !error.contains("hunter2"), "{error}");
    }
}
