//! The schedule on several workers, and what becomes of the jobs of one that dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::PgPool;

use crate::embedded::scratch;
use crate::hub::Hub;
use crate::jobs::{Worker, count, enqueue};
use crate::program::{FeedServer, Running, add_source, euhub_on, rss, wait_for};

async fn sql(db: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(db).await.expect(statement);
}

fn worker_process(hub: &Hub, folder: &tempfile::TempDir) -> Running {
    let mut command = euhub_on(hub, folder.path());
    command.arg("worker");
    Running::start(command, folder.path())
}

/// Keeps the time of the schedule that each finished job stood for.
const LOG: [&str; 3] = [
    "CREATE TABLE ticks (task_id int, tick text)",
    "CREATE FUNCTION log_tick() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO ticks VALUES (OLD.task_id, OLD.payload->'_cron'->>'ts'); RETURN OLD; END $$",
    "CREATE TRIGGER log_tick AFTER DELETE ON graphile_worker._private_jobs FOR EACH ROW EXECUTE FUNCTION log_tick()",
];

/// The schedule as it was when the last worker stopped, three days ago.
const THREE_DAYS_AGO: &str = "INSERT INTO graphile_worker._private_known_crontabs (identifier, known_since, last_execution)
    SELECT task, now() - interval '9 days', date_trunc('minute', now() - interval '3 days')
    FROM unnest(ARRAY['rebuild_aggregates', 'evaluate_suggestions', 'relate_keywords', 'enqueue_due_feeds']) AS task";

const DOUBLED: &str =
    "SELECT count(*) FROM (SELECT 1 FROM ticks GROUP BY task_id, tick HAVING count(*) > 1) AS d";

#[tokio::test]
async fn three_workers_run_no_tick_twice_and_a_missed_one_once() {
    let (hub, folder) = (Hub::empty().await, scratch());
    for statement in LOG {
        sql(&hub.db, statement).await;
    }
    sql(&hub.db, THREE_DAYS_AGO).await;
    let workers: Vec<Running> = (0..3).map(|_| worker_process(&hub, &folder)).collect();
    let workers_known = "SELECT count(*) FROM graphile_worker._private_workers";
    wait_for("three workers", async || count(&hub.db, workers_known).await == 3).await;
    // Those that are missed run at once; this one has its time within the minute, on all three.
    let tick = async {
        while count(&hub.db, "SELECT count(*) FROM job_status WHERE task = 'enqueue_due_feeds'").await == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), tick).await.expect("the next minute");
    let missed = "SELECT count(*) FROM job_status WHERE run_count = 1
        AND task IN ('rebuild_aggregates', 'evaluate_suggestions', 'relate_keywords')";
    wait_for("the missed runs", async || count(&hub.db, missed).await == 3).await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(count(&hub.db, missed).await, 3, "each once, however many times were missed");
    assert_eq!(count(&hub.db, DOUBLED).await, 0);
    let ticks: i64 = count(&hub.db, "SELECT count(*) FROM ticks WHERE tick IS NOT NULL").await;
    assert!(ticks >= 4, "{ticks}");

    // Nothing is left to catch up with.
    let runs = "SELECT sum(run_count)::bigint FROM job_status WHERE task <> 'enqueue_due_feeds'";
    let before = count(&hub.db, runs).await;
    let worker = Worker::start(&hub).await;
    sql(&hub.db, "SELECT graphile_worker.add_job('evaluate_suggestions')").await;
    wait_for("a run", async || count(&hub.db, runs).await == before + 1).await;
    worker.stop().await;
    assert_eq!(count(&hub.db, runs).await, before + 1);
}

#[tokio::test]
async fn the_job_of_a_killed_worker_goes_to_another_when_its_lease_ends() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let asked = Arc::new(AtomicUsize::new(0));
    let feeds = FeedServer::start({
        let asked = Arc::clone(&asked);
        move |_| {
            let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if first {
                    std::future::pending::<()>().await;
                }
                rss("slow", 1..4)
            }
        }
    })
    .await;
    add_source(&hub.db, "slow", false, &[feeds.url("/slow")]).await;
    enqueue(&hub.db).await;
    let first = worker_process(&hub, &folder);
    wait_for("the fetch", async || feeds.hits().len() == 1).await;
    first.kill().await;

    let second = worker_process(&hub, &folder);
    wait_for("the second worker", async || {
        count(&hub.db, "SELECT count(*) FROM graphile_worker._private_workers").await == 2
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let held = "SELECT count(*) FROM graphile_worker.jobs WHERE task_identifier = 'ingest_feed' AND locked_at IS NOT NULL";
    assert_eq!(count(&hub.db, held).await, 1, "as long as the lease runs, no one takes it");
    assert_eq!(feeds.hits().len(), 1);

    // As after a minute of silence.
    let aged = "UPDATE graphile_worker._private_workers SET last_heartbeat_at = now() - interval '61 seconds'
        WHERE id = (SELECT locked_by FROM graphile_worker.jobs WHERE task_identifier = 'ingest_feed')";
    sql(&hub.db, aged).await;
    wait_for("the articles", async || {
        count(&hub.db, "SELECT count(*) FROM articles WHERE analyze_time IS NOT NULL").await == 3
    })
    .await;
    assert_eq!(feeds.hits().len(), 2);
    let lost = "SELECT count(*) FROM job_status
        WHERE task = 'ingest_feed' AND failed_run_count = 1 AND failure_error LIKE 'the worker died%' AND error = ''";
    wait_for("what was lost, in the list", async || count(&hub.db, lost).await == 1).await;
    second.stop().await;
}

#[tokio::test]
async fn several_workers_send_one_host_one_request_at_a_time() {
    let hub = Hub::empty().await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let feeds = FeedServer::start({
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |path| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                rss(path.trim_start_matches('/'), 1..2)
            }
        }
    })
    .await;
    for outlet in ["one", "two", "three", "four", "five", "six"] {
        let url = feeds.url(&format!("/{outlet}"));
        add_source(&hub.db, outlet, false, &[url]).await;
    }
    assert_eq!(enqueue(&hub.db).await, 6);
    let workers = [Worker::start(&hub).await, Worker::start(&hub).await, Worker::start(&hub).await];
    wait_for("all feeds", async || count(&hub.db, "SELECT count(*) FROM runs WHERE outcome = 1").await == 6)
        .await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
}
