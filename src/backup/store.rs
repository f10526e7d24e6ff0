//! SQL of what is being done with backups.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgExecutor};

use super::{Id, Step};
use crate::error::Result;

/// How long a worker may say nothing of a run before it counts as lost.
const SILENCE: TimeDelta = TimeDelta::minutes(2);
/// How long runs are remembered.
const MEMORY: TimeDelta = TimeDelta::days(90);

/// What is done with a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// `create`, `verify` or `restore`.
    pub operation: String,
    /// The backup's id.
    pub backup: String,
    /// Of a verification its depth, of a restore the new database.
    pub argument: String,
    /// Who asked for it.
    pub actor: String,
    /// `queued`, `running`, `succeeded` or `failed`.
    pub state: String,
    /// What is being done now.
    pub step: String,
    /// Bytes that have gone through.
    pub bytes: i64,
    /// Why it failed, or is to be tried again.
    pub error: String,
    /// When it was asked for.
    pub create_time: DateTime<Utc>,
    /// When it was last begun.
    pub start_time: Option<DateTime<Utc>>,
    /// When its worker last said something of it.
    pub update_time: DateTime<Utc>,
    /// When it ended.
    pub end_time: Option<DateTime<Utc>>,
}

impl Run {
    /// A run whose worker has gone silent has failed.
    fn judged(mut self, now: DateTime<Utc>) -> Self {
        if self.state == "running" && self.update_time < now - SILENCE {
            self.state = "failed".into();
            self.error = "its worker died, or was cut off from the database".into();
            self.end_time = Some(self.update_time);
        }
        self
    }

    /// It waits, or goes on.
    pub fn is_open(&self) -> bool {
        matches!(self.state.as_str(), "queued" | "running")
    }
}

/// Keeps others from asking for the same at once, until the transaction ends.
pub async fn lock(transaction: &mut PgConnection) -> Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('backup_runs'))").execute(transaction).await?;
    Ok(())
}

/// Keeps a new run; its number.
pub async fn insert(
    db: impl PgExecutor<'_>,
    operation: &str,
    backup: &Id,
    argument: &str,
    actor: &str,
    now: DateTime<Utc>,
) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO backup_runs (operation, backup, argument, actor, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $5) RETURNING id",
        operation,
        backup.as_str(),
        argument,
        actor,
        now
    )
    .fetch_one(db)
    .await?)
}

/// One run.
pub async fn get(db: impl PgExecutor<'_>, id: i64, now: DateTime<Utc>) -> Result<Option<Run>> {
    let run = sqlx::query_as!(Run, "SELECT * FROM backup_runs WHERE id = $1", id).fetch_optional(db).await?;
    Ok(run.map(|run| run.judged(now)))
}

/// The run that waits or goes on, of an operation; of one backup where one is named.
pub async fn open(
    db: impl PgExecutor<'_>,
    operation: &str,
    backup: Option<&Id>,
    now: DateTime<Utc>,
) -> Result<Option<Run>> {
    let runs = sqlx::query_as!(
        Run,
        "SELECT * FROM backup_runs WHERE operation = $1 AND state IN ('queued', 'running') AND ($2::text IS NULL OR backup = $2)
         ORDER BY id",
        operation,
        backup.map(Id::as_str)
    )
    .fetch_all(db)
    .await?;
    Ok(runs.into_iter().map(|run| run.judged(now)).find(Run::is_open))
}

/// The last run of each of these backups.
pub async fn latest(db: impl PgExecutor<'_>, backups: &[String], now: DateTime<Utc>) -> Result<Vec<Run>> {
    let runs = sqlx::query_as!(
        Run,
        "SELECT DISTINCT ON (backup COLLATE \"C\") * FROM backup_runs WHERE backup = ANY($1)
         ORDER BY backup COLLATE \"C\" DESC, id DESC",
        backups
    )
    .fetch_all(db)
    .await?;
    Ok(runs.into_iter().map(|run| run.judged(now)).collect())
}

/// The ids before `before` of backups that were asked for and not made, newest first.
pub async fn not_made(db: impl PgExecutor<'_>, before: Option<&Id>, limit: i64) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar!(
        "SELECT DISTINCT backup COLLATE \"C\" AS \"backup!\" FROM backup_runs
         WHERE operation = 'create' AND state <> 'succeeded' AND ($1::text IS NULL OR backup COLLATE \"C\" < $1)
         ORDER BY 1 DESC LIMIT $2",
        before.map(Id::as_str),
        limit
    )
    .fetch_all(db)
    .await?)
}

/// A run begins, or begins again.
pub async fn begin(db: impl PgExecutor<'_>, id: i64, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "UPDATE backup_runs SET state = 'running', start_time = $2, update_time = $2, end_time = NULL, step = '', bytes = 0
         WHERE id = $1",
        id,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How far a run is.
pub async fn advance(db: impl PgExecutor<'_>, id: i64, step: &Step, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "UPDATE backup_runs SET step = $2, bytes = $3, update_time = $4 WHERE id = $1",
        id,
        step.what,
        i64::try_from(step.bytes).unwrap_or(i64::MAX),
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A run ended, or waits to be tried again; `error` is empty when it was done.
pub async fn end(
    db: impl PgExecutor<'_>,
    id: i64,
    step: &Step,
    error: &str,
    again: bool,
    now: DateTime<Utc>,
) -> Result<()> {
    let state = match error {
        "" => "succeeded",
        _ if again => "queued",
        _ => "failed",
    };
    sqlx::query!(
        "UPDATE backup_runs SET state = $2, error = $3, step = $4, bytes = $5, update_time = $6,
             end_time = CASE WHEN $2 <> 'queued' THEN $6::timestamptz END
         WHERE id = $1",
        id,
        state,
        error,
        step.what,
        i64::try_from(step.bytes).unwrap_or(i64::MAX),
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets runs that ended long ago.
pub async fn forget(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!("DELETE FROM backup_runs WHERE end_time < $1", now - MEMORY).execute(db).await?;
    Ok(())
}
