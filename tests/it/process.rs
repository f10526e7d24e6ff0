//! The program as its users run it: roles, signals, settings and the operator's verbs, each in processes of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{Uri, header};
use euhub::clock::Clock;
use euhub::proto::WatchArticlesRequest;
use euhub::proto::article_service_client::ArticleServiceClient;
use euhub::sources::service as sources;
use euhub::sources::store::{self as source_store, Draft, FeedDraft};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::hub::{Answer, Hub, root, send};

/// How long a test waits for what must happen, before it calls it missing.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What an orchestrator grants a process to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Waits until `holds`.
pub async fn wait_for(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never came: {what}"));
}

/// The program in a folder of its own, with no setting from outside, no model and no rate limit.
pub fn euhub(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_euhub"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EUHUB_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("DATABASE_URL")
        .env_remove("REDIS_URL")
        .env("EUHUB_MODEL_DIR", folder.join("no-model"))
        .env("EUHUB_SAMPLES_DIR", root().join("samples"))
        .env("EUHUB_DATABASE_CONNECTIONS", "6")
        .env("EUHUB_RATE_LIMIT_PER_MINUTE", "0")
        .env("EUHUB_SEARCH_RATE_LIMIT_PER_MINUTE", "0")
        .env("EUHUB_WRITE_RATE_LIMIT_PER_MINUTE", "0")
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// [`euhub`] on a Hub's database.
pub fn euhub_on(hub: &Hub, folder: &Path) -> Command {
    let mut command = euhub(folder);
    command.env("DATABASE_URL", &hub.database_url).env("EUHUB_ALLOW_PRIVATE_SOURCES", "true");
    command
}

/// Runs a command to its end.
pub async fn run(mut command: Command) -> Output {
    timeout(PATIENCE, command.output()).await.expect("the command ends").expect("the program runs")
}

/// Runs a command that must succeed; its standard output.
pub async fn run_ok(command: Command) -> String {
    let output = run(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs a command that must fail; its standard error.
pub async fn run_err(command: Command) -> String {
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// A process that goes on until it is stopped; killed when dropped.
pub struct Running {
    child: Child,
    output: Arc<Mutex<String>>,
    log: PathBuf,
}

impl Running {
    /// Starts a command; its log goes to a file in `folder`.
    pub fn start(mut command: Command, folder: &Path) -> Self {
        let (log, path) = tempfile::Builder::new()
            .prefix("log-")
            .tempfile_in(folder)
            .and_then(|file| file.keep().map_err(|error| error.error))
            .expect("a log file");
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the program starts");
        let mut stdout = child.stdout.take().expect("piped");
        let output = Arc::new(Mutex::new(String::new()));
        tokio::spawn({
            let output = Arc::clone(&output);
            async move {
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = stdout.read(&mut bytes).await {
                    output.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
                }
            }
        });
        Self { child, output, log: path }
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("own file")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("a process that was not waited for");
        let pid = Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("not zero");
        kill_process(pid, signal).expect("own process");
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("own process").is_none()
    }

    /// Waits for its end, no longer than an orchestrator would.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = timeout(STOP_LIMIT, self.child.wait()).await;
        status.unwrap_or_else(|_| panic!("did not stop: {}", self.log())).expect("own process")
    }

    /// Stops it by SIGTERM; its exit code must be 0.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Kills it by SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("own process");
    }
}

/// An address that nothing listens on.
pub fn free_address() -> SocketAddr {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address")
}

/// A client of the REST edges of processes.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client")
}

/// GET; none when nothing answers.
pub async fn try_get(address: SocketAddr, path: &str) -> Option<Answer> {
    let response = client().get(format!("http://{address}{path}")).send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Some(Answer { status, headers, text: response.text().await.ok()? })
}

/// GET, of an edge that is up.
pub async fn get(address: SocketAddr, path: &str) -> Answer {
    send(client().get(format!("http://{address}{path}"))).await
}

/// Waits until the edge at `address` says that it serves.
pub async fn serving(address: SocketAddr, process: &mut Running) {
    wait_for("a healthy edge", async || {
        assert!(process.is_running(), "{}", process.log());
        try_get(address, "/health").await.is_some_and(|answer| answer.status == 200)
    })
    .await;
}

/// Waits until gRPC at `address` says that it serves.
pub async fn grpc_serving(address: SocketAddr, process: &mut Running, folder: &Path) {
    wait_for("a healthy core", async || {
        assert!(process.is_running(), "{}", process.log());
        let mut probe = euhub(folder);
        probe.args(["healthcheck", "--url", &format!("http://{address}")]);
        run(probe).await.status.success()
    })
    .await;
}

/// A local server of feeds that remembers which paths were asked for.
pub struct FeedServer {
    address: SocketAddr,
    hits: Arc<Mutex<Vec<String>>>,
}

impl FeedServer {
    /// Answers each path with the document that `document` makes for it.
    pub async fn start<F>(document: impl Fn(String) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = String> + Send,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let hits = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&hits);
        let router = Router::new().fallback(move |uri: Uri| {
            seen.lock().unwrap().push(uri.path().to_owned());
            let answer = document(uri.path().to_owned());
            async move { ([(header::CONTENT_TYPE, "application/rss+xml")], answer.await) }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, hits }
    }

    /// Address of a feed.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The paths that were asked for, in order.
    pub fn hits(&self) -> Vec<String> {
        self.hits.lock().unwrap().clone()
    }
}

/// An RSS feed of generated articles, always the same for the same outlet and numbers. Every tenth story runs in all outlets.
pub fn rss(outlet: &str, numbers: std::ops::Range<u64>) -> String {
    let items: String = numbers.map(|number| item(outlet, number)).collect();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel><title>{outlet}</title>
           <link>https://{outlet}.example/</link><language>en</language>{items}</channel></rss>"#
    )
}

