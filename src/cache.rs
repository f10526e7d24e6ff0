//! Cached values: in this process, or in Redis for all of them. A cache that is down is a slow day, never an error.

use std::time::Duration;

use bb8_redis::RedisConnectionManager;
use bb8_redis::bb8::Pool;
use bb8_redis::redis::AsyncCommands;
use bytes::Bytes;

use crate::telemetry;

/// Bytes that the cache in this process holds at most.
const MEMORY_CAPACITY: u64 = 64 * 1024 * 1024;
/// How long a value is kept.
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);
/// How long Redis may take before the value counts as missing.
const REDIS_TIMEOUT: Duration = Duration::from_millis(100);

/// A cache of bytes by key. Cloning is cheap.
#[derive(Clone, Debug)]
pub enum Cache {
    /// In this process.
    Memory(moka::future::Cache<String, Bytes>),
    /// In Redis.
    Redis(Pool<RedisConnectionManager>),
}

impl Cache {
    /// A cache in this process.
    pub fn memory() -> Self {
        Self::Memory(
            moka::future::Cache::builder()
                .max_capacity(MEMORY_CAPACITY)
                .weigher(|key: &String, value: &Bytes| {
                    u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX)
                })
                .time_to_live(TIME_TO_LIVE)
                .build(),
        )
    }

    /// A cache in the Redis of `url`; it need not be up yet.
    pub fn redis(url: &str) -> Result<Self, String> {
        let manager =
            RedisConnectionManager::new(url).map_err(|error| format!("REDIS_URL: {}", error.category()))?;
        Ok(Self::Redis(
            Pool::builder().max_size(8).connection_timeout(REDIS_TIMEOUT).build_unchecked(manager),
        ))
    }

    /// Where values live: `memory` or `redis`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Redis(_) => "redis",
        }
    }

    /// The value of a key, if it is there and can be had in time.
    pub async fn get(&self, key: &str) -> Option<Bytes> {
        match self {
            Self::Memory(cache) => cache.get(key).await,
            Self::Redis(pool) => {
                let read = async {
                    let mut connection = pool.get().await.map_err(|error| error.to_string())?;
                    connection.get::<_, Option<Vec<u8>>>(key).await.map_err(|error| error.to_string())
                };
                in_time(read).await.flatten().map(Bytes::from)
            }
        }
    }

    /// Keeps a value for an hour.
    pub async fn put(&self, key: String, value: Bytes) {
        match self {
            Self::Memory(cache) => cache.insert(key, value).await,
            Self::Redis(pool) => {
                let write = async {
                    let mut connection = pool.get().await.map_err(|error| error.to_string())?;
                    connection
                        .set_ex::<_, _, ()>(key, value.as_ref(), TIME_TO_LIVE.as_secs())
                        .await
                        .map_err(|error| error.to_string())
                };
                in_time(write).await;
            }
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, String>>) -> Option<T> {
    match tokio::time::timeout(REDIS_TIMEOUT, work).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            telemetry::degraded("cache", &error);
            None
        }
        Err(_) => {
            telemetry::degraded("cache", &"Redis did not answer in time");
            None
        }
    }
}
