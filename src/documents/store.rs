//! SQL of documents.

use chrono::{DateTime, Utc};
use pgvector::Vector;
use sqlx::types::Json;
use sqlx::{PgExecutor, PgTransaction};

use crate::error::Result;
use crate::ingest::store::Scored;
use crate::page::Cursor;
use crate::sentiment::analyze::Phrase;

/// A document as it is stored.
#[derive(Debug)]
pub struct Document {
    /// Its number.
    pub id: i64,
    /// A label.
    pub file_name: String,
    /// What the content is.
    pub media_type: String,
    /// Size of the file.
    pub byte_count: i32,
    /// Pages, where the format has them.
    pub page_count: Option<i32>,
    /// Pages that could not be read.
    pub unread_page_count: i32,
    /// The first line.
    pub title: String,
    /// The text, cut to what was asked for.
    pub body: String,
    /// The file holds more text.
    pub truncated: bool,
    /// ISO 639-1, or `und`.
    pub language: String,
    /// 0 to 1.
    pub language_confidence: f64,
    /// When it came.
    pub create_time: DateTime<Utc>,
    /// Name of the analyzer.
    pub analyzer: String,
    /// Its version.
    pub analyzer_version: String,
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
    /// 0 to 1.
    pub positive: Option<f64>,
    /// 0 to 1.
    pub neutral: Option<f64>,
    /// 0 to 1.
    pub negative: Option<f64>,
    /// Strongest first.
    pub phrases: Json<Vec<Phrase>>,
    /// The keywords that match, by slug.
    pub keywords: Json<Vec<KeywordLink>>,
}

/// A keyword that matches a document.
#[derive(Debug, serde::Deserialize)]
pub struct KeywordLink {
    /// Slug of the keyword.
    pub keyword: String,
    /// Empty when the boolean query matched.
    pub language: String,
    /// The term or the boolean query.
    pub term: String,
}

/// A document to be stored.
#[derive(Debug)]
pub struct Draft {
    /// A label.
    pub file_name: String,
    /// What the content is.
    pub media_type: String,
    /// Size of the file.
    pub byte_count: i32,
    /// Pages, where the format has them.
    pub page_count: Option<i32>,
    /// Pages that could not be read.
    pub unread_page_count: i32,
    /// SHA-256 of the file.
    pub content_hash: [u8; 32],
    /// The first line.
    pub title: String,
    /// The text.
    pub body: String,
    /// The file holds more text.
    pub truncated: bool,
    /// ISO 639-1, or `und`.
    pub language: String,
    /// 0 to 1.
    pub language_confidence: f64,
    /// Name and version of the analyzer.
    pub analyzer: (&'static str, &'static str),
    /// Why there is no score; empty when there is one.
    pub abstain_reason: String,
    /// The tone.
    pub scored: Option<Scored>,
    /// The vector and its model's name.
    pub embedding: Option<(Vector, String)>,
}

/// The number of the document with these bytes.
pub async fn by_hash(db: impl PgExecutor<'_>, hash: &[u8; 32]) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!("SELECT id FROM documents WHERE content_hash = $1", hash)
        .fetch_optional(db)
        .await?)
}

/// Stores a document; nothing when one with its bytes came first.
pub async fn insert(tx: &mut PgTransaction<'_>, draft: &Draft, now: DateTime<Utc>) -> Result<Option<i64>> {
    let scored = draft.scored.as_ref();
    let phrases = Json(scored.map(|scored| scored.phrases.as_slice()).unwrap_or_default());
    let (vector, model) = match &draft.embedding {
        Some((vector, model)) => (Some(vector), Some(model.as_str())),
        None => (None, None),
    };
    Ok(sqlx::query_scalar!(
        "INSERT INTO documents (file_name, media_type, byte_count, page_count, unread_page_count, content_hash, title, body,
             truncated, language, language_confidence, create_time, analyzer, analyzer_version, abstain_reason, score, label,
             confidence, subjectivity, positive, neutral, negative, phrases, embedding, embedding_model)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
             $24, $25)
         ON CONFLICT (content_hash) DO NOTHING RETURNING id",
        draft.file_name,
        draft.media_type,
        draft.byte_count,
        draft.page_count,
        draft.unread_page_count,
        &draft.content_hash,
        draft.title,
        draft.body,
        draft.truncated,
        draft.language,
        draft.language_confidence,
        now,
        draft.analyzer.0,
        draft.analyzer.1,
        draft.abstain_reason,
        scored.map(|scored| scored.score),
        scored.map(|scored| scored.label),
        scored.map(|scored| scored.confidence),
        scored.map(|scored| scored.subjectivity),
        scored.map(|scored| scored.positive),
        scored.map(|scored| scored.neutral),
        scored.map(|scored| scored.negative),
        phrases as _,
        vector as Option<&Vector>,
        model
    )
    .fetch_optional(&mut **tx)
    .await?)
}

