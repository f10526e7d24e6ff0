//! One search over everything that administration knows by name.

use sqlx::PgPool;

use crate::articles::filter::Filter as ArticleFilter;
use crate::articles::store::{self as articles, Article, EXCERPT};
use crate::error::{Error, Result};
use crate::keywords::store::{self as keywords, Keyword, Order};
use crate::search::store::query_languages;
use crate::sources::store::{self as sources, Source};
use crate::suggestions::store::{self as suggestions, Filter as SuggestionFilter, Suggestion};

/// What was found of one kind.
#[derive(Debug)]
pub struct Group<T> {
    /// The first.
    pub results: Vec<T>,
    /// Number of all.
    pub total: i64,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Keywords, most articles first.
    pub keywords: Group<Keyword>,
    /// Articles, newest first.
    pub articles: Group<Article>,
    /// Suggestions, most votes first.
    pub suggestions: Group<Suggestion>,
    /// Sources by name.
    pub sources: Group<Source>,
}

/// Looks for `query` in all groups at once; at most `limit` results of each.
pub async fn search(db: &PgPool, query: &str, limit: i64) -> Result<Found> {
    // Nothing, once folded, would be part of every name.
    let folds = sqlx::query_scalar!(r#"SELECT fold($1) <> '' AS "folds!""#, query).fetch_one(db).await?;
    if !folds {
        return Err(Error::invalid("query", "must hold more than white space and accents."));
    }
    let (keywords, articles, suggestions, sources) = tokio::try_join!(
        find_keywords(db, query, limit),
        find_articles(db, query, limit),
        find_suggestions(db, query, limit),
        find_sources(db, query, limit),
    )?;
    Ok(Found { keywords, articles, suggestions, sources })
}

async fn find_keywords(db: &PgPool, query: &str, limit: i64) -> Result<Group<Keyword>> {
    let places = keywords::list(db, query, "", false, Order::ArticleCountDesc, None, limit).await?;
    let ids: Vec<i64> = places.iter().map(|place| place.id).collect();
    let total = keywords::count(db, query, "", false).await?;
    Ok(Group { results: keywords::by_ids(db, &ids, "").await?, total })
}

/// Articles by words, as search finds them, and by any part of the title.
async fn find_articles(db: &PgPool, query: &str, limit: i64) -> Result<Group<Article>> {
    let languages = query_languages(&ArticleFilter::default());
    // `LIKE` is what the index over titles serves.
    let rows = sqlx::query!(
        r#"WITH found AS (
               SELECT a.id, a.publish_time FROM search_queries($2, $1) q
               JOIN articles a ON a.search @@ q.query AND search_config(a.language) = q.config
               UNION
               SELECT a.id, a.publish_time FROM articles a
               WHERE fold(a.title)
                   LIKE '%' || replace(replace(replace(fold($1), '\', '\\'), '%', '\%'), '_', '\_') || '%'
           )
           SELECT id AS "id!", count(*) OVER () AS "total!" FROM found ORDER BY publish_time DESC, id DESC LIMIT $3"#,
        query,
        &languages,
        limit
    )
    .fetch_all(db)
    .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let total = rows.first().map_or(0, |row| row.total);
    Ok(Group { results: articles::by_ids(db, &ids, EXCERPT).await?, total })
}

async fn find_suggestions(db: &PgPool, query: &str, limit: i64) -> Result<Group<Suggestion>> {
    let filter = SuggestionFilter { states: Vec::new(), language: String::new(), query: query.to_owned() };
    let places = suggestions::list(db, &filter, true, None, limit).await?;
    let ids: Vec<i64> = places.iter().map(|place| place.id).collect();
    let total = suggestions::count(db, &filter).await?;
    Ok(Group { results: suggestions::by_ids(db, &ids).await?, total })
}

async fn find_sources(db: &PgPool, query: &str, limit: i64) -> Result<Group<Source>> {
    let rows = sqlx::query!(
        r#"SELECT s.id, count(*) OVER () AS "total!" FROM sources s
           WHERE s.retire_time IS NULL AND (
               strpos(fold(s.display_name), fold($1)) > 0 OR strpos(s.slug, fold($1)) > 0
               OR strpos(fold(s.homepage_url), fold($1)) > 0
               OR EXISTS (SELECT 1 FROM feeds f WHERE f.source_id = s.id AND strpos(fold(f.url), fold($1)) > 0))
           ORDER BY s.display_name, s.id LIMIT $2"#,
        query,
        limit
    )
    .fetch_all(db)
    .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let total = rows.first().map_or(0, |row| row.total);
    Ok(Group { results: sources::by_ids(db, &ids).await?, total })
}
