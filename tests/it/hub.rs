//! A whole Hub for one test: its own database, the services in this process, REST and gRPC on real sockets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use euhub::articles::watch::NewArticles;
use euhub::auth::{Authorizer, generate_key};
use euhub::backup::Backups;
use euhub::backup::service::BackupService;
use euhub::cache::{Cache, Lifetimes};
use euhub::clock::{Clock, system_rng};
use euhub::config::{Config, Secret};
use euhub::database;
use euhub::documents::extract::worker::Extractor;
use euhub::embedded::EmbeddedPostgres;
use euhub::ingest::Ingest;
use euhub::ingest::fetch::{FetchPolicy, Fetcher};
use euhub::llm::Llm;
use euhub::operations::health::Health;
use euhub::proto::DESCRIPTOR_SET;
use euhub::redis::Redis;
use euhub::search::embedding::Embedder;
use euhub::search::service::Search;
use euhub::seed;
use euhub::server::{self, Parts};
use euhub::suggestions::evaluate::Thresholds;
use euhub::suggestions::service::Suggestions;
use euhub_edge::http::{EdgeConfig, RateLimit};
use euhub_edge::listen::{self, ListenConfig};
use euhub_edge::plan::Plan;
use serde_json::Value;
use sqlx::{Connection, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// The run's Postgres, and the templates that each test's database is copied from.
struct Ground {
    server: EmbeddedPostgres,
    folder: TempDir,
    _cleaner: Child,
}

static GROUND: OnceCell<Ground> = OnceCell::const_new();
static SEEDED: OnceCell<()> = OnceCell::const_new();

/// How a Hub is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usual,
    WithoutModel,
    Private,
}

/// A running Hub.
pub struct Hub {
    /// Its database.
    pub db: PgPool,
    /// Its database's address, for processes of the test's own.
    pub database_url: String,
    /// Its pipeline; private sources are allowed.
    pub ingest: Ingest,
    /// Its cache.
    pub cache: Cache,
    /// Address of the REST edge.
    pub rest: SocketAddr,
    /// Address of the gRPC server.
    pub grpc: SocketAddr,
    /// Its backups, in a folder of its own.
    pub backups: BackupService,
    /// A key with the scopes `admin` and `backup`.
    pub admin_key: String,
    /// Ends the servers.
    pub stopping: CancellationToken,
    client: reqwest::Client,
    _folder: TempDir,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// An answer of the edge.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The body as JSON, of an answer that must be a 200.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// That this is an error of that status, in both its forms.
    pub fn error(&self, http: u16, status: &str) {
        assert_eq!(self.status, http, "{}", self.text);
        assert_eq!(self.json()["error"]["status"], status, "{}", self.text);
    }

    /// The field of the first violation, of an answer that must be a 400.
    pub fn violation(&self) -> String {
        assert_eq!(self.status, 400, "{}", self.text);
        let json = self.json();
        let details = json["error"]["details"].as_array().expect("details").clone();
        let bad =
            details.iter().find(|detail| detail["fieldViolations"].is_array()).expect("a BadRequest detail");
        bad["fieldViolations"][0]["field"].as_str().expect("a field").to_owned()
    }
}

impl Hub {
    /// A Hub whose database holds the schema and nothing else.
    pub async fn empty() -> Self {
        Self::on(&ground().await.server, "template_empty", Kind::Usual, None).await
    }

    /// A Hub with the sample sources, keywords and articles.
    pub async fn seeded() -> Self {
        Self::on_samples(Kind::Usual, None).await
    }

    /// [`Hub::seeded`] with a language model.
    pub async fn with_llm(llm: Llm) -> Self {
        Self::on_samples(Kind::Usual, Some(llm)).await
    }

    /// [`Hub::seeded`], started where there is no embedding model.
    pub async fn without_model() -> Self {
        Self::on_samples(Kind::WithoutModel, None).await
    }

