//! The metrics: declared in one table, from which the instruments and `docs/METRICS.md` both come. Prometheus writes a dot as `_`, and adds
//! the unit and `_total` to the name.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, MeterProvider, UpDownCounter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};

/// Bounds of durations in seconds: the bars of the design (20 ms, 25 ms, 200 ms, 500 ms) stand between buckets of their own.
const SECONDS: [f64; 15] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];
/// Bounds of durations of background work.
const LONG_SECONDS: [f64; 10] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0];
/// Bounds of sizes in bytes.
const BYTES: [f64; 8] = [128.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 10_485_760.0];
/// Bounds of numbers of results.
const RESULTS: [f64; 7] = [0.0, 1.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// One metric as the documentation names it.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// Its OpenTelemetry name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its unit in UCUM notation; empty for plain numbers.
    pub unit: &'static str,
    /// Its labels, as Prometheus writes them.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub description: &'static str,
}

impl Declared {
    /// Its name as Prometheus writes it.
    pub fn prometheus_name(&self) -> String {
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let suffix = if self.kind == "counter" { "_total" } else { "" };
        format!("{}{unit}{suffix}", self.name.replace('.', "_"))
    }
}

/// `docs/METRICS.md`.
pub fn documentation() -> String {
    let mut page = "# Metrics

The Hub's own metrics, at `GET /metrics` of the edge and of `EUHUB_METRICS_ADDR`, in Prometheus' text format, or as OpenMetrics when asked
for. Beside them stand the process's: `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`,
`process_open_fds`, `process_max_fds`, `process_threads` and `process_start_time_seconds`.

This page is made from the declarations in `src/telemetry/metrics.rs`: `UPDATE_DOCS=1 cargo test --workspace --locked the_page_of_metrics`
writes it anew.

| metric | kind | labels | what it tells |
|---|---|---|---|
"
    .to_owned();
    for metric in DECLARED {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels) = (metric.prometheus_name(), labels.join(", "));
        page.push_str(&format!("| `{name}` | {} | {labels} | {} |\n", metric.kind, metric.description));
    }
    page
}

/// Declares every metric once: its instrument, and its line in the documentation.
macro_rules! metrics {
    (@type seconds) => { Histogram<f64> };
    (@type long_seconds) => { Histogram<f64> };
    (@type bytes) => { Histogram<u64> };
    (@type results) => { Histogram<u64> };
    (@type counter) => { Counter<u64> };
    (@type active) => { UpDownCounter<i64> };
    (@type gauge) => { Gauge<f64> };
    (@make $meter:ident seconds $name:literal) => {
        $meter.f64_histogram($name).with_boundaries(SECONDS.into())
    };
    (@make $meter:ident long_seconds $name:literal) => {
        $meter.f64_histogram($name).with_boundaries(LONG_SECONDS.into())
    };
    (@make $meter:ident bytes $name:literal) => { $meter.u64_histogram($name).with_boundaries(BYTES.into()) };
    (@make $meter:ident results $name:literal) => {
        $meter.u64_histogram($name).with_boundaries(RESULTS.into())
    };
    (@make $meter:ident counter $name:literal) => { $meter.u64_counter($name) };
    (@make $meter:ident active $name:literal) => { $meter.i64_up_down_counter($name) };
    (@make $meter:ident gauge $name:literal) => { $meter.f64_gauge($name) };
    (@kind counter) => { "counter" };
    (@kind active) => { "gauge" };
    (@kind gauge) => { "gauge" };
    (@kind $histogram:ident) => { "histogram" };
    ($($field:ident: $kind:ident $name:literal $unit:literal [$($label:literal),*] $description:literal;)*) => {
        /// The instruments.
        #[derive(Debug)]
        pub(super) struct Metrics {
            registry: Registry,
            _provider: SdkMeterProvider,
            $(pub(super) $field: metrics!(@type $kind),)*
        }

        /// Every metric of the Hub's own; the process's come beside them.
        pub const DECLARED: &[Declared] = &[$(Declared {
            name: $name,
            kind: metrics!(@kind $kind),
            unit: $unit,
            labels: &[$($label),*],
            description: $description,
        },)*];

        fn instruments(registry: Registry, provider: SdkMeterProvider) -> Metrics {
            let meter = provider.meter("euhub");
            Metrics {
                $($field: metrics!(@make meter $kind $name).with_unit($unit).with_description($description).build(),)*
                registry,
                _provider: provider,
            }
        }
    };
}

