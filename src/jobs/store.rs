//! SQL of the queue, and of how its jobs went.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgTransaction};

use crate::error::Result;
use crate::jobs::kinds::{ASKED, Kind, LLM_SCORE};

/// Puts a job in the queue; in the transaction of what causes it.
pub async fn enqueue(db: impl PgExecutor<'_>, kind: &Kind, payload: serde_json::Value) -> Result<()> {
    sqlx::query_scalar!(
        r#"SELECT (graphile_worker.add_job($1, $2::jsonb::json, max_attempts => $3, priority => $4)).id AS "id!""#,
        kind.task,
        payload,
        i32::from(kind.max_attempts),
        i32::from(kind.priority)
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// Puts a job in the queue for each article that the language model is to score. They run one at a time and after all others, so that a
/// slow model holds up nothing else.
pub async fn enqueue_llm_scores(db: impl PgExecutor<'_>, article_ids: &[i64]) -> Result<()> {
    sqlx::query_scalar!(
        r#"SELECT (graphile_worker.add_job($1, jsonb_build_object('article_id', a.id)::json, queue_name => $1,
               job_key => $1 || ':' || a.id, max_attempts => $3, priority => $4)).id AS "id!"
           FROM unnest($2::bigint[]) AS a (id)"#,
        LLM_SCORE.task,
        article_ids,
        i32::from(LLM_SCORE.max_attempts),
        i32::from(LLM_SCORE.priority)
    )
    .fetch_all(db)
    .await?;
    Ok(())
}

/// Puts a scheduled job in the queue to run now; one that waits already is brought forward. False when it is running.
pub async fn run_now(tx: &mut PgTransaction<'_>, kind: &Kind) -> Result<bool> {
    let running = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM graphile_worker.jobs WHERE task_identifier = $1 AND locked_at IS NOT NULL) AS "it!""#,
        kind.task
    )
    .fetch_one(&mut **tx)
    .await?;
    if running {
        return Ok(false);
    }
    sqlx::query_scalar!(
        r#"SELECT (graphile_worker.add_job($1, '{}'::json, queue_name => $1, max_attempts => $2, job_key => $1,
               priority => $3)).id AS "id!""#,
        kind.task,
        i32::from(kind.max_attempts),
        i32::from(ASKED)
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(true)
}