    /// [`Hub::seeded`] that wants a key for reading too.
    pub async fn private() -> Self {
        Self::on_samples(Kind::Private, None).await
    }

    async fn on_samples(kind: Kind, llm: Option<Llm>) -> Self {
        let ground = ground().await;
        SEEDED.get_or_init(|| seed_template(ground)).await;
        Self::on(&ground.server, "template_seeded", kind, llm).await
    }

    async fn on(server: &EmbeddedPostgres, template: &str, kind: Kind, llm: Option<Llm>) -> Self {
        let name = format!("test_{}", uuid());
        admin_sql(server, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        Self::serve(server.url_of(&name), kind, cache(None), llm).await
    }

    /// Another core on this one's database, that keeps answers.
    pub async fn core(&self, redis: Option<&str>) -> Self {
        Self::core_at(self.database_url.clone(), redis).await
    }

    /// [`Hub::core`] by another way to its database.
    pub async fn core_at(database_url: String, redis: Option<&str>) -> Self {
        let core = Self::serve(database_url, Kind::Usual, cache(redis), None).await;
        core.cache.listen(core.db.clone(), core.stopping.clone());
        crate::program::wait_for("a cache that hears", async || core.cache.listening()).await;
        core
    }

    /// A core whose cache hears of no changes yet: tests write to the database behind its back, and read at once.
    async fn serve(database_url: String, kind: Kind, cache: Cache, llm: Option<Llm>) -> Self {
        let db = database::pool(&database_url, 10).unwrap();
        let stopping = CancellationToken::new();
        let (key, hash) = generate_key(&mut system_rng());
        let clock = Clock::system();
        let scopes = ["admin".to_owned(), "backup".to_owned()];
        euhub::admin::store::insert_api_key(&db, "test", &hash, &scopes, clock.now(), None).await.unwrap();

        let ingest = Ingest { llm: llm.clone(), ..ingest(db.clone()) };
        let public_read = kind != Kind::Private;
        let embedder = (kind != Kind::WithoutModel).then(embedder);
        let suggestions = Suggestions { llm, ..suggestions(db.clone(), embedder.clone()) };
        let plan = Arc::new(Plan::compile(DESCRIPTOR_SET).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let backups = backups(&db, &database_url, folder.path());
        let model = embedder.as_ref().map(|embedder| embedder.name().to_owned());
        let health = Health::new(db.clone(), None, model, ingest.llm.clone(), clock.clone());
        let parts = Parts {
            health,
            search: Search { db: db.clone(), cache: cache.clone(), embedder },
            ingest: ingest.clone(),
            suggestions,
            backups: backups.clone(),
            extractor: Extractor::new(env!("CARGO_BIN_EXE_euhub").into()),
            new_articles: NewArticles::listen(db.clone(), stopping.clone()),
            authorizer: Authorizer::new(db.clone(), clock.clone(), public_read, None, Vec::new()).unwrap(),
            plan: Arc::clone(&plan),
            clock,
            public_read,
            stopping: stopping.clone(),
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let core = server::core(parts, health).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = listener.local_addr().unwrap();
        let http2 = ListenConfig { http2_only: true, ..ListenConfig::default() };
        tokio::spawn(listen::serve(listener, core.clone(), http2, stopping.clone()));

        let config =
            EdgeConfig { rate_limit: RateLimit::OFF, route_classes: Vec::new(), ..EdgeConfig::default() };
        let edge = euhub_edge::http::router(plan, server::in_process(core), config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rest = listener.local_addr().unwrap();
        tokio::spawn(listen::serve(listener, edge, ListenConfig::default(), stopping.clone()));
        // reqwest wants a provider for TLS even where nothing uses it; another test may have set it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            db,
            database_url,
            ingest,
            cache,
            rest,
            grpc,
            backups,
            admin_key: key,
            stopping,
            client,
            _folder: folder,
        }
    }

    /// A request that is not sent yet; `path` begins with `/`.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.rest))
    }

    /// GET, without a key.
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request("GET", path)).await
    }

