//! The program as its users run it: roles, signals, settings and the operator's verbs, each in processes of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use euhub::proto::WatchArticlesRequest;
use euhub::proto::article_service_client::ArticleServiceClient;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::embedded::scratch;
use crate::hub::{Hub, send};
use crate::program::{
    FeedServer, PATIENCE, Running, add_source, channel, client, euhub, euhub_on, free_address, get,
    grpc_serving, rss, run, run_err, run_ok, serving, wait_for,
};

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
    for path in [
        "/api/v1/keywords",
        "/api/v1/articles?page_size=3",
        "/api/v1/articles:search?query=energy&mode=LEXICAL",
    ] {
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
    assert_eq!(urls.len(), 4, "{printed}");
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
    let watch =
        client().get(format!("http://{rest}/api/v1/articles:watch")).header("accept", "text/event-stream");
    let events = watch.send().await.unwrap();
    assert_eq!(events.status(), 200);
    let mut watcher = ArticleServiceClient::new(channel(grpc).await);
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
    let mut health = HealthClient::new(channel(grpc).await);
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

    let text =
        run_ok(apikey(&["create", "--name", "reader", "--scope", "read", "--scope", "suggest", "--json"]))
            .await;
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

    let days =
        |days: &'static str| apikey(&["create", "--name", "x", "--scope", "read", "--expires-in-days", days]);
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

    std::fs::write(folder.path().join("one.xml"), rss("one", 0..9)).unwrap();
    let text = run_ok(ingest(&["local", "--json"])).await;
    let runs: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counts: Vec<_> = runs.iter().map(|run| (&run["outcome"], &run["new"], &run["duplicate"])).collect();
    // The second file is as it was: outcome 2, not modified.
    assert_eq!(counts, [(&json!(1), &json!(2), &json!(7)), (&json!(2), &json!(0), &json!(0))]);
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
