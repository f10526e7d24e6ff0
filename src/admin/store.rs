//! SQL of keys and the audit log.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgTransaction};

use crate::auth::Caller;
use crate::error::Result;

/// A key that holds now.
#[derive(Debug)]
pub struct ApiKey {
    /// Its number.
    pub id: i64,
    /// What it allows.
    pub scopes: Vec<String>,
    /// When it was last used, to the minute.
    pub last_use_time: Option<DateTime<Utc>>,
}

/// A key as its owner sees it.
#[derive(Debug, serde::Serialize)]
pub struct ApiKeyInfo {
    /// Its number.
    pub id: i64,
    /// What it is for.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// When it was made.
    pub create_time: DateTime<Utc>,
    /// From when it no longer holds.
    pub expire_time: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoke_time: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_use_time: Option<DateTime<Utc>>,
}

/// Finds the key of a hash, unless it is revoked or expired.
pub async fn find_api_key(
    db: impl PgExecutor<'_>,
    hash: &[u8; 32],
    now: DateTime<Utc>,
) -> Result<Option<ApiKey>> {
    Ok(sqlx::query_as!(
        ApiKey,
        "SELECT id, scopes, last_use_time FROM api_keys
         WHERE hash = $1 AND revoke_time IS NULL AND (expire_time IS NULL OR expire_time > $2)",
        hash,
        now
    )
    .fetch_optional(db)
    .await?)
}

/// Keeps a new key's hash; answers with its number.
pub async fn insert_api_key(
    db: impl PgExecutor<'_>,
    name: &str,
    hash: &[u8; 32],
    scopes: &[String],
    now: DateTime<Utc>,
    expire_time: Option<DateTime<Utc>>,
) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO api_keys (name, hash, scopes, create_time, expire_time) VALUES ($1, $2, $3, $4, $5) RETURNING id",
        name,
        hash,
        scopes,
        now,
        expire_time
    )
    .fetch_one(db)
    .await?)
}

/// Notes that a key was used.
pub async fn touch_api_key(db: impl PgExecutor<'_>, id: i64, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!("UPDATE api_keys SET last_use_time = $2 WHERE id = $1", id, now).execute(db).await?;
    Ok(())
}

/// Keys below the number `before`, newest first, at most `limit`.
pub async fn list_api_keys(
    db: impl PgExecutor<'_>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<ApiKeyInfo>> {
    Ok(sqlx::query_as!(
        ApiKeyInfo,
        "SELECT id, name, scopes, create_time, expire_time, revoke_time, last_use_time FROM api_keys
         WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Revokes a key; false when no key of that number holds.
pub async fn revoke_api_key(db: impl PgExecutor<'_>, id: i64, now: DateTime<Utc>) -> Result<bool> {
    let done =
        sqlx::query!("UPDATE api_keys SET revoke_time = $2 WHERE id = $1 AND revoke_time IS NULL", id, now)
            .execute(db)
            .await?;
    Ok(done.rows_affected() == 1)
}

/// Claims a creating call's request id for what it is about to make; the resource that an earlier call with the same id made, if one did.
/// An empty id claims nothing. Waits for another call with the same id, so that of several at once one creates.
pub async fn created_before(
    tx: &mut PgTransaction<'_>,
    caller: &Caller,
    action: &str,
    request_id: &str,
    resource: &str,
    now: DateTime<Utc>,
) -> Result<Option<String>> {
    if request_id.is_empty() {
        return Ok(None);
    }
    let claimed = sqlx::query!(
        "INSERT INTO created_requests (actor, request_id, action, resource, time) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
        caller.actor,
        request_id,
        action,
        resource,
        now
    )
    .execute(&mut **tx)
    .await?;
    if claimed.rows_affected() == 1 {
        return Ok(None);
    }
    Ok(sqlx::query_scalar!(
        "SELECT resource FROM created_requests WHERE actor = $1 AND action = $2 AND request_id = $3",
        caller.actor,
        action,
        request_id
    )
    .fetch_optional(&mut **tx)
    .await?)
}
