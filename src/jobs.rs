//! The job queue and the schedule: graphile_worker over our own Postgres. A job is put in the queue in the transaction that causes it, runs
//! under a lease that another worker takes over when this one dies, and is tried again with growing delays. Times are UTC.

use std::time::Duration;

use anyhow::Context;
use graphile_worker::{
    Cron, CrontabFill, IntoTaskHandlerResult, TaskHandler, Worker, WorkerContext, WorkerOptions,
    WorkerRecoveryConfig, WorkerUtils,
};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgExecutor, PgPool};
use tokio_util::sync::CancellationToken;

use crate::ingest::{Ingest, store};
use crate::keywords::link;
use crate::sentiment::aggregate;
use crate::telemetry;

/// Fetches one feed.
pub const INGEST_FEED: &str = "ingest_feed";
/// Analyses some articles.
pub const ANALYZE_ARTICLES: &str = "analyze_articles";

/// Asks the language model for the tone of one article.
pub const LLM_SCORE: &str = "llm_score";

/// How long a worker may be silent before its jobs go to another.
const LEASE: Duration = Duration::from_secs(60);
/// How long a job may go on after the worker was told to stop.
const GRACE: Duration = Duration::from_secs(20);
/// How long a worker that lost the database stands still.
const RETRY: Duration = Duration::from_secs(2);
/// Articles without analysis that the hourly sweep picks up at most.
const SWEEP: i64 = 1_000;
/// Articles that one job analyses at most.
const SWEEP_BATCH: usize = 50;
/// Articles that are embedded at once.
const EMBED_BATCH: i64 = 50;

/// Brings the queue's own schema up to date.
pub async fn migrate(db: &PgPool) -> anyhow::Result<()> {
    WorkerUtils::new(db.clone(), "graphile_worker".to_owned())
        .migrate()
        .await
        .context("migrate the job queue")
}

/// Puts a job in the queue; in the transaction of what causes it.
pub async fn enqueue(
    db: impl PgExecutor<'_>,
    task: &str,
    payload: serde_json::Value,
) -> crate::error::Result<()> {
    sqlx::query_scalar!(
        r#"SELECT (graphile_worker.add_job($1, $2::jsonb::json)).id AS "id!""#,
        task,
        payload
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// Puts a job in the queue for each article that the language model is to score. They run one at a time and after all others, so that a
/// slow model holds up nothing else.
pub async fn enqueue_llm_scores(db: impl PgExecutor<'_>, article_ids: &[i64]) -> crate::error::Result<()> {
    sqlx::query_scalar!(
        r#"SELECT (graphile_worker.add_job($1, jsonb_build_object('article_id', a.id)::json, queue_name => $1,
               job_key => $1 || ':' || a.id, priority => 10)).id AS "id!"
           FROM unnest($2::bigint[]) AS a (id)"#,
        LLM_SCORE,
        article_ids
    )
    .fetch_all(db)
    .await?;
    Ok(())
}

