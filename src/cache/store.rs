//! Where generations and values live.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bb8_redis::redis::{RedisResult, cmd, pipe};
use bytes::Bytes;
use moka::Expiry;
use rand::RngExt;

use crate::cache::Kind;
use crate::clock::system_rng;
use crate::redis::{Connection, Redis};

/// Bytes that the cache in this process holds at most.
const MEMORY_CAPACITY: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub enum Store {
    Memory(Memory),
    Redis(Redis),
}

/// In this process.
#[derive(Debug)]
pub struct Memory {
    values: moka::future::Cache<String, Kept>,
    generations: [AtomicU64; Kind::ALL.len()],
}

#[derive(Clone, Debug)]
struct Kept {
    value: Bytes,
    ttl: Duration,
}

struct ByClass;

impl Expiry<String, Kept> for ByClass {
    fn expire_after_create(&self, _: &String, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.ttl)
    }

    fn expire_after_update(
        &self,
        _: &String,
        kept: &Kept,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.ttl)
    }
}

impl Store {
    pub fn memory() -> Self {
        let weight =
            |key: &String, kept: &Kept| u32::try_from(key.len() + kept.value.len()).unwrap_or(u32::MAX);
        let values = moka::future::Cache::builder()
            .max_capacity(MEMORY_CAPACITY)
            .weigher(weight)
            .expire_after(ByClass)
            .build();
        Self::Memory(Memory { values, generations: Default::default() })
    }

    /// The generation of `kind`, and the value of `key`; `None` while Redis is away.
    pub async fn read(&self, kind: Kind, key: &str) -> Option<(u64, Option<Bytes>)> {
        match self {
            Self::Memory(memory) => {
                // The generation first: it must hold before the database is asked.
                let generation = memory.generations[kind as usize].load(Ordering::Acquire);
                Some((generation, memory.values.get(key).await.map(|kept| kept.value)))
            }
            Self::Redis(redis) => redis.run(async |connection| read(connection, kind, key).await).await,
        }
    }

    /// Keeps a value; `None` while Redis is away.
    pub async fn write(&self, key: &str, value: Bytes, ttl: Duration) -> Option<()> {
        match self {
            Self::Memory(memory) => {
                memory.values.insert(key.to_owned(), Kept { value, ttl }).await;
                Some(())
            }
            Self::Redis(redis) => {
                let mut set = cmd("SET");
                set.arg(key).arg(value.as_ref()).arg("EX").arg(ttl.as_secs());
                redis
                    .run(async |mut connection: Connection<'_>| set.query_async(&mut *connection).await)
                    .await
            }
        }
    }

    /// Raises the generations of `kinds`; `None` while Redis is away.
    pub async fn raise(&self, kinds: &[Kind]) -> Option<()> {
        match self {
            Self::Memory(memory) => {
                for kind in kinds {
                    memory.generations[*kind as usize].fetch_add(1, Ordering::AcqRel);
                }
                Some(())
            }
            Self::Redis(redis) => {
                let mut raise = pipe();
                raise.atomic();
                for kind in kinds {
                    let name = generation_key(*kind);
                    raise.set_nx(&name, first_generation()).ignore().incr(&name, 1).ignore();
                }
                redis
                    .run(async |mut connection: Connection<'_>| raise.query_async(&mut *connection).await)
                    .await
            }
        }
    }
}

/// One round trip, or two where Redis has lost the generation.
async fn read(mut connection: Connection<'_>, kind: Kind, key: &str) -> RedisResult<(u64, Option<Bytes>)> {
    let name = generation_key(kind);
    let (generation, value): (Option<u64>, Option<Vec<u8>>) =
        cmd("MGET").arg(&name).arg(key).query_async(&mut *connection).await?;
    if let Some(generation) = generation {
        return Ok((generation, value.map(Bytes::from)));
    }
    let mut begin = pipe();
    begin.atomic().set_nx(&name, first_generation()).ignore().get(&name);
    let (generation,): (u64,) = begin.query_async(&mut *connection).await?;
    Ok((generation, None))
}

fn generation_key(kind: Kind) -> String {
    format!("euhub:gen:{}", kind.as_str())
}

/// Where counting begins when Redis has lost a generation: at random, so that no value from before fits. Far below what Redis counts to.
fn first_generation() -> u64 {
    system_rng().random::<u64>() >> 2
}
