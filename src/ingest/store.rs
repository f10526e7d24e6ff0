//! SQL of the pipeline.

use chrono::{DateTime, Utc};
use pgvector::Vector;
use serde_json::json;
use sqlx::{PgExecutor, PgTransaction};

use crate::error::Result;
use crate::ingest::run::Identity;
use crate::jobs;
use crate::jobs::kinds::INGEST_FEED;
use crate::sentiment::analyze::Phrase;
use crate::sources::store::Run;

/// A feed that is to be fetched.
#[derive(Debug)]
pub struct DueFeed {
    /// Its number.
    pub id: i64,
    /// Its source.
    pub source_id: i64,
    /// Slug of its source.
    pub source: String,
    /// Its address.
    pub url: String,
    /// ISO 639-1; empty when mixed.
    pub language: String,
    /// Validator of the last full answer.
    pub etag: Option<String>,
    /// Validator of the last full answer.
    pub last_modified: Option<String>,
    /// When a body was last read in full.
    pub last_full_fetch_time: Option<DateTime<Utc>>,
    /// The interval that led to this fetch, in seconds.
    pub fetch_interval_seconds: i32,
    /// Failed fetches in a row.
    pub consecutive_failures: i32,
}

/// A feed by its number.
pub async fn feed(db: impl PgExecutor<'_>, id: i64) -> Result<Option<DueFeed>> {
    Ok(sqlx::query_as!(
        DueFeed,
        "SELECT f.id, f.source_id, s.slug AS source, f.url, f.language, f.etag, f.last_modified,
             f.last_full_fetch_time, f.fetch_interval_seconds, f.consecutive_failures
         FROM feeds f JOIN sources s ON s.id = f.source_id WHERE f.id = $1",
        id
    )
    .fetch_optional(db)
    .await?)
}

/// Puts a job in the queue for every feed that is due; the number of feeds. A feed whose job still waits gets no second one, one whose job
/// failed for good gets it anew, and one that is being fetched is left alone. Feeds of one host stand in one line, so that all workers together
/// send it one request at a time.
pub async fn enqueue_due_feeds(db: impl PgExecutor<'_>, priority: i16, now: DateTime<Utc>) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count((graphile_worker.add_job($2, json_build_object('feed_id', f.id), job_key => $2 || ':' || f.id,
             job_key_mode => 'preserve_run_at', max_attempts => $3, priority => $4,
             queue_name => 'host:' || lower(substring(f.url FROM '^https?://(?:[^/?#@]*@)?([^/?#:]+|\[[^\]]*\])')))).id) AS "count!"
         FROM feeds f JOIN sources s ON s.id = f.source_id
         WHERE f.next_fetch_time <= $1 AND NOT s.paused AND s.retire_time IS NULL
           AND NOT EXISTS (SELECT 1 FROM graphile_worker.jobs j WHERE j.key = $2 || ':' || f.id AND j.locked_at IS NOT NULL)"#,
        now,
        INGEST_FEED.task,
        i32::from(INGEST_FEED.max_attempts),
        i32::from(priority)
    )
    .fetch_one(db)
    .await?)
}

/// Closes the runs of a feed that were cut off with their process: longer open than any fetch may take.
pub async fn close_cut_off_runs(db: impl PgExecutor<'_>, feed: &DueFeed, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "UPDATE runs SET outcome = 3, end_time = $3, error = 'the process ended during the run', error_class = 'cut_off'
         WHERE source_id = $1 AND feed_url = $2 AND outcome = 0 AND start_time < $3::timestamptz - interval '10 minutes'",
        feed.source_id,
        feed.url,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Opens a run; its number.
pub async fn start_run(db: impl PgExecutor<'_>, feed: &DueFeed, now: DateTime<Utc>) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO runs (source_id, feed_url, start_time) VALUES ($1, $2, $3) RETURNING id",
        feed.source_id,
        feed.url,
        now
    )
    .fetch_one(db)
    .await?)
}

