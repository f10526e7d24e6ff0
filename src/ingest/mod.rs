//! From feeds to analysed articles: fetch, parse, normalise, dedupe, detect the language, store; then tone, embedding, keyword links and
//! aggregates. Each step is idempotent, and each that writes is one transaction: a crash anywhere loses nothing and doubles nothing.

pub mod analyze;
pub mod feed;
pub mod fetch;
pub mod language;
pub mod near_duplicate;
pub mod normalise;
pub mod preview;
pub mod run;
pub mod schedule;
pub mod store;
pub mod tone;

use std::sync::Arc;

use sqlx::PgPool;

use crate::clock::Clock;
use crate::ingest::fetch::Fetcher;
use crate::llm::Llm;
use crate::search::embedding::Embedder;

/// The pipeline over the database. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Ingest {
    /// The archive.
    pub db: PgPool,
    /// When things happened.
    pub clock: Clock,
    /// Reads feeds.
    pub fetcher: Fetcher,
    /// Makes vectors, where a model is loaded.
    pub embedder: Option<Arc<Embedder>>,
    /// Says more of tone, where one is configured.
    pub llm: Option<Llm>,
}
