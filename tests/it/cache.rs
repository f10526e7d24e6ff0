//! The cache, in this process and in a real Redis that comes and goes.

use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bb8_redis::redis::AsyncCommands;
use euhub::articles::filter::Filter;
use euhub::cache::{Cache, Class, Kind, Lifetimes};
use euhub::error::{Error, Result};
use euhub::redis::Redis;
use euhub::search::service::Search;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::embedded::scratch;
use crate::hub::{Hub, cache as fresh, embedder};
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

    /// Writes what it holds to its folder, from where it begins when it is up again.
    pub async fn save(&self) {
        let client = bb8_redis::redis::Client::open(self.url()).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        let () = bb8_redis::redis::cmd("SAVE").query_async(&mut redis).await.unwrap();
    }

    pub async fn down(&mut self) {
        self.child.take().expect("it is up").kill().await.expect("own process");
    }
}

/// An answer whose first reading is `text`; the second field is whether it was read now.
async fn ask(cache: &Cache, key: &str, text: &str) -> (String, bool) {
    let mut read = false;
    let load = async {
        read = true;
        Ok(text.to_owned())
    };
    let answer =
        cache.answer(Kind::QueryVectors, Class::Entity, "Test", &key.to_owned(), load).await.unwrap();
    (answer, read)
}

async fn keeps_answers(cache: &Cache) {
    assert_eq!(ask(cache, "key", "first").await, ("first".into(), true));
    assert_eq!(ask(cache, "key", "second").await, ("first".into(), false));
    assert_eq!(ask(cache, "other", "").await, (String::new(), true));
    assert_eq!(ask(cache, "other", "x").await, (String::new(), false), "an empty answer is one");
    cache.invalidate(&[Kind::Keywords]).await;
    assert!(!ask(cache, "key", "x").await.1, "another kind ended");
    cache.invalidate(&[Kind::QueryVectors]).await;
    assert_eq!(ask(cache, "key", "third").await, ("third".into(), true));
    assert_eq!(ask(cache, "key", "x").await, ("third".into(), false));
}

#[tokio::test]
async fn memory_and_redis_keep_answers_alike() {
    let memory = fresh(None);
    assert_eq!(memory.store(), "memory");
    keeps_answers(&memory).await;

    let server = RedisServer::start().await;
    let redis = fresh(Some(&server.url()));
    assert_eq!(redis.store(), "redis");
    keeps_answers(&redis).await;
    let other = fresh(Some(&server.url()));
    assert_eq!(ask(&other, "key", "x").await, ("third".into(), false), "processes share it");
}

#[tokio::test]
async fn redis_away_is_a_miss_and_back_is_a_cache() {
    let mut server = RedisServer::start().await;
    let cache = fresh(Some(&server.url()));
    ask(&cache, "key", "kept").await;
    assert!(!ask(&cache, "key", "x").await.1);

    server.down().await;
    for _ in 0..20 {
        let answer = timeout(BOUND, ask(&cache, "key", "read")).await.expect("an answer in time");
        assert_eq!(answer, ("read".into(), true));
    }

    server.up().await;
    wait_for("a cache that works again", async || !ask(&cache, "key", "again").await.1).await;
    // Every connection has recovered, not the first alone.
    let reads = (0..40).map(|_| async { ask(&cache, "key", "x").await == ("again".into(), false) });
    assert!(futures_util::future::join_all(reads).await.into_iter().all(|hit| hit));
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_a_miss() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cache = fresh(Some(&format!("redis://{}", listener.local_addr().unwrap())));
    for _ in 0..10 {
        assert!(timeout(BOUND, ask(&cache, "key", "read")).await.expect("an answer in time").1);
    }
}

