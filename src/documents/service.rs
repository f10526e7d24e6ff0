//! How a file becomes a document.

use std::iter::once;
use std::sync::Arc;

use pgvector::Vector;
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::admin::audit::audit;
use crate::articles::filter::Filter;
use crate::auth::Caller;
use crate::clock::Clock;
use crate::documents::extract::worker::Extractor;
use crate::documents::extract::{Extracted, MAX_FILE_BYTES};
use crate::documents::link;
use crate::documents::store::{self, Draft};
use crate::error::{Error, Result};
use crate::ingest::analyze::{embed, embedded_text, scored};
use crate::ingest::language;
use crate::keywords::link as keywords;
use crate::search::embedding::Embedder;
use crate::search::service::Search;
use crate::search::store::{self as search, Hit};
use crate::sentiment::analyze;

/// Most characters of a title.
const TITLE_CHARS: usize = 200;
/// Similar articles that are shown.
const SIMILAR: i64 = 10;

/// Documents over the database. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Documents {
    /// The archive and the model.
    pub search: Search,
    /// Reads files.
    pub extractor: Extractor,
    /// When things happened.
    pub clock: Clock,
}

impl Documents {
    /// Stores a file with its analysis; the number of its document, which is an earlier one when the same bytes came before.
    pub async fn upload(
        &self,
        caller: &Caller,
        file_name: String,
        charset: Option<&str>,
        bytes: &[u8],
    ) -> Result<i64> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(Error::invalid("content", format!("Must be at most {} MiB.", MAX_FILE_BYTES >> 20)));
        }
        let content_hash: [u8; 32] = Sha256::digest(bytes).into();
        let known = store::by_hash(self.db(), &content_hash).await?;
        let draft = match known {
            Some(_) => None,
            None => {
                let extracted = self.extractor.extract(bytes, charset).await?;
                let extracted =
                    extracted.map_err(|refusal| Error::invalid("content", refusal.to_string()))?;
                let byte_count = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
                Some(self.analyze(file_name, byte_count, content_hash, extracted).await?)
            }
        };

        let now = self.clock.now();
        let mut tx = self.db().begin().await?;
        let stored = match &draft {
            Some(draft) => store::insert(&mut tx, draft, now).await.map_err(too_many_words)?,
            None => None,
        };
        let id = match stored {
            Some(id) => {
                keywords::lock(&mut tx).await?;
                link::link_document(&mut tx, id).await?;
                id
            }
            // The same bytes came before, or a moment ago; unless somebody just deleted them.
            None => store::by_hash(&mut *tx, &content_hash).await?.ok_or(sqlx::Error::RowNotFound)?,
        };
        audit(&mut *tx, caller, "documents.upload", &format!("documents/{id}"), now).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Deletes a document.
    pub async fn delete(&self, caller: &Caller, id: i64) -> Result<()> {
        let name = format!("documents/{id}");
        let mut tx = self.db().begin().await?;
        if !store::delete(&mut *tx, id).await? {
            return Err(Error::NotFound(name));
        }
        audit(&mut *tx, caller, "documents.delete", &name, self.clock.now()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The articles nearest in meaning to a document. One that has no vector of the loaded model, because there was none when it came, gets it
    /// now.
    pub async fn similar(&self, id: i64, body: &str) -> Result<Vec<Hit>> {
        let embedder = self.search.embedder()?;
        let vector = match store::vector_of(self.db(), id, embedder.name()).await? {
            Some(vector) => vector,
            None => {
                let (text, model) = (body.to_owned(), Arc::clone(&embedder));
                let vector = tokio::task::spawn_blocking(move || embed_body(&model, &text))
                    .await
                    .map_err(|error| Error::Internal(format!("embedding a document: {error}")))??;
                store::set_embedding(self.db(), id, &vector, embedder.name()).await?;
                vector
            }
        };
        search::semantic(self.db(), &vector, embedder.name(), &Filter::default(), SIMILAR).await
    }

    /// The archive.
    pub fn db(&self) -> &PgPool {
        &self.search.db
    }

    async fn analyze(
        &self,
        file_name: String,
        byte_count: i32,
        content_hash: [u8; 32],
        extracted: Extracted,
    ) -> Result<Draft> {
        let embedder = self.search.embedder.clone();
        let draft = tokio::task::spawn_blocking(move || {
            let body = extracted.text;
            let detected = language::detect(&body, None);
            let (abstain_reason, scored) =
                scored(analyze::analyze(&body, &detected.language, detected.confidence));
            let embedding = embedder
                .map(|embedder| Ok::<_, Error>((embed_body(&embedder, &body)?, embedder.name().to_owned())))
                .transpose()?;
            Ok::<_, Error>(Draft {
                file_name,
                media_type: extracted.media_type,
                byte_count,
                page_count: extracted.page_count,
                unread_page_count: extracted.unread_page_count,
                content_hash,
                title: title(&body),
                body,
                truncated: extracted.truncated,
                language: detected.language,
                language_confidence: detected.confidence,
                analyzer: (analyze::ANALYZER, analyze::VERSION),
                abstain_reason,
                scored,
                embedding,
            })
        });
        draft.await.map_err(|error| Error::Internal(format!("analysing a document: {error}")))?
    }
}

fn embed_body(embedder: &Embedder, body: &str) -> Result<Vector> {
    let vector = embed(embedder, once(embedded_text("", body)))?.pop();
    vector.ok_or_else(|| Error::Internal("the model gave no vector".into()))
}

fn title(body: &str) -> String {
    body.lines().next().unwrap_or_default().chars().take(TITLE_CHARS).collect()
}

/// PostgreSQL bounds the text index of a row. A text of nothing but different words passes it.
fn too_many_words(error: Error) -> Error {
    match &error {
        Error::Database(sqlx::Error::Database(cause)) if cause.code().as_deref() == Some("54000") => {
            Error::invalid("content", "Holds more different words than can be indexed.")
        }
        _ => error,
    }
}
