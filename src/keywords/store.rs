//! SQL of keywords.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgExecutor, PgTransaction};

use crate::articles::filter::Filter;
use crate::error::{Error, Result};
use crate::keywords::review::Review;
use crate::search::store::query_languages;

/// One phrase in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// ISO 639-1.
    pub language: String,
    /// The phrase.
    pub term: String,
}

/// A keyword.
#[derive(Debug)]
pub struct Keyword {
    /// Its number.
    pub id: i64,
    /// Its slug.
    pub slug: String,
    /// Its name for people.
    pub display_name: String,
    /// What it covers.
    pub description: String,
    /// Category slug.
    pub category: String,
    /// Web-search syntax; empty for none.
    pub boolean_query: String,
    /// Number of linked articles.
    pub article_count: i32,
    /// When the newest linked article was published.
    pub latest_article_time: Option<DateTime<Utc>>,
    /// When it was created.
    pub create_time: DateTime<Utc>,
    /// When it was last changed.
    pub update_time: DateTime<Utc>,
    /// Its phrases, in order.
    pub terms: Json<Vec<Term>>,
    /// Those that match the query, closest first.
    pub matched_terms: Json<Vec<Term>>,
    /// What the last review saw; none before the first.
    pub review: Option<Json<Review>>,
}

/// What people set of a keyword.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// Its name for people.
    pub display_name: String,
    /// What it covers.
    pub description: String,
    /// Category slug.
    pub category: String,
    /// Web-search syntax; empty for none.
    pub boolean_query: String,
    /// Its phrases, in order.
    pub terms: Vec<Term>,
}

/// A keyword's place in a list.
#[derive(Debug)]
pub struct Place {
    /// The keyword.
    pub id: i64,
    /// Its name.
    pub text: String,
    /// Its number of articles, or when it was created.
    pub number: i64,
}

/// Orders of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By name.
    DisplayName,
    /// Most articles first.
    ArticleCountDesc,
    /// Newest first.
    CreateTimeDesc,
}

/// A page of a list: the places after `after`, at most `limit`. Empty `query` and `category` let everything pass;
/// `flagged` only what the last review found nothing for.
pub async fn list(
    db: impl PgExecutor<'_>,
    query: &str,
    category: &str,
    flagged: bool,
    order: Order,
    after: Option<Place>,
    limit: i64,
) -> Result<Vec<Place>> {
    let (id, text, number) = match after {
        Some(place) => (Some(place.id), place.text, place.number),
        None => (None, String::new(), 0),
    };
    let places = match order {
        Order::DisplayName => {
            sqlx::query_as!(
                Place,
                r#"SELECT k.id, k.display_name AS text, 0::bigint AS "number!" FROM keywords k
                   WHERE ($1 = '' OR keyword_matches(k, $1)) AND ($2 = '' OR k.category = $2)
                     AND (NOT $6::boolean OR EXISTS (SELECT 1 FROM keyword_reviews r WHERE r.keyword_id = k.id AND r.flagged))
                     AND ($3::bigint IS NULL OR (k.display_name, k.id) > ($4, $3))
                   ORDER BY k.display_name, k.id LIMIT $5"#,
                query,
                category,
                id,
                text,
                limit,
                flagged
            )
            .fetch_all(db)
            .await?
        }
        Order::ArticleCountDesc => {
            sqlx::query_as!(
                Place,
                r#"SELECT k.id, '' AS "text!", k.article_count::bigint AS "number!" FROM keywords k
                   WHERE ($1 = '' OR keyword_matches(k, $1)) AND ($2 = '' OR k.category = $2)
                     AND (NOT $6::boolean OR EXISTS (SELECT 1 FROM keyword_reviews r WHERE r.keyword_id = k.id AND r.flagged))
                     AND ($3::bigint IS NULL OR (k.article_count, k.id) < ($4::bigint, $3))
                   ORDER BY k.article_count DESC, k.id DESC LIMIT $5"#,
                query,
                category,
                id,
                number,
                limit,
                flagged
            )
            .fetch_all(db)
            .await?
        }
        Order::CreateTimeDesc => sqlx::query_as!(
            Place,
            r#"SELECT k.id, '' AS "text!", (extract(epoch FROM k.create_time) * 1000000)::bigint AS "number!"
                   FROM keywords k
                   WHERE ($1 = '' OR keyword_matches(k, $1)) AND ($2 = '' OR k.category = $2)
                     AND (NOT $6::boolean OR EXISTS (SELECT 1 FROM keyword_reviews r WHERE r.keyword_id = k.id AND r.flagged))
                     AND ($3::bigint IS NULL
                          OR ((extract(epoch FROM k.create_time) * 1000000)::bigint, k.id) < ($4::bigint, $3))
                   ORDER BY k.create_time DESC, k.id DESC LIMIT $5"#,
            query,
            category,
            id,
            number,
            limit,
            flagged
        )
        .fetch_all(db)
        .await?,
    };
    Ok(places)
}

