//! SQL of sources, feeds and runs.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgExecutor, PgTransaction};

use crate::error::{Error, Result};

/// A source.
#[derive(Debug)]
pub struct Source {
    /// Its number.
    pub id: i64,
    /// Its slug.
    pub slug: String,
    /// Its name for people.
    pub display_name: String,
    /// Its home page; empty for none.
    pub homepage_url: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// Not fetched while set.
    pub paused: bool,
    /// Number of stored articles.
    pub article_count: i32,
    /// When it was created.
    pub create_time: DateTime<Utc>,
    /// When it was last changed.
    pub update_time: DateTime<Utc>,
    /// Its feeds, in order.
    pub feeds: Json<Vec<Feed>>,
}

/// A feed with its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Feed {
    /// Its number.
    pub id: i64,
    /// Its address.
    pub url: String,
    /// ISO 639-1; empty when mixed.
    pub language: String,
    /// What it carries, for people.
    pub section: String,
    /// When it is fetched next.
    pub next_fetch_time: DateTime<Utc>,
    /// When it was last fetched without failure.
    pub last_success_time: Option<DateTime<Utc>>,
    /// Failed fetches in a row.
    pub consecutive_failures: i32,
}

/// What people set of a source.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Its name for people.
    pub display_name: String,
    /// Its home page; empty for none.
    pub homepage_url: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// Not fetched while set.
    pub paused: bool,
    /// Its feeds, in order.
    pub feeds: Vec<FeedDraft>,
}

/// What people set of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedDraft {
    /// Its address.
    pub url: String,
    /// ISO 639-1; empty when mixed.
    pub language: String,
    /// What it carries, for people.
    pub section: String,
}

/// A page of sources by name: those after `after`, at most `limit`.
pub async fn list(db: impl PgExecutor<'_>, after: Option<(&str, i64)>, limit: i64) -> Result<Vec<Source>> {
    let (after_name, after_id) = after.unzip();
    Ok(sqlx::query_as!(
        Source,
        r#"SELECT s.id, s.slug, s.display_name, s.homepage_url, s.country, s.paused, s.article_count, s.create_time,
               s.update_time, source_feeds(s.id) AS "feeds!: Json<Vec<Feed>>"
           FROM sources s
           WHERE s.retire_time IS NULL AND ($1::text IS NULL OR (s.display_name, s.id) > ($1, $2))
           ORDER BY s.display_name, s.id LIMIT $3"#,
        after_name,
        after_id,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Number of sources.
pub async fn count(db: impl PgExecutor<'_>) -> Result<i64> {
    Ok(sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM sources WHERE retire_time IS NULL"#)
        .fetch_one(db)
        .await?)
}

/// Sources by their numbers, in that order.
pub async fn by_ids(db: impl PgExecutor<'_>, ids: &[i64]) -> Result<Vec<Source>> {
    Ok(sqlx::query_as!(
        Source,
        r#"SELECT s.id, s.slug, s.display_name, s.homepage_url, s.country, s.paused, s.article_count, s.create_time,
               s.update_time, source_feeds(s.id) AS "feeds!: Json<Vec<Feed>>"
           FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position)
           JOIN sources s ON s.id = wanted.id
           ORDER BY wanted.position"#,
        ids
    )
    .fetch_all(db)
    .await?)
}

/// One source by its slug.
pub async fn by_slug(db: impl PgExecutor<'_>, slug: &str) -> Result<Option<Source>> {
    Ok(sqlx::query_as!(
        Source,
        r#"SELECT s.id, s.slug, s.display_name, s.homepage_url, s.country, s.paused, s.article_count, s.create_time,
               s.update_time, source_feeds(s.id) AS "feeds!: Json<Vec<Feed>>"
           FROM sources s WHERE s.slug = $1 AND s.retire_time IS NULL"#,
        slug
    )
    .fetch_optional(db)
    .await?)
}

/// Locks a source for a change; its number.
pub async fn lock(tx: &mut PgTransaction<'_>, slug: &str) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!("SELECT id FROM sources WHERE slug = $1 AND retire_time IS NULL FOR UPDATE", slug)
        .fetch_optional(&mut **tx)
        .await?)
}

/// Keeps a new source without feeds; its number, or none when the slug is taken. A retired source of that slug comes back.
pub async fn insert(
    db: impl PgExecutor<'_>,
    slug: &str,
    draft: &Draft,
    now: DateTime<Utc>,
) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO sources AS s (slug, display_name, homepage_url, country, paused, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6, $6)
         ON CONFLICT (slug) DO UPDATE SET display_name = excluded.display_name, homepage_url = excluded.homepage_url,
             country = excluded.country, paused = excluded.paused, update_time = excluded.update_time, retire_time = NULL
         WHERE s.retire_time IS NOT NULL
         RETURNING id",
        slug,
        draft.display_name,
        draft.homepage_url,
        draft.country,
        draft.paused,
        now
    )
    .fetch_optional(db)
    .await?)
}

