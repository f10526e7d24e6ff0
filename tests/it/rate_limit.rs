//! One rate limit over several edges, counted in a real Redis.

use std::time::Duration;

use euhub::rate_limit::RedisLimiter;
use euhub::redis::{Connection, Redis};
use euhub_edge::http::{RateLimit, SharedLimiter, Take};

use crate::cache::RedisServer;
use crate::embedded::scratch;
use crate::hub::Hub;
use crate::program::{Running, euhub_on, free_address, get, serving, wait_for};

const LIMIT: RateLimit = RateLimit { per_minute: 1, burst: 3 };

#[tokio::test]
async fn a_bucket_is_one_for_all_who_share_it() {
    let server = RedisServer::start().await;
    let [here, there] = [(); 2].map(|()| RedisLimiter(Redis::open(&server.url()).unwrap()));
    for (limiter, left) in [(&here, 2), (&there, 1), (&here, 0)] {
        assert_eq!(limiter.take("read", 7, LIMIT).await, Some(Take::Granted { remaining: left }));
    }
    for limiter in [&here, &there] {
        let Some(Take::Refused { after }) = limiter.take("read", 7, LIMIT).await else { panic!("granted") };
        assert!(after > Duration::ZERO && after <= Duration::from_secs(60), "{after:?}");
    }
    assert_eq!(there.take("read", 8, LIMIT).await, Some(Take::Granted { remaining: 2 }), "another client");
    assert_eq!(there.take("write", 7, LIMIT).await, Some(Take::Granted { remaining: 2 }), "another class");
}

#[tokio::test]
async fn tokens_come_back_and_a_full_bucket_leaves_no_key() {
    let server = RedisServer::start().await;
    let redis = Redis::open(&server.url()).unwrap();
    let limiter = RedisLimiter(redis.clone());
    // A token each 50 ms.
    let limit = RateLimit { per_minute: 1200, burst: 1 };
    assert_eq!(limiter.take("read", 7, limit).await, Some(Take::Granted { remaining: 0 }));
    wait_for("a token", async || {
        limiter.take("read", 7, limit).await == Some(Take::Granted { remaining: 0 })
    })
    .await;
    let keys = async |mut connection: Connection<'_>| {
        bb8_redis::redis::cmd("DBSIZE").query_async::<i64>(&mut *connection).await
    };
    wait_for("an empty Redis", async || redis.run(keys).await == Some(0)).await;
}

#[tokio::test]
async fn a_value_that_is_not_ours_counts_as_a_full_bucket() {
    let server = RedisServer::start().await;
    let redis = Redis::open(&server.url()).unwrap();
    let key = format!("euhub:rate:read:{:032x}", 7);
    let set = async |mut connection: Connection<'_>| {
        bb8_redis::redis::cmd("SET").arg(key).arg("nonsense").query_async::<()>(&mut *connection).await
    };
    redis.run(set).await.unwrap();
    let limiter = RedisLimiter(redis);
    assert_eq!(limiter.take("read", 7, LIMIT).await, Some(Take::Granted { remaining: 2 }));
}

#[tokio::test]
async fn edges_share_a_limit_and_keep_their_own_while_redis_is_away() {
    let (hub, folder, mut server) = (Hub::seeded().await, scratch(), RedisServer::start().await);
    let start = || {
        let (grpc, rest) = (free_address(), free_address());
        let mut command = euhub_on(&hub, folder.path());
        command
            .args(["standalone", "--grpc-addr", &grpc.to_string(), "--edge-addr", &rest.to_string()])
            .env("REDIS_URL", server.url())
            .env("EUHUB_RATE_LIMIT_PER_MINUTE", "4")
            .env("EUHUB_RATE_LIMIT_EXEMPT", "GET /health, GET /api/v1/status")
            .env("EUHUB_RATE_LIMIT_SHARED", "true");
        (rest, Running::start(command, folder.path()))
    };
    let (mut first, mut second) = (start(), start());
    for (rest, process) in [&mut first, &mut second] {
        serving(*rest, process).await;
    }
    let status = async |rest| get(rest, "/api/v1/keywords").await.status;
    let mut answers = Vec::new();
    for rest in [first.0, second.0, first.0, second.0, first.0, second.0] {
        answers.push(status(rest).await);
    }
    assert_eq!(answers, [200, 200, 200, 200, 429, 429]);
    assert_eq!(get(first.0, "/api/v1/status").await.status, 200, "exempt");

    server.down().await;
    // Each has counted three of its own four.
    for rest in [first.0, second.0] {
        wait_for("the local limit", async || status(rest).await == 200).await;
        assert_eq!(status(rest).await, 429);
    }
    for (_, process) in [first, second] {
        process.stop().await;
    }
}

#[tokio::test]
async fn a_shared_limit_without_redis_is_refused_at_the_start() {
    let (hub, folder) = (Hub::seeded().await, scratch());
    let mut command = euhub_on(&hub, folder.path());
    command.arg("standalone").env("EUHUB_RATE_LIMIT_SHARED", "true");
    let error = crate::program::run_err(command).await;
    assert!(error.contains("REDIS_URL"), "{error}");
}
