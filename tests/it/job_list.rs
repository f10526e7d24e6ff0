//! `/api/v1/admin/jobs`: what runs, when, and how it went; and jobs run by hand.

use euhub::jobs::kinds::KINDS;
use euhub::proto::admin_service_client::AdminServiceClient;
use euhub::proto::{Job, JobOutcome, ListJobsRequest, RunJobRequest};
use serde_json::{Value, json};
use sqlx::PgPool;
use tonic::{Code, Request};

use crate::hub::Hub;
use crate::jobs::{Worker, count, enqueue};
use crate::program::{FeedServer, add_source, rss, wait_for};

const JOBS: &str = "/api/v1/admin/jobs";

/// The job as the list shows it.
async fn job(hub: &Hub, slug: &str) -> Value {
    let list = hub.admin("GET", JOBS, Value::Null).await.ok();
    let jobs = list["jobs"].as_array().expect("jobs");
    jobs.iter().find(|job| job["name"] == format!("jobs/{slug}")).expect("a known job").clone()
}

async fn sql(db: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(db).await.expect(statement);
}

fn asked<T>(hub: &Hub, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {}", hub.admin_key).parse().unwrap());
    request
}

#[tokio::test]
async fn every_kind_of_job_is_listed_with_its_schedule() {
    let hub = Hub::empty().await;
    let list = hub.admin("GET", JOBS, Value::Null).await.ok();
    let jobs = list["jobs"].as_array().unwrap();
    assert_eq!((jobs.len(), &list["nextPageToken"]), (KINDS.len(), &json!("")));
    let mut paged = Vec::new();
    let mut token = String::new();
    loop {
        let page = hub.admin("GET", &format!("{JOBS}?pageSize=4&pageToken={token}"), Value::Null).await.ok();
        paged.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["name"].clone()));
        token = page["nextPageToken"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, jobs.iter().map(|job| job["name"].clone()).collect::<Vec<_>>());
    let aggregates = job(&hub, "rebuild-aggregates").await;
    assert_eq!(aggregates["schedule"], "30 0 * * *");
    let next = aggregates["nextRunTime"].as_str().unwrap();
    assert!(next.ends_with("T00:30:00Z"), "{next}");
    assert_eq!((&aggregates["lastRun"], &aggregates["lastFailure"]), (&Value::Null, &Value::Null));
    assert_eq!((&aggregates["runCount"], &aggregates["queuedCount"]), (&json!(0), &json!(0)));
    let ingest = job(&hub, "ingest-feed").await;
    assert_eq!((&ingest["schedule"], &ingest["nextRunTime"]), (&json!(""), &Value::Null));

    // What is listed is what a worker knows, and what it has in its schedule.
    let worker = Worker::start(&hub).await;
    let crons = "SELECT count(*) FROM graphile_worker._private_known_crontabs";
    let scheduled = KINDS.iter().filter(|kind| kind.schedule.is_some()).count() as i64;
    wait_for("the schedule", async || count(&hub.db, crons).await == scheduled).await;
    let mut known: Vec<String> = sqlx::query_scalar("SELECT identifier FROM graphile_worker._private_tasks")
        .fetch_all(&hub.db)
        .await
        .unwrap();
    let mut listed: Vec<String> = KINDS.iter().map(|kind| kind.task.to_owned()).collect();
    known.sort();
    listed.sort();
    assert_eq!(known, listed);
    worker.stop().await;
}

#[tokio::test]
async fn jobs_need_the_scope_admin() {
    let hub = Hub::empty().await;
    assert_eq!(hub.get(JOBS).await.status, 401);
    assert_eq!(
        crate::hub::send(hub.request("POST", "/api/v1/admin/jobs/rebuild-aggregates:run")).await.status,
        401
    );
    assert_eq!(count(&hub.db, "SELECT count(*) FROM graphile_worker.jobs").await, 0);
}

#[tokio::test]
async fn a_job_run_by_hand_runs_once_and_shows_how_it_went() {
    let hub = Hub::empty().await;
    let path = "/api/v1/admin/jobs/rebuild-aggregates:run";
    for _ in 0..3 {
        let job = hub.admin("POST", path, json!({})).await.ok();
        assert_eq!((&job["name"], &job["queuedCount"]), (&json!("jobs/rebuild-aggregates"), &json!(1)));
    }
    let audited =
        "SELECT count(*) FROM audit_log WHERE action = 'jobs.run' AND resource = 'jobs/rebuild-aggregates'
        AND outcome = 'ok'";
    assert_eq!(count(&hub.db, audited).await, 3);

    let worker = Worker::start(&hub).await;
    wait_for("a run", async || job(&hub, "rebuild-aggregates").await["runCount"] == 1).await;
    worker.stop().await;
    let mut client = AdminServiceClient::new(hub.channel().await);
    let list = client.list_jobs(asked(&hub, ListJobsRequest::default())).await.unwrap().into_inner();
    let job = list.jobs.iter().find(|job| job.name == "jobs/rebuild-aggregates").unwrap();
    let Job {
        last_run: Some(run), last_failure: None, queued_count: 0, failed_count: 0, run_count: 1, ..
    } = job
    else {
        panic!("{job:?}");
    };
    assert_eq!((run.outcome(), run.error.as_str()), (JobOutcome::Succeeded, ""));
    let (start, end) = (run.start_time.unwrap(), run.end_time.unwrap());
    assert!((start.seconds, start.nanos) <= (end.seconds, end.nanos));
    assert!(run.duration.unwrap().seconds < 60);
}

