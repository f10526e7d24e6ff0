//! Logs, metrics and traces: the one place that touches their APIs, so that what is logged and counted, and how, is seen at once.

mod access;
pub mod calls;
pub mod log;
pub mod metrics;
pub mod page;
mod queries;
pub mod rest;
pub mod trace;

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, Utc};
use opentelemetry::KeyValue;
use opentelemetry::context::FutureExt;
use opentelemetry::metrics::Counter;

use crate::error::Error;
use crate::jobs::store::Queue;
use crate::sources::store::Run;
use metrics::metrics;
pub use queries::SLOW_STATEMENT;

/// A fault of ours or of what we depend on; the caller got a status without its text.
pub fn fault(part: &str, error: &dyn Display) {
    metrics().faults.add(1, &[KeyValue::new("part", part.to_owned())]);
    tracing::error!(part, %error, trace_id = trace::current_id(), "fault");
}

/// `work` as a part of the running call, for work that goes on beside it.
pub fn within_call<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work.with_current_context()
}

/// A call was refused for its key, or for having none.
pub fn refused(error: &Error, keyless: bool) {
    let reason = match error {
        Error::Unauthenticated(_) if keyless => "missing",
        Error::Unauthenticated(_) => "invalid",
        Error::PermissionDenied(_) => "scope",
        Error::ResourceExhausted(_) => "throttled",
        // Its key could not be looked up: a fault, counted as one.
        _ => return,
    };
    metrics().authentication_failures.add(1, &[KeyValue::new("reason", reason)]);
}

/// Something works less well than it should, and goes on.
pub fn degraded(part: &str, error: &dyn Display) {
    tracing::warn!(part, %error, "degraded");
}

/// A dependency that the Hub can do without is away.
pub fn away(name: &str, error: &dyn Display) {
    degraded(name, error);
    dependency(name, false);
}

/// What was away works again.
pub fn recovered(part: &str) {
    tracing::info!(part, "recovered");
    dependency(part, true);
}

/// A step of starting and stopping.
pub fn lifecycle(step: &str, detail: &dyn Display) {
    tracing::info!(%detail, "{step}");
}

/// A service began or ceased to be ready.
pub fn readiness(ready: bool) {
    dependency("database", ready);
    if ready {
        tracing::info!("ready: the database answers");
    } else {
        tracing::error!("not ready: the database does not answer");
    }
}

/// What the process depends on answers, or does not.
pub fn dependency(name: &str, up: bool) {
    metrics().dependency_up.record(f64::from(u8::from(up)), &[KeyValue::new("dependency", name.to_owned())]);
}

/// A feed was fetched.
pub fn run(source: &str, run: &Run) {
    let metrics = metrics();
    let source_label = KeyValue::new("source", source.to_owned());
    for (outcome, n) in [("new", run.new), ("duplicate", run.duplicate), ("failed", run.failed)] {
        let labels = [source_label.clone(), KeyValue::new("outcome", outcome)];
        metrics.ingest_articles.add(u64::try_from(n).unwrap_or_default(), &labels);
    }
    let outcome = if run.error.is_empty() { "succeeded" } else { "failed" };
    metrics.ingest_runs.add(1, &[source_label.clone(), KeyValue::new("outcome", outcome)]);
    if let Some(end) = run.end_time.filter(|_| run.error.is_empty()) {
        #[allow(clippy::cast_precision_loss, reason = "seconds since 1970 stay far below 2^52")]
        metrics.ingest_last_success.record(end.timestamp() as f64, &[source_label]);
    }
    let Run { feed_url: feed, new, duplicate, failed, error, .. } = run;
    if error.is_empty() {
        tracing::info!(source, feed, new, duplicate, failed, "ingest");
    } else {
        tracing::warn!(source, feed, new, duplicate, failed, error, "ingest");
    }
}

/// An article's tone was scored, or the analyzer abstained.
pub fn scored(analyzer: &str, language: &str, abstained: bool) {
    let outcome = if abstained { "abstained" } else { "scored" };
    let labels = [
        KeyValue::new("analyzer", analyzer.to_owned()),
        KeyValue::new("language", language.to_owned()),
        KeyValue::new("outcome", outcome),
    ];
    metrics().articles_analyzed.add(1, &labels);
}

/// A search was answered.
pub fn searched(mode: &'static str, results: usize) {
    let labels = [KeyValue::new("mode", mode)];
    metrics().searches.add(1, &labels);
    metrics().search_results.record(results as u64, &labels);
}

/// The model embedded a batch of texts.
pub fn embedded(duration: Duration) {
    metrics().embedding_duration.record(duration.as_secs_f64(), &[]);
}

/// The language model was called, with every try.
pub fn llm_called(duration: Duration, failed: bool) {
    let outcome = [KeyValue::new("outcome", if failed { "failed" } else { "succeeded" })];
    metrics().llm_calls.add(1, &outcome);
    metrics().llm_duration.record(duration.as_secs_f64(), &outcome);
}

/// The language model is asked, or is not because it failed too often.
pub fn llm_breaker(open: bool) {
    metrics().llm_breaker_open.record(f64::from(u8::from(open)), &[]);
}