fn item(outlet: &str, number: u64) -> String {
    const WORDS: [&str; 32] = [
        "council", "harbour", "energy", "prices", "railway", "minister", "farmers", "school", "weather",
        "budget", "workers", "hospital", "forest", "bridge", "market", "village", "museum", "factory",
        "winter", "tariff", "station", "border", "housing", "tourists", "engineers", "river", "festival",
        "airport", "teachers", "inflation", "library", "parliament",
    ];
    const VERBS: [&str; 8] =
        ["welcomed", "criticised", "loved", "feared", "praised", "ruined", "discussed", "rebuilt"];
    let shared = number.is_multiple_of(10);
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ if shared { 0 } else { u64::from(outlet.as_bytes()[0]) };
    let mut pick = |count: usize| {
        // Knuth's constants; the high bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % count
    };
    let body: String = (0..8)
        .map(|_| {
            let (who, what, place) = (WORDS[pick(32)], VERBS[pick(8)], WORDS[pick(32)]);
            format!("The {who} {what} the new plan for the {place} and the {} this week. ", WORDS[pick(32)])
        })
        .collect();
    let time = chrono::DateTime::from_timestamp(1_760_000_000 + i64::try_from(number).expect("small") * 2_220, 0)
        .expect("a time");
    format!(
        "<item><title>The {} of {outlet}, part {number}</title><guid isPermaLink=\"false\">{outlet}-{number}</guid>\
         <link>https://{outlet}.example/{number}</link><pubDate>{}</pubDate><description>{body}</description></item>",
        WORDS[pick(32)],
        time.to_rfc2822()
    )
}

/// Adds a source with feeds; the feeds' numbers.
pub async fn add_source(db: &PgPool, slug: &str, paused: bool, urls: &[String]) -> Vec<i64> {
    let feeds = urls
        .iter()
        .map(|url| FeedDraft { url: url.clone(), language: "en".into(), section: String::new() })
        .collect();
    let draft = Draft {
        display_name: slug.into(),
        homepage_url: String::new(),
        country: "IE".into(),
        paused,
        feeds,
    };
    let mut tx = db.begin().await.unwrap();
    sources::insert(&mut tx, slug, &draft, Clock::system().now()).await.unwrap();
    tx.commit().await.unwrap();
    let source = source_store::by_slug(db, slug).await.unwrap().unwrap();
    source.feeds.0.iter().map(|feed| feed.id).collect()
}

fn scratch() -> TempDir {
    crate::embedded::scratch()
}

fn standalone_on(hub: &Hub, folder: &Path, grpc: SocketAddr, rest: SocketAddr) -> Command {
    let mut command = euhub_on(hub, folder);
    command.args(["standalone", "--grpc-addr", &grpc.to_string(), "--edge-addr", &rest.to_string()]);
    command
}