/// Documents, newest first: one of this number, a keyword's, or all. Bodies are cut to `body_length` characters.
pub async fn list(
    db: impl PgExecutor<'_>,
    id: Option<i64>,
    keyword: Option<i64>,
    after: Option<&Cursor>,
    body_length: i32,
    limit: i64,
) -> Result<Vec<Document>> {
    let after_time = after.map(Cursor::time).transpose()?;
    Ok(sqlx::query_as!(
        Document,
        r#"SELECT d.id, d.file_name, d.media_type, d.byte_count, d.page_count, d.unread_page_count, d.title,
               left(d.body, $5) AS "body!", d.truncated, d.language, d.language_confidence, d.create_time, d.analyzer,
               d.analyzer_version, d.abstain_reason, d.score, d.label, d.confidence, d.subjectivity, d.positive, d.neutral,
               d.negative, d.phrases AS "phrases: Json<Vec<Phrase>>",
               (SELECT COALESCE(jsonb_agg(jsonb_build_object(
                    'keyword', k.slug, 'language', l.matched_language, 'term', l.matched_term) ORDER BY k.slug), '[]')
                FROM document_keywords l JOIN keywords k ON k.id = l.keyword_id
                WHERE l.document_id = d.id) AS "keywords!: Json<Vec<KeywordLink>>"
           FROM documents d
           WHERE ($1::bigint IS NULL OR d.id = $1)
             AND ($2::bigint IS NULL OR EXISTS (
                 SELECT 1 FROM document_keywords l WHERE l.keyword_id = $2 AND l.document_id = d.id))
             AND ($3::timestamptz IS NULL OR (d.create_time, d.id) < ($3, $4))
           ORDER BY d.create_time DESC, d.id DESC LIMIT $6"#,
        id,
        keyword,
        after_time,
        after.map(|after| after.id),
        body_length,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Number of all documents, or of a keyword's.
pub async fn count(db: impl PgExecutor<'_>, keyword: Option<i64>) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM documents d
           WHERE $1::bigint IS NULL OR EXISTS (
               SELECT 1 FROM document_keywords l WHERE l.keyword_id = $1 AND l.document_id = d.id)"#,
        keyword
    )
    .fetch_one(db)
    .await?)
}

/// Deletes a document; false when there is none of this number.
pub async fn delete(db: impl PgExecutor<'_>, id: i64) -> Result<bool> {
    let done = sqlx::query!("DELETE FROM documents WHERE id = $1", id).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// A document's vector of this model.
pub async fn vector_of(db: impl PgExecutor<'_>, id: i64, model: &str) -> Result<Option<Vector>> {
    let row = sqlx::query!(
        r#"SELECT embedding AS "vector: Vector" FROM documents WHERE id = $1 AND embedding_model = $2"#,
        id,
        model
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(|row| row.vector))
}

/// Gives a document a vector.
pub async fn set_embedding(db: impl PgExecutor<'_>, id: i64, vector: &Vector, model: &str) -> Result<()> {
    sqlx::query!(
        "UPDATE documents SET embedding = $2, embedding_model = $3 WHERE id = $1",
        id,
        vector as &Vector,
        model
    )
    .execute(db)
    .await?;
    Ok(())
}
