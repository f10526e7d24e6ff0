//! Cached answers: in this process, or in Redis for all of them. A cache that is away is a slow day, never an error.
//!
//! Each kind of answer has a generation, and each value carries the one that held before it was read from the database. Whoever changes
//! what a kind is made from raises its generation, and every value of it is over at once. `docs/ARCHITECTURE.md` has the races.

mod flight;
pub mod layer;
mod listen;
mod stats;
mod store;
mod value;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::Status;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::redis::Redis;

use self::flight::Flights;
pub use self::listen::CHANNEL;
pub use self::stats::KindStats;
use self::stats::{Counters, Outcome};
use self::store::Store;

/// Largest answer that is kept.
const MAX_VALUE: usize = 256 * 1024;

/// What answers are about: those of one kind end together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keywords and lists of them.
    Keywords,
    /// Articles and lists of them.
    Articles,
    /// Tone of keywords.
    Sentiment,
    /// What is offered while a user types.
    Completions,
    /// Vectors of queries, which nothing in the database changes.
    QueryVectors,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Keywords, Self::Articles, Self::Sentiment, Self::Completions, Self::QueryVectors];
    /// The kinds that are made from the database.
    pub const STORED: [Self; 4] = [Self::Keywords, Self::Articles, Self::Sentiment, Self::Completions];

    /// Its name in keys, notifications and administration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keywords => "keywords",
            Self::Articles => "articles",
            Self::Sentiment => "sentiment",
            Self::Completions => "completions",
            Self::QueryVectors => "query_vectors",
        }
    }

    /// The kind of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How long answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One resource.
    Entity,
    /// A page of a list.
    List,
    /// What one user asks for in passing.
    Session,
}

/// Times to live by class; zero keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Of [`Class::Entity`].
    pub entity: Duration,
    /// Of [`Class::List`].
    pub list: Duration,
    /// Of [`Class::Session`].
    pub session: Duration,
}

impl From<&Config> for Lifetimes {
    fn from(config: &Config) -> Self {
        Self {
            entity: Duration::from_secs(config.cache_entity_ttl_seconds),
            list: Duration::from_secs(config.cache_list_ttl_seconds),
            session: Duration::from_secs(config.cache_session_ttl_seconds),
        }
    }
}

/// A cache of answers. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    lifetimes: Lifetimes,
    counters: [Counters; Kind::ALL.len()],
    flights: Flights,
    /// Changes of the database are heard of.
    listening: AtomicBool,
    /// Calls of Redis that failed since the generations were last raised: raising may have been among them.
    owed: AtomicU64,
}

impl Cache {
    /// A cache in Redis, or without one in this process. What is made from the database is passed by until [`Cache::listen`] hears of
    /// its changes.
    pub fn new(redis: Option<Redis>, lifetimes: Lifetimes) -> Self {
        Self(Arc::new(Inner {
            store: redis.map_or_else(Store::memory, Store::Redis),
            lifetimes,
            counters: Default::default(),
            flights: Flights::default(),
            listening: AtomicBool::new(false),
            owed: AtomicU64::new(0),
        }))
    }

    /// Where values live: `memory` or `redis`.
    pub fn store(&self) -> &'static str {
        match self.0.store {
            Store::Memory(_) => "memory",
            Store::Redis(_) => "redis",
        }
    }

    /// Whether changes of the database are heard of.
    pub fn listening(&self) -> bool {
        self.0.listening.load(Ordering::Acquire)
    }

    /// The answer of `method` to `request`: a kept one, or what `load` makes. `method` names besides all that the answer depends on and
    /// the request does not hold, such as the model.
    pub async fn answer<Q: Message, A: Message + Default>(
        &self,
        kind: Kind,
        class: Class,
        method: &str,
        request: &Q,
        load: impl Future<Output = Result<A>>,
    ) -> Result<A, Status> {
        let key = key(kind, method, &request.encode_to_vec());
        let load = async { Ok(load.await?.encode_to_vec().into()) };
        let body = self.bytes(kind, class, &key, load).await?;
        A::decode(body).map_err(|error| Error::Internal(format!("an answer of this process: {error}")).into())
    }

    /// The answer of a key: a kept one, or what `load` makes.
    ///
    /// Of several that ask the same at once, one loads; the others get its answer, or its error.
    async fn bytes(
        &self,
        kind: Kind,
        class: Class,
        key: &str,
        load: impl Future<Output = Result<Bytes, Status>>,
    ) -> Result<Bytes, Status> {
        let counters = &self.0.counters[kind as usize];
        let started = Instant::now();
        let read = self.read(kind, key).await;
        let took = started.elapsed();
        let Some((generation, value)) = read else {
            counters.read_as(kind, Outcome::Bypassed, took);
            return load.await;
        };
        if let Some(value) = value {
            match value::open(key, &value) {
                Some((of, body)) if of == generation => {
                    counters.read_as(kind, Outcome::Hit, took);
                    return Ok(body);
                }
                Some(_) => {}
                None => Counters::add(&counters.corrupt),
            }
        }
        counters.read_as(kind, Outcome::Miss, took);
        let read = async {
            let body = load.await?;
            let ttl = match class {
                Class::Entity => self.0.lifetimes.entity,
                Class::List => self.0.lifetimes.list,
                Class::Session => self.0.lifetimes.session,
            };
            if body.len() <= MAX_VALUE && !ttl.is_zero() {
                let value = value::seal(key, generation, &body);
                self.settle(self.0.store.write(key, value, ttl).await);
            }
            Ok(body)
        };
        // Only with those who saw the same generation: an older read may have missed a change that this caller knows of.
        self.0.flights.join((key.to_owned(), generation), read).await
    }

    /// Ends every answer of `kinds`; when this returns, no later read gets one from before.
    pub async fn invalidate(&self, kinds: &[Kind]) {
        for kind in kinds {
            Counters::add(&self.0.counters[*kind as usize].invalidations);
        }
        self.settle(self.0.store.raise(kinds).await);
    }

    /// What became of reads since this process started, by kind.
    pub fn stats(&self) -> [(Kind, KindStats); Kind::ALL.len()] {
        Kind::ALL.map(|kind| (kind, self.0.counters[kind as usize].read()))
    }

    /// The generation and the value, which hold now; `None` where the cache must be passed by.
    async fn read(&self, kind: Kind, key: &str) -> Option<(u64, Option<Bytes>)> {
        if kind != Kind::QueryVectors && !self.listening() {
            return None;
        }
        let owed = self.0.owed.load(Ordering::Acquire);
        if owed > 0 {
            self.0.store.raise(&Kind::ALL).await?;
            // What failed meanwhile is made up for by the next read.
            let _ = self.0.owed.compare_exchange(owed, 0, Ordering::AcqRel, Ordering::Acquire);
        }
        self.settle(self.0.store.read(kind, key).await)
    }

    /// Notes a call of Redis that failed.
    fn settle<T>(&self, done: Option<T>) -> Option<T> {
        if done.is_none() {
            self.0.owed.fetch_add(1, Ordering::AcqRel);
        }
        done
    }
}

fn key(kind: Kind, method: &str, request: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(method);
    digest.update([0]);
    digest.update(request);
    format!("euhub:{}:{:x}", kind.as_str(), digest.finalize())
}
