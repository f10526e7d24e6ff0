//! Cached values: in this process, or in Redis for all of them. A cache that is down is a slow day, never an error.

use std::time::Duration;

use bb8_redis::redis::AsyncCommands;
use bytes::Bytes;

use crate::redis::{Connection, Redis};

/// Bytes that the cache in this process holds at most.
const MEMORY_CAPACITY: u64 = 64 * 1024 * 1024;
/// How long a value is kept.
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);

/// A cache of bytes by key. Cloning is cheap.
#[derive(Clone, Debug)]
pub enum Cache {
    /// In this process.
    Memory(moka::future::Cache<String, Bytes>),
    /// In Redis.
    Redis(Redis),
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
            Self::Redis(redis) => {
                let read =
                    async |mut connection: Connection<'_>| connection.get::<_, Option<Vec<u8>>>(key).await;
                redis.run(read).await.flatten().map(Bytes::from)
            }
        }
    }

    /// Keeps a value for an hour.
    pub async fn put(&self, key: String, value: Bytes) {
        match self {
            Self::Memory(cache) => cache.insert(key, value).await,
            Self::Redis(redis) => {
                let ttl = TIME_TO_LIVE.as_secs();
                let write =
                    async |mut connection: Connection<'_>| connection.set_ex(key, value.as_ref(), ttl).await;
                // A value that cannot be kept is computed again.
                let _: Option<()> = redis.run(write).await;
            }
        }
    }
}
