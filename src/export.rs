//! Lists as files: read page by page while the client takes them, so that memory stays as it is however long they are.

use std::sync::Arc;

use bytes::Bytes;
use euhub_edge::plan::Plan;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::error::{Error, Result};
use crate::proto::ExportFormat;
use crate::proto::google::api::HttpBody;
use crate::telemetry;

/// A list that can be had as a file.
pub trait Export: Send + 'static {
    /// An entry of the list.
    type Row: Into<Self::Message> + Send;
    /// What an entry is in JSON Lines.
    type Message: Message;
    /// Full name of that message.
    const MESSAGE: &'static str;
    /// Header line of the CSV form.
    const COLUMNS: &'static [&'static str];

    /// The next page; none at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<Self::Row>>>> + Send;

    /// A line of the CSV form.
    fn record(row: Self::Row) -> Vec<String>;
}

/// Streams a list, and then the end.
pub fn stream<E: Export>(
    plan: Arc<Plan>,
    list: E,
    format: ExportFormat,
) -> ReceiverStream<Result<HttpBody, Status>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(telemetry::within_call(async move {
        if let Err(error) = send(&plan, list, format, &sender).await {
            // The client may be gone by now; then there is nobody to tell.
            let _ = sender.send(Err(error.into())).await;
        }
    }));
    ReceiverStream::new(receiver)
}

async fn send<E: Export>(
    plan: &Plan,
    mut list: E,
    format: ExportFormat,
    sender: &mpsc::Sender<Result<HttpBody, Status>>,
) -> Result<()> {
    let mut first = true;
    loop {
        let page = list.next().await?;
        let end = page.is_none();
        let rows = page.unwrap_or_default();
        let (content_type, data) = match format {
            ExportFormat::Csv => ("text/csv; charset=utf-8", csv::<E>(rows, first)?),
            ExportFormat::Unspecified | ExportFormat::JsonLines => {
                ("application/x-ndjson", json_lines::<E>(plan, rows)?)
            }
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
        if end {
            return Ok(());
        }
        first = false;
    }
}

fn json_lines<E: Export>(plan: &Plan, rows: Vec<E::Row>) -> Result<Vec<u8>> {
    let fault = |error: &dyn std::fmt::Display| Error::Internal(format!("write {}: {error}", E::MESSAGE));
    let message = plan.message(E::MESSAGE).ok_or_else(|| fault(&"the plan lacks it"))?;
    let mut out = Vec::new();
    let mut wire = Vec::new();
    for row in rows {
        wire.clear();
        let row: E::Message = row.into();
        row.encode(&mut wire).map_err(|error| fault(&error))?;
        euhub_edge::codec::to_json(plan, message, &wire, &mut out).map_err(|error| fault(&error))?;
        out.push(b'\n');
    }
    Ok(out)
}

fn csv<E: Export>(rows: Vec<E::Row>, header: bool) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fault = |error: csv::Error| Error::Internal(format!("write CSV: {error}"));
    if header {
        writer.write_record(E::COLUMNS).map_err(fault)?;
    }
    for row in rows {
        writer.write_record(E::record(row)).map_err(fault)?;
    }
    writer.into_inner().map_err(|error| Error::Internal(format!("write CSV: {error}")))
}
