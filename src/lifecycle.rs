//! From start to stop: open what the process needs, serve, and on SIGTERM drain and leave.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use euhub_edge::http::{EdgeConfig, RateLimit, RouteClass, SharedLimiter};
use euhub_edge::listen::{self, ListenConfig, Tls, TlsFiles};
use euhub_edge::plan::Plan;
use futures_util::FutureExt;
use ipnet::IpNet;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic_health::ServingStatus;

use crate::articles::watch::NewArticles;
use crate::auth::{self, Authorizer};
use crate::backup::Backups;
use crate::backup::service::BackupService;
use crate::cache::{Cache, Lifetimes};
use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::documents::extract::worker::Extractor;
use crate::embedded::{EmbeddedConfig, EmbeddedPostgres};
use crate::ingest::Ingest;
use crate::ingest::fetch::{FetchPolicy, Fetcher};
use crate::llm::{Llm, LlmSettings};
use crate::operations::health::{Health, LIVENESS};
use crate::proto::DESCRIPTOR_SET;
use crate::rate_limit::RedisLimiter;
use crate::redis::Redis;
use crate::search::embedding::{Embedder, ModelError};
use crate::search::service::Search;
use crate::server::{self, Parts};
use crate::suggestions::service::Suggestions;
use crate::{database, jobs, telemetry};

/// Calls that one connection may have open at once.
const MAX_STREAMS: u32 = 256;
/// Connections that may ask for metrics at once.
const METRICS_CONNECTIONS: usize = 16;
/// How long draining may take; the process leaves before an orchestrator's 30 s are over.
const DRAIN: Duration = Duration::from_secs(25);
/// How long connections may take to come back.
const CLOSE: Duration = Duration::from_secs(3);
/// How often the metrics of the process are looked at.
const WATCH: Duration = Duration::from_secs(1);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// gRPC.
    pub serve: bool,
    /// REST.
    pub edge: bool,
    /// Jobs.
    pub worker: bool,
}

/// The database server: that of `DATABASE_URL`, or a private one.
#[derive(Debug)]
pub struct Server {
    /// How to connect to the database.
    pub url: Secret,
    private: Option<EmbeddedPostgres>,
}

impl Server {
    /// Starts the private server where no `DATABASE_URL` is set; connects to nothing.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        if let Some(url) = &config.database_url {
            return Ok(Self { url: url.clone(), private: None });
        }
        let mut embedded = EmbeddedConfig::new(&config.data_dir);
        embedded.pg_bin.clone_from(&config.pg_bin);
        let server = EmbeddedPostgres::start(embedded).await?;
        Ok(Self { url: Secret::new(server.url()), private: Some(server) })
    }

    /// Stops the private server if this process started it.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.private {
            Some(server) => Ok(server.stop().await?),
            None => Ok(()),
        }
    }
}

/// The database, and the server behind it.
#[derive(Debug)]
pub struct Database {
    /// The pool.
    pub pool: PgPool,
    /// Where it is.
    pub server: Server,
}

impl Database {
    /// Connects to `DATABASE_URL`, or starts the private server.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let server = Server::open(config).await?;
        // The message of the driver may hold the address, and with it a password.
        let pool = database::pool(server.url.expose(), config.database_connections)
            .map_err(|_| anyhow!("DATABASE_URL is not valid"))?;
        pool.acquire().await.map_err(|_| {
            anyhow!("the database of DATABASE_URL cannot be reached: is it up, and the address right?")
        })?;
        Ok(Self { pool, server })
    }

    /// Refuses a schema that is not up to date.
    pub async fn require_migrated(&self) -> anyhow::Result<()> {
        match database::pending(&self.pool).await? {
            None => Ok(()),
            Some(missing) => {
                Err(anyhow!("the database lacks migration {missing}: run `euhub migrate` first"))
            }
        }
    }

    /// Closes the pool, and stops the private server if this process started it.
    pub async fn close(self) -> anyhow::Result<()> {
        // Whoever still holds a connection after the drain has lost it.
        let _ = tokio::time::timeout(CLOSE, self.pool.close()).await;
        self.server.close().await
    }
}