#[tokio::test]
async fn damaged_foreign_and_other_versions_values_are_a_miss() {
    let server = RedisServer::start().await;
    let cache = fresh(Some(&server.url()));
    ask(&cache, "key", "kept").await;
    ask(&cache, "other", "another answer").await;
    let client = bb8_redis::redis::Client::open(server.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis.keys("euhub:query_vectors:*").await.unwrap();
    let values: Vec<Vec<u8>> = redis.mget(&keys).await.unwrap();
    let kept = values.iter().position(|value| value.ends_with(b"kept")).unwrap();
    let (key, good, foreign) = (&keys[kept], &values[kept], &values[1 - kept]);
    let mut version = good.clone();
    version[0] += 1;
    let mut body = good.clone();
    *body.last_mut().unwrap() ^= 1;
    let broken =
        [version, body, good[..good.len() - 1].to_vec(), foreign.clone(), Vec::new(), b"text".to_vec()];
    for (number, value) in broken.iter().enumerate() {
        let () = redis.set(key, value).await.unwrap();
        assert_eq!(ask(&cache, "key", "kept").await, ("kept".into(), true), "{value:?}");
        assert!(!ask(&cache, "key", "x").await.1, "kept again");
        assert_eq!(cache.stats()[Kind::QueryVectors as usize].1.corrupt, number as u64 + 1);
    }
    // Values from before Redis lost the generation never fit again.
    let () = redis.del("euhub:gen:query_vectors").await.unwrap();
    assert!(ask(&cache, "key", "kept").await.1);
    let () = redis.del("euhub:gen:query_vectors").await.unwrap();
    cache.invalidate(&[Kind::QueryVectors]).await;
    assert!(ask(&cache, "key", "kept").await.1);
}

#[tokio::test]
async fn a_read_that_began_before_a_change_is_not_kept_for_after_it() {
    let server = RedisServer::start().await;
    for cache in [fresh(None), fresh(Some(&server.url()))] {
        let slow = async {
            // The change comes when the database has been read already.
            cache.invalidate(&[Kind::QueryVectors]).await;
            Ok("before".to_owned())
        };
        let key = "key".to_owned();
        cache.answer(Kind::QueryVectors, Class::Entity, "Test", &key, slow).await.unwrap();
        assert_eq!(ask(&cache, "key", "after").await, ("after".into(), true));
    }
}

#[tokio::test]
async fn who_asks_after_a_change_does_not_join_a_read_from_before_it() {
    let cache = fresh(None);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let key = "key".to_owned();
    let slow = async {
        ended.await.unwrap();
        Ok("before".to_owned())
    };
    let mut first = Box::pin(cache.answer(Kind::QueryVectors, Class::Entity, "Test", &key, slow));
    assert!(futures_util::poll!(&mut first).is_pending());
    cache.invalidate(&[Kind::QueryVectors]).await;
    assert_eq!(ask(&cache, "key", "after").await, ("after".into(), true));
    end.send(()).unwrap();
    assert_eq!(first.await.unwrap(), "before");
    // The late read may have pushed the newer value out, but is never taken for it.
    assert_eq!(ask(&cache, "key", "after").await.0, "after");
}

#[tokio::test]
async fn many_who_miss_at_once_make_one_read_and_errors_are_not_kept() {
    let server = RedisServer::start().await;
    for cache in [fresh(None), fresh(Some(&server.url()))] {
        let reads = AtomicU32::new(0);
        let (key, reached) = ("key".to_owned(), tokio::sync::Notify::new());
        let one = async |answer: Result<String>| {
            let load = async {
                reads.fetch_add(1, Ordering::Relaxed);
                reached.notified().await;
                answer
            };
            cache.answer(Kind::QueryVectors, Class::Entity, "Test", &key, load).await
        };
        let missed = async {
            // All of them have missed before the read ends.
            wait_for("misses", async || cache.stats()[Kind::QueryVectors as usize].1.misses == 50).await;
            reached.notify_one();
        };
        let failing = (0..50).map(|_| one(Err(Error::NotFound("it".into()))));
        let (answers, ()) = tokio::join!(futures_util::future::join_all(failing), missed);
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().code() == tonic::Code::NotFound));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        assert_eq!(ask(&cache, "key", "right").await, ("right".into(), true), "the error was not kept");
    }
}

#[tokio::test]
async fn answers_live_as_long_as_their_class_says_and_large_ones_are_not_kept() {
    let server = RedisServer::start().await;
    let client = bb8_redis::redis::Client::open(server.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let lifetimes = Lifetimes {
        entity: Duration::from_secs(1000),
        list: Duration::from_secs(2000),
        session: Duration::ZERO,
    };
    let cache = Cache::new(Some(Redis::open(&server.url()).unwrap()), lifetimes);
    let put = async |class, text: String| {
        let load = async { Ok(text) };
        cache.answer(Kind::QueryVectors, class, "Test", &format!("{class:?}"), load).await.unwrap();
    };
    put(Class::Session, "x".into()).await;
    put(Class::Entity, "x".repeat(256 * 1024)).await;
    let keys: Vec<String> = redis.keys("euhub:query_vectors:*").await.unwrap();
    assert_eq!(keys.len(), 0);
    for (class, seconds) in [(Class::Entity, 1000), (Class::List, 2000)] {
        put(class, "x".into()).await;
        let keys: Vec<String> = redis.keys("euhub:query_vectors:*").await.unwrap();
        let ttl: i64 = redis.ttl(&keys[0]).await.unwrap();
        assert!((seconds - 60..=seconds).contains(&ttl), "{class:?}: {ttl}");
        let () = redis.del(keys).await.unwrap();
    }
    let short = Lifetimes { entity: Duration::from_millis(50), ..lifetimes };
    let memory = Cache::new(None, short);
    ask(&memory, "key", "kept").await;
    wait_for("the end of a value", async || ask(&memory, "key", "x").await.1).await;
}

#[tokio::test]
async fn search_works_whatever_the_cache_does() {
    let hub = Hub::seeded().await;
    let mut server = RedisServer::start().await;
    let cache = fresh(Some(&server.url()));
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
    let hits = || search.cache.stats()[Kind::QueryVectors as usize].1.hits;
    let before = hits();
    wait_for("a cached vector", async || {
        assert_eq!(found("rising power bills").await, with_redis);
        hits() > before
    })
    .await;
}

/// A search away from Redis embeds its query, which takes a moment in an unoptimised build.
const PATIENT: Duration = Duration::from_secs(20);

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