#[tokio::test]
async fn core_and_edge_are_two_processes_and_the_edge_outlives_the_core() {
    let (hub, folder) = (Hub::seeded().await, scratch());
    let (grpc, rest) = (free_address(), free_address());
    let serve = || {
        let mut command = euhub_on(&hub, folder.path());
        command.args(["serve", "--grpc-addr", &grpc.to_string()]);
        Running::start(command, folder.path())
    };
    let mut command = euhub(folder.path());
    command.args(["edge", "--edge-addr", &rest.to_string()]).env("EUHUB_CORE_URL", format!("http://{grpc}"));
    let mut edge = Running::start(command, folder.path());

    let core = serve();
    serving(rest, &mut edge).await;
    for path in ["/api/v1/keywords", "/api/v1/articles?page_size=3", "/api/v1/articles:search?query=energy"] {
        assert_eq!(get(rest, path).await.ok(), hub.get(path).await.ok(), "{path}");
    }
    assert_eq!(get(rest, "/api/v1/keywords/no-such-thing").await.status, 404);

    core.kill().await;
    for path in ["/api/v1/keywords", "/api/v1/articles:watch"] {
        // Far less than a deadline: the edge does not wait for a core that is not there.
        let answer = timeout(Duration::from_secs(5), get(rest, path)).await.expect("an answer at once");
        assert_eq!(answer.status, 503, "{path}: {}", answer.text);
        assert_eq!(answer.headers["retry-after"], "1", "{path}");
        assert_eq!(answer.json()["error"]["status"], "UNAVAILABLE", "{path}");
    }
    wait_for("an unhealthy edge", async || get(rest, "/health").await.status == 503).await;
    assert_eq!(get(rest, "/api/openapi.json").await.status, 200, "needs no core");

    let core = serve();
    serving(rest, &mut edge).await;
    assert_eq!(get(rest, "/api/v1/keywords").await.ok(), hub.get("/api/v1/keywords").await.ok());
    edge.stop().await;
    core.stop().await;
}

#[tokio::test]
async fn standalone_needs_nothing_and_keeps_its_data() {
    let folder = scratch();
    let pg_bin = crate::embedded::config(folder.path()).pg_bin;
    let (grpc, rest) = (free_address(), free_address());
    let start = |seed: bool| {
        let mut command = euhub(folder.path());
        command.args(["standalone", "--grpc-addr", &grpc.to_string(), "--edge-addr", &rest.to_string()]);
        command.args(["--data-dir", "hub"]).args(seed.then_some("--seed"));
        if let Some(pg_bin) = &pg_bin {
            command.env("EUHUB_PG_BIN", pg_bin);
        }
        Running::start(command, folder.path())
    };
    let mut hub = start(true);
    wait_for("that it is ready", async || {
        assert!(hub.is_running(), "{}", hub.log());
        hub.output().contains("ready")
    })
    .await;
    wait_for("the addresses", async || hub.output().contains(&format!("{grpc} (reflection on"))).await;
    let printed = hub.output();
    let urls: Vec<&str> = printed.split_whitespace().filter(|word| word.starts_with("http://")).collect();
    assert_eq!(urls.len(), 3, "{printed}");
    for url in urls {
        assert_eq!(send(client().get(url)).await.status, 200, "{url}");
    }
    let total = get(rest, "/api/v1/articles?show_total=true").await.ok()["totalSize"].clone();
    assert!(total.as_i64() > Some(100), "{total}");
    grpc_serving(grpc, &mut hub, folder.path()).await;
    let pid_file = folder.path().join("hub/pgdata/postmaster.pid");
    assert!(pid_file.exists());
    hub.stop().await;
    assert!(!pid_file.exists(), "the private server is stopped with the process");

    let mut hub = start(false);
    serving(rest, &mut hub).await;
    assert_eq!(get(rest, "/api/v1/articles?show_total=true").await.ok()["totalSize"], total);
    hub.stop().await;
}

