//! The cache, for its administrators.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::admin::audit::audit;
use crate::auth::Caller;
use crate::cache::{CHANNEL, Cache, Kind, KindStats};
use crate::error::Result;
use crate::proto::{CacheKindStats, CacheStats};

/// Ends the answers of `kinds`, or of all kinds, in every process that hears of changes, and in this one at once.
pub async fn invalidate(
    db: &PgPool,
    cache: &Cache,
    caller: &Caller,
    kinds: &[String],
    now: DateTime<Utc>,
) -> Result<Vec<String>> {
    let mut ended: Vec<Kind> = kinds.iter().filter_map(|name| Kind::named(name)).collect();
    if kinds.is_empty() {
        ended.extend(Kind::ALL);
    }
    let names: Vec<String> = ended.iter().map(|kind| kind.as_str().to_owned()).collect();
    let mut tx = db.begin().await?;
    sqlx::query!("SELECT pg_notify($1, kind) FROM unnest($2::text[]) AS kind", CHANNEL, &names)
        .execute(&mut *tx)
        .await?;
    audit(&mut *tx, caller, "cache.invalidate", &names.join(","), now).await?;
    tx.commit().await?;
    cache.invalidate(&ended).await;
    Ok(names)
}

/// What became of this process's reads.
pub fn stats(cache: &Cache) -> CacheStats {
    CacheStats {
        store: cache.store().into(),
        listening: cache.listening(),
        kinds: cache.stats().into_iter().map(Into::into).collect(),
    }
}

impl From<(Kind, KindStats)> for CacheKindStats {
    fn from((kind, stats): (Kind, KindStats)) -> Self {
        let count = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
        Self {
            kind: kind.as_str().into(),
            hits: count(stats.hits),
            misses: count(stats.misses),
            corrupt: count(stats.corrupt),
            bypassed: count(stats.bypassed),
            invalidations: count(stats.invalidations),
            hit_ratio: stats.hit_ratio(),
        }
    }
}