/// Works on every job and schedule until `stopping`. When the database is away the worker stands still and begins again.
pub async fn work(ingest: Ingest, concurrency: usize, stopping: CancellationToken) -> anyhow::Result<()> {
    // Connections of its own: a crowd of requests must not starve the queue, nor the queue the requests.
    let connections = u32::try_from(concurrency).unwrap_or(u32::MAX).saturating_add(2);
    let queue = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(LEASE / 2)
        .connect_lazy_with((*ingest.db.connect_options()).clone());
    while !stopping.is_cancelled() {
        let ended = match worker(ingest.clone(), queue.clone(), concurrency, stopping.clone()).await {
            Ok(worker) => worker.run().await.map_err(Into::into),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            telemetry::degraded("worker", &format!("{error:#}"));
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    Ok(())
}

async fn worker(
    ingest: Ingest,
    queue: PgPool,
    concurrency: usize,
    stopping: CancellationToken,
) -> anyhow::Result<Worker> {
    let recovery = WorkerRecoveryConfig::default()
        .enabled(true)
        .heartbeat_interval(LEASE / 6)
        .sweep_interval(LEASE / 3)
        .sweep_threshold(LEASE)
        .recovery_delay(Duration::ZERO);
    let worker = WorkerOptions::default()
        .pg_pool(queue)
        .add_extension(ingest)
        .concurrency(concurrency)
        .poll_interval(Duration::from_secs(1))
        .worker_recovery(recovery)
        .listen_os_shutdown_signals(false)
        .shutdown_signal(async move { stopping.cancelled().await })
        .shutdown_grace_period(GRACE)
        .define_job::<IngestFeed>()
        .define_job::<AnalyzeArticles>()
        .define_job::<LlmScore>()
        .define_job::<EnqueueDueFeeds>()
        .define_job::<AnalyzeLeftOver>()
        .define_job::<RebuildAggregates>()
        .with_crons([
            Cron::every_minute::<EnqueueDueFeeds>().payload(EnqueueDueFeeds {})?.build(),
            Cron::hourly_at::<AnalyzeLeftOver>(15)?
                .fill(CrontabFill::hours(2))
                .payload(AnalyzeLeftOver {})?
                .build(),
            Cron::daily_at::<RebuildAggregates>(0, 30)?
                .fill(CrontabFill::hours(24))
                .payload(RebuildAggregates {})?
                .build(),
        ])
        .init()
        .await?;
    Ok(worker)
}

fn pipeline(context: &WorkerContext) -> Result<&Ingest, String> {
    context.get_ext::<Ingest>().ok_or_else(|| "the worker has no pipeline".to_owned())
}

/// Fetches one feed. A failed fetch is a failed run with its own delay, not a failed job.
#[derive(Debug, Serialize, Deserialize)]
struct IngestFeed {
    feed_id: i64,
}

impl TaskHandler for IngestFeed {
    const IDENTIFIER: &'static str = INGEST_FEED;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        match pipeline(&context)?.run_feed(self.feed_id).await {
            // The feed was removed while its job waited.
            Ok(_) | Err(crate::error::Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Analyses newly stored articles.
#[derive(Debug, Serialize, Deserialize)]
struct AnalyzeArticles {
    article_ids: Vec<i64>,
}

impl TaskHandler for AnalyzeArticles {
    const IDENTIFIER: &'static str = ANALYZE_ARTICLES;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let done = pipeline(&context)?.analyze(&self.article_ids).await;
        done.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Asks the language model for the tone of an article. While it is away, the queue tries again with growing delays.
#[derive(Debug, Serialize, Deserialize)]
struct LlmScore {
    article_id: i64,
}

impl TaskHandler for LlmScore {
    const IDENTIFIER: &'static str = LLM_SCORE;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let done = pipeline(&context)?.score_by_llm(self.article_id).await;
        done.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Every minute: a job for each feed that is due.
#[derive(Debug, Serialize, Deserialize)]
struct EnqueueDueFeeds {}

impl TaskHandler for EnqueueDueFeeds {
    const IDENTIFIER: &'static str = "enqueue_due_feeds";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let ingest = pipeline(&context)?;
        let done = store::enqueue_due_feeds(&ingest.db, ingest.clock.now()).await;
        done.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Hourly: articles whose analysis failed for good are tried again, and those without a vector of the loaded model get one.
#[derive(Debug, Serialize, Deserialize)]
struct AnalyzeLeftOver {}

impl TaskHandler for AnalyzeLeftOver {
    const IDENTIFIER: &'static str = "analyze_left_over";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let ingest = pipeline(&context)?;
        analyze_left_over(ingest).await.map_err(|error| error.to_string())
    }
}

async fn analyze_left_over(ingest: &Ingest) -> crate::error::Result<()> {
    for ids in store::all_unanalyzed(&ingest.db, SWEEP).await?.chunks(SWEEP_BATCH) {
        ingest.analyze(ids).await?;
    }
    // The model may have come, or changed, after the articles.
    while ingest.embed_left_over(EMBED_BATCH).await? > 0 {}
    Ok(())
}

/// Daily at 00:30: the aggregates anew from the links.
#[derive(Debug, Serialize, Deserialize)]
struct RebuildAggregates {}

impl TaskHandler for RebuildAggregates {
    const IDENTIFIER: &'static str = "rebuild_aggregates";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        rebuild_aggregates(&pipeline(&context)?.db).await.map_err(|error| error.to_string())
    }
}

/// Makes all aggregates anew from the links.
pub async fn rebuild_aggregates(db: &PgPool) -> crate::error::Result<()> {
    let mut tx = db.begin().await?;
    link::lock(&mut tx).await?;
    aggregate::rebuild(&mut tx, None).await?;
    tx.commit().await?;
    Ok(())
}
