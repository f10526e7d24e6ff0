//! SQL of articles.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::articles::filter::Filter;
use crate::error::Result;

/// Characters of the body that lists show.
pub const EXCERPT: i32 = 300;
/// The whole body.
pub const FULL: i32 = i32::MAX;

/// One article.
#[derive(Debug)]
pub struct Article {
    /// Its number.
    pub id: i64,
    /// Slug of its source.
    pub source: String,
    /// The source's name for people.
    pub source_display_name: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// ISO 639-1, or `und`.
    pub language: String,
    /// 0 to 1.
    pub language_confidence: f64,
    /// Plain text.
    pub title: String,
    /// Plain text, cut to what was asked for.
    pub body: String,
    /// Where it is published.
    pub url: String,
    /// As the feed names them.
    pub authors: Vec<String>,
    /// As the feed names them.
    pub categories: Vec<String>,
    /// When it was published.
    pub publish_time: DateTime<Utc>,
    /// When it was stored.
    pub create_time: DateTime<Utc>,
    /// The article it is a wire copy of.
    pub syndicated_of: Option<i64>,
    /// Analysis is done.
    pub analyzed: bool,
    /// -1 to 1.
    pub sentiment_score: Option<f64>,
    /// 1 (very negative) to 5.
    pub sentiment_label: Option<i16>,
    /// Why there is no score; empty when there is one.
    pub sentiment_abstain_reason: String,
    /// `name/version`.
    pub sentiment_analyzer: String,
    /// Slugs of the keywords it is linked to.
    pub keywords: Vec<String>,
}

/// An article's place in a list.
#[derive(Debug)]
pub struct Place {
    /// The article.
    pub id: i64,
    /// The time that the list is ordered by.
    pub time: DateTime<Utc>,
}

/// Orders of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Newest published first.
    PublishTimeDesc,
    /// Oldest published first.
    PublishTime,
    /// Newest stored first.
    CreateTimeDesc,
}

/// The articles of `ids`, in their order, bodies cut to `body_length` characters.
pub async fn by_ids(db: impl PgExecutor<'_>, ids: &[i64], body_length: i32) -> Result<Vec<Article>> {
    Ok(sqlx::query_as!(
        Article,
        r#"SELECT a.id, s.slug AS source, s.display_name AS source_display_name, a.country, a.language,
               a.language_confidence, a.title, left(a.body, $2) AS "body!", a.url, a.authors, a.categories,
               a.publish_time, a.create_time, a.syndicated_of, a.analyze_time IS NOT NULL AS "analyzed!",
               a.sentiment_score, a.sentiment_label, a.sentiment_abstain_reason, a.sentiment_analyzer,
               ARRAY(SELECT k.slug FROM article_keywords ak JOIN keywords k ON k.id = ak.keyword_id
                     WHERE ak.article_id = a.id ORDER BY k.slug) AS "keywords!"
           FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position)
           JOIN articles a ON a.id = wanted.id
           JOIN sources s ON s.id = a.source_id
           ORDER BY wanted.position"#,
        ids,
        body_length
    )
    .fetch_all(db)
    .await?)
}

