//! SQL of health.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

/// What the database says of itself.
#[derive(Debug)]
pub struct Server {
    /// Its version.
    pub version: String,
    /// It follows another, and takes no writes.
    pub replica: bool,
}

/// What the database says of itself.
pub async fn server(db: impl PgExecutor<'_>) -> Result<Server, sqlx::Error> {
    sqlx::query_as!(
        Server,
        r#"SELECT split_part(current_setting('server_version'), ' ', 1) AS "version!", pg_is_in_recovery() AS "replica!""#
    )
    .fetch_one(db)
    .await
}

/// The feeds that are fetched, in numbers.
#[derive(Debug)]
pub struct Feeds {
    /// All.
    pub all: i64,
    /// Those whose last fetch failed.
    pub failing: i64,
    /// When one was last fetched.
    pub last_success: Option<DateTime<Utc>>,
}

/// The feeds of the sources that are not paused.
pub async fn feeds(db: impl PgExecutor<'_>) -> Result<Feeds, sqlx::Error> {
    sqlx::query_as!(
        Feeds,
        r#"SELECT count(*) AS "all!", count(*) FILTER (WHERE f.consecutive_failures > 0) AS "failing!",
             max(f.last_success_time) AS last_success
           FROM feeds f JOIN sources s ON s.id = f.source_id WHERE NOT s.paused"#
    )
    .fetch_one(db)
    .await
}

/// When backups were last made, and restored and compared.
#[derive(Debug)]
pub struct Backups {
    /// When one was last made.
    pub made: Option<DateTime<Utc>>,
    /// When one was last restored and compared.
    pub verified: Option<DateTime<Utc>>,
}

/// The backups that the schedule or the API asked for.
pub async fn backups(db: impl PgExecutor<'_>) -> Result<Backups, sqlx::Error> {
    sqlx::query_as!(
        Backups,
        "SELECT max(end_time) FILTER (WHERE operation = 'create') AS made,
             max(end_time) FILTER (WHERE operation = 'verify' AND argument = 'full') AS verified
         FROM backup_runs WHERE state = 'succeeded'"
    )
    .fetch_one(db)
    .await
}