/// Number of keywords that a list would show in all.
pub async fn count(db: impl PgExecutor<'_>, query: &str, category: &str, flagged: bool) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM keywords k
           WHERE ($1 = '' OR keyword_matches(k, $1)) AND ($2 = '' OR k.category = $2)
             AND (NOT $3::boolean OR EXISTS (SELECT 1 FROM keyword_reviews r WHERE r.keyword_id = k.id AND r.flagged))"#,
        query,
        category,
        flagged
    )
    .fetch_one(db)
    .await?)
}

/// The keywords of `ids`, in their order; `query` tells which terms count as matched, empty for none.
pub async fn by_ids(db: impl PgExecutor<'_>, ids: &[i64], query: &str) -> Result<Vec<Keyword>> {
    Ok(sqlx::query_as!(
        Keyword,
        r#"SELECT k.id, k.slug, k.display_name, k.description, k.category, k.boolean_query, k.article_count,
               (SELECT l.publish_time FROM article_keywords l WHERE l.keyword_id = k.id
                ORDER BY l.publish_time DESC LIMIT 1) AS latest_article_time,
               k.create_time, k.update_time,
               COALESCE((SELECT jsonb_agg(jsonb_build_object('language', t.language, 'term', t.term) ORDER BY t.position)
                         FROM keyword_terms t WHERE t.keyword_id = k.id), '[]') AS "terms!: Json<Vec<Term>>",
               COALESCE((SELECT jsonb_agg(jsonb_build_object('language', t.language, 'term', t.term)
                                ORDER BY lower(t.term) = lower($2) DESC, t.folded = fold($2) DESC, t.position)
                         FROM keyword_terms t WHERE t.keyword_id = k.id AND $2 <> ''
                           AND strpos(t.folded, fold($2)) > 0), '[]') AS "matched_terms!: Json<Vec<Term>>",
               (SELECT to_jsonb(r) FROM keyword_reviews r WHERE r.keyword_id = k.id) AS "review: Json<Review>"
           FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position)
           JOIN keywords k ON k.id = wanted.id
           ORDER BY wanted.position"#,
        ids,
        query
    )
    .fetch_all(db)
    .await?)
}

/// One keyword by its slug.
pub async fn by_slug(db: impl PgExecutor<'_>, slug: &str) -> Result<Option<Keyword>> {
    Ok(sqlx::query_as!(
        Keyword,
        r#"SELECT k.id, k.slug, k.display_name, k.description, k.category, k.boolean_query, k.article_count,
               (SELECT l.publish_time FROM article_keywords l WHERE l.keyword_id = k.id
                ORDER BY l.publish_time DESC LIMIT 1) AS latest_article_time,
               k.create_time, k.update_time,
               COALESCE((SELECT jsonb_agg(jsonb_build_object('language', t.language, 'term', t.term) ORDER BY t.position)
                         FROM keyword_terms t WHERE t.keyword_id = k.id), '[]') AS "terms!: Json<Vec<Term>>",
               '[]'::jsonb AS "matched_terms!: Json<Vec<Term>>",
               (SELECT to_jsonb(r) FROM keyword_reviews r WHERE r.keyword_id = k.id) AS "review: Json<Review>"
           FROM keywords k WHERE k.slug = $1"#,
        slug
    )
    .fetch_optional(db)
    .await?)
}

