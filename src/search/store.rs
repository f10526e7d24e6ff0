//! SQL of search. Every filter is a condition of the index scan itself.

use chrono::{DateTime, Utc};
use pgvector::Vector;
use sqlx::PgExecutor;

use crate::articles::filter::Filter;
use crate::error::Result;

/// Languages whose words are tried when a client names none: those that Postgres stems, and word by word.
const LANGUAGES: [&str; 9] = ["en", "de", "fr", "es", "it", "sv", "nl", "da", "und"];

/// A found article.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The article.
    pub id: i64,
    /// Text rank or cosine similarity.
    pub score: f64,
    /// When it was published.
    pub publish_time: DateTime<Utc>,
}

/// The languages to read a query in.
pub fn query_languages(filter: &Filter) -> Vec<String> {
    match &filter.languages {
        Some(languages) => languages.clone(),
        None => LANGUAGES.map(str::to_owned).to_vec(),
    }
}

/// Articles that match by words, best first: those after `after` (score and number), at most `limit`.
pub async fn lexical(
    db: impl PgExecutor<'_>,
    query: &str,
    filter: &Filter,
    after: Option<(f64, i64)>,
    limit: i64,
) -> Result<Vec<Hit>> {
    let languages = query_languages(filter);
    let (after_score, after_id) = after.unzip();
    Ok(sqlx::query_as!(
        Hit,
        r#"SELECT id, score AS "score!", publish_time FROM (
               SELECT a.id, ts_rank(a.search, q.query, 1)::float8 AS score, a.publish_time
               FROM search_queries($10, $11) q
               JOIN articles a ON a.search @@ q.query AND search_config(a.language) = q.config
               WHERE article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
                 AND ($9::bigint IS NULL OR EXISTS (
                     SELECT 1 FROM article_keywords l WHERE l.keyword_id = $9 AND l.article_id = a.id))
           ) ranked
           WHERE $12::float8 IS NULL OR (score, id) < ($12, $13)
           ORDER BY score DESC, id DESC LIMIT $14"#,
        filter.sources.as_deref(),
        filter.countries.as_deref(),
        filter.languages.as_deref(),
        filter.published_after,
        filter.published_before,
        filter.min_score,
        filter.max_score,
        filter.class,
        filter.keyword,
        &languages,
        query,
        after_score,
        after_id,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Articles that match by words, newest first: those after `after` (time and number), at most `limit`.
pub async fn lexical_by_time(
    db: impl PgExecutor<'_>,
    query: &str,
    filter: &Filter,
    after: Option<(DateTime<Utc>, i64)>,
    limit: i64,
) -> Result<Vec<Hit>> {
    let languages = query_languages(filter);
    let (after_time, after_id) = after.unzip();
    Ok(sqlx::query_as!(
        Hit,
        r#"SELECT a.id, ts_rank(a.search, q.query, 1)::float8 AS "score!", a.publish_time
           FROM search_queries($10, $11) q
           JOIN articles a ON a.search @@ q.query AND search_config(a.language) = q.config
           WHERE article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
             AND ($9::bigint IS NULL OR EXISTS (
                 SELECT 1 FROM article_keywords l WHERE l.keyword_id = $9 AND l.article_id = a.id))
             AND ($12::timestamptz IS NULL OR (a.publish_time, a.id) < ($12, $13))
           ORDER BY a.publish_time DESC, a.id DESC LIMIT $14"#,
        filter.sources.as_deref(),
        filter.countries.as_deref(),
        filter.languages.as_deref(),
        filter.published_after,
        filter.published_before,
        filter.min_score,
        filter.max_score,
        filter.class,
        filter.keyword,
        &languages,
        query,
        after_time,
        after_id,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Number of articles that match by words.
pub async fn lexical_count(db: impl PgExecutor<'_>, query: &str, filter: &Filter) -> Result<i64> {
    let languages = query_languages(filter);
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM search_queries($10, $11) q
           JOIN articles a ON a.search @@ q.query AND search_config(a.language) = q.config
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
        filter.keyword,
        &languages,
        query
    )
    .fetch_one(db)
    .await?)
}

/// The articles nearest in meaning, nearest first, at most `limit`; only vectors of `model` are compared.
pub async fn semantic(
    db: impl PgExecutor<'_>,
    vector: &Vector,
    model: &str,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Hit>> {
    Ok(sqlx::query_as!(
        Hit,
        r#"SELECT a.id, 1 - (a.embedding <=> $10) AS "score!", a.publish_time FROM articles a
           WHERE a.embedding_model = $11
             AND article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
             AND ($9::bigint IS NULL OR EXISTS (
                 SELECT 1 FROM article_keywords l WHERE l.keyword_id = $9 AND l.article_id = a.id))
           ORDER BY a.embedding <=> $10 LIMIT $12"#,
        filter.sources.as_deref(),
        filter.countries.as_deref(),
        filter.languages.as_deref(),
        filter.published_after,
        filter.published_before,
        filter.min_score,
        filter.max_score,
        filter.class,
        filter.keyword,
        vector as &Vector,
        model,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// An article's vector and what made it.
#[derive(Debug)]
pub struct Embedded {
    /// 384 dimensions.
    pub vector: Option<Vector>,
    /// Name of the model.
    pub model: Option<String>,
}

/// The vector of an article; none when there is no such article.
pub async fn vector_of(db: impl PgExecutor<'_>, id: i64) -> Result<Option<Embedded>> {
    Ok(sqlx::query_as!(
        Embedded,
        r#"SELECT embedding AS "vector: Vector", embedding_model AS model FROM articles WHERE id = $1"#,
        id
    )
    .fetch_optional(db)
    .await?)
}

/// The articles nearest in meaning to one, itself left out, and its wire copies too when asked.
pub async fn similar(
    db: impl PgExecutor<'_>,
    id: i64,
    vector: &Vector,
    model: &str,
    languages: Option<&[String]>,
    exclude_syndicated: bool,
    limit: i64,
) -> Result<Vec<Hit>> {
    Ok(sqlx::query_as!(
        Hit,
        r#"SELECT a.id, 1 - (a.embedding <=> $2) AS "score!", a.publish_time FROM articles a
           WHERE a.embedding_model = $3 AND a.id <> $1
             AND ($4::text[] IS NULL OR a.language = ANY ($4))
             AND NOT ($5 AND COALESCE(a.syndicated_of, a.id)
                 = (SELECT COALESCE(me.syndicated_of, me.id) FROM articles me WHERE me.id = $1))
           ORDER BY a.embedding <=> $2 LIMIT $6"#,
        id,
        vector as &Vector,
        model,
        languages,
        exclude_syndicated,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// An article's fragments with marked matches.
#[derive(Debug)]
pub struct Marked {
    /// The article.
    pub id: i64,
    /// The whole title.
    pub title: String,
    /// Fragments of the body.
    pub body: String,
}

/// Fragments of these articles around the words of a query, marked with `highlight::START` and `END`.
pub async fn highlights(
    db: impl PgExecutor<'_>,
    query: &str,
    filter: &Filter,
    ids: &[i64],
) -> Result<Vec<Marked>> {
    let languages = query_languages(filter);
    Ok(sqlx::query_as!(
        Marked,
        r#"SELECT a.id,
               ts_headline(q.config, a.title, q.query,
                   'HighlightAll=true, StartSel=' || chr(2) || ', StopSel=' || chr(3)) AS "title!",
               ts_headline(q.config, a.body, q.query,
                   'MaxFragments=2, MaxWords=30, MinWords=12, FragmentDelimiter=" … ", StartSel=' || chr(2)
                   || ', StopSel=' || chr(3)) AS "body!"
           FROM search_queries($2, $3) q JOIN articles a ON search_config(a.language) = q.config
           WHERE a.id = ANY ($1)"#,
        ids,
        &languages,
        query
    )
    .fetch_all(db)
    .await?)
}

/// One value of one property, and how many articles have it.
#[derive(Debug)]
pub struct FacetRow {
    /// `source`, `country`, `language` or `class`.
    pub property: String,
    /// The value.
    pub value: String,
    /// Number of articles.
    pub count: i64,
}

/// Counts of the articles that match by words, by property.
pub async fn lexical_facets(db: impl PgExecutor<'_>, query: &str, filter: &Filter) -> Result<Vec<FacetRow>> {
    let languages = query_languages(filter);
    Ok(sqlx::query_as!(
        FacetRow,
        r#"WITH found AS (
               SELECT a.id FROM search_queries($10, $11) q
               JOIN articles a ON a.search @@ q.query AND search_config(a.language) = q.config
               WHERE article_matches(a, $1, $2, $3, $4, $5, $6, $7, $8)
                 AND ($9::bigint IS NULL OR EXISTS (
                     SELECT 1 FROM article_keywords l WHERE l.keyword_id = $9 AND l.article_id = a.id))
           )
           SELECT property AS "property!", value AS "value!", n AS "count!"
           FROM article_facets(ARRAY(SELECT id FROM found))"#,
        filter.sources.as_deref(),
        filter.countries.as_deref(),
        filter.languages.as_deref(),
        filter.published_after,
        filter.published_before,
        filter.min_score,
        filter.max_score,
        filter.class,
        filter.keyword,
        &languages,
        query
    )
    .fetch_all(db)
    .await?)
}

/// Counts of these articles, by property.
pub async fn facets(db: impl PgExecutor<'_>, ids: &[i64]) -> Result<Vec<FacetRow>> {
    Ok(sqlx::query_as!(
        FacetRow,
        r#"SELECT property AS "property!", value AS "value!", n AS "count!" FROM article_facets($1)"#,
        ids
    )
    .fetch_all(db)
    .await?)
}

/// What a prefix may become.
#[derive(Debug)]
pub struct CompletionRow {
    /// What to show.
    pub text: String,
    /// 1 keyword, 2 source, 3 article.
    pub kind: i32,
    /// Resource name.
    pub name: String,
    /// ISO 639-1; empty where it is not known.
    pub language: String,
}

/// Keywords, sources and titles that go on from `typed`, best first, at most `limit`.
pub async fn autocomplete(db: impl PgExecutor<'_>, typed: &str, limit: i64) -> Result<Vec<CompletionRow>> {
    Ok(sqlx::query_as!(
        CompletionRow,
        r#"WITH q AS (
               SELECT fold($1) AS typed,
                   replace(replace(replace(fold($1), '\', '\\'), '%', '\%'), '_', '\_') AS pattern
           ), found AS (
               (SELECT DISTINCT ON (k.id) t.term AS text, 1 AS kind, 'keywords/' || k.slug AS name, t.language,
                   CASE WHEN strpos(t.folded, q.typed) = 1 THEN 0 ELSE 1 END AS rank, -k.article_count::bigint AS weight
                FROM q, keyword_terms t JOIN keywords k ON k.id = t.keyword_id
                WHERE strpos(t.folded, q.typed) > 0
                ORDER BY k.id, strpos(t.folded, q.typed), lower(t.term) = lower($1) DESC, t.position)
               UNION ALL
               (SELECT s.display_name, 2, 'sources/' || s.slug, '',
                   CASE WHEN strpos(fold(s.display_name), q.typed) = 1 THEN 0 ELSE 1 END, -s.article_count::bigint
                FROM q, sources s
                WHERE strpos(fold(s.display_name), q.typed) > 0 AND s.retire_time IS NULL)
               UNION ALL
               (SELECT a.title, 3, 'articles/' || a.id, a.language, 2, -a.id
                FROM q, articles a
                WHERE length(q.typed) >= 3 AND fold(a.title) LIKE '%' || q.pattern || '%'
                ORDER BY a.publish_time DESC, a.id DESC LIMIT $2)
           )
           SELECT text AS "text!", kind AS "kind!", name AS "name!", language AS "language!"
           FROM found ORDER BY rank, kind, weight, text LIMIT $2"#,
        typed,
        limit
    )
    .fetch_all(db)
    .await?)
}