/// Closes a run.
pub async fn finish_run(db: impl PgExecutor<'_>, run: &Run) -> Result<()> {
    sqlx::query!(
        "UPDATE runs SET outcome = $2, end_time = $3, fetched = $4, new = $5, duplicate = $6, failed = $7, error = $8,
             error_class = $9, http_status = $10
         WHERE id = $1",
        run.id,
        run.outcome,
        run.end_time,
        run.fetched,
        run.new,
        run.duplicate,
        run.failed,
        run.error,
        run.error_class,
        run.http_status
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What a fetch changes of a feed.
#[derive(Debug)]
pub struct FeedState {
    /// Validator for the next fetch.
    pub etag: Option<String>,
    /// Validator for the next fetch.
    pub last_modified: Option<String>,
    /// When a body was last read in full.
    pub last_full_fetch_time: Option<DateTime<Utc>>,
    /// The address to use from now on, where the feed has moved for good.
    pub moved_to: Option<String>,
    /// When it is fetched next.
    pub next_fetch_time: DateTime<Utc>,
    /// In seconds.
    pub fetch_interval_seconds: i32,
    /// 0 after a success.
    pub consecutive_failures: i32,
}

/// Keeps what a fetch changed. A new address that another feed has already is not taken over.
pub async fn update_feed(
    db: impl PgExecutor<'_>,
    id: i64,
    state: &FeedState,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "UPDATE feeds SET etag = $2, last_modified = $3, last_full_fetch_time = $4, next_fetch_time = $5,
             fetch_interval_seconds = $6, consecutive_failures = $7,
             last_success_time = CASE WHEN $7 = 0 THEN $8 ELSE last_success_time END,
             url = CASE WHEN $9::text IS NULL OR EXISTS (SELECT 1 FROM feeds other WHERE other.url = $9) THEN url
                        ELSE $9 END
         WHERE id = $1",
        id,
        state.etag,
        state.last_modified,
        state.last_full_fetch_time,
        state.next_fetch_time,
        state.fetch_interval_seconds,
        state.consecutive_failures,
        now,
        state.moved_to
    )
    .execute(db)
    .await?;
    Ok(())
}

/// An article to store.
#[derive(Debug)]
pub struct NewArticle {
    /// Unique within its source.
    pub guid: String,
    /// Where it is published.
    pub url: String,
    /// What its address is compared by.
    pub canonical_url: String,
    /// What its text is compared by.
    pub content_hash: [u8; 32],
    /// Plain text.
    pub title: String,
    /// Plain text.
    pub body: String,
    /// As the feed names them.
    pub authors: Vec<String>,
    /// As the feed names them.
    pub categories: Vec<String>,
    /// ISO 639-1, or `und`.
    pub language: String,
    /// 0 to 1.
    pub language_confidence: f64,
    /// When it was published.
    pub publish_time: DateTime<Utc>,
    /// MinHash bands.
    pub bands: Vec<i32>,
}

/// Stores those of the articles that are not stored yet, by GUID, address and content, and in the same transaction puts their analysis in
/// the queue; the new articles' numbers.
pub async fn insert_articles(
    tx: &mut PgTransaction<'_>,
    feed: &DueFeed,
    articles: &[NewArticle],
    now: DateTime<Utc>,
) -> Result<Vec<i64>> {
    let rows: Vec<serde_json::Value> = articles
        .iter()
        .map(|article| {
            json!({
                "guid": article.guid, "url": article.url, "canonical_url": article.canonical_url,
                "title": article.title, "body": article.body, "authors": article.authors,
                "categories": article.categories, "language": article.language,
                "language_confidence": article.language_confidence, "publish_time": article.publish_time,
                "bands": article.bands,
            })
        })
        .collect();
    let hashes: Vec<Vec<u8>> = articles.iter().map(|article| article.content_hash.to_vec()).collect();
    let ids = sqlx::query_scalar!(
        r#"INSERT INTO articles (source_id, country, guid, url, canonical_url, content_hash, title, body, authors, categories,
               language, language_confidence, publish_time, create_time, near_duplicate_bands)
           SELECT s.id, s.country, a.guid, a.url, a.canonical_url, a.hash, a.title, a.body, a.authors, a.categories, a.language,
               a.language_confidence, a.publish_time, $2, a.bands
           FROM sources s, ROWS FROM (
               jsonb_to_recordset($3) AS (guid text, url text, canonical_url text, title text, body text, authors text[],
                   categories text[], language text, language_confidence float8, publish_time timestamptz, bands int[]),
               unnest($4::bytea[])
           ) AS a (guid, url, canonical_url, title, body, authors, categories, language, language_confidence, publish_time,
               bands, hash)
           WHERE s.id = $1
           -- In one order everywhere, so that feeds that share articles cannot wait for each other in a circle.
           ORDER BY a.canonical_url
           ON CONFLICT DO NOTHING
           RETURNING id"#,
        feed.source_id,
        now,
        serde_json::Value::Array(rows),
        &hashes
    )
    .fetch_all(&mut **tx)
    .await?;
    if ids.is_empty() {
        return Ok(ids);
    }
    let count = i32::try_from(ids.len()).unwrap_or(i32::MAX);
    sqlx::query!(
        "UPDATE sources SET article_count = article_count + $2 WHERE id = $1",
        feed.source_id,
        count
    )
    .execute(&mut **tx)
    .await?;
    jobs::store::enqueue(&mut **tx, &jobs::kinds::ANALYZE_ARTICLES, json!({ "article_ids": ids })).await?;
    Ok(ids)
}