/// Changes a source, feeds aside; its articles go along to a new country.
pub async fn update(tx: &mut PgTransaction<'_>, id: i64, draft: &Draft, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "UPDATE sources SET display_name = $2, homepage_url = $3, country = $4, paused = $5, update_time = $6
         WHERE id = $1",
        id,
        draft.display_name,
        draft.homepage_url,
        draft.country,
        draft.paused,
        now
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "UPDATE articles SET country = $2 WHERE source_id = $1 AND country <> $2",
        id,
        draft.country
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Replaces a source's feeds; one that stays keeps its state, a new one is due at once.
pub async fn replace_feeds(
    tx: &mut PgTransaction<'_>,
    source_id: i64,
    feeds: &[FeedDraft],
    now: DateTime<Utc>,
) -> Result<()> {
    let urls: Vec<String> = feeds.iter().map(|feed| feed.url.clone()).collect();
    sqlx::query!("DELETE FROM feeds WHERE source_id = $1 AND url <> ALL ($2)", source_id, &urls)
        .execute(&mut **tx)
        .await?;
    for (position, feed) in feeds.iter().enumerate() {
        let done = sqlx::query!(
            "INSERT INTO feeds AS f (source_id, position, url, language, section, next_fetch_time)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (url) DO UPDATE SET position = excluded.position, language = excluded.language,
                 section = excluded.section
             WHERE f.source_id = excluded.source_id",
            source_id,
            i32::try_from(position).unwrap_or(i32::MAX),
            feed.url,
            feed.language,
            feed.section,
            now
        )
        .execute(&mut **tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::invalid(
                format!("source.feeds[{position}].url"),
                "is a feed of another source already.",
            ));
        }
    }
    Ok(())
}

/// The source that a feed belongs to.
#[derive(Debug)]
pub struct FeedSource {
    /// Its number.
    pub id: i64,
    /// Its slug.
    pub slug: String,
}

/// The source that has a feed of this address.
pub async fn source_of_feed(db: impl PgExecutor<'_>, url: &str) -> Result<Option<FeedSource>> {
    Ok(sqlx::query_as!(
        FeedSource,
        "SELECT s.id, s.slug FROM feeds f JOIN sources s ON s.id = f.source_id WHERE f.url = $1",
        url
    )
    .fetch_optional(db)
    .await?)
}

/// Those of the addresses that are feeds already, with their sources.
pub async fn known_feeds(db: impl PgExecutor<'_>, urls: &[String]) -> Result<Vec<KnownFeed>> {
    Ok(sqlx::query_as!(
        KnownFeed,
        "SELECT f.url, s.slug FROM feeds f JOIN sources s ON s.id = f.source_id WHERE f.url = ANY ($1)",
        urls
    )
    .fetch_all(db)
    .await?)
}

/// A feed that a source has.
#[derive(Debug)]
pub struct KnownFeed {
    /// Its address.
    pub url: String,
    /// Slug of its source.
    pub slug: String,
}

