//! The real program in processes of a test's own, and the feeds that it reads there.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{Uri, header};
use euhub::clock::Clock;
use euhub::sources::service as sources;
use euhub::sources::store::{self as source_store, Draft, FeedDraft};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::PgPool;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

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
        .env("EUHUB_METRICS_ADDR", "127.0.0.1:0")
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
    if let Some(programs) = crate::embedded::config(folder).pg_bin {
        command.env("EUHUB_PG_BIN", programs);
    }
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
    // reqwest wants a provider for TLS even where nothing uses it; another test may have set it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
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
        "council",
        "harbour",
        "energy",
        "prices",
        "railway",
        "minister",
        "farmers",
        "school",
        "weather",
        "budget",
        "workers",
        "hospital",
        "forest",
        "bridge",
        "market",
        "village",
        "museum",
        "factory",
        "winter",
        "tariff",
        "station",
        "border",
        "housing",
        "tourists",
        "engineers",
        "river",
        "festival",
        "airport",
        "teachers",
        "inflation",
        "library",
        "parliament",
    ];
    const VERBS: [&str; 8] =
        ["welcomed", "criticised", "loved", "feared", "praised", "ruined", "discussed", "rebuilt"];
    let shared = number.is_multiple_of(10);
    let salt = if shared { 0 } else { u64::from(outlet.as_bytes()[0]) };
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt;
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
    let time =
        chrono::DateTime::from_timestamp(1_760_000_000 + i64::try_from(number).expect("small") * 2_220, 0)
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
    let draft =
        Draft { display_name: slug.into(), homepage_url: String::new(), country: "IE".into(), paused, feeds };
    let mut tx = db.begin().await.unwrap();
    sources::insert(&mut tx, slug, &draft, Clock::system().now()).await.unwrap();
    tx.commit().await.unwrap();
    let source = source_store::by_slug(db, slug).await.unwrap().unwrap();
    source.feeds.0.iter().map(|feed| feed.id).collect()
}

/// A gRPC channel to a process.
pub async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .expect("an address")
        .connect()
        .await
        .expect("a core that is up")
}