/// The pipeline over a database, with the models where there are any.
pub fn ingest(
    config: &Config,
    db: PgPool,
    clock: Clock,
    embedder: Option<Arc<Embedder>>,
) -> anyhow::Result<Ingest> {
    let policy = FetchPolicy { allow_private: config.allow_private_sources, ..FetchPolicy::default() };
    let llm = LlmSettings::from_config(config)?.map(|settings| Llm::new(settings, clock.clone()));
    Ok(Ingest { db, clock, fetcher: Fetcher::new(policy)?, embedder, llm: llm.transpose()? })
}

/// Loads the embedding model; none, with a log line that says what to do, when there is none.
pub async fn embedder(folder: &Path) -> anyhow::Result<Option<Arc<Embedder>>> {
    let folder = folder.to_owned();
    match tokio::task::spawn_blocking(move || Embedder::load(&folder)).await? {
        Ok(embedder) => Ok(Some(Arc::new(embedder))),
        Err(error @ ModelError::Missing { .. }) => {
            telemetry::degraded("model", &error);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs the roles until SIGTERM or SIGINT; `ready` is called once everything listens.
pub async fn run(
    config: Config,
    roles: Roles,
    database: Option<Database>,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    // First of all, so that no signal ends the process without a drain.
    let stop_signal = stop_signal()?;
    telemetry::trace::init().map_err(|error| anyhow!(error))?;
    let clock = Clock::system();
    let stopping = CancellationToken::new();
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();

    let grpc = if roles.serve { Some(listen(config.grpc_addr, "EUHUB_GRPC_ADDR").await?) } else { None };
    let rest = if roles.edge { Some(listen(config.edge_addr, "EUHUB_EDGE_ADDR").await?) } else { None };
    let metrics = listen(config.metrics_addr, "EUHUB_METRICS_ADDR").await?;
    let plan = Arc::new(Plan::compile(DESCRIPTOR_SET)?);
    let (mut reporter, probes) = tonic_health::server::health_reporter();
    // Until the first probe has seen the database.
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;

    let redis = config.redis_url.as_ref().map(|url| Redis::open(url.expose()));
    let redis = redis.transpose().map_err(|error| anyhow!(error))?;
    let mut tls = None;
    let mut upstream = None;
    if let Some(database) = &database {
        let embedder = embedder(&config.model_dir()).await?;
        let ingest = ingest(&config, database.pool.clone(), clock.clone(), embedder.clone())?;
        let suggestions = Suggestions {
            db: database.pool.clone(),
            clock: clock.clone(),
            embedder: embedder.clone(),
            llm: ingest.llm.clone(),
            thresholds: config.suggestions,
        };
        let backups = BackupService {
            db: database.pool.clone(),
            backups: Backups::open(&config, database.server.url.clone(), clock.clone())?,
        };
        if roles.worker {
            let services = jobs::Services {
                ingest: ingest.clone(),
                suggestions: suggestions.clone(),
                backups: backups.clone(),
            };
            tasks.spawn(jobs::work(services, config.worker_concurrency, stopping.clone()));
        }
        if let Some(listener) = grpc {
            let cache = Cache::new(redis.clone(), Lifetimes::from(&config));
            cache.listen(database.pool.clone(), stopping.clone());
            let health = Health::new(
                database.pool.clone(),
                redis.clone(),
                embedder.as_ref().map(|embedder| embedder.name().to_owned()),
                ingest.llm.clone(),
                clock.clone(),
            );
            let parts = Parts {
                health: health.clone(),
                search: Search { db: database.pool.clone(), cache, embedder },
                ingest,
                suggestions,
                backups,
                extractor: Extractor::this_program(),
                new_articles: NewArticles::listen(database.pool.clone(), stopping.clone()),
                authorizer: Authorizer::new(
                    database.pool.clone(),
                    clock.clone(),
                    config.public_read,
                    config.admin_key_file.as_deref(),
                    trusted_proxies(&config)?,
                )
                .map_err(|error| anyhow!(error))?,
                plan: Arc::clone(&plan),
                clock: clock.clone(),
                public_read: config.public_read,
                stopping: stopping.clone(),
            };
            let core = server::core(parts, probes)?;
            upstream = Some(server::in_process(core.clone()));
            let listen = listen_config(&config, Port::Grpc)?;
            tls.clone_from(&listen.tls);
            let serving = listen::serve(listener, core, listen, stopping.clone());
            tasks.spawn(serving.map(Ok));
            tasks.spawn(health.watch(reporter.clone(), stopping.clone()).map(Ok));
        }
    }
    if let Some(listener) = rest {
        let upstream = match upstream {
            Some(upstream) => upstream,
            None => {
                let remote = euhub_edge::upstream::connect(core_endpoint(&config, &config.core_url)?);
                server::ending_watches(remote, &plan, stopping.clone())
            }
        };
        let router = euhub_edge::http::router(plan, upstream, edge_config(&config, redis.as_ref())?)?;
        let listen = listen_config(&config, Port::Rest)?;
        tls.clone_from(&listen.tls);
        tasks.spawn(listen::serve(listener, router, listen, stopping.clone()).map(Ok));
    }
    let pool = database.as_ref().map(|database| database.pool.clone());
    tasks.spawn(watch_process(tls, pool, stopping.clone()).map(Ok));

    let watched = ListenConfig { max_connections: METRICS_CONNECTIONS, ..ListenConfig::default() };
    tasks.spawn(listen::serve(metrics, telemetry::page::router(), watched, stopping.clone()).map(Ok));

    ready();
    telemetry::lifecycle("started", &"");
    let failed = tokio::select! {
        signal = stop_signal => { telemetry::lifecycle("stopping", &signal); None }
        ended = tasks.join_next() => ended,
    };
    for service in server::SERVICES {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
    stopping.cancel();
    // Probes that watch have been told; without the services their streams end, and no longer hold up the drain.
    for service in server::SERVICES.into_iter().chain(["", LIVENESS]) {
        reporter.clear_service_status(service).await;
    }
    let drained = tokio::time::timeout(DRAIN, drain(&mut tasks)).await;
    telemetry::trace::flush().await;
    if let Some(database) = database {
        database.close().await?;
    }
    match (failed, drained) {
        (Some(ended), _) => ended?.and_then(|()| Err(anyhow!("a part of the process ended by itself"))),
        (None, Ok(result)) => {
            telemetry::lifecycle("stopped", &"");
            result
        }
        (None, Err(_)) => {
            telemetry::lifecycle(
                "stopped",
                &"some calls were cut off: they took longer than the drain allows",
            );
            Ok(())
        }
    }
}

async fn drain(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        result = result.and(ended?);
    }
    result
}

/// Listens from now on; the future ends with the first signal to stop.
fn stop_signal() -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Keeps the metrics of the runtime, the certificate and the requests' pool at what they are.
async fn watch_process(tls: Option<Tls>, db: Option<PgPool>, stopping: CancellationToken) {
    let mut last = Instant::now();
    while !stopping.is_cancelled() {
        telemetry::runtime();
        if let Some(tls) = &tls {
            telemetry::certificate(tls.expires());
        }
        if let Some(db) = &db {
            let idle = u32::try_from(db.num_idle()).unwrap_or(u32::MAX);
            telemetry::pool(db.size().saturating_sub(idle), idle, db.options().get_max_connections());
            telemetry::pool_waiting(last.elapsed());
            last = Instant::now();
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(WATCH) => {}
        }
    }
}

async fn listen(address: std::net::SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}; set {setting} to another address"))
}

/// A core in another process.
pub fn core_endpoint(config: &Config, url: &str) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("`{url}` is no address of a core"))?
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30));
    if endpoint.uri().scheme_str() != Some("https") {
        return Ok(endpoint);
    }
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut tls = ClientTlsConfig::new();
    tls = match &config.core_ca {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
        None => tls.with_native_roots(),
    };
    if let Some((cert, key)) = pair("core_cert", &config.core_cert, "core_key", &config.core_key)? {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    endpoint.tls_config(tls).context("core_ca, core_cert and core_key")
}