metrics! {
    rpc_duration: seconds "rpc.server.duration" "s" ["rpc_service", "rpc_method", "rpc_grpc_status_code"]
        "Time of a gRPC call from its first byte to the last of its answer.";
    rpc_active: active "rpc.server.active_requests" "" ["rpc_service", "rpc_method"]
        "gRPC calls that are being answered.";
    rpc_request_size: bytes "rpc.server.request.size" "By" ["rpc_service", "rpc_method"]
        "Bytes of a gRPC request.";
    rpc_response_size: bytes "rpc.server.response.size" "By" ["rpc_service", "rpc_method"]
        "Bytes of a gRPC answer.";
    http_duration: seconds "http.server.request.duration" "s"
        ["http_request_method", "http_route", "http_response_status_code"]
        "Time of a REST request from its first line to the last byte of its answer.";
    http_active: active "http.server.active_requests" "" ["http_request_method", "http_route"]
        "REST requests that are being answered.";
    http_request_size: bytes "http.server.request.body.size" "By" ["http_request_method", "http_route"]
        "Bytes of a REST request's body.";
    http_response_size: bytes "http.server.response.body.size" "By" ["http_request_method", "http_route"]
        "Bytes of a REST answer's body.";
    rate_limited: counter "rate_limit.decisions" "" ["class", "decision"]
        "Requests that a rate limit looked at: `granted` or `refused`.";
    authentication_failures: counter "authentication.failures" "" ["reason"]
        "Calls refused for their key: `missing`, `invalid`, `scope` or `throttled`.";
    faults: counter "faults" "" ["part"]
        "Faults of ours or of what we depend on, each with a log line.";
    db_duration: seconds "db.client.operation.duration" "s" ["operation"]
        "Time of a statement by its verb and table.";
    db_connections: gauge "db.client.connection.count" "" ["state"]
        "Connections of the requests' pool: `used` or `idle`.";
    db_connections_max: gauge "db.client.connection.max" "" []
        "Most connections that the requests' pool may have.";
    db_waiting: gauge "db.client.connection.waiting" "" []
        "Calls that waited for a connection of the requests' pool, on average over the last second.";
    cache_reads: counter "cache.reads" "" ["kind", "outcome"]
        "Reads of the cache: `hit`, `miss`, or `bypassed` where Redis or the news of changes was away.";
    cache_duration: seconds "cache.read.duration" "s" ["kind"]
        "Time of a read of the cache, the database aside.";
    job_runs: counter "job.runs" "" ["job", "outcome"]
        "Jobs that ended: `succeeded` or `failed`.";
    job_duration: long_seconds "job.duration" "s" ["job"]
        "Time of a job.";
    job_queue_depth: gauge "job.queue.depth" "" ["state"]
        "Jobs in the queue: `waiting`, `running` or `failed` for good.";
    job_queue_oldest: gauge "job.queue.oldest_age" "s" []
        "How long the job that is due longest has waited.";
    backup_runs: counter "backup.runs" "" ["operation", "outcome"]
        "Backups made (`create`), verified, restored (`restore`) and pruned: `succeeded` or `failed`.";
    backup_duration: long_seconds "backup.duration" "s" ["operation"]
        "Time of making, verifying, restoring and pruning backups.";
    backup_progress: gauge "backup.progress" "By" ["operation"]
        "Bytes that have gone through the backup, verification or restore that runs, before compression.";
    backup_last_success: gauge "backup.last_success_timestamp" "s" []
        "When the newest good backup was made, in seconds since 1970.";
    backup_verified: gauge "backup.verified_timestamp" "s" []
        "When a backup was last restored and found to be what it promises, in seconds since 1970.";
    backup_size: gauge "backup.size" "By" []
        "Bytes of the newest good backup.";
    ingest_articles: counter "ingest.articles" "" ["source", "outcome"]
        "Entries of feeds that were fetched: `new`, `duplicate` or `failed`.";
    ingest_runs: counter "ingest.runs" "" ["source", "outcome"]
        "Fetches of feeds: `succeeded` or `failed`.";
    ingest_last_success: gauge "ingest.last_success_timestamp" "s" ["source"]
        "When a feed of the source was last fetched, in seconds since 1970.";
    articles_analyzed: counter "analyzer.articles" "" ["analyzer", "language", "outcome"]
        "Articles whose tone was scored, or of which the analyzer abstained.";
    analyze_duration: long_seconds "analyzer.batch.duration" "s" []
        "Time of the analysis of a batch of articles.";
    llm_calls: counter "llm.calls" "" ["outcome"]
        "Calls of the language model.";
    llm_tokens: counter "llm.tokens" "" ["direction"]
        "Tokens of questions (`in`) and answers (`out`).";
    llm_duration: long_seconds "llm.call.duration" "s" ["outcome"]
        "Time of a call of the language model with all its tries.";
    llm_breaker_open: gauge "llm.breaker.open" "" []
        "1 while the language model is not asked because it failed too often, else 0.";
    embedding_duration: seconds "embedding.duration" "s" []
        "Time of a run of the embedding model over a batch of texts.";
    searches: counter "search.requests" "" ["mode"]
        "Searches.";
    search_results: results "search.results" "" ["mode"]
        "Results of a search's page.";
    dependency_up: gauge "dependency.up" "" ["dependency"]
        "1 while the dependency answers, else 0.";
    certificate_expiry: gauge "tls.certificate.expiry_timestamp" "s" []
        "When the first certificate of the served chain expires, in seconds since 1970; only where this process ends TLS.";
    tokio_workers: gauge "tokio.workers" "" []
        "Threads that run tasks.";
    tokio_alive_tasks: gauge "tokio.alive_tasks" "" []
        "Tasks that have not ended.";
    tokio_queue_depth: gauge "tokio.global_queue_depth" "" []
        "Tasks that wait for a thread, in the queue of all threads.";
    build_info: gauge "build.info" "" ["version"]
        "Always 1; its label is the version of the program.";
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .without_target_info()
        .build()
        .expect("a new registry takes every collector");
    registry
        .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
        .expect("a new registry takes every collector");
    let metrics = instruments(registry, SdkMeterProvider::builder().with_reader(exporter).build());
    metrics.build_info.record(1.0, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]);
    metrics
});

