//! What the program logs: access lines, slow statements, faults, and what it never logs.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Connection;
use tokio::time::sleep;

use crate::embedded::scratch;
use crate::hub::{Answer, Hub, send};
use crate::program::{Running, client, euhub_on, free_address, get, serving, wait_for};

/// The program with its log as JSON.
struct Program {
    process: Running,
    rest: std::net::SocketAddr,
    grpc: std::net::SocketAddr,
    metrics: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

impl Program {
    async fn start(hub: &Hub, settings: &[(&str, &str)]) -> Self {
        let folder = scratch();
        let (rest, grpc, metrics) = (free_address(), free_address(), free_address());
        let mut command = euhub_on(hub, folder.path());
        command.args(["standalone", "--grpc-addr", &grpc.to_string(), "--edge-addr", &rest.to_string()]);
        command.env("EUHUB_METRICS_ADDR", metrics.to_string());
        command.envs(settings.iter().copied());
        let mut process = Running::start(command, folder.path());
        serving(rest, &mut process).await;
        Self { process, rest, grpc, metrics, _folder: folder }
    }

    /// The lines that `wanted` takes, so far.
    fn lines(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let log = self.process.log();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(|line| wanted(line)).collect()
    }

    /// The lines with this message.
    fn said(&self, message: &str) -> Vec<Value> {
        self.lines(|line| line["message"] == message)
    }

    async fn admin(&self, hub: &Hub, method: &str, path: &str, body: Value) -> Answer {
        let request = client().request(method.parse().unwrap(), format!("http://{}{path}", self.rest));
        send(
            request
                .bearer_auth(&hub.admin_key)
                .header("content-type", "application/json")
                .body(body.to_string()),
        )
        .await
    }
}

#[tokio::test]
async fn a_slow_statement_is_logged_by_name_without_values_and_calls_that_wait_for_it_are_counted() {
    let hub = Hub::seeded().await;
    let program = Program::start(&hub, &[]).await;
    // All that read keywords wait for this lock: more of them than the pool has connections.
    let mut connection = sqlx::PgConnection::connect(&hub.database_url).await.unwrap();
    let mut lock = connection.begin().await.unwrap();
    sqlx::query("LOCK TABLE keywords IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let readers: Vec<_> = (0..12)
        .map(|n| {
            let rest = program.rest;
            tokio::spawn(
                async move { get(rest, &format!("/api/v1/keywords?query=tell-nobody-{n}")).await.status },
            )
        })
        .collect();
    wait_for("readers that wait", async || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'keywords'::regclass";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&hub.db).await.unwrap() >= 3
    })
    .await;
    sleep(Duration::from_millis(300)).await;
    lock.commit().await.unwrap();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), 200);
    }
    wait_for("calls that waited for a connection", async || {
        let page = get(program.metrics, "/metrics").await.text;
        let waiting = page.lines().find_map(|line| line.strip_prefix("db_client_connection_waiting "));
        waiting.is_some_and(|calls| calls.parse::<f64>().unwrap() > 0.0)
    })
    .await;
    let slow = program.said("slow query");
    assert!(slow.len() >= 3, "{}", program.process.log());
    for line in slow {
        assert_eq!(
            (&line["operation"], &line["level"]),
            (&json!("SELECT keywords"), &json!("WARN")),
            "{line}"
        );
        assert!(line["duration_ms"].as_f64().unwrap() >= 250.0, "{line}");
        assert!(!line.to_string().contains("tell-nobody"), "{line}");
    }
    program.process.stop().await;
}

#[tokio::test]
async fn the_log_filter_changes_while_the_program_runs() {
    let hub = Hub::seeded().await;
    let program = Program::start(&hub, &[("EUHUB_LOG", "info")]).await;
    let log = program.admin(&hub, "GET", "/api/v1/admin/log", Value::Null).await;
    assert_eq!(log.ok(), json!({"filter": "info", "configuredFilter": "info"}));

    let set = async |filter: &str| {
        program.admin(&hub, "POST", "/api/v1/admin/log:set", json!({ "filter": filter })).await
    };
    assert_eq!(set("warn,euhub=debug").await.ok()["filter"], "euhub=debug,warn");
    for bad in ["", "euhub=loud", "info\nwarn", &"euhub=info,".repeat(46)] {
        let answer = set(bad).await;
        assert_eq!((answer.status, answer.violation()), (400, "filter".to_owned()), "{bad}: {}", answer.text);
    }
    let log = program.admin(&hub, "GET", "/api/v1/admin/log", Value::Null).await.ok();
    assert_eq!(log, json!({"filter": "euhub=debug,warn", "configuredFilter": "info"}));

    assert_eq!(set("off").await.status, 200);
    wait_for("the line of the last call", async || !program.said("log filter").is_empty()).await;
    let before = program.process.log();
    assert_eq!(get(program.rest, "/api/v1/keywords").await.status, 200);
    assert_eq!(set("info").await.status, 200);
    assert_eq!(get(program.rest, "/api/v1/keywords/energy").await.status, 200);
    wait_for("a line", async || {
        !program.lines(|line| line["route"] == "/api/v1/{name=keywords/*}").is_empty()
    })
    .await;
    let after = program.process.log();
    let between = after.strip_prefix(&before).unwrap();
    assert!(!between.contains(r#""route":"/api/v1/keywords""#), "the log was off: {between}");

    let audit = program.admin(&hub, "GET", "/api/v1/admin/audit?action=log.set", Value::Null).await.ok();
    assert_eq!(audit["auditEntries"].as_array().unwrap().len(), 3, "one a change: {audit}");
    program.process.stop().await;
}
