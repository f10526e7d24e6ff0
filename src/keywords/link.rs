//! Links between articles and keywords: each term matches as a phrase in articles of its own language; a boolean query matches in any.

use sqlx::{PgExecutor, PgTransaction};

use crate::articles::filter::Filter;
use crate::documents::link as documents;
use crate::error::Result;
use crate::keywords::store::{Link, Term};
use crate::search::store::query_languages;
use crate::sentiment::aggregate;

/// Key of the advisory lock under which links, aggregates and counts change, so that no change misses another.
const LOCK: i64 = 0x6575_6875_6201;

/// Waits for its turn to change links; held until the transaction ends.
pub async fn lock(tx: &mut PgTransaction<'_>) -> Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", LOCK).execute(&mut **tx).await?;
    Ok(())
}

/// Links newly analysed articles to every keyword that matches; the number of links. Needs [`lock`].
pub async fn link_articles(tx: &mut PgTransaction<'_>, article_ids: &[i64]) -> Result<u64> {
    let done = sqlx::query!(
        "INSERT INTO article_keywords (keyword_id, article_id, publish_time, matched_language, matched_term, in_title)
         SELECT DISTINCT ON (m.keyword_id, m.article_id)
             m.keyword_id, m.article_id, m.publish_time, m.language, m.term, m.in_title
         FROM (
             SELECT t.keyword_id, a.id AS article_id, a.publish_time, t.language, t.term,
                 ts_filter(a.search, '{a}') @@ t.query AS in_title, t.position
             FROM articles a
             JOIN keyword_terms t ON (t.language = a.language OR a.language = 'und') AND a.search @@ t.query
             WHERE a.id = ANY ($1)
             UNION ALL
             SELECT k.id, a.id, a.publish_time, '', k.boolean_query,
                 ts_filter(a.search, '{a}') @@ websearch_to_tsquery(search_config(a.language), k.boolean_query), 2147483647
             FROM articles a
             JOIN keywords k ON k.boolean_query <> ''
                 AND a.search @@ websearch_to_tsquery(search_config(a.language), k.boolean_query)
                 AND querytree(websearch_to_tsquery(search_config(a.language), k.boolean_query)) NOT IN ('', 'T')
             WHERE a.id = ANY ($1)
         ) m
         ORDER BY m.keyword_id, m.article_id, m.in_title DESC, m.position
         ON CONFLICT DO NOTHING",
        article_ids
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "UPDATE keywords k SET article_count = k.article_count + linked.n
         FROM (SELECT keyword_id, count(*)::int AS n FROM article_keywords WHERE article_id = ANY ($1)
               GROUP BY keyword_id) linked
         WHERE k.id = linked.keyword_id",
        article_ids
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

/// Links the whole archive, and the documents, to a keyword anew, with its aggregates and count. Takes [`lock`].
pub async fn relink_keyword(tx: &mut PgTransaction<'_>, keyword_id: i64) -> Result<()> {
    lock(tx).await?;
    sqlx::query!("DELETE FROM article_keywords WHERE keyword_id = $1", keyword_id).execute(&mut **tx).await?;
    sqlx::query!(
        "INSERT INTO article_keywords (keyword_id, article_id, publish_time, matched_language, matched_term, in_title)
         SELECT DISTINCT ON (m.article_id) $1, m.article_id, m.publish_time, m.language, m.term, m.in_title
         FROM (
             SELECT a.id AS article_id, a.publish_time, t.language, t.term,
                 ts_filter(a.search, '{a}') @@ t.query AS in_title, t.position
             FROM keyword_terms t
             JOIN articles a ON (t.language = a.language OR a.language = 'und') AND a.search @@ t.query
             WHERE t.keyword_id = $1 AND a.analyze_time IS NOT NULL
             UNION ALL
             SELECT a.id, a.publish_time, '', k.boolean_query, ts_filter(a.search, '{a}') @@ q.query, 2147483647
             FROM keywords k
             CROSS JOIN search_queries($2, k.boolean_query) q
             JOIN articles a ON a.search @@ q.query AND search_config(a.language) = q.config
             WHERE k.id = $1 AND k.boolean_query <> '' AND a.analyze_time IS NOT NULL
         ) m
         ORDER BY m.article_id, m.in_title DESC, m.position",
        keyword_id,
        &languages()
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "UPDATE keywords SET article_count = (SELECT count(*) FROM article_keywords WHERE keyword_id = $1) WHERE id = $1",
        keyword_id
    )
    .execute(&mut **tx)
    .await?;
    documents::relink_keyword(tx, keyword_id).await?;
    aggregate::rebuild(tx, Some(keyword_id)).await
}

/// What a keyword would match.
#[derive(Debug)]
pub struct Preview {
    /// Distinct articles.
    pub articles: i64,
    /// Sources behind them.
    pub sources: i64,
    /// Countries behind them.
    pub countries: i64,
    /// Articles in the archive.
    pub archive: i64,
}

/// Counts what terms and a boolean query would match in the analysed archive.
pub async fn preview(db: impl PgExecutor<'_>, terms: &[Term], boolean_query: &str) -> Result<Preview> {
    let (term_languages, phrases) = columns(terms);
    Ok(sqlx::query_as!(
        Preview,
        r#"WITH matched AS (
               SELECT a.id, a.source_id, a.country
               FROM unnest($1::text[], $2::text[]) AS t (language, term)
               JOIN articles a ON (t.language = a.language OR a.language = 'und')
                   AND a.search @@ phraseto_tsquery(search_config(t.language), t.term)
               WHERE a.analyze_time IS NOT NULL
               UNION
               SELECT a.id, a.source_id, a.country FROM search_queries($4, $3) q
               JOIN articles a ON a.search @@ q.query AND search_config(a.language) = q.config
               WHERE a.analyze_time IS NOT NULL
           )
           SELECT count(*) AS "articles!", count(DISTINCT source_id) AS "sources!",
               count(DISTINCT country) AS "countries!",
               (SELECT count(*) FROM articles WHERE analyze_time IS NOT NULL) AS "archive!"
           FROM matched"#,
        &term_languages,
        &phrases,
        boolean_query,
        &languages()
    )
    .fetch_one(db)
    .await?)
}

/// Number of articles that each term would match, in order; the boolean query last, where there is one.
pub async fn preview_terms(db: impl PgExecutor<'_>, terms: &[Term], boolean_query: &str) -> Result<Vec<i64>> {
    let (term_languages, phrases) = columns(terms);
    Ok(sqlx::query_scalar!(
        r#"SELECT n AS "n!" FROM (
               SELECT t.position, (SELECT count(*) FROM articles a
                   WHERE (t.language = a.language OR a.language = 'und') AND a.analyze_time IS NOT NULL
                     AND a.search @@ phraseto_tsquery(search_config(t.language), t.term)) AS n
               FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (language, term, position)
               UNION ALL
               SELECT 9223372036854775807, (SELECT count(*) FROM search_queries($4, $3) q
                   JOIN articles a ON a.search @@ q.query AND search_config(a.language) = q.config
                   WHERE a.analyze_time IS NOT NULL)
               WHERE $3 <> ''
           ) counts ORDER BY position"#,
        &term_languages,
        &phrases,
        boolean_query,
        &languages()
    )
    .fetch_all(db)
    .await?)
}

