//! Articles as a file: read page by page while the client takes it, so that memory stays as it is however many there are.

use std::sync::Arc;

use bytes::Bytes;
use euhub_edge::plan::Plan;
use prost::Message;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::articles::filter::Filter;
use crate::articles::store::{self, Article, FULL, Order, Place};
use crate::error::{Error, Result};
use crate::proto::google::api::HttpBody;
use crate::proto::{self, ExportFormat};

/// Articles read and sent at once.
const BATCH: i64 = 200;
/// Header line of the CSV form.
const COLUMNS: [&str; 15] = [
    "name",
    "source",
    "country",
    "language",
    "title",
    "body",
    "url",
    "authors",
    "categories",
    "publish_time",
    "create_time",
    "syndicated_of",
    "sentiment_score",
    "abstain_reason",
    "keywords",
];

/// Streams every article that passes `filter`, newest first, and then the end.
pub fn stream(
    db: PgPool,
    plan: Arc<Plan>,
    filter: Filter,
    format: ExportFormat,
) -> ReceiverStream<Result<HttpBody, Status>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        if let Err(error) = send(&db, &plan, &filter, format, &sender).await {
            // The client may be gone by now; then there is nobody to tell.
            let _ = sender.send(Err(error.into())).await;
        }
    });
    ReceiverStream::new(receiver)
}

async fn send(
    db: &PgPool,
    plan: &Plan,
    filter: &Filter,
    format: ExportFormat,
    sender: &mpsc::Sender<Result<HttpBody, Status>>,
) -> Result<()> {
    let mut after = None;
    let mut first = true;
    loop {
        let mut places = store::list(db, filter, Order::PublishTimeDesc, after, BATCH).await?;
        let ids: Vec<i64> = places.iter().map(|place| place.id).collect();
        let articles = store::by_ids(db, &ids, FULL).await?;
        let data = match format {
            ExportFormat::Csv => csv(articles, first)?,
            ExportFormat::Unspecified | ExportFormat::JsonLines => json_lines(plan, articles)?,
        };
        let content_type = match format {
            ExportFormat::Csv => "text/csv; charset=utf-8",
            ExportFormat::Unspecified | ExportFormat::JsonLines => "application/x-ndjson",
        };
        // The first piece goes out even when it is empty: it carries the media type.
        if first || !data.is_empty() {
            let body = HttpBody {
                content_type: content_type.into(),
                data: Bytes::from(data),
                extensions: Vec::new(),
            };
            if sender.send(Ok(body)).await.is_err() {
                return Ok(());
            }
        }
        first = false;
        after = match places.pop() {
            Some(Place { id, time }) => Some(Place { id, time }),
            None => return Ok(()),
        };
    }
}

fn json_lines(plan: &Plan, articles: Vec<Article>) -> Result<Vec<u8>> {
    let message = plan
        .message("euhub.v1.Article")
        .ok_or_else(|| Error::Internal("the plan lacks euhub.v1.Article".into()))?;
    let mut out = Vec::new();
    let mut wire = Vec::new();
    for article in articles {
        wire.clear();
        proto::Article::from(article)
            .encode(&mut wire)
            .map_err(|error| Error::Internal(format!("encode an article: {error}")))?;
        euhub_edge::codec::to_json(plan, message, &wire, &mut out)
            .map_err(|error| Error::Internal(format!("write an article as JSON: {error}")))?;
        out.push(b'\n');
    }
    Ok(out)
}

fn csv(articles: Vec<Article>, header: bool) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fault = |error: csv::Error| Error::Internal(format!("write CSV: {error}"));
    if header {
        writer.write_record(COLUMNS).map_err(fault)?;
    }
    for article in articles {
        writer
            .write_record([
                format!("articles/{}", article.id),
                format!("sources/{}", article.source),
                article.country,
                article.language,
                article.title,
                article.body,
                article.url,
                article.authors.join("; "),
                article.categories.join("; "),
                article.publish_time.to_rfc3339(),
                article.create_time.to_rfc3339(),
                article.syndicated_of.map(|id| format!("articles/{id}")).unwrap_or_default(),
                article.sentiment_score.map(|score| score.to_string()).unwrap_or_default(),
                article.sentiment_abstain_reason,
                article.keywords.join("; "),
            ])
            .map_err(fault)?;
    }
    writer.into_inner().map_err(|error| Error::Internal(format!("write CSV: {error}")))
}