#[tokio::test]
async fn sigterm_lets_calls_finish_and_ends_the_rest() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let release = Arc::new(Notify::new());
    let feeds = FeedServer::start({
        let release = Arc::clone(&release);
        move |_| {
            let release = Arc::clone(&release);
            async move {
                release.notified().await;
                rss("slow", 0..3)
            }
        }
    })
    .await;
    add_source(&hub.db, "slow", true, &[feeds.url("/slow")]).await;
    let (grpc, rest) = (free_address(), free_address());
    let mut process = Running::start(standalone_on(&hub, folder.path(), grpc, rest), folder.path());
    serving(rest, &mut process).await;

    let request = client()
        .post(format!("http://{rest}/api/v1/sources/slow:ingest"))
        .bearer_auth(&hub.admin_key)
        .header("content-type", "application/json")
        .body("{}");
    let in_flight = tokio::spawn(send(request));
    let watch = client().get(format!("http://{rest}/api/v1/articles:watch")).header("accept", "text/event-stream");
    let events = watch.send().await.unwrap();
    assert_eq!(events.status(), 200);
    let mut watcher = ArticleServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let mut watched = watcher.watch_articles(WatchArticlesRequest::default()).await.unwrap().into_inner();
    wait_for("the fetch", async || !feeds.hits().is_empty()).await;

    process.signal(Signal::TERM);
    let refused = async |address: SocketAddr| TcpStream::connect(address).await.is_err();
    wait_for("refused connections", async || refused(rest).await && refused(grpc).await).await;
    let end = timeout(PATIENCE, watched.message()).await.expect("an end").expect_err("a status");
    assert_eq!(end.code(), tonic::Code::Unavailable, "{end}");
    let end = timeout(PATIENCE, events.text()).await.expect("an end").expect("a whole body");
    assert!(end.contains("event: error\n") && end.contains("UNAVAILABLE"), "{end}");
    assert!(process.is_running() && !in_flight.is_finished(), "the call is not done");

    release.notify_one();
    let answer = in_flight.await.unwrap().ok();
    assert_eq!(answer["runs"][0]["newCount"], 3, "{answer}");
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.log());
}

#[tokio::test]
async fn sigterm_ends_the_watchers_of_an_edge_of_its_own() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let rest = free_address();
    let mut command = euhub(folder.path());
    command.args(["edge", "--edge-addr", &rest.to_string()]);
    command.env("EUHUB_CORE_URL", format!("http://{}", hub.grpc));
    let mut edge = Running::start(command, folder.path());
    serving(rest, &mut edge).await;
    let events = client().get(format!("http://{rest}/api/v1/articles:watch")).send().await.unwrap();
    assert_eq!(events.status(), 200);
    edge.signal(Signal::TERM);
    let end = timeout(Duration::from_secs(20), events.text()).await;
    let end = end.expect("watchers end long before a drain is cut off").expect("a whole body");
    assert!(end.contains("UNAVAILABLE"), "{end}");
    assert_eq!(edge.ended().await.code(), Some(0), "{}", edge.log());
}

#[tokio::test]
async fn sigterm_ends_health_watches() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let (hub, folder) = (Hub::empty().await, scratch());
    let grpc = free_address();
    let mut command = euhub_on(&hub, folder.path());
    command.args(["serve", "--grpc-addr", &grpc.to_string()]);
    let mut core = Running::start(command, folder.path());
    grpc_serving(grpc, &mut core, folder.path()).await;
    let mut health = HealthClient::connect(format!("http://{grpc}")).await.unwrap();
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().map(|answer| answer.status), Some(1));
    core.signal(Signal::TERM);
    let last = timeout(Duration::from_secs(20), async {
        let mut last = None;
        while let Ok(Some(answer)) = watch.message().await {
            last = Some(answer.status);
        }
        last
    });
    assert_eq!(last.await.expect("the watch ends long before a drain is cut off"), Some(2), "NOT_SERVING");
    assert_eq!(core.ended().await.code(), Some(0), "{}", core.log());
}