/// The newest articles that terms and a boolean query would link, and why.
pub async fn preview_links(
    db: impl PgExecutor<'_>,
    terms: &[Term],
    boolean_query: &str,
    limit: i64,
) -> Result<Vec<Link>> {
    let (term_languages, phrases) = columns(terms);
    Ok(sqlx::query_as!(
        Link,
        r#"SELECT article_id AS "article_id!", language AS "matched_language!", term AS "matched_term!",
               in_title AS "in_title!"
           FROM (
               SELECT DISTINCT ON (m.article_id) m.* FROM (
                   SELECT a.id AS article_id, a.publish_time, t.language, t.term,
                       ts_filter(a.search, '{a}') @@ phraseto_tsquery(search_config(t.language), t.term) AS in_title,
                       t.position
                   FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (language, term, position)
                   JOIN articles a ON (t.language = a.language OR a.language = 'und')
                       AND a.search @@ phraseto_tsquery(search_config(t.language), t.term)
                   WHERE a.analyze_time IS NOT NULL
                   UNION ALL
                   SELECT a.id, a.publish_time, '', $3, ts_filter(a.search, '{a}') @@ q.query, 9223372036854775807
                   FROM search_queries($5, $3) q
                   JOIN articles a ON a.search @@ q.query AND search_config(a.language) = q.config
                   WHERE a.analyze_time IS NOT NULL
               ) m ORDER BY m.article_id, m.in_title DESC, m.position
           ) links ORDER BY publish_time DESC, article_id DESC LIMIT $4"#,
        &term_languages,
        &phrases,
        boolean_query,
        limit,
        &languages()
    )
    .fetch_all(db)
    .await?)
}

fn columns(terms: &[Term]) -> (Vec<String>, Vec<String>) {
    terms.iter().map(|term| (term.language.clone(), term.term.clone())).unzip()
}

/// A boolean query is read in every language.
fn languages() -> Vec<String> {
    query_languages(&Filter::default())
}
