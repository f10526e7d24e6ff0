//! The job queue: due feeds are fetched and their articles analysed, by as many workers as there are, each once.

use std::collections::HashMap;
use std::time::Duration;

use euhub::auth::Caller;
use euhub::clock::Clock;
use euhub::ingest::store::enqueue_due_feeds;
use euhub::ingest::{Ingest, store};
use euhub::jobs::{self, Services};
use euhub::sources::service as sources;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::embedded::scratch;
use crate::hub::{Hub, suggestions};
use crate::program::{FeedServer, PATIENCE, Running, add_source, euhub_on, rss, wait_for};

/// A worker in this process.
pub struct Worker {
    pub stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    pub async fn start(hub: &Hub) -> Self {
        let stopping = CancellationToken::new();
        // The model has no part in this, and takes its time.
        let ingest = Ingest { embedder: None, ..hub.ingest.clone() };
        let work = jobs::work(services(hub, ingest), 2, stopping.clone());
        let task = tokio::spawn(async move { work.await.unwrap() });
        Self { stopping, task }
    }

    pub async fn stop(self) {
        self.stopping.cancel();
        let stopped = tokio::time::timeout(Duration::from_secs(30), self.task).await;
        stopped.expect("a worker stops in time").unwrap();
    }
}

/// What a Hub's worker works with.
pub fn services(hub: &Hub, ingest: Ingest) -> Services {
    Services { ingest, suggestions: suggestions(hub.db.clone(), None), backups: hub.backups.clone() }
}

pub async fn enqueue(db: &PgPool) -> i64 {
    enqueue_due_feeds(db, 0, Clock::system().now()).await.unwrap()
}

pub async fn count(db: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.expect(sql)
}

const QUEUED: &str = "SELECT count(*) FROM graphile_worker.jobs
    WHERE task_identifier IN ('ingest_feed', 'analyze_articles') AND attempts < max_attempts";

async fn drained(db: &PgPool) {
    wait_for("an empty queue", async || count(db, QUEUED).await == 0).await;
}

/// One feed an outlet, `outlets` in all, with three articles each.
async fn outlets(hub: &Hub, outlets: usize) -> FeedServer {
    let feeds = FeedServer::start(|path| async move { rss(path.trim_start_matches('/'), 1..4) }).await;
    for outlet in 0..outlets {
        let slug = format!("{}-outlet", char::from(b'a' + u8::try_from(outlet).unwrap()));
        add_source(&hub.db, &slug, false, &[feeds.url(&format!("/{slug}"))]).await;
    }
    feeds
}