/// Retires a source; its feeds go, its articles stay.
pub async fn retire(tx: &mut PgTransaction<'_>, id: i64, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!("DELETE FROM feeds WHERE source_id = $1", id).execute(&mut **tx).await?;
    sqlx::query!("UPDATE sources SET retire_time = $2, update_time = $2 WHERE id = $1", id, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// What one fetch of one feed brought.
#[derive(Debug, Serialize)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// The feed.
    pub feed_url: String,
    /// 0 going on, 1 ok, 2 not modified, 3 failed.
    pub outcome: i16,
    /// When it started.
    pub start_time: DateTime<Utc>,
    /// When it ended.
    pub end_time: Option<DateTime<Utc>>,
    /// Entries in the feed.
    pub fetched: i32,
    /// Articles stored.
    pub new: i32,
    /// Entries already stored.
    pub duplicate: i32,
    /// Entries that could not be read.
    pub failed: i32,
    /// Why; empty when nothing failed.
    pub error: String,
    /// Its class; empty when nothing failed.
    pub error_class: String,
    /// HTTP status of the last answer; 0 when there was none.
    pub http_status: i32,
}

/// A page of a source's runs, newest first: those before `before`, at most `limit`.
pub async fn runs(
    db: impl PgExecutor<'_>,
    source_id: i64,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Run>> {
    Ok(sqlx::query_as!(
        Run,
        "SELECT id, feed_url, outcome, start_time, end_time, fetched, new, duplicate, failed, error, error_class,
             http_status
         FROM runs WHERE source_id = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        source_id,
        before,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// What the health of a source is judged by.
#[derive(Debug)]
pub struct HealthRow {
    /// Its slug.
    pub slug: String,
    /// Its name for people.
    pub display_name: String,
    /// Not fetched.
    pub paused: bool,
    /// Failed fetches in a row, a number a feed.
    pub failures: Vec<i32>,
    /// When a feed was last fetched without failure.
    pub last_success: Option<DateTime<Utc>>,
    /// When the last article was received.
    pub last_article: Option<DateTime<Utc>>,
    /// Articles received in the last 24 hours.
    pub received: i64,
    /// Full days with a successful fetch, after that on which the source was created and before that of the last article.
    pub days: Vec<NaiveDate>,
    /// Articles received on each of them.
    pub counts: Vec<i64>,
}

/// The counts of one source, or of all.
pub async fn health(
    db: impl PgExecutor<'_>,
    slug: Option<&str>,
    window_days: i32,
    now: DateTime<Utc>,
) -> Result<Vec<HealthRow>> {
    Ok(sqlx::query_as!(
        HealthRow,
        r#"SELECT s.slug, s.display_name, s.paused, f.failures AS "failures!", f.last_success, last.article AS last_article,
               (SELECT count(*) FROM articles a WHERE a.source_id = s.id AND a.create_time > $3::timestamptz - interval '24 hours'
                    AND a.create_time <= $3) AS "received!",
               d.days AS "days!", d.counts AS "counts!"
           FROM sources s
           CROSS JOIN LATERAL (SELECT COALESCE(array_agg(consecutive_failures), '{}') AS failures,
                   max(last_success_time) AS last_success FROM feeds WHERE source_id = s.id) f
           CROSS JOIN LATERAL (SELECT max(create_time) AS article FROM articles WHERE source_id = s.id) last
           CROSS JOIN LATERAL (SELECT (COALESCE(last.article, $3) AT TIME ZONE 'UTC')::date AS day) ending
           CROSS JOIN LATERAL (
               SELECT COALESCE(array_agg(day ORDER BY day), '{}') AS days, COALESCE(array_agg(n ORDER BY day), '{}') AS counts
               FROM (
                   SELECT day::date AS day, (SELECT count(*) FROM articles a WHERE a.source_id = s.id
                       AND a.create_time >= day AT TIME ZONE 'UTC' AND a.create_time < (day + interval '1 day') AT TIME ZONE 'UTC') AS n
                   FROM generate_series(
                       GREATEST(ending.day - $2::int, (s.create_time AT TIME ZONE 'UTC')::date + 1)::timestamp,
                       (ending.day - 1)::timestamp, '1 day') AS day
                   WHERE EXISTS (SELECT 1 FROM runs r WHERE r.source_id = s.id AND r.outcome IN (1, 2)
                       AND r.start_time >= day AT TIME ZONE 'UTC' AND r.start_time < (day + interval '1 day') AT TIME ZONE 'UTC')
               ) observed
           ) d
           WHERE s.retire_time IS NULL AND ($1::text IS NULL OR s.slug = $1)"#,
        slug,
        window_days,
        now
    )
    .fetch_all(db)
    .await?)
}
