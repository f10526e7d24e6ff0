//! SQL of the audit log, to which rows are only ever added: a trigger refuses everything else.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::auth::Caller;
use crate::error::Result;

/// What was asked of administration once.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// When.
    pub time: DateTime<Utc>,
    /// By whom: `key:{number}`, `key-file`, `command-line` or `public`.
    pub actor: String,
    /// What.
    pub action: String,
    /// On what; empty for calls without a single resource.
    pub resource: String,
    /// From where.
    pub client: String,
    /// `ok`, or the name of a gRPC code.
    pub outcome: String,
    /// Of which request.
    pub request_id: String,
}

/// Which entries; an empty text lets all pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By this actor.
    pub actor: String,
    /// Actions that begin so.
    pub action: String,
    /// On this resource.
    pub resource: String,
    /// With this outcome.
    pub outcome: String,
    /// At or after.
    pub after: Option<DateTime<Utc>>,
    /// Before.
    pub before: Option<DateTime<Utc>>,
}

/// Keeps that a change was made; in its transaction.
pub async fn audit(
    db: impl PgExecutor<'_>,
    caller: &Caller,
    action: &str,
    resource: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    insert(db, caller, action, resource, "ok", now).await
}

/// Keeps what became of a call that changed nothing.
pub async fn audit_outcome(
    db: impl PgExecutor<'_>,
    caller: &Caller,
    action: &str,
    outcome: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    insert(db, caller, action, "", outcome, now).await
}

async fn insert(
    db: impl PgExecutor<'_>,
    caller: &Caller,
    action: &str,
    resource: &str,
    outcome: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO audit_log (time, actor, action, resource, client, outcome, request_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        now,
        caller.actor,
        action,
        resource,
        caller.client,
        outcome,
        caller.request_id
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Entries below the number `below`, newest first, at most `limit`.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    below: Option<i64>,
    limit: i64,
) -> Result<Vec<Entry>> {
    Ok(sqlx::query_as!(
        Entry,
        "SELECT id, time, actor, action, resource, client, outcome, request_id FROM audit_log
         WHERE ($1 = '' OR actor = $1) AND starts_with(action, $2) AND ($3 = '' OR resource = $3)
             AND ($4 = '' OR outcome = $4)
             AND ($5::timestamptz IS NULL OR time >= $5) AND ($6::timestamptz IS NULL OR time < $6)
             AND ($7::bigint IS NULL OR id < $7)
         ORDER BY id DESC LIMIT $8",
        filter.actor,
        filter.action,
        filter.resource,
        filter.outcome,
        filter.after,
        filter.before,
        below,
        limit
    )
    .fetch_all(db)
    .await?)
}
