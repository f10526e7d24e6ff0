//! What became of reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cache::Kind;
use crate::telemetry;

/// What became of a read.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Hit,
    Miss,
    Bypassed,
}

/// Counters of one kind.
#[derive(Debug, Default)]
pub struct Counters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub corrupt: AtomicU64,
    pub bypassed: AtomicU64,
    pub invalidations: AtomicU64,
}

impl Counters {
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a read here and in the metrics.
    pub fn read_as(&self, kind: Kind, outcome: Outcome, duration: Duration) {
        let (counter, name) = match outcome {
            Outcome::Hit => (&self.hits, "hit"),
            Outcome::Miss => (&self.misses, "miss"),
            Outcome::Bypassed => (&self.bypassed, "bypassed"),
        };
        Self::add(counter);
        telemetry::cache_read(kind.as_str(), name, duration);
    }

    pub fn read(&self) -> KindStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KindStats {
            hits: read(&self.hits),
            misses: read(&self.misses),
            corrupt: read(&self.corrupt),
            bypassed: read(&self.bypassed),
            invalidations: read(&self.invalidations),
        }
    }
}

/// What became of the reads of one kind since this process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindStats {
    /// Answered from the cache.
    pub hits: u64,
    /// Answered from the database, or by another call's read of it.
    pub misses: u64,
    /// Misses because the value was damaged, foreign or of another version.
    pub corrupt: u64,
    /// Answered from the database because Redis or the listener was away.
    pub bypassed: u64,
    /// Times that its values were ended.
    pub invalidations: u64,
}

impl KindStats {
    /// Share of the reads that were hits; 0 before the first.
    #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn hit_ratio(&self) -> f64 {
        let reads = self.hits + self.misses + self.bypassed;
        if reads == 0 { 0.0 } else { self.hits as f64 / reads as f64 }
    }
}