#[tokio::test]
async fn an_unknown_setting_is_an_error_that_names_it() {
    let folder = scratch();
    let config = || {
        let mut command = euhub(folder.path());
        command.arg("config");
        command
    };
    run_ok(config()).await;

    let mut command = config();
    command.env("EUHUB_NO_SUCH_SETTING", "1");
    assert!(run_err(command).await.contains("no_such_setting"));

    std::fs::write(folder.path().join("other.toml"), "gprc_addr = \"127.0.0.1:1\"\n").unwrap();
    let mut command = config();
    command.args(["--config", "other.toml"]);
    assert!(run_err(command).await.contains("gprc_addr"));

    let mut command = config();
    command.args(["--config", "missing.toml"]);
    assert!(run_err(command).await.contains("missing.toml"));

    std::fs::write(folder.path().join("euhub.toml"), "edge_adress = \"127.0.0.1:1\"\n").unwrap();
    assert!(run_err(config()).await.contains("edge_adress"));

    std::fs::write(folder.path().join("euhub.toml"), "edge_addr = 7\n").unwrap();
    assert!(run_err(config()).await.contains("edge_addr"));
}

#[tokio::test]
async fn flags_beat_the_environment_which_beats_the_file() {
    let folder = scratch();
    std::fs::write(
        folder.path().join("hub.toml"),
        "grpc_addr = \"127.0.0.1:1\"\nedge_addr = \"127.0.0.1:2\"\npublic_read = false\n",
    )
    .unwrap();
    for named_by_flag in [true, false] {
        let mut command = euhub(folder.path());
        command.args(["config", "--grpc-addr", "127.0.0.1:5"]);
        command.env("EUHUB_GRPC_ADDR", "127.0.0.1:3").env("EUHUB_EDGE_ADDR", "127.0.0.1:4");
        if named_by_flag {
            command.args(["--config", "hub.toml"]);
        } else {
            command.env("EUHUB_CONFIG_FILE", "hub.toml");
        }
        let settings: Value = serde_json::from_str(&run_ok(command).await).unwrap();
        assert_eq!(settings["grpc_addr"], "127.0.0.1:5");
        assert_eq!(settings["edge_addr"], "127.0.0.1:4");
        assert_eq!(settings["public_read"], false);
    }
}

