//! DocumentService.

use encoding_rs::Encoding;
use tonic::{Request, Response, Status, Streaming};

use crate::articles::convert::{count, timestamp};
use crate::articles::filter::RawFilter;
use crate::articles::store::{self as articles, EXCERPT, FULL};
use crate::documents::extract::MAX_FILE_BYTES;
use crate::documents::service::Documents;
use crate::documents::store::{self, Document};
use crate::error::{Error, Result};
use crate::ingest::feed::charset_of;
use crate::page::{Cursor, Page};
use crate::proto::document_service_server::DocumentService;
use crate::proto::{
    self, DeleteDocumentRequest, DocumentKeyword, GetDocumentRequest, ListDocumentsRequest,
    ListDocumentsResponse, SentimentAnalysis, SimilarArticle, UploadDocumentRequest,
};
use crate::resource;
use crate::server::caller;
use crate::validation::check;

/// The service over [`Documents`].
#[derive(Debug)]
pub struct DocumentRpc {
    /// The documents.
    pub documents: Documents,
}

#[tonic::async_trait]
impl DocumentService for DocumentRpc {
    async fn upload_document(
        &self,
        request: Request<Streaming<UploadDocumentRequest>>,
    ) -> Result<Response<proto::Document>, Status> {
        let caller = caller(&request)?;
        let mut pieces = request.into_inner();
        let first = pieces.message().await?.unwrap_or_default();
        check(&first).map_err(Error::from)?;
        check_name(&first.file_name)?;
        let content = first.content.unwrap_or_default();
        let charset = charset_of(&content.content_type)
            .and_then(|label| Encoding::for_label(label.as_bytes()))
            .map(Encoding::name);
        let mut bytes = Vec::from(content.data);
        while let Some(piece) = pieces.message().await? {
            bytes.extend_from_slice(&piece.content.unwrap_or_default().data);
            // The service refuses what is longer; there is no need to hold all of it.
            if bytes.len() > MAX_FILE_BYTES {
                break;
            }
        }
        let id = self.documents.upload(&caller, first.file_name, charset, &bytes).await?;
        Ok(Response::new(self.document(id).await?))
    }

    async fn list_documents(
        &self,
        request: Request<ListDocumentsRequest>,
    ) -> Result<Response<ListDocumentsResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let bound = ListDocumentsRequest { keyword: request.keyword.clone(), ..Default::default() };
        let page = Page::new(request.page_size, 50, &request.page_token, &bound)?;
        let db = self.documents.db();
        let keyword =
            RawFilter { keyword: &request.keyword, ..RawFilter::default() }.resolve(db).await?.keyword;
        let mut documents =
            store::list(db, None, keyword, page.after.as_ref(), EXCERPT, page.limit()).await?;
        let next_page_token =
            page.finish(&mut documents, |document| Cursor::at_time(document.id, document.create_time));
        let total_size =
            if request.show_total { Some(count(store::count(db, keyword).await?)) } else { None };
        let documents = documents.into_iter().map(Into::into).collect();
        Ok(Response::new(ListDocumentsResponse { documents, next_page_token, total_size }))
    }

    async fn get_document(
        &self,
        request: Request<GetDocumentRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = resource::number("documents", &request.name)?;
        Ok(Response::new(self.document(id).await?))
    }

    async fn delete_document(&self, request: Request<DeleteDocumentRequest>) -> Result<Response<()>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = resource::number("documents", &request.name)?;
        self.documents.delete(&caller, id).await?;
        Ok(Response::new(()))
    }
}

impl DocumentRpc {
    /// One document with everything.
    async fn document(&self, id: i64) -> Result<proto::Document> {
        let db = self.documents.db();
        let document = store::list(db, Some(id), None, None, FULL, 1).await?.pop();
        let document = document.ok_or_else(|| Error::NotFound(format!("documents/{id}")))?;
        let (hits, missing) = match self.documents.similar(id, &document.body).await {
            Ok(hits) => (hits, String::new()),
            // All the rest of a document needs no model.
            Err(Error::FailedPrecondition { message, .. }) => (Vec::new(), message),
            Err(error) => return Err(error),
        };
        let ids: Vec<i64> = hits.iter().map(|hit| hit.id).collect();
        let similar_articles = articles::by_ids(db, &ids, EXCERPT)
            .await?
            .into_iter()
            .filter_map(|article| {
                let similarity = hits.iter().find(|hit| hit.id == article.id)?.score;
                Some(SimilarArticle { article: Some(article.into()), similarity })
            })
            .collect();
        Ok(proto::Document { similar_articles, similar_articles_missing: missing, ..document.into() })
    }
}

/// The name is a label; one with folders in it shows a mistake, or worse.
fn check_name(name: &str) -> Result<()> {
    if name.contains(['/', '\\']) || matches!(name, "." | "..") {
        return Err(Error::invalid(
            "file_name",
            "Must be a name alone, without folders: no `/` or `\\`, and neither `.` nor `..`.",
        ));
    }
    Ok(())
}

impl From<Document> for proto::Document {
    fn from(document: Document) -> Self {
        let sentiment = SentimentAnalysis {
            analyzer: document.analyzer,
            analyzer_version: document.analyzer_version,
            language: document.language.clone(),
            abstained: document.score.is_none(),
            abstain_reason: document.abstain_reason,
            score: document.score,
            label: document.label.map_or(0, i32::from),
            confidence: document.confidence,
            subjectivity: document.subjectivity,
            text_class: String::new(),
            positive: document.positive,
            neutral: document.neutral,
            negative: document.negative,
            phrases: document.phrases.0.into_iter().map(Into::into).collect(),
            create_time: Some(timestamp(document.create_time)),
        };
        let keywords = document.keywords.0.into_iter().map(|link| DocumentKeyword {
            keyword: format!("keywords/{}", link.keyword),
            matched_language: link.language,
            matched_term: link.term,
        });
        Self {
            name: format!("documents/{}", document.id),
            file_name: document.file_name,
            media_type: document.media_type,
            byte_count: document.byte_count,
            page_count: document.page_count,
            unread_page_count: document.unread_page_count,
            title: document.title,
            body: document.body,
            truncated: document.truncated,
            language: document.language,
            language_confidence: document.language_confidence,
            create_time: Some(timestamp(document.create_time)),
            sentiment: Some(sentiment),
            keywords: keywords.collect(),
            similar_articles: Vec::new(),
            similar_articles_missing: String::new(),
        }
    }
}