/// An entry that is stored already.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its place among the entries asked for, from 1.
    pub(super) position: i64,
    /// The article.
    pub(super) article: i64,
}

/// Which entries are stored: by address in any source; by GUID and content in their own, where they have one.
pub(super) async fn stored(
    db: impl PgExecutor<'_>,
    source_id: Option<i64>,
    entries: &[Identity],
) -> Result<Vec<Stored>> {
    let urls: Vec<String> = entries.iter().map(|entry| entry.canonical_url.clone()).collect();
    let guids: Vec<String> = entries.iter().map(|entry| entry.guid.clone()).collect();
    let hashes: Vec<Vec<u8>> = entries.iter().map(|entry| entry.content_hash.to_vec()).collect();
    Ok(sqlx::query_as!(
        Stored,
        r#"SELECT e.position AS "position!", a.id AS "article!"
           FROM unnest($2::text[], $3::text[], $4::bytea[]) WITH ORDINALITY AS e (url, guid, hash, position)
           CROSS JOIN LATERAL (
               SELECT id FROM articles WHERE canonical_url = e.url
               UNION ALL SELECT id FROM articles WHERE source_id = $1 AND guid = e.guid
               UNION ALL SELECT id FROM articles WHERE source_id = $1 AND content_hash = e.hash
               LIMIT 1
           ) a"#,
        source_id,
        &urls,
        &guids,
        &hashes
    )
    .fetch_all(db)
    .await?)
}

/// An article that waits for its analysis.
#[derive(Debug)]
pub struct Unanalyzed {
    /// Its number.
    pub id: i64,
    /// Its source.
    pub source_id: i64,
    /// Plain text.
    pub title: String,
    /// Plain text.
    pub body: String,
    /// ISO 639-1, or `und`.
    pub language: String,
    /// 0 to 1.
    pub language_confidence: f64,
    /// When it was published.
    pub publish_time: DateTime<Utc>,
    /// MinHash bands.
    pub bands: Vec<i32>,
}

/// Those of the articles that still wait for their analysis, oldest published first.
pub async fn unanalyzed(db: impl PgExecutor<'_>, ids: &[i64]) -> Result<Vec<Unanalyzed>> {
    Ok(sqlx::query_as!(
        Unanalyzed,
        "SELECT id, source_id, title, body, language, language_confidence, publish_time, near_duplicate_bands AS bands
         FROM articles WHERE id = ANY ($1) AND analyze_time IS NULL ORDER BY publish_time, id",
        ids
    )
    .fetch_all(db)
    .await?)
}

