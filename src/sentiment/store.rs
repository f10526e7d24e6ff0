//! SQL of tone: what is shown of keywords comes from the aggregates.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::types::Json;
use sqlx::{PgExecutor, PgTransaction};

use crate::error::Result;
use crate::jobs::kinds::LLM_SCORE;
use crate::llm::Tone;
use crate::sentiment::analyze::{Label, Phrase};
use crate::sentiment::stats::Sums;

/// Which aggregates to add up.
#[derive(Clone, Debug)]
pub struct Span {
    /// The keyword.
    pub keyword_id: i64,
    /// From this day on; all days when not given.
    pub first: Option<NaiveDate>,
    /// To this day, included.
    pub last: NaiveDate,
}

/// A keyword's sums of one source.
#[derive(Debug)]
pub struct SourceSums {
    /// Slug of the source.
    pub source: String,
    /// Its name for people.
    pub display_name: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// First day with an article.
    pub first: NaiveDate,
    /// Last day with an article.
    pub last: NaiveDate,
    /// The sums.
    pub sums: Sums,
}

/// Sums by source, most articles first.
pub async fn by_source(db: impl PgExecutor<'_>, span: &Span) -> Result<Vec<SourceSums>> {
    let rows = sqlx::query!(
        r#"SELECT s.slug, s.display_name, s.country, min(d.day) AS "first!", max(d.day) AS "last!",
               sum(d.n)::bigint AS "n!", sum(d.sum)::float8 AS "sum!", sum(d.sum_of_squares)::float8 AS "squares!",
               sum(d.positive)::bigint AS "positive!", sum(d.neutral)::bigint AS "neutral!",
               sum(d.negative)::bigint AS "negative!", sum(d.abstained)::bigint AS "abstained!"
           FROM keyword_daily d JOIN sources s ON s.id = d.source_id
           WHERE d.keyword_id = $1 AND ($2::date IS NULL OR d.day >= $2) AND d.day <= $3
           GROUP BY s.id ORDER BY sum(d.n) DESC, s.slug"#,
        span.keyword_id,
        span.first,
        span.last
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SourceSums {
            source: row.slug,
            display_name: row.display_name,
            country: row.country,
            first: row.first,
            last: row.last,
            sums: Sums {
                articles: row.n,
                sum: row.sum,
                squares: row.squares,
                positive: row.positive,
                neutral: row.neutral,
                negative: row.negative,
                abstained: row.abstained,
            },
        })
        .collect())
}

/// Sums by day, oldest first; days without an article are left out.
pub async fn by_day(
    db: impl PgExecutor<'_>,
    span: &Span,
    source_id: Option<i64>,
    country: Option<&str>,
) -> Result<Vec<(NaiveDate, Sums)>> {
    let rows = sqlx::query!(
        r#"SELECT d.day, sum(d.n)::bigint AS "n!", sum(d.sum)::float8 AS "sum!",
               sum(d.sum_of_squares)::float8 AS "squares!", sum(d.positive)::bigint AS "positive!",
               sum(d.neutral)::bigint AS "neutral!", sum(d.negative)::bigint AS "negative!",
               sum(d.abstained)::bigint AS "abstained!"
           FROM keyword_daily d
           WHERE d.keyword_id = $1 AND ($2::date IS NULL OR d.day >= $2) AND d.day <= $3
             AND ($4::bigint IS NULL OR d.source_id = $4)
             AND ($5::text IS NULL OR d.source_id IN (SELECT id FROM sources WHERE country = $5))
           GROUP BY d.day ORDER BY d.day"#,
        span.keyword_id,
        span.first,
        span.last,
        source_id,
        country
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let sums = Sums {
                articles: row.n,
                sum: row.sum,
                squares: row.squares,
                positive: row.positive,
                neutral: row.neutral,
                negative: row.negative,
                abstained: row.abstained,
            };
            (row.day, sums)
        })
        .collect())
}

/// What one analyzer said of one article.
#[derive(Debug)]
pub struct Analysis {
    /// Name of the analyzer.
    pub analyzer: String,
    /// Its version.
    pub analyzer_version: String,
    /// ISO 639-1.
    pub language: String,
    /// Why there is no score; empty when there is one.
    pub abstain_reason: String,
    /// -1 to 1.
    pub score: Option<f64>,
    /// 1 (very negative) to 5.
    pub label: Option<i16>,
    /// 0 to 1.
    pub confidence: Option<f64>,
    /// 0 to 1.
    pub subjectivity: Option<f64>,
    /// `fact`, `opinion` or `mixed`, where the analyzer tells.
    pub class: Option<String>,
    /// 0 to 1.
    pub positive: Option<f64>,
    /// 0 to 1.
    pub neutral: Option<f64>,
    /// 0 to 1.
    pub negative: Option<f64>,
    /// Strongest first.
    pub phrases: Json<Vec<Phrase>>,
    /// When it was made.
    pub create_time: DateTime<Utc>,
}

