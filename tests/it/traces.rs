//! Traces, as a collector gets them: the real protocol, over HTTP.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use euhub::proto::GetKeywordRequest;
use euhub::proto::keyword_service_client::KeywordServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::net::TcpListener;
use tonic::Request;

use crate::embedded::scratch;
use crate::hub::{Hub, send};
use crate::logs::Program;
use crate::program::{Running, channel, client, euhub, euhub_on, free_address, get, serving};

/// The span that callers name.
const CALLER: u64 = 0x00f0_67aa_0ba9_02b7;

/// A collector, and the spans that it got.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Collector {
    /// Starts one; its address for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, format!("http://{address}"))
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }
}

async fn take(
    State(collector): State<Collector>,
    headers: HeaderMap,
    body: Bytes,
) -> ([(&'static str, &'static str); 1], Vec<u8>) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    collector.0.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
    ([("content-type", "application/x-protobuf")], Vec::new())
}

/// The span of a trace with this parent and name.
fn child<'a>(trace: &[&'a Span], parent: &[u8], name: &str, kind: SpanKind) -> &'a Span {
    let found = trace.iter().find(|span| span.parent_span_id == parent && span.name == name);
    let span = *found.unwrap_or_else(|| panic!("no {name} below {}: {trace:#?}", hex(parent)));
    assert_eq!(span.kind(), kind, "{span:?}");
    assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano);
    span
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(span: &Span, name: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_trace_goes_from_the_callers_span_over_edge_and_grpc_to_the_sql() {
    let hub = Hub::seeded().await;
    let (collector, endpoint) = Collector::start().await;
    // Nothing is sent before the end: what comes was flushed by it.
    let program = Program::start(
        &hub,
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "3600000")],
    )
    .await;
    let (joined, unsampled, by_grpc) = (
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "5bf92f3577b34da6a3ce929d0e0e4736",
        "6bf92f3577b34da6a3ce929d0e0e4736",
    );
    let ask = |traceparent: String, path: &str| {
        client().get(format!("http://{}{path}", program.rest)).header("traceparent", traceparent)
    };
    let answer = send(ask(format!("00-{joined}-00f067aa0ba902b7-01"), "/api/v1/keywords/energy")).await;
    assert_eq!(answer.status, 200);
    let export = send(ask(format!("00-{joined}-00f067aa0ba902b8-01"), "/api/v1/articles:export")).await;
    assert_eq!(export.status, 200);
    let missing = send(ask(format!("00-{unsampled}-00f067aa0ba902b7-00"), "/api/v1/keywords/energy")).await;
    assert_eq!(missing.status, 200);
    assert_eq!(get(program.rest, "/api/v1/keywords/no-such").await.status, 404);
    let mut request = Request::new(GetKeywordRequest { name: "keywords/energy".into() });
    request
        .metadata_mut()
        .insert("traceparent", format!("00-{by_grpc}-00f067aa0ba902b7-01").parse().unwrap());
    KeywordServiceClient::new(channel(program.grpc).await).get_keyword(request).await.unwrap();

    let lines = program.lines(|line| line["message"] == "request");
    program.process.stop().await;

    let spans = collector.spans();
    let of = |trace: &str| spans.iter().filter(|span| hex(&span.trace_id) == trace).collect::<Vec<_>>();
    let trace = of(joined);
    let child = |parent: &[u8], name: &str, kind| child(&trace, parent, name, kind);
    let caller = CALLER.to_be_bytes();
    let edge = child(&caller, "GET /api/v1/{name=keywords/*}", SpanKind::Server);
    assert_eq!(text(edge, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(text(edge, "url.path").as_deref(), Some("/api/v1/keywords/energy"));
    let grpc = child(&edge.span_id, "euhub.v1.KeywordService/GetKeyword", SpanKind::Server);
    assert_eq!(text(grpc, "rpc.grpc.status_code").as_deref(), Some("0"));
    let sql = child(&grpc.span_id, "SELECT keywords", SpanKind::Client);
    assert_eq!(text(sql, "db.system.name").as_deref(), Some("postgresql"));
    assert!(sql.start_time_unix_nano >= grpc.start_time_unix_nano, "{sql:?}");

    // A stream's statements run in a task of their own.
    let caller = 0x00f0_67aa_0ba9_02b8_u64.to_be_bytes();
    let edge = child(&caller, "GET /api/v1/articles:export", SpanKind::Server);
    let grpc = child(&edge.span_id, "euhub.v1.ArticleService/ExportArticles", SpanKind::Server);
    child(&grpc.span_id, "SELECT articles", SpanKind::Client);

    assert!(of(unsampled).is_empty(), "its caller wanted no trace");
    let own: Vec<_> = spans.iter().filter(|span| span.name == "euhub.v1.KeywordService/GetKeyword").collect();
    assert!(
        own.iter().any(|span| hex(&span.trace_id) == by_grpc && span.parent_span_id == CALLER.to_be_bytes()),
        "{own:#?}"
    );
    let missing = own.iter().find(|span| text(span, "rpc.grpc.status_code").as_deref() == Some("5")).unwrap();
    let parent = spans.iter().find(|span| span.span_id == missing.parent_span_id).unwrap();
    assert!(
        parent.parent_span_id.is_empty() && parent.trace_id == missing.trace_id,
        "a trace of its own: {parent:?}"
    );
    let line = lines.iter().find(|line| line["status"] == 404).unwrap();
    assert_eq!(line["trace_id"], hex(&missing.trace_id), "{line}");

    let requests = collector.0.lock().unwrap();
    let resource = requests[0].resource_spans[0].resource.as_ref().unwrap();
    assert!(resource.attributes.iter().any(|attribute| attribute.key == "service.name"), "{resource:?}");
}

#[tokio::test]
async fn a_trace_goes_on_from_the_process_of_the_edge_to_that_of_the_core() {
    const TRACE: &str = "7bf92f3577b34da6a3ce929d0e0e4736";
    let (hub, folder) = (Hub::seeded().await, scratch());
    let (at_edge, edge_endpoint) = Collector::start().await;
    let (at_core, core_endpoint) = Collector::start().await;
    let (grpc, rest) = (free_address(), free_address());
    let mut command = euhub_on(&hub, folder.path());
    command.args(["serve", "--grpc-addr", &grpc.to_string()]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", core_endpoint);
    let core = Running::start(command, folder.path());
    let mut command = euhub(folder.path());
    command.args(["edge", "--edge-addr", &rest.to_string()]).env("EUHUB_CORE_URL", format!("http://{grpc}"));
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", edge_endpoint);
    let mut edge = Running::start(command, folder.path());
    serving(rest, &mut edge).await;
    let ask = client().get(format!("http://{rest}/api/v1/keywords/energy"));
    let answer = send(ask.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))).await;
    assert_eq!(answer.status, 200);
    edge.stop().await;
    core.stop().await;

    let (at_edge, at_core) = (at_edge.spans(), at_core.spans());
    let of_trace = |span: &&Span| hex(&span.trace_id) == TRACE;
    let by_edge: Vec<_> = at_edge.iter().filter(of_trace).collect();
    let by_core: Vec<_> = at_core.iter().filter(of_trace).collect();
    let get = child(&by_edge, &CALLER.to_be_bytes(), "GET /api/v1/{name=keywords/*}", SpanKind::Server);
    let grpc = child(&by_core, &get.span_id, "euhub.v1.KeywordService/GetKeyword", SpanKind::Server);
    child(&by_core, &grpc.span_id, "SELECT keywords", SpanKind::Client);
}