#[tokio::test]
async fn config_shows_no_password() {
    for (database, redis) in [
        ("postgres://hub:hunter2@db.example/euhub", "rediss://:hunter2@cache.example/0"),
        ("postgres://db.example/euhub?user=hub&password=hunter2", "redis://hub:hunter2@cache.example"),
        ("postgres:///euhub?host=/run/hunter2&password=hunter2", "redis://:hunter2@[::1"),
    ] {
        let folder = scratch();
        let mut command = euhub(folder.path());
        command.arg("config").env("DATABASE_URL", database).env("REDIS_URL", redis);
        let printed = run_ok(command).await;
        let settings: Value = serde_json::from_str(&printed).unwrap();
        assert!(settings["database_url"].is_string() && settings["redis_url"].is_string(), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

#[tokio::test]
async fn an_invalid_database_url_is_refused_without_showing_it() {
    let folder = scratch();
    let mut command = euhub(folder.path());
    command.arg("migrate").env("DATABASE_URL", "mysql://hub:hunter2@db.example/euhub");
    let error = run_err(command).await;
    assert!(error.contains("DATABASE_URL") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn api_keys_are_made_listed_and_revoked() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let apikey = |arguments: &[&str]| {
        let mut command = euhub_on(&hub, folder.path());
        command.arg("apikey").args(arguments);
        command
    };
    let sources = async |key: &str| send(hub.request("GET", "/api/v1/sources").bearer_auth(key)).await.status;

    let text = run_ok(apikey(&["create", "--name", "ops", "--scope", "admin"])).await;
    let key = text.lines().last().unwrap();
    assert!(key.starts_with("euhub_"), "{text}");
    assert_eq!(sources(key).await, 200);

    let text = run_ok(apikey(&["create", "--name", "reader", "--scope", "read", "--scope", "suggest", "--json"])).await;
    let reader: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(reader["scopes"], json!(["read", "suggest"]));
    assert_eq!(sources(reader["key"].as_str().unwrap()).await, 403);

    let listed = run_ok(apikey(&["list"])).await;
    assert!(listed.contains("ops") && listed.contains("reader") && !listed.contains(key), "{listed}");
    let listed = run_ok(apikey(&["list", "--json"])).await;
    let keys: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let id = keys.iter().find(|key| key["name"] == "ops").unwrap()["id"].to_string();

    run_ok(apikey(&["revoke", &id])).await;
    assert_eq!(sources(key).await, 401);
    let error = run_err(apikey(&["revoke", &id])).await;
    assert!(error.contains(&id), "{error}");
    let listed = run_ok(apikey(&["list"])).await;
    assert!(listed.lines().any(|line| line.contains("ops") && line.contains("revoked")), "{listed}");

    // What changed anything left its row.
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT actor, action FROM audit_log WHERE action LIKE 'apikeys.%' ORDER BY id")
            .fetch_all(&hub.db)
            .await
            .unwrap();
    let row = |action: &str| ("command-line".to_owned(), action.to_owned());
    assert_eq!(rows, [row("apikeys.create"), row("apikeys.create"), row("apikeys.revoke")]);

    let days = |days: &'static str| apikey(&["create", "--name", "x", "--scope", "read", "--expires-in-days", days]);
    run_ok(days("3650")).await;
    for refused in ["0", "3651"] {
        assert_eq!(run(days(refused)).await.status.code(), Some(2), "{refused}");
    }
}

/// Every call that only an administrator may make.
const ADMIN_CALLS: [(&str, &str); 10] = [
    ("GET", "/api/v1/sources"),
    ("GET", "/api/v1/sources/bbc-news"),
    ("POST", "/api/v1/sources"),
    ("PATCH", "/api/v1/sources/bbc-news"),
    ("DELETE", "/api/v1/sources/bbc-news"),
    ("POST", "/api/v1/sources/bbc-news:ingest"),
    ("GET", "/api/v1/sources/bbc-news/runs"),
    ("POST", "/api/v1/keywords"),
    ("PATCH", "/api/v1/keywords/energy-prices"),
    ("DELETE", "/api/v1/keywords/energy-prices"),
];

#[tokio::test]
async fn there_is_no_default_secret() {
    let (hub, folder) = (Hub::seeded().await, scratch());
    sqlx::query("DELETE FROM api_keys").execute(&hub.db).await.unwrap();
    let (grpc, rest) = (free_address(), free_address());
    let mut process = Running::start(standalone_on(&hub, folder.path(), grpc, rest), folder.path());
    serving(rest, &mut process).await;
    for (method, path) in ADMIN_CALLS {
        for secret in [None, Some("Bearer euhub_"), Some("Bearer admin"), Some("Basic YWRtaW46YWRtaW4=")] {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = client().request(method.clone(), format!("http://{rest}{path}"));
            if let Some(secret) = secret {
                request = request.header("authorization", secret);
            }
            if method == "POST" || method == "PATCH" {
                request = request.header("content-type", "application/json").body("{}");
            }
            let answer = send(request).await;
            assert_eq!(answer.status, 401, "{method} {path} with {secret:?}: {}", answer.text);
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(get(rest, "/api/v1/keywords").await.status, 200, "reading is public");
    process.stop().await;
}

#[tokio::test]
async fn the_key_file_opens_admin_calls() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let (grpc, rest) = (free_address(), free_address());
    let with_key = |key: &str| {
        std::fs::write(folder.path().join("key"), key).unwrap();
        let mut command = standalone_on(&hub, folder.path(), grpc, rest);
        command.env("EUHUB_ADMIN_KEY_FILE", "key");
        command
    };
    let key = "k".repeat(32);
    let error = run_err(with_key(&key[1..])).await;
    assert!(error.contains("EUHUB_ADMIN_KEY_FILE") && error.contains("32"), "{error}");
    let mut command = with_key(&key);
    command.env("EUHUB_ADMIN_KEY_FILE", "missing");
    let error = run_err(command).await;
    assert!(error.contains("EUHUB_ADMIN_KEY_FILE") && error.contains("missing"), "{error}");

    let mut process = Running::start(with_key(&format!("{key}\n")), folder.path());
    serving(rest, &mut process).await;
    let url = format!("http://{rest}/api/v1/sources");
    assert_eq!(send(client().get(&url).bearer_auth(&key)).await.status, 200);
    assert_eq!(send(client().get(&url).bearer_auth(&key[1..])).await.status, 401);
    assert_eq!(send(client().get(&url)).await.status, 401);
    process.stop().await;
}

#[tokio::test]
async fn healthcheck_tells_by_its_exit_code() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let grpc = free_address();
    let mut command = euhub_on(&hub, folder.path());
    command.args(["serve", "--grpc-addr", &grpc.to_string()]);
    let mut core = Running::start(command, folder.path());
    let check = |arguments: &[&str]| {
        let mut command = euhub(folder.path());
        command.args(["healthcheck", "--url", &format!("http://{grpc}")]).args(arguments);
        command
    };
    grpc_serving(grpc, &mut core, folder.path()).await;
    for service in euhub::server::SERVICES {
        wait_for(service, async || run(check(&["--service", service])).await.status.success()).await;
    }
    run_err(check(&["--service", "euhub.v1.NoSuchService"])).await;
    core.stop().await;
    let error = run_err(check(&[])).await;
    assert!(error.contains(&grpc.to_string()), "{error}");
}

#[tokio::test]
async fn ingest_tells_of_each_feed() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let file = |name: &str| format!("file://{}", folder.path().join(name).display());
    std::fs::write(folder.path().join("one.xml"), rss("one", 0..5)).unwrap();
    std::fs::write(folder.path().join("two.xml"), rss("one", 3..7)).unwrap();
    add_source(&hub.db, "local", false, &[file("one.xml"), file("two.xml")]).await;
    add_source(&hub.db, "idle", true, &[file("three.xml")]).await;
    let ingest = |arguments: &[&str]| {
        let mut command = euhub_on(&hub, folder.path());
        command.arg("ingest").args(arguments);
        command
    };
    let text = run_ok(ingest(&[])).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            format!("local: 5 new, 0 duplicate, 0 failed  {}", file("one.xml")),
            format!("local: 2 new, 2 duplicate, 0 failed  {}", file("two.xml")),
        ]
    );
    let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM articles WHERE analyze_time IS NULL")
        .fetch_one(&hub.db)
        .await
        .unwrap();
    assert_eq!(waiting, 0, "what came is analysed before the command ends");

    let text = run_ok(ingest(&["local", "--json"])).await;
    let runs: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counts: Vec<_> = runs.iter().map(|run| (run["new"].clone(), run["duplicate"].clone())).collect();
    assert_eq!(counts, [(json!(0), json!(5)), (json!(0), json!(4))]);
    assert_eq!(runs[0]["feed_url"], json!(file("one.xml")));

    let error = run_err(ingest(&["nowhere"])).await;
    assert!(error.contains("nowhere"), "{error}");
    // The source's file is missing: its run failed, is told, and is in the exit code.
    let output = run(ingest(&["idle"])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("idle: 0 new"), "{output:?}");
    // Files are for those who allow them.
    let mut command = ingest(&["local"]);
    command.env("EUHUB_ALLOW_PRIVATE_SOURCES", "false");
    assert_eq!(run(command).await.status.code(), Some(1));
}

#[tokio::test]
async fn a_database_without_the_schema_is_refused_until_it_is_migrated() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let name = hub.database_url.split(['/', '?']).find(|part| part.starts_with("test_")).unwrap();
    let bare = name.replace("test_", "bare_");
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {bare}"))).execute(&hub.db).await.unwrap();
    let url = hub.database_url.replace(name, &bare);
    let on_bare = |arguments: &[&str]| {
        let mut command = euhub(folder.path());
        command.args(arguments).env("DATABASE_URL", &url);
        command
    };
    let grpc = free_address().to_string();
    let error = run_err(on_bare(&["serve", "--grpc-addr", &grpc])).await;
    assert!(error.contains("euhub migrate"), "{error}");
    let error = run_err(on_bare(&["worker"])).await;
    assert!(error.contains("euhub migrate"), "{error}");
    run_ok(on_bare(&["migrate"])).await;
    run_ok(on_bare(&["migrate"])).await;
    let mut core = Running::start(on_bare(&["serve", "--grpc-addr", &grpc]), folder.path());
    grpc_serving(grpc.parse().unwrap(), &mut core, folder.path()).await;
    core.stop().await;
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let mut command = euhub_on(&hub, folder.path());
    command.args(["serve", "--grpc-addr", &hub.grpc.to_string()]);
    let error = run_err(command).await;
    assert!(error.contains(&hub.grpc.to_string()) && error.contains("EUHUB_GRPC_ADDR"), "{error}");
}