/// Every analysis of an article, newest first; none when there is no such article or it waits for analysis.
pub async fn analyses(db: impl PgExecutor<'_>, article_id: i64) -> Result<Vec<Analysis>> {
    Ok(sqlx::query_as!(
        Analysis,
        r#"SELECT analyzer, analyzer_version, language, abstain_reason, score, label, confidence, subjectivity, class, positive,
               neutral, negative, phrases AS "phrases: Json<Vec<Phrase>>", create_time
           FROM article_sentiments WHERE article_id = $1
           ORDER BY create_time DESC, analyzer, analyzer_version"#,
        article_id
    )
    .fetch_all(db)
    .await?)
}

/// The text of an article.
#[derive(Debug)]
pub struct Text {
    /// Plain text.
    pub title: String,
    /// Plain text.
    pub body: String,
    /// ISO 639-1, or `und`.
    pub language: String,
}

/// The text of an article that was analysed, but not by this analyzer and version.
pub async fn text_without(
    db: impl PgExecutor<'_>,
    article_id: i64,
    analyzer: &str,
    version: &str,
) -> Result<Option<Text>> {
    Ok(sqlx::query_as!(
        Text,
        "SELECT title, body, language FROM articles a
         WHERE id = $1 AND analyze_time IS NOT NULL AND NOT EXISTS (
             SELECT 1 FROM article_sentiments s
             WHERE s.article_id = a.id AND s.analyzer = $2 AND s.analyzer_version = $3)",
        article_id,
        analyzer,
        version
    )
    .fetch_optional(db)
    .await?)
}

/// Analysed articles that an analyzer has not been asked about, newest first, at most `limit`. Those whose job waits, or failed for good, are
/// none of them.
pub async fn unscored(
    db: impl PgExecutor<'_>,
    analyzer: &str,
    version: &str,
    limit: i64,
) -> Result<Vec<i64>> {
    Ok(sqlx::query_scalar!(
        r"SELECT id FROM articles a
         WHERE analyze_time IS NOT NULL AND (title ~ '\S' OR body ~ '\S')
           AND NOT EXISTS (SELECT 1 FROM article_sentiments s
               WHERE s.article_id = a.id AND s.analyzer = $1 AND s.analyzer_version = $2)
           AND NOT EXISTS (SELECT 1 FROM graphile_worker.jobs j WHERE j.key = $3 || ':' || a.id)
         ORDER BY publish_time DESC, id DESC LIMIT $4",
        analyzer,
        version,
        LLM_SCORE.task,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Keeps that a second analyzer has nothing to say of an article, so that it is not asked again.
pub async fn add_abstention(
    db: impl PgExecutor<'_>,
    article_id: i64,
    (analyzer, version): (&str, &str),
    language: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO article_sentiments (article_id, analyzer, analyzer_version, language, abstain_reason, create_time)
         SELECT id, $2, $3, $4, $5, $6 FROM articles WHERE id = $1
         ON CONFLICT DO NOTHING",
        article_id,
        analyzer,
        version,
        language,
        reason,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Keeps what a second analyzer said of an article, and makes its score the article's; false when it is kept already. The article must be
/// out of the aggregates.
pub async fn add_tone(
    tx: &mut PgTransaction<'_>,
    article_id: i64,
    (analyzer, version): (&str, &str),
    language: &str,
    tone: &Tone,
    now: DateTime<Utc>,
) -> Result<bool> {
    let label = label_number(tone.label);
    let added = sqlx::query!(
        "INSERT INTO article_sentiments (article_id, analyzer, analyzer_version, language, score, label, confidence, subjectivity,
             class, phrases, create_time)
         SELECT id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 FROM articles WHERE id = $1
         ON CONFLICT DO NOTHING",
        article_id,
        analyzer,
        version,
        language,
        tone.score,
        label,
        tone.confidence,
        tone.subjectivity,
        tone.class.as_str(),
        serde_json::json!(tone.phrases),
        now
    )
    .execute(&mut **tx)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "UPDATE articles SET sentiment_score = $2, sentiment_label = $3, sentiment_abstain_reason = '', sentiment_analyzer = $4
         WHERE id = $1",
        article_id,
        tone.score,
        label,
        format!("{analyzer}/{version}")
    )
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

/// Whether there is such an article.
pub async fn article_exists(db: impl PgExecutor<'_>, id: i64) -> Result<bool> {
    Ok(sqlx::query_scalar!(r#"SELECT EXISTS (SELECT 1 FROM articles WHERE id = $1) AS "exists!""#, id)
        .fetch_one(db)
        .await?)
}

/// A label as it is stored and sent: 1 (very negative) to 5.
pub fn label_number(label: Label) -> i16 {
    match label {
        Label::VeryNegative => 1,
        Label::Negative => 2,
        Label::Neutral => 3,
        Label::Positive => 4,
        Label::VeryPositive => 5,
    }
}