    /// A call with the admin key and, unless it is null, a JSON body.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        let request = self.request(method, path).bearer_auth(&self.admin_key);
        let request = match body {
            Value::Null => request,
            body => request.header("content-type", "application/json").body(body.to_string()),
        };
        send(request).await
    }

    /// A gRPC channel, for the generated clients.
    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.grpc)).unwrap().connect().await.unwrap()
    }
}

/// A cache with the default lifetimes, in a Redis or in this process.
pub fn cache(redis: Option<&str>) -> Cache {
    Cache::new(redis.map(|url| Redis::open(url).unwrap()), Lifetimes::from(&Config::default()))
}

/// Sends a request and reads the whole answer.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

/// A text as a query string holds it.
pub fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A pipeline that may read files and private addresses.
pub fn ingest(db: PgPool) -> Ingest {
    let policy = FetchPolicy { allow_private: true, ..FetchPolicy::default() };
    let fetcher = Fetcher::new(policy).unwrap();
    Ingest { db, clock: Clock::system(), fetcher, embedder: Some(embedder()), llm: None }
}

/// Suggestions with the default thresholds.
pub fn suggestions(db: PgPool, embedder: Option<Arc<Embedder>>) -> Suggestions {
    Suggestions { db, clock: Clock::system(), embedder, llm: None, thresholds: Thresholds::default() }
}

/// The model, loaded once a run.
pub fn embedder() -> Arc<Embedder> {
    static EMBEDDER: OnceLock<Arc<Embedder>> = OnceLock::new();
    let folder = crate::embedding::model_dir();
    Arc::clone(EMBEDDER.get_or_init(|| Arc::new(Embedder::load(&folder).unwrap())))
}

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Backups of a database in `folder`, by the programs that the tests' server comes from.
pub fn backups(db: &PgPool, database_url: &str, folder: &Path) -> BackupService {
    let config = Config {
        backup_url: Some(folder.join("backups").display().to_string()),
        pg_bin: crate::embedded::config(folder).pg_bin,
        ..Config::default()
    };
    let backups = Backups::open(&config, Secret::new(database_url), Clock::system()).unwrap();
    BackupService { db: db.clone(), backups }
}

async fn ground() -> &'static Ground {
    GROUND
        .get_or_init(|| async {
            let folder = crate::embedded::scratch();
            let _cleaner = remove_in_the_end(folder.path());
            let server = EmbeddedPostgres::start(crate::embedded::config(folder.path())).await.unwrap();
            admin_sql(&server, "CREATE DATABASE template_empty".into()).await;
            let db = database::pool(&server.url_of("template_empty"), 2).unwrap();
            database::migrate(&db).await.unwrap();
            db.close().await;
            Ground { server, folder, _cleaner }
        })
        .await
}

/// A shell that removes a folder of gigabytes when this process has ended, and its server after it: a static is never dropped.
fn remove_in_the_end(folder: &Path) -> Child {
    let script = r#"trap '' INT; read -r _; for _ in 1 2 3 4 5; do sleep 1; rm -rf "$0" && exit; done"#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

async fn seed_template(ground: &Ground) {
    admin_sql(&ground.server, "CREATE DATABASE template_seeded TEMPLATE template_empty".into()).await;
    let db = database::pool(&ground.server.url_of("template_seeded"), 4).unwrap();
    seed::seed(&ingest(db.clone()), &root().join("samples"), ground.folder.path(), |_| ()).await.unwrap();
    // Statistics as a live database has them.
    sqlx::query("ANALYZE").execute(&db).await.unwrap();
    db.close().await;
}

async fn admin_sql(server: &EmbeddedPostgres, sql: String) {
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn uuid() -> String {
    use rand::RngExt;
    format!("{:032x}", system_rng().random::<u128>())
}