#[tokio::test]
async fn a_worker_fetches_due_feeds_and_analyses_what_came() {
    let hub = Hub::empty().await;
    let feeds = outlets(&hub, 2).await;
    add_source(&hub.db, "paused", true, &[feeds.url("/paused")]).await;
    assert_eq!(enqueue(&hub.db).await, 2, "a paused source is left alone");
    assert_eq!(enqueue(&hub.db).await, 2);
    assert_eq!(count(&hub.db, QUEUED).await, 2, "a feed whose job waits gets no second one");

    let worker = Worker::start(&hub).await;
    drained(&hub.db).await;
    assert_eq!(count(&hub.db, "SELECT count(*) FROM articles WHERE analyze_time IS NOT NULL").await, 6);
    assert_eq!(count(&hub.db, "SELECT count(*) FROM runs WHERE outcome = 1 AND new = 3").await, 2);
    assert_eq!(enqueue(&hub.db).await, 0, "a feed that was fetched is not due");
    assert_eq!(feeds.hits().len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_of_its_own_process_takes_the_jobs_and_stops_cleanly() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let _feeds = outlets(&hub, 2).await;
    enqueue(&hub.db).await;
    let mut command = euhub_on(&hub, folder.path());
    command.arg("worker");
    let mut worker = Running::start(command, folder.path());
    wait_for("an empty queue", async || {
        assert!(worker.is_running(), "{}", worker.log());
        count(&hub.db, QUEUED).await == 0
    })
    .await;
    assert_eq!(count(&hub.db, "SELECT count(*) FROM articles WHERE analyze_time IS NOT NULL").await, 6);
    worker.stop().await;
}

#[tokio::test]
async fn the_schedule_puts_due_feeds_in_the_queue() {
    let hub = Hub::empty().await;
    let feeds = outlets(&hub, 1).await;
    let worker = Worker::start(&hub).await;
    // What the cron does each minute.
    sqlx::query("SELECT graphile_worker.add_job('enqueue_due_feeds', '{}'::json)")
        .execute(&hub.db)
        .await
        .unwrap();
    wait_for("the articles", async || {
        count(&hub.db, "SELECT count(*) FROM articles WHERE analyze_time IS NOT NULL").await == 3
    })
    .await;
    assert_eq!(feeds.hits(), ["/a-outlet"]);
    worker.stop().await;
}

#[tokio::test]
async fn two_workers_share_the_queue_and_fetch_each_feed_once() {
    let hub = Hub::empty().await;
    let feeds = outlets(&hub, 16).await;
    assert_eq!(enqueue(&hub.db).await, 16);
    let workers = [Worker::start(&hub).await, Worker::start(&hub).await];
    drained(&hub.db).await;
    let mut hits: HashMap<String, usize> = HashMap::new();
    for path in feeds.hits() {
        *hits.entry(path).or_default() += 1;
    }
    assert_eq!(hits.len(), 16);
    assert!(hits.values().all(|n| *n == 1), "{hits:?}");
    assert_eq!(count(&hub.db, "SELECT count(*) FROM articles WHERE analyze_time IS NOT NULL").await, 48);
    assert_eq!(count(&hub.db, "SELECT count(*) FROM article_sentiments").await, 48);
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_feed_removed_while_its_job_waits_is_no_error() {
    let hub = Hub::empty().await;
    let feeds = outlets(&hub, 2).await;
    assert_eq!(enqueue(&hub.db).await, 2);
    let caller =
        Caller { actor: "test".into(), client: String::new(), request_id: String::new(), admin: true };
    sources::retire(&hub.db, &caller, "a-outlet", Clock::system().now()).await.unwrap();
    let worker = Worker::start(&hub).await;
    drained(&hub.db).await;
    assert_eq!(feeds.hits(), ["/b-outlet"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_feed_removed_while_it_is_fetched_is_no_error() {
    let hub = Hub::empty().await;
    let db = hub.db.clone();
    let feeds = FeedServer::start(move |_| {
        let db = db.clone();
        async move {
            let caller = Caller {
                actor: "test".into(),
                client: String::new(),
                request_id: String::new(),
                admin: true,
            };
            sources::retire(&db, &caller, "gone", Clock::system().now()).await.unwrap();
            rss("gone", 1..4)
        }
    })
    .await;
    add_source(&hub.db, "gone", false, &[feeds.url("/gone")]).await;
    assert_eq!(enqueue(&hub.db).await, 1);
    let worker = Worker::start(&hub).await;
    drained(&hub.db).await;
    assert_eq!(feeds.hits().len(), 1, "it is not fetched again");
    assert_eq!(count(&hub.db, "SELECT count(*) FROM runs WHERE end_time IS NULL").await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_failed_fetch_is_a_failed_run_with_a_later_try_and_no_failed_job() {
    let hub = Hub::empty().await;
    let feeds = FeedServer::start(|_| async { "this is no feed".to_owned() }).await;
    add_source(&hub.db, "broken", false, &[feeds.url("/broken")]).await;
    assert_eq!(enqueue(&hub.db).await, 1);
    let worker = Worker::start(&hub).await;
    drained(&hub.db).await;
    assert_eq!(feeds.hits().len(), 1);
    assert_eq!(count(&hub.db, "SELECT count(*) FROM runs WHERE outcome = 3 AND error <> ''").await, 1);
    assert_eq!(
        count(
            &hub.db,
            "SELECT count(*) FROM feeds WHERE consecutive_failures = 1 AND next_fetch_time > now()"
        )
        .await,
        1
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_feed_whose_job_failed_for_good_is_tried_again_when_it_is_due() {
    let hub = Hub::empty().await;
    let feeds = outlets(&hub, 1).await;
    assert_eq!(enqueue(&hub.db).await, 1);
    // As after a fault that outlasted every attempt.
    sqlx::query("UPDATE graphile_worker._private_jobs SET attempts = max_attempts, last_error = 'a fault'")
        .execute(&hub.db)
        .await
        .unwrap();
    assert_eq!(enqueue(&hub.db).await, 1);
    let worker = Worker::start(&hub).await;
    wait_for("a fetch", async || feeds.hits().len() == 1).await;
    drained(&hub.db).await;
    worker.stop().await;
}

#[tokio::test]
async fn the_jobs_of_a_worker_that_went_silent_go_to_another() {
    let hub = Hub::empty().await;
    let feeds = outlets(&hub, 1).await;
    assert_eq!(enqueue(&hub.db).await, 1);
    for sql in [
        "UPDATE graphile_worker._private_jobs SET locked_by = 'dead', locked_at = now(), attempts = 1",
        "INSERT INTO graphile_worker._private_workers (id, last_heartbeat_at) VALUES ('dead', now() - interval '2 minutes')",
    ] {
        sqlx::query(sql).execute(&hub.db).await.unwrap();
    }
    let worker = Worker::start(&hub).await;
    drained(&hub.db).await;
    assert_eq!(feeds.hits().len(), 1);
    worker.stop().await;
}

#[tokio::test]
async fn articles_whose_analysis_was_lost_are_swept_up() {
    let hub = Hub::empty().await;
    let feeds = outlets(&hub, 1).await;
    let feed: i64 = sqlx::query_scalar("SELECT id FROM feeds").fetch_one(&hub.db).await.unwrap();
    hub.ingest.run_feed(feed).await.unwrap();
    sqlx::query("DELETE FROM graphile_worker._private_jobs").execute(&hub.db).await.unwrap();
    assert_eq!(store::all_unanalyzed(&hub.db, 100).await.unwrap().len(), 3);
    let worker = Worker::start(&hub).await;
    sqlx::query("SELECT graphile_worker.add_job('analyze_left_over', '{}'::json)")
        .execute(&hub.db)
        .await
        .unwrap();
    wait_for("the analysis", async || store::all_unanalyzed(&hub.db, 100).await.unwrap().is_empty()).await;
    worker.stop().await;
    drop(feeds);
}

#[tokio::test]
async fn a_worker_that_stops_finishes_the_job_at_hand() {
    use std::sync::Arc;
    use tokio::sync::Notify;

    let hub = Hub::empty().await;
    let release = Arc::new(Notify::new());
    let feeds = FeedServer::start({
        let release = Arc::clone(&release);
        move |_| {
            let release = Arc::clone(&release);
            async move {
                release.notified().await;
                rss("slow", 1..4)
            }
        }
    })
    .await;
    add_source(&hub.db, "slow", false, &[feeds.url("/slow")]).await;
    enqueue(&hub.db).await;
    let worker = Worker::start(&hub).await;
    wait_for("the fetch", async || !feeds.hits().is_empty()).await;
    worker.stopping.cancel();
    release.notify_one();
    worker.stop().await;
    assert_eq!(count(&hub.db, "SELECT count(*) FROM articles").await, 3);
    assert_eq!(count(&hub.db, "SELECT count(*) FROM runs WHERE outcome = 1").await, 1);
    let left =
        count(&hub.db, "SELECT count(*) FROM graphile_worker.jobs WHERE task_identifier = 'ingest_feed'")
            .await;
    assert_eq!(left, 0, "done, and known to be done");
}

#[tokio::test]
async fn a_schedule_fires_and_brings_what_is_due() {
    let hub = Hub::empty().await;
    let _feeds = outlets(&hub, 1).await;
    // As the crontab puts it in the queue: without a payload.
    sqlx::query("SELECT graphile_worker.add_job('enqueue_due_feeds')").execute(&hub.db).await.unwrap();
    sqlx::query("SELECT graphile_worker.add_job('analyze_left_over')").execute(&hub.db).await.unwrap();
    sqlx::query("SELECT graphile_worker.add_job('rebuild_aggregates')").execute(&hub.db).await.unwrap();
    let worker = Worker::start(&hub).await;
    wait_for("the due feed's articles", async || {
        count(&hub.db, "SELECT count(*) FROM articles WHERE analyze_time IS NOT NULL").await == 3
    })
    .await;
    drained(&hub.db).await;
    worker.stop().await;
    assert_eq!(
        count(&hub.db, "SELECT count(*) FROM graphile_worker.jobs WHERE last_error IS NOT NULL").await,
        0
    );
}

/// By itself the queue tells of new jobs only, and of a named queue one job would run at each look.
#[tokio::test]
async fn a_job_that_is_done_calls_for_the_next_one() {
    let hub = Hub::empty().await;
    let queued = "SELECT count(graphile_worker.add_job('llm_score', jsonb_build_object('article_id', n)::json, queue_name => 'one'))
                  FROM generate_series(1, 3) AS n";
    assert_eq!(count(&hub.db, queued).await, 3);
    let mut told = PgListener::connect_with(&hub.db).await.unwrap();
    told.listen("jobs:insert").await.unwrap();
    let worker = Worker::start(&hub).await;
    let mut calls = 0;
    // After the first and the second; a new job, such as the schedule's, is told of with a payload.
    while calls < 2 {
        let call = tokio::time::timeout(PATIENCE, told.recv()).await.expect("a call").unwrap();
        calls += u32::from(call.payload().is_empty());
    }
    wait_for("an empty queue", async || {
        count(&hub.db, "SELECT count(*) FROM graphile_worker.jobs WHERE task_identifier = 'llm_score'").await
            == 0
    })
    .await;
    worker.stop().await;
}