/// Locks a keyword for a change; its number.
pub async fn lock(tx: &mut PgTransaction<'_>, slug: &str) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!("SELECT id FROM keywords WHERE slug = $1 FOR UPDATE", slug)
        .fetch_optional(&mut **tx)
        .await?)
}

/// Keeps a new keyword without terms; its number, or none when the slug is taken.
pub async fn insert(
    db: impl PgExecutor<'_>,
    slug: &str,
    draft: &Draft,
    now: DateTime<Utc>,
) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO keywords (slug, display_name, description, category, boolean_query, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (slug) DO NOTHING RETURNING id",
        slug,
        draft.display_name,
        draft.description,
        draft.category,
        draft.boolean_query,
        now
    )
    .fetch_optional(db)
    .await?)
}

/// Changes a keyword, terms aside. A new name needs a new vector.
pub async fn update(db: impl PgExecutor<'_>, id: i64, draft: &Draft, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "UPDATE keywords SET display_name = $2, description = $3, category = $4, boolean_query = $5, update_time = $6,
             embedding = CASE WHEN display_name = $2 THEN embedding END,
             embedding_model = CASE WHEN display_name = $2 THEN embedding_model END
         WHERE id = $1",
        id,
        draft.display_name,
        draft.description,
        draft.category,
        draft.boolean_query,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Replaces a keyword's terms. A term that holds nothing to search for, or that stands twice, is refused.
pub async fn replace_terms(tx: &mut PgTransaction<'_>, id: i64, terms: &[Term]) -> Result<()> {
    sqlx::query!("DELETE FROM keyword_terms WHERE keyword_id = $1", id).execute(&mut **tx).await?;
    for (position, term) in terms.iter().enumerate() {
        let nodes = sqlx::query_scalar!(
            r#"INSERT INTO keyword_terms (keyword_id, position, language, term) VALUES ($1, $2, $3, $4)
               ON CONFLICT (keyword_id, language, term) DO NOTHING RETURNING numnode(query) AS "nodes!""#,
            id,
            i32::try_from(position).unwrap_or(i32::MAX),
            term.language,
            term.term
        )
        .fetch_optional(&mut **tx)
        .await?;
        let problem = match nodes {
            Some(0) => "holds no word to search for: stop words and punctuation alone match nothing.",
            None => "stands twice in the same language.",
            Some(_) => continue,
        };
        return Err(Error::invalid(format!("keyword.terms[{position}].term"), problem));
    }
    Ok(())
}

/// Whether a boolean query asks for something in every language: stop words or exclusions alone would match nothing or everything.
pub async fn boolean_query_searches(db: impl PgExecutor<'_>, query: &str) -> Result<bool> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) = cardinality(ARRAY(SELECT DISTINCT search_config(l) FROM unnest($2::text[]) AS l)) AS "searches!"
           FROM search_queries($2, $1)"#,
        query,
        &query_languages(&Filter::default())
    )
    .fetch_one(db)
    .await?)
}

/// Deletes a keyword with its terms, links and aggregates; false when there is none.
pub async fn delete(db: impl PgExecutor<'_>, slug: &str) -> Result<bool> {
    let done = sqlx::query!("DELETE FROM keywords WHERE slug = $1", slug).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Why an article is linked.
#[derive(Debug)]
pub struct Link {
    /// The article.
    pub article_id: i64,
    /// Language of the term; empty for the boolean query.
    pub matched_language: String,
    /// The term, or the boolean query.
    pub matched_term: String,
    /// The match is in the title.
    pub in_title: bool,
}

/// Why these articles are linked to a keyword.
pub async fn links(db: impl PgExecutor<'_>, keyword_id: i64, article_ids: &[i64]) -> Result<Vec<Link>> {
    Ok(sqlx::query_as!(
        Link,
        "SELECT article_id, matched_language, matched_term, in_title FROM article_keywords
         WHERE keyword_id = $1 AND article_id = ANY ($2)",
        keyword_id,
        article_ids
    )
    .fetch_all(db)
    .await?)
}