/// Articles that wait for their analysis, wherever their job went; at most `limit`.
pub async fn all_unanalyzed(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<i64>> {
    Ok(sqlx::query_scalar!("SELECT id FROM articles WHERE analyze_time IS NULL ORDER BY id LIMIT $1", limit)
        .fetch_all(db)
        .await?)
}

/// An article that another may be a wire copy of.
#[derive(Debug)]
pub struct Candidate {
    /// Its number.
    pub id: i64,
    /// The article that it is itself a copy of.
    pub syndicated_of: Option<i64>,
    /// Plain text.
    pub body: String,
}

/// Analysed articles of other sources, in the same language and published within three days, that share a band; oldest first.
pub async fn near_duplicate_candidates(
    tx: &mut PgTransaction<'_>,
    article: &Unanalyzed,
    limit: i64,
) -> Result<Vec<Candidate>> {
    Ok(sqlx::query_as!(
        Candidate,
        "SELECT id, syndicated_of, body FROM articles
         WHERE near_duplicate_bands && $1 AND source_id <> $2 AND language = $3 AND analyze_time IS NOT NULL
           AND publish_time BETWEEN $4::timestamptz - interval '3 days' AND $4::timestamptz + interval '3 days'
         ORDER BY publish_time, id LIMIT $5",
        &article.bands,
        article.source_id,
        article.language,
        article.publish_time,
        limit
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// What the analysis of an article found.
#[derive(Debug)]
pub struct Analyzed {
    /// The article.
    pub id: i64,
    /// Analyzer and version, apart.
    pub analyzer: (&'static str, &'static str),
    /// ISO 639-1, or `und`.
    pub language: String,
    /// Why there is no score; empty when there is one.
    pub abstain_reason: String,
    /// The numbers, where there is a score.
    pub scored: Option<Scored>,
    /// 384 dimensions, and the model that made them.
    pub embedding: Option<(Vector, String)>,
}

/// The numbers of a scored article.
#[derive(Debug)]
pub struct Scored {
    /// -1 to 1.
    pub score: f64,
    /// 1 (very negative) to 5.
    pub label: i16,
    /// 0 to 1.
    pub confidence: f64,
    /// 0 to 1.
    pub subjectivity: f64,
    /// 0 to 1.
    pub positive: f64,
    /// 0 to 1.
    pub neutral: f64,
    /// 0 to 1.
    pub negative: f64,
    /// Strongest first.
    pub phrases: Vec<Phrase>,
}

/// Keeps an analysis; false when the article was analysed before, and nothing is to be done.
pub async fn complete(
    tx: &mut PgTransaction<'_>,
    analyzed: &Analyzed,
    syndicated_of: Option<i64>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let (name, version) = analyzed.analyzer;
    let (vector, model) = analyzed.embedding.as_ref().map(|(vector, model)| (vector, model.as_str())).unzip();
    let scored = analyzed.scored.as_ref();
    let done = sqlx::query!(
        "UPDATE articles SET analyze_time = $2, analyze_position = nextval('articles_analyze_positions'), sentiment_score = $3,
             sentiment_label = $4, sentiment_abstain_reason = $5, sentiment_analyzer = $6, embedding = $7,
             embedding_model = $8, syndicated_of = $9
         WHERE id = $1 AND analyze_time IS NULL",
        analyzed.id,
        now,
        scored.map(|scored| scored.score),
        scored.map(|scored| scored.label),
        analyzed.abstain_reason,
        format!("{name}/{version}"),
        vector as Option<&Vector>,
        model,
        syndicated_of
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "INSERT INTO article_sentiments (article_id, analyzer, analyzer_version, language, abstain_reason, score, label,
             confidence, subjectivity, positive, neutral, negative, phrases, create_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        analyzed.id,
        name,
        version,
        analyzed.language,
        analyzed.abstain_reason,
        scored.map(|scored| scored.score),
        scored.map(|scored| scored.label),
        scored.map(|scored| scored.confidence),
        scored.map(|scored| scored.subjectivity),
        scored.map(|scored| scored.positive),
        scored.map(|scored| scored.neutral),
        scored.map(|scored| scored.negative),
        scored.map_or_else(|| json!([]), |scored| json!(scored.phrases)),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

/// Wakes watchers when the transaction commits.
pub async fn notify(tx: &mut PgTransaction<'_>, channel: &str) -> Result<()> {
    sqlx::query!("SELECT pg_notify($1, '')", channel).execute(&mut **tx).await?;
    Ok(())
}

/// An article without a vector of the loaded model.
#[derive(Debug)]
pub struct Unembedded {
    /// Its number.
    pub id: i64,
    /// Plain text.
    pub title: String,
    /// Plain text.
    pub body: String,
}

/// Analysed articles that have no vector of `model`; at most `limit`.
pub async fn unembedded(db: impl PgExecutor<'_>, model: &str, limit: i64) -> Result<Vec<Unembedded>> {
    Ok(sqlx::query_as!(
        Unembedded,
        "SELECT id, title, body FROM articles
         WHERE analyze_time IS NOT NULL AND embedding_model IS DISTINCT FROM $1 ORDER BY id DESC LIMIT $2",
        model,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Keeps an article's vector.
pub async fn set_embedding(db: impl PgExecutor<'_>, id: i64, vector: &Vector, model: &str) -> Result<()> {
    sqlx::query!(
        "UPDATE articles SET embedding = $2, embedding_model = $3 WHERE id = $1",
        id,
        vector as &Vector,
        model
    )
    .execute(db)
    .await?;
    Ok(())
}