#[tokio::test]
async fn only_known_jobs_with_a_schedule_run_by_hand() {
    let hub = Hub::empty().await;
    let mut client = AdminServiceClient::new(hub.channel().await);
    for (name, code) in [
        ("jobs/ingest-feed", Code::FailedPrecondition),
        ("jobs/llm-score", Code::FailedPrecondition),
        ("jobs/no-such-job", Code::NotFound),
        ("jobs/rebuild_aggregates", Code::NotFound),
        ("", Code::InvalidArgument),
    ] {
        let refused = client.run_job(asked(&hub, RunJobRequest { name: name.into() })).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name}: {}", refused.message());
    }
    let answer = hub.admin("POST", "/api/v1/admin/jobs/ingest-feed:run", json!({})).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["status"].clone()),
        (400, json!("FAILED_PRECONDITION"))
    );
    assert!(answer.text.contains("only jobs with a schedule can"), "{}", answer.text);

    sql(&hub.db, "SELECT graphile_worker.add_job('rebuild_aggregates')").await;
    sql(&hub.db, "UPDATE graphile_worker._private_jobs SET locked_at = now(), locked_by = 'other'").await;
    let answer = hub.admin("POST", "/api/v1/admin/jobs/rebuild-aggregates:run", json!({})).await;
    assert!(answer.text.contains("JOB_RUNNING"), "{}", answer.text);
    assert_eq!(job(&hub, "rebuild-aggregates").await["runningCount"], 1);
    assert_eq!(count(&hub.db, "SELECT count(*) FROM graphile_worker.jobs").await, 1);
    assert_eq!(count(&hub.db, "SELECT count(*) FROM audit_log WHERE action = 'jobs.run'").await, 0);
}

#[tokio::test]
async fn a_job_that_fails_is_tried_to_its_limit_and_kept_with_its_error() {
    let hub = Hub::empty().await;
    sql(&hub.db, "ALTER TABLE keyword_daily RENAME TO secret_daily").await;
    let run = "/api/v1/admin/jobs/rebuild-aggregates:run";
    hub.admin("POST", run, json!({})).await.ok();
    let limit = job(&hub, "rebuild-aggregates").await["maxAttempts"].as_i64().unwrap();
    let worker = Worker::start(&hub).await;
    for tries in 1..=limit {
        wait_for("a failed run", async || job(&hub, "rebuild-aggregates").await["failedRunCount"] == tries)
            .await;
        let waits = "SELECT count(*) FROM graphile_worker.jobs
            WHERE locked_at IS NULL AND last_error IS NOT NULL AND run_at > now() AND attempts = ";
        let waits = format!("{waits}{tries}");
        wait_for("a later try", async || {
            sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(waits.clone())).fetch_one(&hub.db).await.unwrap()
                == 1
        })
        .await;
        // Nobody waits for the delay.
        sql(&hub.db, "UPDATE graphile_worker._private_jobs SET run_at = now()").await;
    }
    let failed = job(&hub, "rebuild-aggregates").await;
    assert_eq!((&failed["failedCount"], &failed["queuedCount"]), (&json!(1), &json!(0)), "{failed}");
    assert_eq!(failed["lastRun"]["outcome"], "JOB_OUTCOME_FAILED");
    let error = failed["lastFailure"]["error"].as_str().unwrap();
    assert!(error.starts_with("internal error"), "no SQL and no names of tables: {error}");
    let kept =
        "SELECT count(*) FROM graphile_worker.jobs WHERE attempts = max_attempts AND last_error IS NOT NULL";
    assert_eq!(count(&hub.db, kept).await, 1);

    sql(&hub.db, "ALTER TABLE secret_daily RENAME TO keyword_daily").await;
    hub.admin("POST", run, json!({})).await.ok();
    wait_for("a run", async || {
        job(&hub, "rebuild-aggregates").await["lastRun"]["outcome"] == "JOB_OUTCOME_SUCCEEDED"
    })
    .await;
    let shown = job(&hub, "rebuild-aggregates").await;
    assert_eq!((&shown["failedCount"], &shown["failedRunCount"]), (&json!(0), &json!(limit)));
    assert_eq!(shown["runCount"], limit + 1);
    assert_eq!(shown["lastFailure"]["error"], error, "the last failure stays in sight");
    worker.stop().await;
}

#[tokio::test]
async fn what_a_person_asked_for_runs_first_and_the_language_model_last() {
    let hub = Hub::empty().await;
    let feeds = FeedServer::start(|_| async { rss("first", 1..4) }).await;
    add_source(&hub.db, "first", false, &[feeds.url("/first")]).await;
    euhub::jobs::store::enqueue_llm_scores(&hub.db, &[1]).await.unwrap();
    enqueue(&hub.db).await;
    hub.admin("POST", "/api/v1/admin/jobs/rebuild-aggregates:run", json!({})).await.ok();
    let order: Vec<String> =
        sqlx::query_scalar("SELECT task_identifier FROM graphile_worker.jobs ORDER BY priority, run_at, id")
            .fetch_all(&hub.db)
            .await
            .unwrap();
    assert_eq!(order, ["rebuild_aggregates", "ingest_feed", "llm_score"]);
}
