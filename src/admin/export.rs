//! The audit log as a file, read page by page while the client takes it.

use bytes::Bytes;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::admin::audit::{self, Entry, Filter};
use crate::error::{Error, Result};
use crate::proto::google::api::HttpBody;

/// Entries read and sent at once.
const BATCH: i64 = 1000;
const COLUMNS: [&str; 8] =
    ["name", "create_time", "actor", "action", "resource", "client", "outcome", "request_id"];

/// Streams every entry of `filter` as CSV, newest first, and then the end.
pub fn stream(db: PgPool, filter: Filter) -> ReceiverStream<Result<HttpBody, Status>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        if let Err(error) = send(&db, &filter, &sender).await {
            // The client may be gone by now; then there is nobody to tell.
            let _ = sender.send(Err(error.into())).await;
        }
    });
    ReceiverStream::new(receiver)
}

async fn send(db: &PgPool, filter: &Filter, sender: &mpsc::Sender<Result<HttpBody, Status>>) -> Result<()> {
    let (mut below, mut first) = (None, true);
    loop {
        let entries = audit::list(db, filter, below, BATCH).await?;
        below = entries.last().map(|entry| entry.id);
        // The first piece goes out even when it has no entries: it carries the media type and the header line.
        if first || !entries.is_empty() {
            let data = Bytes::from(csv(entries, first)?);
            let body =
                HttpBody { content_type: "text/csv; charset=utf-8".into(), data, extensions: Vec::new() };
            if sender.send(Ok(body)).await.is_err() {
                return Ok(());
            }
        }
        if below.is_none() {
            return Ok(());
        }
        first = false;
    }
}

fn csv(entries: Vec<Entry>, header: bool) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fault = |error: csv::Error| Error::Internal(format!("write CSV: {error}"));
    if header {
        writer.write_record(COLUMNS).map_err(fault)?;
    }
    for entry in entries {
        let name = format!("auditEntries/{}", entry.id);
        let time = entry.time.to_rfc3339();
        let texts =
            [entry.actor, entry.action, entry.resource, entry.client, entry.outcome, entry.request_id];
        writer.write_record([name, time].into_iter().chain(texts)).map_err(fault)?;
    }
    writer.into_inner().map_err(|error| Error::Internal(format!("write CSV: {error}")))
}
