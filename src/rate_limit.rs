//! One rate limit over all edges, counted in Redis.

use std::sync::LazyLock;

use bb8_redis::redis::Script;
use euhub_edge::http::{RateLimit, SharedLimiter, Take};
use futures_util::future::BoxFuture;

use crate::redis::Redis;

/// The generic cell rate algorithm (ATM Forum TM 4.0, 4.4.1), one key a bucket: the time at which it is full again.
///
/// Takes the bucket, microseconds a token and its size; answers whether one was granted, and how many are left or how many
/// microseconds the next one takes. Redis' own clock counts, so edges need not agree on the time. A full bucket has no key.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local clock = redis.call('TIME')
        local now = clock[1] * 1000000 + clock[2]
        local period, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
        local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) or 0, now) + period
        local earliest = full - period * burst
        if earliest > now then
            return {0, earliest - now}
        end
        redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
        return {1, math.floor((now - earliest) / period)}
        ",
    )
});

/// Microseconds in which `per_minute` tokens come back.
const MINUTE: u64 = 60_000_000;

/// Buckets in Redis, by class and client.
#[derive(Debug)]
pub struct RedisLimiter(pub Redis);

impl SharedLimiter for RedisLimiter {
    fn take<'a>(&'a self, class: &'a str, client: u128, limit: RateLimit) -> BoxFuture<'a, Option<Take>> {
        Box::pin(async move {
            let key = format!("euhub:rate:{class}:{client:032x}");
            let period = MINUTE / u64::from(limit.per_minute.max(1));
            let (granted, number): (bool, u64) = self
                .0
                .run(async |mut connection| {
                    let mut call = TAKE.key(key);
                    call.arg(period).arg(limit.burst);
                    call.invoke_async(&mut *connection).await
                })
                .await?;
            Some(if granted {
                Take::Granted { remaining: u32::try_from(number).unwrap_or(u32::MAX) }
            } else {
                Take::Refused { after: std::time::Duration::from_micros(number) }
            })
        })
    }
}