/// The instruments of this process.
pub(super) fn metrics() -> &'static Metrics {
    &METRICS
}

/// How a page of metrics is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// The one that an `Accept` header asks for.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Every metric as it stands.
    pub fn write(self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&METRICS.registry.gather(), &mut text) {
            super::fault("metrics", &error);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        match self {
            Self::Text => text,
            Self::OpenMetrics => open_metrics(&text),
        }
    }
}

/// OpenMetrics names a counter's family without the `_total` of its samples, and ends with a line of its own.
fn open_metrics(text: &str) -> String {
    let counters: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix("_total counter"))
        .collect();
    let mut open = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let family = match (words.next(), words.next(), words.next()) {
            (Some("#"), Some(word), Some(name)) => name
                .strip_suffix("_total")
                .filter(|family| counters.contains(family))
                .map(|family| format!("# {word} {family} {}", words.next().unwrap_or_default())),
            _ => None,
        };
        open.push_str(family.as_deref().unwrap_or(line));
        open.push('\n');
    }
    open.push_str("# EOF\n");
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_names_the_family_of_a_counter_without_its_suffix() {
        let text = "# HELP a_total Counts.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n# HELP d_total Is no counter.\n# TYPE d_total gauge\nd_total 2\n";
        let open = open_metrics(text);
        assert_eq!(
            open,
            "# HELP a Counts.\n# TYPE a counter\na_total{b=\"c\"} 1\n# HELP d_total Is no counter.\n# TYPE d_total gauge\nd_total 2\n# EOF\n"
        );
    }

    #[test]
    fn the_page_of_metrics_is_what_is_declared() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, documentation()).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            documentation(),
            "docs/METRICS.md is old"
        );
    }

    #[test]
    fn a_name_is_declared_once_and_says_what_it_tells() {
        for (at, metric) in DECLARED.iter().enumerate() {
            assert!(metric.description.ends_with('.'), "{}", metric.name);
            assert!(DECLARED.iter().take(at).all(|other| other.name != metric.name), "{}", metric.name);
        }
    }
}