/// A page of a list: the places after `after`, at most `limit`.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    order: Order,
    after: Option<Place>,
    limit: i64,
) -> Result<Vec<Place>> {
    let (after_time, after_id) = after.map_or((None, None), |place| (Some(place.time), Some(place.id)));
    let places = match (order, filter.keyword) {
        (Order::PublishTimeDesc, None) => {
            sqlx::query_as!(
                Place,
                r#"SELECT a.id, a.publish_time AS time FROM articles a
                   WHERE article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
                     AND ($9::timestamptz IS NULL OR (a.publish_time, a.id) < ($9, $10))
                   ORDER BY a.publish_time DESC, a.id DESC LIMIT $11"#,
                filter.sources.as_deref(),
                filter.countries.as_deref(),
                filter.languages.as_deref(),
                filter.published_after,
                filter.published_before,
                filter.min_score,
                filter.max_score,
                filter.class,
                after_time,
                after_id,
                limit
            )
            .fetch_all(db)
            .await?
        }
        (Order::PublishTime, None) => {
            sqlx::query_as!(
                Place,
                r#"SELECT a.id, a.publish_time AS time FROM articles a
                   WHERE article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
                     AND ($9::timestamptz IS NULL OR (a.publish_time, a.id) > ($9, $10))
                   ORDER BY a.publish_time, a.id LIMIT $11"#,
                filter.sources.as_deref(),
                filter.countries.as_deref(),
                filter.languages.as_deref(),
                filter.published_after,
                filter.published_before,
                filter.min_score,
                filter.max_score,
                filter.class,
                after_time,
                after_id,
                limit
            )
            .fetch_all(db)
            .await?
        }
        (Order::PublishTimeDesc, Some(keyword)) => {
            sqlx::query_as!(
                Place,
                r#"SELECT a.id, l.publish_time AS time
                   FROM article_keywords l JOIN articles a ON a.id = l.article_id
                   WHERE l.keyword_id = $12 AND article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
                     AND ($9::timestamptz IS NULL OR (l.publish_time, l.article_id) < ($9, $10))
                   ORDER BY l.publish_time DESC, l.article_id DESC LIMIT $11"#,
                filter.sources.as_deref(),
                filter.countries.as_deref(),
                filter.languages.as_deref(),
                filter.published_after,
                filter.published_before,
                filter.min_score,
                filter.max_score,
                filter.class,
                after_time,
                after_id,
                limit,
                keyword
            )
            .fetch_all(db)
            .await?
        }
        (Order::PublishTime, Some(keyword)) => {
            sqlx::query_as!(
                Place,
                r#"SELECT a.id, l.publish_time AS time
                   FROM article_keywords l JOIN articles a ON a.id = l.article_id
                   WHERE l.keyword_id = $12 AND article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
                     AND ($9::timestamptz IS NULL OR (l.publish_time, l.article_id) > ($9, $10))
                   ORDER BY l.publish_time, l.article_id LIMIT $11"#,
                filter.sources.as_deref(),
                filter.countries.as_deref(),
                filter.languages.as_deref(),
                filter.published_after,
                filter.published_before,
                filter.min_score,
                filter.max_score,
                filter.class,
                after_time,
                after_id,
                limit,
                keyword
            )
            .fetch_all(db)
            .await?
        }
        (Order::CreateTimeDesc, keyword) => {
            sqlx::query_as!(
                Place,
                r#"SELECT a.id, a.create_time AS time FROM articles a
                   WHERE article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
                     AND ($9::timestamptz IS NULL OR (a.create_time, a.id) < ($9, $10))
                     AND ($12::bigint IS NULL OR EXISTS (
                         SELECT 1 FROM article_keywords l WHERE l.keyword_id = $12 AND l.article_id = a.id))
                   ORDER BY a.create_time DESC, a.id DESC LIMIT $11"#,
                filter.sources.as_deref(),
                filter.countries.as_deref(),
                filter.languages.as_deref(),
                filter.published_after,
                filter.published_before,
                filter.min_score,
                filter.max_score,
                filter.class,
                after_time,
                after_id,
                limit,
                keyword
            )
            .fetch_all(db)
            .await?
        }
    };
    Ok(places)
}

/// Number of articles that pass a filter.
pub async fn count(db: impl PgExecutor<'_>, filter: &Filter) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM articles a
           WHERE article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
             AND ($9::bigint IS NULL OR EXISTS (
                 SELECT 1 FROM article_keywords l WHERE l.keyword_id = $9 AND l.article_id = a.id))"#,
        filter.sources.as_deref(),
        filter.countries.as_deref(),
        filter.languages.as_deref(),
        filter.published_after,
        filter.published_before,
        filter.min_score,
        filter.max_score,
        filter.class,
        filter.keyword
    )
    .fetch_one(db)
    .await?)
}

/// An analysed article's place in the order of analysis.
#[derive(Debug)]
pub struct Analyzed {
    /// The article.
    pub id: i64,
    /// Its place in the order of analysis.
    pub position: i64,
}

/// The place of the article that was analysed last; 0 when none was.
pub async fn last_analyzed(db: impl PgExecutor<'_>) -> Result<i64> {
    Ok(sqlx::query_scalar!(r#"SELECT COALESCE(max(analyze_position), 0) AS "last!" FROM articles"#)
        .fetch_one(db)
        .await?)
}

/// The articles analysed after the place `after` and up to `last`, oldest first.
pub async fn analyzed_after(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    after: i64,
    last: i64,
    limit: i64,
) -> Result<Vec<Analyzed>> {
    Ok(sqlx::query_as!(
        Analyzed,
        r#"SELECT a.id, a.analyze_position AS "position!" FROM articles a
           WHERE a.analyze_position > $9 AND a.analyze_position <= $10
             AND article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
             AND ($11::bigint IS NULL OR EXISTS (
                 SELECT 1 FROM article_keywords l WHERE l.keyword_id = $11 AND l.article_id = a.id))
           ORDER BY a.analyze_position LIMIT $12"#,
        filter.sources.as_deref(),
        filter.countries.as_deref(),
        filter.languages.as_deref(),
        filter.published_after,
        filter.published_before,
        filter.min_score,
        filter.max_score,
        filter.class,
        after,
        last,
        filter.keyword,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// The number of a keyword.
pub async fn keyword_id(db: impl PgExecutor<'_>, slug: &str) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!("SELECT id FROM keywords WHERE slug = $1", slug).fetch_optional(db).await?)
}

/// Slugs and numbers of those of the sources that exist.
pub async fn source_ids(db: impl PgExecutor<'_>, slugs: &[String]) -> Result<Vec<(String, i64)>> {
    let rows =
        sqlx::query!("SELECT slug, id FROM sources WHERE slug = ANY ($1)", slugs).fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.slug, row.id)).collect())
}
