//! Every declared metric and every RPC is found on the page once it has been exercised.

use std::collections::BTreeSet;
use std::time::Duration;

use euhub::llm::LlmProvider;
use euhub::proto::DESCRIPTOR_SET;
use euhub::telemetry::metrics::DECLARED;
use prost_reflect::DescriptorPool;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tokio_stream::once;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::embedded::scratch;
use crate::embedding::model_dir;
use crate::hub::Hub;
use crate::llm::model::{Act, KEY, Model};
use crate::logs::Program;
use crate::program::{
    FeedServer, Running, add_source, channel, euhub, free_address, get, rss, try_get, wait_for,
};

/// Only where the process ends TLS: with a scrape of its own.
const OF_TLS: &str = "tls_certificate_expiry_timestamp_seconds";

/// The declared metrics that a page lacks.
fn missing(page: &str) -> BTreeSet<String> {
    let declared = DECLARED.iter().map(|metric| metric.prometheus_name());
    declared.filter(|name| name != OF_TLS && !page.contains(&format!("# TYPE {name} "))).collect()
}

/// Calls a method, whatever its kind, with an empty message; what comes of it does not matter.
async fn exercise(channel: &Channel, key: &str, path: &str) {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = Request::new(once(()));
    request.set_timeout(Duration::from_secs(20));
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {key}")).unwrap());
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    drop(client.streaming(request, path.parse().unwrap(), codec).await);
}

#[tokio::test]
async fn every_declared_metric_is_observed_once_every_rpc_was_called() {
    let hub = Hub::seeded().await;
    let model =
        Model::start(LlmProvider::OpenAi, [Act::Body("{}".into()), Act::Write("no schema".into())]).await;
    let (url, embeddings) = (model.settings().url, model_dir().canonicalize().unwrap());
    let program = Program::start(
        &hub,
        &[
            ("EUHUB_RATE_LIMIT_PER_MINUTE", "1000000"),
            ("EUHUB_MODEL_DIR", embeddings.to_str().unwrap()),
            ("EUHUB_LLM_PROVIDER", "openai"),
            ("EUHUB_LLM_URL", &url),
            ("EUHUB_LLM_MODEL", "tone-1"),
            ("EUHUB_LLM_API_KEY", KEY),
        ],
    )
    .await;
    let channel = channel(program.grpc).await;
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
    let services = pool.services().filter(|service| service.package_name() == "euhub.v1");
    let methods: Vec<_> = services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    for method in &methods {
        let service = method.parent_service().full_name().to_owned();
        exercise(&channel, &hub.admin_key, &format!("/{service}/{}", method.name())).await;
    }

    // A feed through the pipeline and the queue, a search, a read that is cached, a proposal that the model is asked about, a call without
    // a key.
    let feeds = FeedServer::start(|_| async { rss("metrics", 1..4) }).await;
    add_source(&hub.db, "metrics-outlet", false, &[feeds.url("/feed")]).await;
    program.admin(&hub, "POST", "/api/v1/sources/metrics-outlet:ingest", json!({})).await.ok();
    get(program.rest, "/api/v1/articles:search?query=energy&mode=SEMANTIC").await.ok();
    get(program.rest, "/api/v1/keywords/energy").await.ok();
    let proposal = json!({"term": "Heat pumps", "language": "en"});
    let made = program.admin(&hub, "POST", "/api/v1/suggestions", proposal).await.ok();
    let evaluate = format!("/api/v1/{}:evaluate", made["suggestion"]["name"].as_str().unwrap());
    for _ in 0..2 {
        program.admin(&hub, "POST", &evaluate, json!({})).await.ok();
    }
    assert_eq!(get(program.rest, "/api/v1/sources").await.status, 401);
    program.admin(&hub, "POST", "/api/v1/admin/jobs/rebuild-aggregates:run", json!({})).await.ok();
    wait_for("a job's end", async || {
        let jobs = program.admin(&hub, "GET", "/api/v1/admin/jobs", Value::Null).await.ok();
        jobs["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|job| job["name"] == "jobs/analyze-articles" && job["runCount"] != 0)
    })
    .await;
    // A fault, last of all.
    sqlx::query("ALTER TABLE sources RENAME TO lost_sources").execute(&hub.db).await.unwrap();
    assert_eq!(program.admin(&hub, "GET", "/api/v1/sources", Value::Null).await.status, 500);

    let mut page = String::new();
    for _ in 0..600 {
        page = get(program.metrics, "/metrics").await.text;
        if missing(&page).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(missing(&page), BTreeSet::new(), "never observed");
    let unseen: Vec<_> = methods
        .iter()
        .map(|method| {
            format!(r#"rpc_method="{}",rpc_service="{}""#, method.name(), method.parent_service().full_name())
        })
        .filter(|labels| {
            !page
                .lines()
                .any(|line| line.starts_with("rpc_server_duration_seconds_count") && line.contains(labels))
        })
        .collect();
    assert!(unseen.is_empty(), "{unseen:#?}");
    let undeclared: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !name.starts_with("process_"))
        .filter(|name| DECLARED.iter().all(|metric| metric.prometheus_name() != *name))
        .collect();
    assert!(undeclared.is_empty(), "on the page, and not in the documentation: {undeclared:?}");
    program.process.stop().await;
}

#[tokio::test]
async fn a_process_that_ends_tls_tells_when_its_certificate_expires() {
    let folder = scratch();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2099, 1, 1);
    let key = KeyPair::generate().unwrap();
    let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert_file, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let metrics = free_address();
    let mut command = euhub(folder.path());
    command.args(["edge", "--edge-addr", &free_address().to_string()]);
    command.env("EUHUB_METRICS_ADDR", metrics.to_string());
    command.env("EUHUB_TLS_CERT", cert_file).env("EUHUB_TLS_KEY", key_file);
    let process = Running::start(command, folder.path());
    wait_for("the time in the metrics", async || {
        let page = try_get(metrics, "/metrics").await.map(|page| page.text).unwrap_or_default();
        let expires = page.lines().find_map(|line| line.strip_prefix(OF_TLS)?.trim().parse::<f64>().ok());
        expires == Some(4_070_908_800.0)
    })
    .await;
    process.stop().await;
}