/// The language model took and gave tokens.
pub fn llm_spent(tokens_in: u64, tokens_out: u64) {
    metrics().llm_tokens.add(tokens_in, &[KeyValue::new("direction", "in")]);
    metrics().llm_tokens.add(tokens_out, &[KeyValue::new("direction", "out")]);
}

/// The requests' pool, as it stands.
pub fn pool(used: u32, idle: u32, max: u32) {
    let metrics = metrics();
    metrics.db_connections.record(f64::from(used), &[KeyValue::new("state", "used")]);
    metrics.db_connections.record(f64::from(idle), &[KeyValue::new("state", "idle")]);
    metrics.db_connections_max.record(f64::from(max), &[]);
}

/// How many calls waited for a connection at once, on average over the `period` since this was last told.
pub fn pool_waiting(period: Duration) {
    metrics().db_waiting.record(queries::take_wait().div_duration_f64(period), &[]);
}

/// When the certificate that this process serves expires, since 1970.
pub fn certificate(expires: Duration) {
    metrics().certificate_expiry.record(expires.as_secs_f64(), &[]);
}

/// The runtime of this process, as it stands.
#[allow(clippy::cast_precision_loss, reason = "numbers of tasks stay far below 2^52")]
pub fn runtime() {
    let (runtime, metrics) = (tokio::runtime::Handle::current().metrics(), metrics());
    metrics.tokio_workers.record(runtime.num_workers() as f64, &[]);
    metrics.tokio_alive_tasks.record(runtime.num_alive_tasks() as f64, &[]);
    metrics.tokio_queue_depth.record(runtime.global_queue_depth() as f64, &[]);
}

/// The cache was asked for an answer of a kind, and took `duration` for it.
pub fn cache_read(kind: &'static str, outcome: &'static str, duration: Duration) {
    let kind = KeyValue::new("kind", kind);
    metrics().cache_duration.record(duration.as_secs_f64(), std::slice::from_ref(&kind));
    metrics().cache_reads.add(1, &[kind, KeyValue::new("outcome", outcome)]);
}

/// A job ended.
pub fn job_ended(job: &str, duration: Duration, failed: bool) {
    let job = KeyValue::new("job", job.to_owned());
    let outcome = if failed { "failed" } else { "succeeded" };
    metrics().job_runs.add(1, &[job.clone(), KeyValue::new("outcome", outcome)]);
    metrics().job_duration.record(duration.as_secs_f64(), &[job]);
}

/// A worker of these jobs begins: what it will count stands at zero, for a series that begins at one is not seen to rise.
pub fn worker_begins(jobs: impl Iterator<Item = &'static str>) {
    let begin = |runs: &Counter<u64>, of: KeyValue| {
        for outcome in ["succeeded", "failed"] {
            runs.add(0, &[of.clone(), KeyValue::new("outcome", outcome)]);
        }
    };
    jobs.for_each(|job| begin(&metrics().job_runs, KeyValue::new("job", job)));
    for operation in ["create", "verify", "restore", "prune"] {
        begin(&metrics().backup_runs, KeyValue::new("operation", operation));
    }
}

/// Work on backups ended.
pub fn backup_ended(operation: &str, duration: Duration, failed: bool) {
    let operation = KeyValue::new("operation", operation.to_owned());
    let outcome = if failed { "failed" } else { "succeeded" };
    metrics().backup_runs.add(1, &[operation.clone(), KeyValue::new("outcome", outcome)]);
    metrics().backup_duration.record(duration.as_secs_f64(), &[operation]);
}

/// How far work on a backup is; 0 when it has ended.
#[allow(clippy::cast_precision_loss, reason = "bytes stay far below 2^52")]
pub fn backup_progress(operation: &str, bytes: u64) {
    metrics().backup_progress.record(bytes as f64, &[KeyValue::new("operation", operation.to_owned())]);
}

/// The newest good backup.
#[allow(clippy::cast_precision_loss, reason = "seconds since 1970 and bytes stay far below 2^52")]
pub fn newest_backup(time: DateTime<Utc>, size: u64) {
    metrics().backup_last_success.record(time.timestamp() as f64, &[]);
    metrics().backup_size.record(size as f64, &[]);
}

/// A backup was restored and compared at `time`, the last that was.
#[allow(clippy::cast_precision_loss, reason = "seconds since 1970 stay far below 2^52")]
pub fn verified_backup(time: DateTime<Utc>) {
    metrics().backup_verified.record(time.timestamp() as f64, &[]);
}

/// The job queue, as it stands.
pub fn queue(queue: &Queue) {
    #[allow(clippy::cast_precision_loss, reason = "numbers of jobs stay far below 2^52")]
    for (state, n) in [("waiting", queue.waiting), ("running", queue.running), ("failed", queue.failed)] {
        metrics().job_queue_depth.record(n as f64, &[KeyValue::new("state", state)]);
    }
    metrics().job_queue_oldest.record(queue.oldest_seconds, &[]);
}

/// Articles were analysed.
pub fn analyzed(articles: usize, linked: u64, duration: Duration) {
    metrics().analyze_duration.record(duration.as_secs_f64(), &[]);
    tracing::info!(articles, linked, duration_ms = milliseconds(duration), "analyze");
}

/// Milliseconds, to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
