//! SQL of the evidence for suggestions: what is counted and compared, and the evaluations that are kept.

use chrono::{DateTime, Utc};
use pgvector::Vector;
use sqlx::types::Json;
use sqlx::{PgExecutor, PgTransaction};

use crate::error::Result;
use crate::keywords::store::Term;
use crate::suggestions::evaluate::{Counts, Similar, Verdict};
use crate::suggestions::store::columns;
use crate::suggestions::words::Words;

/// A kept evaluation.
#[derive(Debug)]
pub struct Evaluation {
    /// Its number.
    pub id: i64,
    /// The suggestion.
    pub suggestion_id: i64,
    /// When the evidence was gathered.
    pub create_time: DateTime<Utc>,
    /// Days that were looked at.
    pub window_days: i32,
    /// Articles of those days.
    pub archive_count: i32,
    /// Those that match.
    pub article_count: i32,
    /// Outlets behind them.
    pub source_count: i32,
    /// Countries behind them.
    pub country_count: i32,
    /// Outlets of all.
    pub active_source_count: i32,
    /// Countries of all.
    pub active_country_count: i32,
    /// 0 to 100.
    pub searchability: i32,
    /// 0 to 100.
    pub significance: i32,
    /// 0 to 1.
    pub share: f64,
    /// [`super::evaluate::Breadth`].
    pub breadth: i16,
    /// The nearest keywords.
    pub similar_keywords: Json<Vec<Similar>>,
    /// [`super::evaluate::Decision`].
    pub decision: i16,
    /// Why.
    pub reasons: Vec<String>,
    /// What a language model proposed.
    pub proposed_translations: Json<Vec<Term>>,
    /// What a language model wrote.
    pub note: String,
}

/// The newest evaluation of each of these suggestions that has one.
pub async fn latest(db: impl PgExecutor<'_>, ids: &[i64]) -> Result<Vec<Evaluation>> {
    Ok(sqlx::query_as!(
        Evaluation,
        r#"SELECT e.id, e.suggestion_id, e.create_time, e.window_days, e.archive_count, e.article_count, e.source_count,
               e.country_count, e.active_source_count, e.active_country_count, e.searchability, e.significance, e.share,
               e.breadth, e.similar_keywords AS "similar_keywords: Json<Vec<Similar>>", e.decision, e.reasons,
               e.proposed_translations AS "proposed_translations: Json<Vec<Term>>", e.note
           FROM unnest($1::bigint[]) AS wanted (id)
           CROSS JOIN LATERAL (SELECT * FROM suggestion_evaluations l WHERE l.suggestion_id = wanted.id
                               ORDER BY l.id DESC LIMIT 1) e"#,
        ids
    )
    .fetch_all(db)
    .await?)
}

