//! Redis, which may be away: whoever asks then goes on without it, and nobody waits for it twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bb8_redis::RedisConnectionManager;
use bb8_redis::bb8::{Pool, PooledConnection};
use bb8_redis::redis::{RedisError, RedisResult, cmd};

use crate::telemetry;

/// How long Redis may take before it counts as away.
const TIMEOUT: Duration = Duration::from_millis(100);
/// How often it is looked for while it is away.
const PROBE: Duration = Duration::from_millis(500);
/// Most connections of this process.
const CONNECTIONS: u32 = 8;

/// A pool of connections behind a circuit breaker. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Redis {
    pool: Pool<RedisConnectionManager>,
    away: Arc<AtomicBool>,
}

/// One connection of the pool.
pub type Connection<'a> = PooledConnection<'a, RedisConnectionManager>;

impl Redis {
    /// The server of `url` (`redis://`); it need not be up yet.
    pub fn open(url: &str) -> Result<Self, String> {
        let manager =
            RedisConnectionManager::new(url).map_err(|error| format!("REDIS_URL: {}", error.category()))?;
        let pool = Pool::builder().max_size(CONNECTIONS).connection_timeout(TIMEOUT).build_unchecked(manager);
        Ok(Self { pool, away: Arc::default() })
    }

    /// What `work` answers; `None`, at once, while Redis is away.
    ///
    /// The first call that fails, or takes longer than a tenth of a second, opens the breaker; it closes when a probe in
    /// the background has been answered.
    pub async fn run<T>(&self, work: impl AsyncFnOnce(Connection<'_>) -> RedisResult<T>) -> Option<T> {
        if self.away.load(Ordering::Relaxed) {
            return None;
        }
        match self.in_time(work).await {
            Ok(value) => Some(value),
            Err(error) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    telemetry::away("redis", &error);
                    tokio::spawn(probe(self.clone()));
                }
                None
            }
        }
    }

    /// Asks for a sign of life now, whatever the breaker says; otherwise the class of what went wrong.
    pub async fn ping(&self) -> Result<(), &'static str> {
        let ping = async {
            let mut connection = self.pool.get().await.map_err(|_| "unreachable")?;
            cmd("PING").query_async::<()>(&mut *connection).await.map_err(|_| "error")
        };
        tokio::time::timeout(TIMEOUT, ping).await.unwrap_or(Err("timeout"))
    }

    async fn in_time<T>(
        &self,
        work: impl AsyncFnOnce(Connection<'_>) -> RedisResult<T>,
    ) -> Result<T, String> {
        let work = async {
            let connection = self.pool.get().await.map_err(|error| error.to_string())?;
            work(connection).await.map_err(|error: RedisError| error.to_string())
        };
        match tokio::time::timeout(TIMEOUT, work).await {
            Ok(result) => result,
            Err(_) => Err("Redis did not answer in time".into()),
        }
    }
}

/// Closes the breaker once Redis answers again, or ends when nobody else holds the pool.
async fn probe(redis: Redis) {
    while Arc::strong_count(&redis.away) > 1 {
        tokio::time::sleep(PROBE).await;
        let pong =
            redis.in_time(async |mut connection| cmd("PING").query_async::<()>(&mut *connection).await);
        if pong.await.is_ok() {
            redis.away.store(false, Ordering::Relaxed);
            telemetry::recovered("redis");
            return;
        }
    }
}
