//! Every gRPC call, over a socket or from the edge in this process, measured from its beginning to the last byte of its answer.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use opentelemetry::KeyValue;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::metrics::metrics;

/// Services beside the Hub's own.
const STANDARD: [(&str, &str); 4] = [
    ("grpc.health.v1.Health", "Check"),
    ("grpc.health.v1.Health", "Watch"),
    ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
    ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
];

/// The labels of each method by its path. A path that names no method has labels of its own, so that callers cannot make up series.
#[derive(Clone, Debug)]
pub struct Methods {
    known: Arc<HashMap<String, [KeyValue; 2]>>,
    other: [KeyValue; 2],
}

impl Methods {
    /// The methods of these paths (`/package.Service/Method`), and those of health and reflection.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let own = paths.into_iter().filter_map(|path| path.trim_start_matches('/').split_once('/'));
        let known = own
            .chain(STANDARD)
            .map(|(service, method)| (format!("/{service}/{method}"), labels(service, method)));
        Self { known: Arc::new(known.collect()), other: labels("_OTHER", "_OTHER") }
    }
}

fn labels(service: &str, method: &str) -> [KeyValue; 2] {
    [KeyValue::new("rpc.service", service.to_owned()), KeyValue::new("rpc.method", method.to_owned())]
}

/// Measures a call.
pub async fn measure(State(methods): State<Methods>, request: Request, next: Next) -> Response {
    let labels = methods.known.get(request.uri().path()).unwrap_or(&methods.other).clone();
    metrics().rpc_active.add(1, &labels);
    let mut call = Call { labels, started: Instant::now(), code: Code::Cancelled, received: 0, sent: 0 };
    call.received = request.body().size_hint().lower();
    let response = next.run(request).await;
    // An answer without a body has its status in its headers; until the trailers have come, a call that ends was cancelled.
    call.code = code(response.headers()).unwrap_or(Code::Cancelled);
    response.map(|body| Body::new(Measured { body, call }))
}

fn code(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

/// A call that is measured when it is dropped: done, or given up by its client.
struct Call {
    labels: [KeyValue; 2],
    started: Instant,
    code: Code,
    received: u64,
    sent: u64,
}

impl Drop for Call {
    fn drop(&mut self) {
        let metrics = metrics();
        metrics.rpc_active.add(-1, &self.labels);
        metrics.rpc_request_size.record(self.received, &self.labels);
        metrics.rpc_response_size.record(self.sent, &self.labels);
        let [service, method] = self.labels.clone();
        let labels =
            [service, method, KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(self.code)))];
        metrics.rpc_duration.record(self.started.elapsed().as_secs_f64(), &labels);
    }
}

struct Measured {
    body: Body,
    call: Call,
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                self.call.sent += data.len() as u64;
            } else if let Some(code) = frame.trailers_ref().and_then(code) {
                self.call.code = code;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
