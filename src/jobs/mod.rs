//! The job queue and the schedule: graphile_worker over our own Postgres. A job is put in the queue in the transaction that causes it, runs
//! under a lease that another worker takes over when this one dies, and is tried again with growing delays. Times are UTC.

pub mod convert;
pub mod kinds;
pub mod service;
pub mod store;
mod tasks;

use std::time::Duration;

use anyhow::Context;
use graphile_worker::{
    AfterJobRun, FailureReason, HookResult, Job, JobComplete, JobRecovery, JobRecoveryResult, Worker,
    WorkerOptions, WorkerRecoveryConfig, WorkerUtils,
};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;

use crate::backup::service::BackupService;
use crate::clock::Clock;
use crate::ingest::Ingest;
use crate::jobs::kinds::KINDS;
use crate::suggestions::service::Suggestions;
use crate::telemetry;

pub use tasks::rebuild_aggregates;

/// How long a worker may be silent before its jobs go to another.
const LEASE: Duration = Duration::from_secs(60);
/// How long a job may go on after the worker was told to stop.
const GRACE: Duration = Duration::from_secs(20);
/// How often the queue is looked at for the metrics.
const WATCH: Duration = Duration::from_secs(15);
/// How often storage is looked at for the metrics.
const WATCH_BACKUPS: Duration = Duration::from_secs(600);
/// How often a worker looks for jobs of which nobody told it.
const LOOK: Duration = Duration::from_secs(1);
/// How long a worker that lost the database stands still.
const RETRY: Duration = Duration::from_secs(2);

/// Brings the queue's own schema up to date.
pub async fn migrate(db: &PgPool) -> anyhow::Result<()> {
    WorkerUtils::new(db.clone(), "graphile_worker".to_owned())
        .migrate()
        .await
        .context("migrate the job queue")
}

/// What jobs work with. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Services {
    /// The pipeline.
    pub ingest: Ingest,
    /// Proposals of keywords.
    pub suggestions: Suggestions,
    /// Backups.
    pub backups: BackupService,
}