/// Deletes the failed jobs of a task that were about the same feed, or about none, as `job_id`.
pub async fn forget_failed(
    db: impl PgExecutor<'_>,
    task: &str,
    job_id: i64,
    payload: &serde_json::Value,
) -> Result<()> {
    sqlx::query!(
        "DELETE FROM graphile_worker._private_jobs j USING graphile_worker._private_tasks t
         WHERE t.id = j.task_id AND t.identifier = $1 AND j.id <> $2 AND j.locked_at IS NULL AND j.attempts >= j.max_attempts
             AND j.payload->>'feed_id' IS NOT DISTINCT FROM $3::jsonb->>'feed_id'",
        task,
        job_id,
        payload
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Tells the workers that a job waits, if one does. By itself the queue tells of new jobs only, and each telling is worth a job a thread:
/// all others would wait for the next look, and of a named queue one job a second would run.
pub async fn wake(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "SELECT pg_notify('jobs:insert', '') WHERE EXISTS
             (SELECT FROM graphile_worker.jobs WHERE locked_at IS NULL AND attempts < max_attempts AND run_at <= $1)",
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Keeps how a job went that ends now; `error` is empty when it did what it is for.
pub async fn record(
    db: impl PgExecutor<'_>,
    task: &str,
    duration: Duration,
    error: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    let start = now - duration;
    sqlx::query!(
        "INSERT INTO job_status AS s (task, start_time, end_time, error, failure_start_time, failure_end_time, failure_error,
             run_count, failed_run_count)
         VALUES ($1, $2, $3, $4, CASE WHEN $4 <> '' THEN $2::timestamptz END, CASE WHEN $4 <> '' THEN $3::timestamptz END, $4, 1,
             CASE WHEN $4 <> '' THEN 1 ELSE 0 END)
         ON CONFLICT (task) DO UPDATE SET
             start_time = excluded.start_time, end_time = excluded.end_time, error = excluded.error,
             failure_start_time = COALESCE(excluded.failure_start_time, s.failure_start_time),
             failure_end_time = COALESCE(excluded.failure_end_time, s.failure_end_time),
             failure_error = COALESCE(NULLIF(excluded.failure_error, ''), s.failure_error),
             run_count = s.run_count + 1, failed_run_count = s.failed_run_count + excluded.failed_run_count",
        task,
        start,
        now,
        error
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The whole queue in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queue {
    /// Jobs that wait.
    pub waiting: i64,
    /// Jobs that a worker holds.
    pub running: i64,
    /// Jobs that failed as often as they are tried.
    pub failed: i64,
    /// Seconds that the job which is due longest has waited; 0 when none is due.
    pub oldest_seconds: f64,
}

/// The queue as it stands.
pub async fn queue(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> Result<Queue> {
    Ok(sqlx::query_as!(
        Queue,
        r#"SELECT count(*) FILTER (WHERE locked_at IS NULL AND attempts < max_attempts) AS "waiting!",
             count(*) FILTER (WHERE locked_at IS NOT NULL) AS "running!",
             count(*) FILTER (WHERE locked_at IS NULL AND attempts >= max_attempts) AS "failed!",
             COALESCE(EXTRACT(EPOCH FROM $1 - min(run_at)
                 FILTER (WHERE locked_at IS NULL AND attempts < max_attempts AND run_at <= $1)), 0)::float8 AS "oldest_seconds!"
           FROM graphile_worker.jobs"#,
        now
    )
    .fetch_one(db)
    .await?)
}

/// How a kind of job stands.
#[derive(Debug)]
pub struct Status {
    /// When the last run began; none when there was none.
    pub start_time: Option<DateTime<Utc>>,
    /// When it ended.
    pub end_time: Option<DateTime<Utc>>,
    /// Why it failed.
    pub error: String,
    /// When the last failed run began; none when there was none.
    pub failure_start_time: Option<DateTime<Utc>>,
    /// When it ended.
    pub failure_end_time: Option<DateTime<Utc>>,
    /// Why it failed.
    pub failure_error: String,
    /// Runs that ended.
    pub run_count: i32,
    /// Those that failed.
    pub failed_run_count: i32,
    /// Jobs that wait.
    pub queued: i64,
    /// Jobs that a worker holds.
    pub running: i64,
    /// Jobs that failed as often as they are tried.
    pub failed: i64,
    /// When the first waiting job runs.
    pub run_time: Option<DateTime<Utc>>,
}

/// How the kinds of jobs stand, in their order.
pub async fn status(db: impl PgExecutor<'_>, kinds: &[&Kind]) -> Result<Vec<Status>> {
    let tasks: Vec<String> = kinds.iter().map(|kind| kind.task.to_owned()).collect();
    Ok(sqlx::query_as!(
        Status,
        r#"SELECT s.start_time AS "start_time?", s.end_time AS "end_time?", COALESCE(s.error, '') AS "error!",
               s.failure_start_time, s.failure_end_time, COALESCE(s.failure_error, '') AS "failure_error!",
               COALESCE(s.run_count, 0) AS "run_count!", COALESCE(s.failed_run_count, 0) AS "failed_run_count!",
               q.queued AS "queued!", q.running AS "running!", q.failed AS "failed!", q.run_time
           FROM unnest($1::text[]) WITH ORDINALITY AS wanted (task, position)
           LEFT JOIN job_status s ON s.task = wanted.task
           CROSS JOIN LATERAL (
               SELECT count(*) FILTER (WHERE j.locked_at IS NULL AND j.attempts < j.max_attempts) AS queued,
                   count(*) FILTER (WHERE j.locked_at IS NOT NULL) AS running,
                   count(*) FILTER (WHERE j.locked_at IS NULL AND j.attempts >= j.max_attempts) AS failed,
                   min(j.run_at) FILTER (WHERE j.locked_at IS NULL AND j.attempts < j.max_attempts) AS run_time
               FROM graphile_worker.jobs j WHERE j.task_identifier = wanted.task
           ) q
           ORDER BY wanted.position"#,
        &tasks
    )
    .fetch_all(db)
    .await?)
}