/// The evaluations of a suggestion, newest first: those after `after`, at most `limit`.
pub async fn list(
    db: impl PgExecutor<'_>,
    id: i64,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Evaluation>> {
    Ok(sqlx::query_as!(
        Evaluation,
        r#"SELECT id, suggestion_id, create_time, window_days, archive_count, article_count, source_count,
               country_count, active_source_count, active_country_count, searchability, significance, share,
               breadth, similar_keywords AS "similar_keywords: Json<Vec<Similar>>", decision, reasons,
               proposed_translations AS "proposed_translations: Json<Vec<Term>>", note
           FROM suggestion_evaluations WHERE suggestion_id = $1 AND ($2::bigint IS NULL OR id < $2)
           ORDER BY id DESC LIMIT $3"#,
        id,
        after,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Counts what terms match in the analysed articles from `since` on; matches as links are made.
pub async fn coverage(db: impl PgExecutor<'_>, terms: &[Term], since: DateTime<Utc>) -> Result<Counts> {
    let (languages, phrases) = columns(terms);
    Ok(sqlx::query_as!(
        Counts,
        r#"WITH seen AS (
               SELECT id, source_id, country FROM articles WHERE analyze_time IS NOT NULL AND publish_time >= $3
           ), matched AS (
               SELECT DISTINCT a.id, a.source_id, a.country
               FROM unnest($1::text[], $2::text[]) AS t (language, term)
               JOIN articles a ON (t.language = a.language OR a.language = 'und')
                   AND a.search @@ phraseto_tsquery(search_config(t.language), t.term)
               WHERE a.analyze_time IS NOT NULL AND a.publish_time >= $3
           )
           SELECT (SELECT count(*) FROM seen) AS "archive!", (SELECT count(*) FROM matched) AS "articles!",
               (SELECT count(DISTINCT source_id) FROM matched) AS "sources!",
               (SELECT count(DISTINCT country) FROM matched) AS "countries!",
               (SELECT count(DISTINCT source_id) FROM seen) AS "active_sources!",
               (SELECT count(DISTINCT country) FROM seen) AS "active_countries!""#,
        &languages,
        &phrases,
        since
    )
    .fetch_one(db)
    .await?)
}

/// Keywords without a vector of a model: number and name; at most `limit`.
pub async fn unembedded(db: impl PgExecutor<'_>, model: &str, limit: i64) -> Result<Vec<(i64, String)>> {
    let rows = sqlx::query!(
        "SELECT id, display_name FROM keywords WHERE embedding_model IS DISTINCT FROM $1 ORDER BY id LIMIT $2",
        model,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.display_name)).collect())
}

/// Keeps the vector of a keyword's name, unless it was renamed meanwhile.
pub async fn set_embedding(
    db: impl PgExecutor<'_>,
    keyword_id: i64,
    display_name: &str,
    vector: &Vector,
    model: &str,
) -> Result<()> {
    sqlx::query!(
        "UPDATE keywords SET embedding = $3, embedding_model = $4 WHERE id = $1 AND display_name = $2",
        keyword_id,
        display_name,
        vector as &Vector,
        model
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The keywords nearest to a vector, the nearest first.
pub async fn nearest(
    db: impl PgExecutor<'_>,
    vector: &Vector,
    model: &str,
    limit: i64,
) -> Result<Vec<Similar>> {
    Ok(sqlx::query_as!(
        Similar,
        r#"SELECT slug, display_name, 1 - (embedding <=> $1) AS "similarity!" FROM keywords
           WHERE embedding_model = $2 ORDER BY embedding <=> $1, id LIMIT $3"#,
        vector as &Vector,
        model,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// What there is to keep of an evaluation.
#[derive(Debug)]
pub struct Found<'a> {
    /// Days that were looked at.
    pub window_days: i32,
    /// What was counted.
    pub counts: &'a Counts,
    /// What it speaks for.
    pub verdict: &'a Verdict,
    /// The nearest keywords.
    pub similar: &'a [Similar],
    /// What a language model adds.
    pub words: &'a Words,
}

/// Keeps an evaluation.
pub async fn insert(
    tx: &mut PgTransaction<'_>,
    id: i64,
    found: &Found<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    let Found { window_days, counts, verdict, similar, words } = found;
    sqlx::query!(
        "INSERT INTO suggestion_evaluations (suggestion_id, create_time, window_days, archive_count, article_count, source_count,
             country_count, active_source_count, active_country_count, searchability, significance, share, breadth,
             similar_keywords, decision, reasons, proposed_translations, note)
         VALUES ($1, $2, $3, $4::bigint, $5::bigint, $6::bigint, $7::bigint, $8::bigint, $9::bigint, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        id,
        now,
        window_days,
        counts.archive,
        counts.articles,
        counts.sources,
        counts.countries,
        counts.active_sources,
        counts.active_countries,
        verdict.searchability,
        verdict.significance,
        verdict.share,
        verdict.breadth as i16,
        Json(similar) as _,
        verdict.decision as i16,
        &verdict.reasons,
        Json(&words.translations) as _,
        words.note
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
