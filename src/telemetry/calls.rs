//! Every gRPC call, over a socket or from the edge in this process, seen from its beginning to the last byte of its answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use euhub_edge::http::{Sees, Watched};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use opentelemetry::context::FutureExt;
use opentelemetry::{Context, KeyValue};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::access::Access;
use super::metrics::metrics;
use super::trace;
use crate::auth::Caller;

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

/// Sees a call: measured, traced and, unless the edge in this process made it and logs it itself, logged.
pub async fn see(State(methods): State<Methods>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let labels = methods.known.get(path).unwrap_or(&methods.other).clone();
    metrics().rpc_active.add(1, &labels);
    let context = trace::begin(request.headers(), || {
        let [service, method] = &labels;
        let system = KeyValue::new("rpc.system", "grpc");
        (format!("{}/{}", service.value, method.value).into(), vec![system, service.clone(), method.clone()])
    });
    let mut call = Call {
        on_socket: request.extensions().get::<ConnectInfo<SocketAddr>>().is_some(),
        labels,
        context: context.clone(),
        started: Instant::now(),
        code: Code::Cancelled,
        received: request.body().size_hint().lower(),
        sent: 0,
        caller: None,
    };
    let response = next.run(request).with_context(context).await;
    // An answer without a body has its status in its headers; until the trailers have come, a call that ends was cancelled.
    call.code = code(response.headers()).unwrap_or(Code::Cancelled);
    call.caller = response.extensions().get().cloned();
    response.map(|body| Body::new(Watched { body, seen: call }))
}

fn code(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

/// A call that is told of when it is dropped: done, or given up by its client.
struct Call {
    on_socket: bool,
    labels: [KeyValue; 2],
    context: Context,
    started: Instant,
    code: Code,
    received: u64,
    sent: u64,
    caller: Option<Caller>,
}

impl Sees for Call {
    fn frame(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.sent += data.len() as u64;
        } else if let Some(code) = frame.trailers_ref().and_then(code) {
            self.code = code;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let metrics = metrics();
        let duration = self.started.elapsed();
        metrics.rpc_active.add(-1, &self.labels);
        metrics.rpc_request_size.record(self.received, &self.labels);
        metrics.rpc_response_size.record(self.sent, &self.labels);
        let [service, method] = self.labels.clone();
        let status = i64::from(i32::from(self.code));
        let labels = [service, method, KeyValue::new("rpc.grpc.status_code", status)];
        metrics.rpc_duration.record(duration.as_secs_f64(), &labels);
        let [service, method, status_label] = labels;
        trace::end(&self.context, status_label, faulty(self.code));
        if self.on_socket {
            let caller = self.caller.as_ref();
            let access = Access {
                protocol: "grpc",
                method: &method.value.as_str(),
                route: &service.value.as_str(),
                status,
                duration,
                request_bytes: self.received,
                response_bytes: self.sent,
                client: caller.map_or("", |caller| &caller.client),
                request_id: caller.map_or("", |caller| &caller.request_id),
                actor: caller.map(|caller| caller.actor.as_str()),
            };
            access.log(&self.context);
        }
    }
}

/// Whether a code is the server's fault, by the semantic conventions of gRPC.
fn faulty(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
