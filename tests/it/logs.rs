//! What the program logs: access lines, slow statements, faults, and what it never logs.

use std::net::SocketAddr;
use std::time::Duration;

use euhub::admin::store::insert_api_key;
use euhub::auth::generate_key;
use euhub::clock::{Clock, system_rng};
use euhub::llm::LlmProvider;
use euhub::proto::keyword_service_client::KeywordServiceClient;
use euhub::proto::source_service_client::SourceServiceClient;
use euhub::proto::{GetKeywordRequest, ListSourcesRequest};
use serde_json::{Value, json};
use sqlx::Connection;
use tempfile::TempDir;
use tokio::time::sleep;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::embedded::scratch;
use crate::hub::{Answer, Hub, send};
use crate::llm::model::{Act, KEY, Model};
use crate::program::{Running, channel, client, euhub_on, free_address, get, serving, wait_for};

/// The program with its log as JSON.
pub struct Program {
    pub process: Running,
    pub rest: SocketAddr,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
    _folder: TempDir,
}

impl Program {
    pub async fn start(hub: &Hub, settings: &[(&str, &str)]) -> Self {
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
    pub fn lines(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let log = self.process.log();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(|line| wanted(line)).collect()
    }

    /// The lines with this message.
    fn said(&self, message: &str) -> Vec<Value> {
        self.lines(|line| line["message"] == message)
    }

    pub async fn admin(&self, hub: &Hub, method: &str, path: &str, body: Value) -> Answer {
        let request = client().request(method.parse().unwrap(), format!("http://{}{path}", self.rest));
        let request = request.bearer_auth(&hub.admin_key);
        send(match body {
            Value::Null => request,
            body => request.header("content-type", "application/json").body(body.to_string()),
        })
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

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn every_request_leaves_one_line_that_says_who_asked_what_and_what_came_of_it() {
    let hub = Hub::seeded().await;
    let program = Program::start(&hub, &[]).await;
    let id: i64 = sqlx::query_scalar("SELECT max(id) FROM api_keys").fetch_one(&hub.db).await.unwrap();
    let actor = format!("key:{id}");

    let ask = |path: &str, request_id: &str| {
        let request = client().get(format!("http://{}{path}", program.rest));
        request.header("x-request-id", request_id).header("accept-encoding", "identity")
    };
    let keyed = ask("/api/v1/keywords/energy", "rest-keyed").bearer_auth(&hub.admin_key);
    let keyed = send(keyed.header("traceparent", TRACEPARENT)).await;
    assert_eq!(keyed.status, 200);
    let missing = ask("/api/v1/keywords/no-such", "rest-missing").header("traceparent", TRACEPARENT);
    assert_eq!(send(missing).await.status, 404);
    let nowhere = ask("/no/such/route", "rest-nowhere").header("traceparent", "00-nonsense-01");
    assert_eq!(send(nowhere).await.status, 404);

    let mut grpc = KeywordServiceClient::new(channel(program.grpc).await);
    let mut call = async |name: &str, request_id: &str| {
        let mut request = Request::new(GetKeywordRequest { name: name.into() });
        request.metadata_mut().insert("x-request-id", request_id.parse().unwrap());
        request.metadata_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
        let key = MetadataValue::try_from(format!("Bearer {}", hub.admin_key)).unwrap();
        request.metadata_mut().insert("authorization", key);
        grpc.get_keyword(request).await
    };
    call("keywords/energy", "grpc-keyed").await.unwrap();
    call("keywords/no-such", "grpc-missing").await.unwrap_err();

    let route = "/api/v1/{name=keywords/*}";
    let service = "euhub.v1.KeywordService";
    for (request_id, protocol, method, route, status, who, trace) in [
        ("rest-keyed", "http", "GET", route, 200, Some(actor.as_str()), Some(TRACE)),
        ("rest-missing", "http", "GET", route, 404, Some("public"), Some(TRACE)),
        ("rest-nowhere", "http", "GET", "-", 404, None, None),
        ("grpc-keyed", "grpc", "GetKeyword", service, 0, Some(actor.as_str()), Some(TRACE)),
        ("grpc-missing", "grpc", "GetKeyword", service, 5, Some(actor.as_str()), Some(TRACE)),
    ] {
        let lines = || program.lines(|line| line["request_id"] == request_id);
        wait_for(request_id, async || !lines().is_empty()).await;
        let lines = lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = &lines[0];
        let told = |name: &str| line[name].as_str();
        assert_eq!(
            (told("protocol"), told("method"), told("route")),
            (Some(protocol), Some(method), Some(route))
        );
        assert_eq!(
            (line["status"].as_i64(), told("actor"), told("trace_id")),
            (Some(status), who, trace),
            "{line}"
        );
        assert_eq!(told("client"), Some("127.0.0.1"), "{line}");
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0, "{line}");
        if request_id == "rest-keyed" {
            assert_eq!(line["bytes"].as_u64(), Some(keyed.text.len() as u64), "{line}");
        }
        assert!(line["bytes"].as_u64().unwrap() > 0 || status == 5, "{line}");
    }
    program.process.stop().await;
}

#[tokio::test]
async fn one_fault_is_logged_once_with_its_trace_and_the_client_is_told_nothing_of_it() {
    let hub = Hub::seeded().await;
    let program = Program::start(&hub, &[]).await;
    sqlx::query("ALTER TABLE keywords RENAME TO lost_keywords").execute(&hub.db).await.unwrap();
    let request = client().get(format!("http://{}/api/v1/keywords", program.rest));
    let answer = send(request.header("traceparent", TRACEPARENT)).await;
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert!(!answer.text.contains("relation"), "{}", answer.text);
    wait_for("the access line", async || !program.lines(|line| line["status"] == 500).is_empty()).await;
    let errors = program.lines(|line| line["level"] == "ERROR");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((&errors[0]["message"], &errors[0]["part"]), (&json!("fault"), &json!("database")));
    assert_eq!(errors[0]["trace_id"], TRACE);
    program.process.stop().await;
}

#[tokio::test]
async fn keys_passwords_and_addresses_are_in_no_line_however_much_is_logged() {
    let hub = Hub::seeded().await;
    let model = Model::start(LlmProvider::OpenAi, [Act::Status(500, None)]).await;
    let (url, database) =
        (model.settings().url, format!("{}&password=word-of-the-database", hub.database_url));
    let folder = scratch();
    let key_file = folder.path().join("key");
    let file_key = "file-key-that-is-long-enough-for-the-hub";
    std::fs::write(&key_file, file_key).unwrap();
    let program = Program::start(
        &hub,
        &[
            ("EUHUB_LOG", "trace"),
            ("DATABASE_URL", &database),
            ("EUHUB_ADMIN_KEY_FILE", key_file.to_str().unwrap()),
            ("EUHUB_LLM_PROVIDER", "openai"),
            ("EUHUB_LLM_URL", &url),
            ("EUHUB_LLM_MODEL", "tone-1"),
            ("EUHUB_LLM_API_KEY", KEY),
        ],
    )
    .await;
    let (made_key, hash) = generate_key(&mut system_rng());
    let scopes = ["admin".to_owned()];
    insert_api_key(&hub.db, "test", &hash, &scopes, Clock::system().now(), None).await.unwrap();
    let wrong = "euhub_wrong-key-of-somebody";
    let channel = channel(program.grpc).await;
    for (key, status) in [(made_key.as_str(), 200), (wrong, 401), (file_key, 200)] {
        let request = client().get(format!("http://{}/api/v1/sources", program.rest)).bearer_auth(key);
        assert_eq!(send(request).await.status, status);
        let mut request = Request::new(ListSourcesRequest::default());
        let bearer = MetadataValue::try_from(format!("Bearer {key}")).unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let answer = SourceServiceClient::new(channel.clone()).list_sources(request).await;
        assert_eq!(answer.is_ok(), status == 200);
    }
    let proposal = json!({"term": "Heat pumps", "language": "en", "contactEmail": "ana@example.eu"});
    let made = program.admin(&hub, "POST", "/api/v1/suggestions", proposal).await.ok();
    let bad = json!({"term": "Heat pumps", "language": "en", "contactEmail": "bad address@example.eu"});
    assert_eq!(program.admin(&hub, "POST", "/api/v1/suggestions", bad).await.status, 400);
    let evaluate = format!("/api/v1/{}:evaluate", made["suggestion"]["name"].as_str().unwrap());
    program.admin(&hub, "POST", &evaluate, json!({})).await.ok();
    assert!(model.requests() > 0, "the language model was asked");
    let new_key = json!({"displayName": "x", "scopes": ["read"]});
    let new_key = program.admin(&hub, "POST", "/api/v1/admin/apiKeys", new_key).await.ok();

    let log = program.process.log();
    assert!(log.contains(r#""level":"TRACE""#), "all is logged");
    for secret in [
        made_key.as_str(),
        wrong,
        file_key,
        hub.admin_key.as_str(),
        new_key["secret"].as_str().unwrap(),
        KEY,
        "word-of-the-database",
        "ana@example.eu",
        "bad address@",
    ] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret}: {}", line.unwrap_or_default());
    }
    program.process.stop().await;
}
