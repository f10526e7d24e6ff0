//! A small REST GET through the edge and a gRPC service in the same process, with metrics and access line and without. The lines go to
//! standard error: `cargo bench --bench telemetry 2>/dev/null`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::post;
use criterion::{Criterion, criterion_group, criterion_main};
use euhub::config::LogFormat;
use euhub::proto::{DESCRIPTOR_SET, Status};
use euhub::server;
use euhub::telemetry::calls::{self, Methods};
use euhub::telemetry::{log, rest};
use euhub_edge::http::{EdgeConfig, RateLimit};
use euhub_edge::plan::Plan;
use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tokio::runtime::Runtime;
use tower::ServiceExt;

const PATH: &str = "/euhub.v1.AdminService/GetStatus";

/// An answer that costs nothing to make.
async fn status() -> Response {
    let message = Status { version: "1".into(), cache: "memory".into(), ..Status::default() }.encode_to_vec();
    let mut framed = vec![0; 5];
    framed[4] = u8::try_from(message.len()).expect("a short message");
    framed.extend(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(framed.into()), Frame::trailers(trailers)].map(Ok::<_, axum::Error>);
    let mut response = Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn edge(telemetry: bool) -> Router {
    let plan = Arc::new(Plan::compile(DESCRIPTOR_SET).expect("a plan"));
    let mut core = Router::new().route(PATH, post(status));
    let mut config =
        EdgeConfig { rate_limit: RateLimit::OFF, route_classes: Vec::new(), ..EdgeConfig::default() };
    if telemetry {
        core = core.layer(from_fn_with_state(Methods::new([PATH]), calls::see));
        config.observer = Some(Arc::new(rest::Requests));
    }
    euhub_edge::http::router(plan, server::in_process(core), config).expect("an edge")
}

async fn get(edge: Router) {
    let request = Request::get("/api/v1/status").body(Body::empty()).expect("a request");
    let response = edge.oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.expect("a body");
}

fn benches(criterion: &mut Criterion) {
    log::init("info", LogFormat::Json).expect("a log");
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("a small GET");
    for (name, telemetry) in [("without telemetry", false), ("with metrics and access line", true)] {
        let edge = runtime.block_on(async { edge(telemetry) });
        group.bench_function(name, |b| b.iter(|| runtime.block_on(get(edge.clone()))));
    }
}

criterion_group!(telemetry, benches);
criterion_main!(telemetry);
