//! What each kind of job does.

use graphile_worker::{IntoTaskHandlerResult, TaskHandler, WorkerContext};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tonic::{Code, Status};

use crate::backup::service::BackupService;
use crate::error::Error;
use crate::ingest::{Ingest, store};
use crate::jobs::{kinds, store as jobs};
use crate::keywords::{link, relations, review};
use crate::llm;
use crate::sentiment::{aggregate, store as sentiment};
use crate::suggestions::service::Suggestions;
use crate::telemetry;

/// Articles without analysis, and without an answer of the language model, that the hourly sweep picks up at most.
const SWEEP: i64 = 1_000;
/// Articles that one job analyses at most.
const SWEEP_BATCH: usize = 50;
/// Articles that are embedded at once.
const EMBED_BATCH: i64 = 50;

/// An error as it is kept and shown to administrators; what they must not see is logged instead.
fn report(error: Error) -> String {
    match &error {
        Error::Llm(error) => return format!("language model: {error}"),
        Error::Backup(error) => {
            telemetry::fault("backup", error);
            return error.told();
        }
        _ => {}
    }
    match Status::from(error) {
        status if status.code() == Code::Internal => "internal error: the log of the worker says more".into(),
        status => status.message().to_owned(),
    }
}

fn pipeline(context: &WorkerContext) -> Result<&Ingest, String> {
    context.get_ext::<Ingest>().ok_or_else(|| "the worker has no pipeline".to_owned())
}

/// Fetches one feed. A failed fetch is a failed run with its own delay, not a failed job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IngestFeed {
    feed_id: i64,
}

impl TaskHandler for IngestFeed {
    const IDENTIFIER: &'static str = kinds::INGEST_FEED.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        match pipeline(&context)?.run_feed(self.feed_id).await {
            // The feed was removed while its job waited.
            Ok(_) | Err(crate::error::Error::NotFound(_)) => Ok(()),
            Err(error) => Err(report(error)),
        }
    }
}

/// Analyses newly stored articles.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AnalyzeArticles {
    article_ids: Vec<i64>,
}

impl TaskHandler for AnalyzeArticles {
    const IDENTIFIER: &'static str = kinds::ANALYZE_ARTICLES.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let done = pipeline(&context)?.analyze(&self.article_ids).await;
        done.map(|_| ()).map_err(report)
    }
}

/// Asks the language model for the tone of an article. While it is away, the queue tries again with growing delays.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LlmScore {
    article_id: i64,
}

impl TaskHandler for LlmScore {
    const IDENTIFIER: &'static str = kinds::LLM_SCORE.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let done = pipeline(&context)?.score_by_llm(self.article_id).await;
        done.map(|_| ()).map_err(report)
    }
}

/// Every minute: a job for each feed that is due.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EnqueueDueFeeds {}

impl TaskHandler for EnqueueDueFeeds {
    const IDENTIFIER: &'static str = kinds::ENQUEUE_DUE_FEEDS.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let ingest = pipeline(&context)?;
        let done =
            store::enqueue_due_feeds(&ingest.db, kinds::INGEST_FEED.priority, ingest.clock.now()).await;
        done.map(|_| ()).map_err(report)
    }
}

/// Hourly: articles whose analysis failed for good are tried again, and those without a vector of the loaded model get one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AnalyzeLeftOver {}

impl TaskHandler for AnalyzeLeftOver {
    const IDENTIFIER: &'static str = kinds::ANALYZE_LEFT_OVER.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let ingest = pipeline(&context)?;
        analyze_left_over(ingest).await.map_err(report)
    }
}

async fn analyze_left_over(ingest: &Ingest) -> crate::error::Result<()> {
    for ids in store::all_unanalyzed(&ingest.db, SWEEP).await?.chunks(SWEEP_BATCH) {
        ingest.analyze(ids).await?;
    }
    // The models may have come, or changed, after the articles.
    if let Some(llm) = &ingest.llm {
        let ids = sentiment::unscored(&ingest.db, llm::ANALYZER, llm.model(), SWEEP).await?;
        jobs::enqueue_llm_scores(&ingest.db, &ids).await?;
    }
    while ingest.embed_left_over(EMBED_BATCH).await? > 0 {}
    Ok(())
}

/// Daily at 00:30: the aggregates anew from the links.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RebuildAggregates {}

impl TaskHandler for RebuildAggregates {
    const IDENTIFIER: &'static str = kinds::REBUILD_AGGREGATES.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        rebuild_aggregates(&pipeline(&context)?.db).await.map_err(report)
    }
}

/// Daily at 02:00: the evidence for suggestions that have none.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EvaluateSuggestions {}

impl TaskHandler for EvaluateSuggestions {
    const IDENTIFIER: &'static str = kinds::EVALUATE_SUGGESTIONS.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let suggestions = context.get_ext::<Suggestions>();
        let suggestions = suggestions.ok_or_else(|| "the worker has no suggestions".to_owned())?;
        suggestions.evaluate_pending().await.map_err(report)
    }
}

/// Mondays at 03:00: which keywords find nothing any more.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReviewKeywords {}

impl TaskHandler for ReviewKeywords {
    const IDENTIFIER: &'static str = kinds::REVIEW_KEYWORDS.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let Ingest { db, clock, .. } = pipeline(&context)?;
        review::review(db, clock.now()).await.map(|_| ()).map_err(report)
    }
}

/// Daily at 05:00: which keywords are covered together.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RelateKeywords {}

impl TaskHandler for RelateKeywords {
    const IDENTIFIER: &'static str = kinds::RELATE_KEYWORDS.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let Ingest { db, clock, .. } = pipeline(&context)?;
        relations::rebuild(db, clock.now()).await.map(|_| ()).map_err(report)
    }
}

fn backups(context: &WorkerContext) -> Result<&BackupService, String> {
    context.get_ext::<BackupService>().ok_or_else(|| "the worker has no backups".to_owned())
}

/// Whether a job that fails is tried again.
fn again(context: &WorkerContext) -> bool {
    context.job().attempts() < context.job().max_attempts()
}

/// Daily at 01:00, or asked for: a backup, restored and compared.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CreateBackup {
    run_id: Option<i64>,
}

impl TaskHandler for CreateBackup {
    const IDENTIFIER: &'static str = kinds::CREATE_BACKUP.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        backups(&context)?.run_create(self.run_id, again(&context)).await.map_err(report)
    }
}

/// Asked for: proof that a backup is what its manifest says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct VerifyBackup {
    run_id: i64,
}

impl TaskHandler for VerifyBackup {
    const IDENTIFIER: &'static str = kinds::VERIFY_BACKUP.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        backups(&context)?.run_verify(self.run_id, again(&context)).await.map_err(report)
    }
}

/// Asked for: a backup in a new database.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RestoreBackup {
    run_id: i64,
}

impl TaskHandler for RestoreBackup {
    const IDENTIFIER: &'static str = kinds::RESTORE_BACKUP.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        backups(&context)?.run_restore(self.run_id).await.map(|_| ()).map_err(report)
    }
}

/// Daily at 04:00: what is past its time goes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PruneBackups {}

impl TaskHandler for PruneBackups {
    const IDENTIFIER: &'static str = kinds::PRUNE_BACKUPS.task;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        backups(&context)?.run_prune().await.map(|_| ()).map_err(report)
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
