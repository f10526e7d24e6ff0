//! Links between documents and keywords, by the rules that link articles (`keywords/link.rs`), and kept as those are: by a new document, and by
//! a keyword's change. They count nowhere.

use sqlx::PgTransaction;

use crate::articles::filter::Filter;
use crate::error::Result;
use crate::search::store::query_languages;

/// Links a new document to every keyword that matches. Needs the lock of links.
pub async fn link_document(tx: &mut PgTransaction<'_>, document_id: i64) -> Result<()> {
    // The text index is read once, not once a term: a large one is stored compressed.
    sqlx::query!(
        "WITH d AS MATERIALIZED (SELECT id, language, search || ''::tsvector AS search FROM documents WHERE id = $1)
         INSERT INTO document_keywords (document_id, keyword_id, matched_language, matched_term)
         SELECT DISTINCT ON (m.keyword_id) $1, m.keyword_id, m.language, m.term
         FROM (
             SELECT t.keyword_id, t.language, t.term, t.position
             FROM d JOIN keyword_terms t ON (t.language = d.language OR d.language = 'und') AND d.search @@ t.query
             UNION ALL
             SELECT k.id, '', k.boolean_query, 2147483647
             FROM d JOIN keywords k ON k.boolean_query <> ''
                 AND d.search @@ websearch_to_tsquery(search_config(d.language), k.boolean_query)
                 AND querytree(websearch_to_tsquery(search_config(d.language), k.boolean_query)) NOT IN ('', 'T')
         ) m
         ORDER BY m.keyword_id, m.position",
        document_id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Links all documents to a keyword anew. Needs the lock of links.
pub async fn relink_keyword(tx: &mut PgTransaction<'_>, keyword_id: i64) -> Result<()> {
    sqlx::query!("DELETE FROM document_keywords WHERE keyword_id = $1", keyword_id)
        .execute(&mut **tx)
        .await?;
    sqlx::query!(
        "INSERT INTO document_keywords (document_id, keyword_id, matched_language, matched_term)
         SELECT DISTINCT ON (m.document_id) m.document_id, $1, m.language, m.term
         FROM (
             SELECT d.id AS document_id, t.language, t.term, t.position
             FROM keyword_terms t
             JOIN documents d ON (t.language = d.language OR d.language = 'und') AND d.search @@ t.query
             WHERE t.keyword_id = $1
             UNION ALL
             SELECT d.id, '', k.boolean_query, 2147483647
             FROM keywords k
             CROSS JOIN search_queries($2, k.boolean_query) q
             JOIN documents d ON d.search @@ q.query AND search_config(d.language) = q.config
             WHERE k.id = $1 AND k.boolean_query <> ''
         ) m
         ORDER BY m.document_id, m.position",
        keyword_id,
        &query_languages(&Filter::default())
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