/// Works on every job and schedule until `stopping`. When the database is away the worker stands still and begins again.
pub async fn work(services: Services, concurrency: usize, stopping: CancellationToken) -> anyhow::Result<()> {
    // Connections of its own: a crowd of requests must not starve the queue, nor the queue the requests.
    let connections = u32::try_from(concurrency).unwrap_or(u32::MAX).saturating_add(2);
    let queue = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(LEASE / 2)
        .connect_lazy_with((*services.ingest.db.connect_options()).clone());
    telemetry::worker_begins(KINDS.iter().map(|kind| kind.task));
    tokio::spawn(watch_queue(queue.clone(), services.ingest.clock.clone(), stopping.clone()));
    tokio::spawn(watch_backups(services.backups.clone(), stopping.clone()));
    while !stopping.is_cancelled() {
        let ended = match worker(services.clone(), queue.clone(), concurrency, stopping.clone()).await {
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

/// Keeps the metrics of the queue at what it is. While the database is away they stand still: its own metric tells.
async fn watch_queue(db: PgPool, clock: Clock, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        if let Ok(queue) = store::queue(&db, clock.now()).await {
            telemetry::queue(&queue);
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(WATCH) => {}
        }
    }
}

/// Keeps the metrics of the backups at what is in storage, whoever made them.
async fn watch_backups(backups: BackupService, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        if let Err(error) = backups.observe().await {
            telemetry::degraded("backup", &error);
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(WATCH_BACKUPS) => {}
        }
    }
}

async fn worker(
    Services { ingest, suggestions, backups }: Services,
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
    let crontabs =
        KINDS.iter().filter_map(|kind| kind.crontab().transpose()).collect::<anyhow::Result<Vec<_>>>()?;
    let status = Recorder { db: ingest.db.clone(), clock: ingest.clock.clone() };
    let (lost_status, done_status) = (status.clone(), status.clone());
    let worker = WorkerOptions::default()
        .pg_pool(queue)
        .add_extension(ingest)
        .add_extension(suggestions)
        .add_extension(backups)
        .concurrency(concurrency)
        .poll_interval(LOOK)
        .worker_recovery(recovery)
        .listen_os_shutdown_signals(false)
        .shutdown_signal(async move { stopping.cancelled().await })
        .shutdown_grace_period(GRACE)
        .define_job::<tasks::IngestFeed>()
        .define_job::<tasks::AnalyzeArticles>()
        .define_job::<tasks::LlmScore>()
        .define_job::<tasks::EnqueueDueFeeds>()
        .define_job::<tasks::AnalyzeLeftOver>()
        .define_job::<tasks::RebuildAggregates>()
        .define_job::<tasks::EvaluateSuggestions>()
        .define_job::<tasks::ReviewKeywords>()
        .define_job::<tasks::RelateKeywords>()
        .define_job::<tasks::CreateBackup>()
        .define_job::<tasks::VerifyBackup>()
        .define_job::<tasks::RestoreBackup>()
        .define_job::<tasks::PruneBackups>()
        .with_crons(crontabs)
        .on(AfterJobRun, move |ended| {
            let status = status.clone();
            async move {
                let error = ended.result.err().map(|error| shown(&error)).unwrap_or_default();
                status.forget_failed(&ended.job).await;
                status.record(ended.job.task_identifier(), ended.duration, error).await;
                HookResult::Continue
            }
        })
        .on(JobComplete, move |_| {
            let status = done_status.clone();
            async move { status.wake().await }
        })
        .on(JobRecovery, move |lost| {
            let lost_status = lost_status.clone();
            async move {
                match lost.reason {
                    // The job may be why the worker died: it counts as a try, and waits before the next.
                    FailureReason::WorkerCrashed => {
                        let error = "the worker died, or was cut off from the database";
                        lost_status.record(lost.job.task_identifier(), Duration::ZERO, error.into()).await;
                        JobRecoveryResult::FailWithBackoff
                    }
                    _ => JobRecoveryResult::Default,
                }
            }
        })
        .init()
        .await?;
    Ok(worker)
}

/// Keeps how jobs went.
#[derive(Clone)]
struct Recorder {
    db: PgPool,
    clock: Clock,
}

impl Recorder {
    /// What a job that has just run makes up for is no longer kept as failed; that it was is kept as the last failure.
    async fn forget_failed(&self, job: &Job) {
        let task = job.task_identifier();
        if !KINDS.iter().any(|kind| kind.task == task && kind.repeats()) {
            return;
        }
        if let Err(error) = store::forget_failed(&self.db, task, *job.id(), job.payload()).await {
            telemetry::degraded("worker", &format!("failed jobs of {task}: {error}"));
        }
    }

    /// After a job that did what it is for, the next one runs at once. After one that failed it waits for the workers' next look.
    async fn wake(&self) {
        if let Err(error) = store::wake(&self.db, self.clock.now()).await {
            telemetry::degraded("worker", &format!("the next job: {error}"));
        }
    }

    /// A job that did what it is for must not run again because this fails.
    async fn record(&self, task: &str, duration: Duration, error: String) {
        telemetry::job_ended(task, duration, !error.is_empty());
        if let Err(error) = store::record(&self.db, task, duration, &error, self.clock.now()).await {
            telemetry::degraded("worker", &format!("outcome of {task}: {error}"));
        }
    }
}

/// The text of a failed job's error, which the queue hands over written as Rust writes it for programmers, twice.
fn shown(error: &str) -> String {
    let text = error.strip_prefix("TaskError(").and_then(|rest| rest.strip_suffix(')'));
    let text = text.and_then(|text| serde_json::from_str::<String>(text).ok());
    match text.and_then(|text| serde_json::from_str::<String>(&text).ok()) {
        Some(text) if !text.is_empty() => text,
        _ if error.starts_with("TaskPanic") => "the job panicked: the log of the worker says more".into(),
        _ if error == "TaskAborted" => "the worker was stopped, and the job goes to another".into(),
        _ => "internal error: the log of the worker says more".into(),
    }
}
