//! Traces: one from the edge over gRPC to the SQL, joined to the caller's `traceparent`, sent by OTLP over HTTP where
//! `OTEL_EXPORTER_OTLP_ENDPOINT` says. The variables of the OpenTelemetry specification hold (`OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`,
//! `OTEL_EXPORTER_OTLP_HEADERS`, ...). Without an endpoint no span is made; ids of callers' traces are still logged.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Request, Response};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_http::{Bytes, HeaderExtractor, HeaderInjector, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::ingest::fetch::tls_config;

/// Where spans go: for all signals, or for traces alone.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// How long the collector may take for a batch, and for the last one when the process ends.
const TIMEOUT: Duration = Duration::from_secs(5);

static TRACING: OnceLock<(SdkTracerProvider, SdkTracer)> = OnceLock::new();

/// Starts tracing where an endpoint is set. Must be called within a tokio runtime.
pub fn init() -> Result<(), String> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !ENDPOINTS.into_iter().any(set) {
        return Ok(());
    }
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls_config().map_err(|error| format!("traces: TLS: {error}"))?)
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| format!("traces: {error}"))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector { http, runtime: Handle::current(), away: Arc::default() })
        .build()
        .map_err(|error| format!("traces: {error}"))?;
    let mut resource =
        Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let given = Resource::builder().build().get(&Key::new("service.name"));
    if given.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
        resource = resource.with_service_name("euhub");
    }
    let provider =
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let tracer = provider.tracer("euhub");
    TRACING.set((provider, tracer)).map_err(|_| "tracing was started twice".to_owned())
}

/// Sends what is left, as far as the collector takes it in time.
pub async fn flush() {
    // It waits for the exporter's thread, whose requests run on this runtime.
    let flushed = tokio::task::spawn_blocking(|| {
        TRACING.get().map_or(Ok(()), |(provider, _)| provider.shutdown_with_timeout(TIMEOUT))
    });
    match flushed.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => super::degraded("traces", &error),
        Err(error) => super::degraded("traces", &error),
    }
}

/// Sends batches from the exporter's own thread over this process's runtime and its way of doing TLS.
#[derive(Debug)]
struct Collector {
    http: reqwest::Client,
    runtime: Handle,
    /// The last batch did not arrive, which was logged.
    away: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (http, away) = (self.http.clone(), Arc::clone(&self.away));
        let sent = self.runtime.spawn(async move {
            let sent = send(&http, request).await;
            let failed = match &sent {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(response.status().to_string()),
                Err(error) => Some(error.to_string()),
            };
            match failed {
                Some(error) if !away.swap(true, Ordering::Relaxed) => super::away("collector", &error),
                None if away.swap(false, Ordering::Relaxed) => super::recovered("collector"),
                _ => {}
            }
            sent
        });
        sent.await?
    }
}

async fn send(http: &reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    // The address may hold a password.
    let mut response = http.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut answer = Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        *headers = std::mem::take(response.headers_mut());
    }
    Ok(answer.body(response.bytes().await.map_err(reqwest::Error::without_url)?)?)
}

/// The trace that a request's headers name.
pub(super) fn caller(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers))
}

/// Begins a server's span within the caller's trace, or as the first of a new one. Without tracing, the caller's trace.
pub(super) fn begin(
    headers: &HeaderMap,
    describe: impl FnOnce() -> (Cow<'static, str>, Vec<KeyValue>),
) -> Context {
    let caller = caller(headers);
    let Some((_, tracer)) = TRACING.get() else { return caller };
    let (name, attributes) = describe();
    let builder = tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
    let span = builder.start_with_context(tracer, &caller);
    caller.with_span(span)
}

/// Ends a server's span; `fault` when the server, not its client, is to blame.
pub(super) fn end(context: &Context, status: KeyValue, fault: bool) {
    let span = context.span();
    if span.is_recording() {
        span.set_attribute(status);
        if fault {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// A statement that ended just now, as a span of the call that waits for it.
pub(super) fn statement(operation: &str, duration: Duration) {
    let Some((_, tracer)) = TRACING.get() else { return };
    Context::map_current(|context| {
        if context.span().is_recording() {
            let now = SystemTime::from(Clock::system().now());
            let attributes = [
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.query.summary", operation.to_owned()),
            ];
            tracer
                .span_builder(operation.to_owned())
                .with_kind(SpanKind::Client)
                .with_start_time(now - duration)
                .with_attributes(attributes)
                .start_with_context(tracer, context)
                .end_with_timestamp(now);
        }
    });
}

/// The `traceparent` of a span that was begun here; none without tracing.
pub(super) fn traceparent(context: &Context) -> Option<HeaderValue> {
    TRACING.get()?;
    let mut headers = HeaderMap::new();
    TraceContextPropagator::new().inject_context(context, &mut HeaderInjector(&mut headers));
    headers.remove("traceparent")
}

/// The id of a trace, as logs show it.
pub(super) fn id(context: &Context) -> Option<String> {
    let span = context.span();
    let id = span.span_context();
    id.is_valid().then(|| id.trace_id().to_string())
}

/// The id of the trace that the running call belongs to.
pub(super) fn current_id() -> Option<String> {
    Context::map_current(id)
}