/// Two settings that go together.
fn pair<'a>(
    first_name: &str,
    first: &'a Option<PathBuf>,
    second_name: &str,
    second: &'a Option<PathBuf>,
) -> anyhow::Result<Option<(&'a Path, &'a Path)>> {
    match (first, second) {
        (Some(first), Some(second)) => Ok(Some((first, second))),
        (None, None) => Ok(None),
        (None, _) => bail!("{second_name} is set without {first_name}"),
        (_, None) => bail!("{first_name} is set without {second_name}"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Grpc,
    Rest,
}

fn listen_config(config: &Config, port: Port) -> anyhow::Result<ListenConfig> {
    let files = pair("tls_cert", &config.tls_cert, "tls_key", &config.tls_key)?;
    let client_ca = config.tls_client_ca.clone();
    if files.is_none() && client_ca.is_some() {
        bail!("tls_client_ca is set without tls_cert and tls_key");
    }
    let tls = files.map(|(cert, key)| {
        Tls::load(TlsFiles {
            cert: cert.to_owned(),
            key: key.to_owned(),
            client_ca: client_ca.filter(|_| port == Port::Grpc),
        })
    });
    let proxied = !config.trusted_proxies.is_empty();
    Ok(ListenConfig {
        tls: tls.transpose()?,
        http2_only: port == Port::Grpc,
        max_streams: MAX_STREAMS,
        max_connections: config.max_connections,
        max_connections_per_address: if proxied { 0 } else { config.max_connections_per_client },
        ..ListenConfig::default()
    })
}

fn edge_config(config: &Config, redis: Option<&Redis>) -> anyhow::Result<EdgeConfig> {
    let limit = RateLimit::per_minute;
    let shared_limiter: Option<Arc<dyn SharedLimiter>> = match redis {
        Some(redis) if config.rate_limit_shared => Some(Arc::new(RedisLimiter(redis.clone()))),
        None if config.rate_limit_shared => bail!("rate_limit_shared needs a Redis: set REDIS_URL"),
        _ => None,
    };
    Ok(EdgeConfig {
        cors_origins: config.cors_origins.clone(),
        trusted_proxies: trusted_proxies(config)?,
        rate_limit: limit(config.rate_limit_per_minute),
        route_classes: vec![
            RouteClass::new(
                "admin",
                limit(config.rate_limit_per_minute),
                &[
                    "GET */admin/*",
                    "GET *sources*",
                    "GET *backups*",
                    "GET *suggestions:stats",
                    "GET *suggestions/*/evaluations",
                ],
            )
            .cache_control("no-store"),
            RouteClass::new("upload", limit(config.upload_rate_limit_per_minute), &["POST *:upload"]),
            RouteClass::new(
                "search",
                limit(config.search_rate_limit_per_minute),
                &["GET *search*", "GET *:similar"],
            ),
            RouteClass::new(
                "write",
                limit(config.write_rate_limit_per_minute),
                &["POST *", "PUT *", "PATCH *", "DELETE *"],
            ),
        ],
        rate_exempt: config.rate_limit_exempt.clone(),
        pages: vec![telemetry::page::page()],
        observer: Some(Arc::new(telemetry::rest::Requests)),
        actor_metadata: Some(auth::ACTOR),
        shared_limiter,
        hsts: config.hsts || config.tls_cert.is_some(),
        error_domain: "euhub".into(),
        api_title: "EU Intelligence Hub".into(),
        api_version: env!("CARGO_PKG_VERSION").into(),
        ..EdgeConfig::default()
    })
}

fn trusted_proxies(config: &Config) -> anyhow::Result<Vec<IpNet>> {
    let networks = config.trusted_proxies.iter();
    networks
        .map(|network| {
            network.parse().with_context(|| format!("trusted_proxies: `{network}` is not a network"))
        })
        .collect()
}
