//! Metrics: what a Prometheus finds, and that callers cannot make it grow.

use std::collections::BTreeSet;

use euhub::jobs::kinds::KINDS;
use euhub::proto::ListKeywordsRequest;
use euhub::proto::keyword_service_client::KeywordServiceClient;
use futures_util::{StreamExt, stream};
use tonic::transport::Endpoint;

use crate::embedded::scratch;
use crate::hub::Hub;
use crate::logs::Program;
use crate::program::{Running, euhub_on, free_address, get, serving, wait_for};

/// The names of the series of a page, each with its labels.
fn series(page: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn calls_and_requests_are_counted_by_what_they_are_and_not_by_what_callers_write() {
    let (hub, folder) = (Hub::seeded().await, scratch());
    let (grpc, rest, metrics) = (free_address(), free_address(), free_address());
    let mut command = euhub_on(&hub, folder.path());
    command.args(["standalone", "--grpc-addr", &grpc.to_string(), "--edge-addr", &rest.to_string()]);
    command.env("EUHUB_METRICS_ADDR", metrics.to_string()).env("EUHUB_RATE_LIMIT_PER_MINUTE", "1000000");
    let mut process = Running::start(command, folder.path());
    serving(rest, &mut process).await;

    assert_eq!(get(rest, "/api/v1/keywords").await.status, 200);
    assert_eq!(get(rest, "/api/v1/keywords/no-such-keyword").await.status, 404);
    assert_eq!(get(rest, "/api/v1/articles:search?query=energy").await.status, 200);
    assert_eq!(get(rest, "/api/v1/sources").await.status, 401);
    let channel = Endpoint::from_shared(format!("http://{grpc}")).unwrap().connect_lazy();
    KeywordServiceClient::new(channel.clone()).list_keywords(ListKeywordsRequest::default()).await.unwrap();

    // A call is counted once its last byte is out, which the caller may see a moment earlier.
    let counted = [
        (
            r#"rpc_server_duration_seconds_count{rpc_grpc_status_code="0",rpc_method="ListKeywords",rpc_service="euhub.v1.KeywordService"}"#,
            2.0,
        ),
        (
            r#"rpc_server_duration_seconds_count{rpc_grpc_status_code="5",rpc_method="GetKeyword",rpc_service="euhub.v1.KeywordService"}"#,
            1.0,
        ),
        (
            r#"http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200",http_route="/api/v1/keywords"}"#,
            1.0,
        ),
        (
            r#"http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="404",http_route="/api/v1/{name=keywords/*}"}"#,
            1.0,
        ),
        (r#"search_requests_total{mode="LEXICAL"}"#, 1.0),
        (r#"authentication_failures_total{reason="missing"}"#, 1.0),
        (r#"dependency_up{dependency="database"}"#, 1.0),
    ];
    for (series, expected) in counted {
        wait_for(series, async || value(&get(metrics, "/metrics").await.text, series) == Some(expected))
            .await;
    }
    let page = get(rest, "/metrics").await;
    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    for series in [
        r#"db_client_operation_duration_seconds_count{operation="SELECT keywords"}"#,
        r#"rate_limit_decisions_total{class="search",decision="granted"}"#,
        r#"db_client_connection_max"#,
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(value(&page.text, series).is_some_and(|value| value > 0.0), "{series}\n{}", page.text);
    }
    assert!(value(&page.text, r#"job_queue_depth{state="failed"}"#).is_some(), "{}", page.text);
    assert_eq!(
        value(
            &page.text,
            r#"http_server_active_requests{http_request_method="GET",http_route="/api/v1/keywords"}"#
        ),
        Some(0.0)
    );

    // One path that is not there has made its series; ten thousand others make no more.
    let made_up = |n: usize| format!("/api/v1/{n}/made-up:{n}");
    get(rest, &made_up(0)).await;
    let unknown = tonic::Request::new(());
    call(&channel, "/made.Up0/Method", unknown).await;
    let before = series(&get(metrics, "/metrics").await.text);
    stream::iter(1..10_001)
        .for_each_concurrent(32, |n| async move {
            assert_eq!(get(rest, &made_up(n)).await.status, 404);
        })
        .await;
    for n in 1..100 {
        call(&channel, &format!("/made.Up{n}/Method{n}"), tonic::Request::new(())).await;
    }
    let after = series(&get(metrics, "/metrics").await.text);
    let of_callers = |name: &&String| {
        ["rpc_", "http_", "rate_limit_", "authentication_"].iter().any(|family| name.starts_with(family))
            && !name.contains("/metrics")
    };
    let new: Vec<&String> = after.difference(&before).filter(of_callers).collect();
    assert!(new.is_empty(), "{new:?}");
    process.stop().await;
}

/// A call of a method that the server may not know.
async fn call(channel: &tonic::transport::Channel, path: &str, request: tonic::Request<()>) {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let status = client.unary(request, path.parse().unwrap(), codec).await.expect_err("no such method");
    assert!(matches!(status.code(), tonic::Code::Unimplemented | tonic::Code::Unauthenticated), "{status}");
}

#[tokio::test]
async fn open_metrics_is_given_to_those_who_ask() {
    let page = euhub::telemetry::metrics::Exposition::accepted(
        "application/openmetrics-text;version=1.0.0,*/*;q=0.1",
    );
    let text = page.write();
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("# TYPE build_info gauge\n"), "{text}");
    assert!(page.media_type().starts_with("application/openmetrics-text"));
}

#[tokio::test]
async fn a_worker_counts_from_zero_so_that_its_first_failure_is_seen_to_rise() {
    let hub = Hub::empty().await;
    let program = Program::start(&hub, &[]).await;
    wait_for("every kind of job and every operation", async || {
        let page = get(program.metrics, "/metrics").await.text;
        let jobs =
            KINDS.iter().map(|kind| format!("job_runs_total{{job=\"{}\",outcome=\"failed\"", kind.task));
        let backups = ["create", "verify", "restore", "prune"]
            .map(|operation| format!("backup_runs_total{{operation=\"{operation}\",outcome=\"failed\""));
        jobs.chain(backups)
            .all(|series| page.lines().any(|line| line.starts_with(&series) && line.ends_with(" 0")))
    })
    .await;
    program.process.stop().await;
}
