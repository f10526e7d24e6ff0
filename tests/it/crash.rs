//! `kill -9` at any moment of an ingest: nothing is lost, doubled or left half done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use euhub::clock::Clock;
use euhub::ingest::store as ingest_store;
use euhub::jobs;
use euhub::keywords::link;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sqlx::PgPool;
use tokio::time::sleep;

use crate::embedded::scratch;
use crate::hub::Hub;
use crate::program::{FeedServer, Running, add_source, euhub_on, rss, run_ok, wait_for};

/// Kills, every second one of a worker.
const ROUNDS: u64 = 20;
/// New articles a feed a round.
const NEW: u64 = 10;
const OUTLETS: [&str; 2] = ["north", "south"];

/// A Hub with keywords that some of the generated articles match, and a feed of each outlet that holds `size` articles.
async fn hub(size: Arc<AtomicU64>) -> (Hub, FeedServer, Vec<i64>) {
    let hub = Hub::empty().await;
    for (slug, term) in
        [("energy", "energy"), ("rail", "railway"), ("farms", "farmers"), ("none", "submarine")]
    {
        let keyword = json!({"displayName": slug, "terms": [{"language": "en", "term": term}]});
        hub.admin("POST", &format!("/api/v1/keywords?keyword_id={slug}"), keyword).await.ok();
    }
    let feeds = FeedServer::start(move |path| {
        let size = size.load(Ordering::SeqCst);
        async move { rss(path.trim_start_matches('/'), 0..size) }
    })
    .await;
    let mut ids = Vec::new();
    for outlet in OUTLETS {
        ids.extend(add_source(&hub.db, outlet, false, &[feeds.url(&format!("/{outlet}"))]).await);
    }
    (hub, feeds, ids)
}

async fn count(db: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.expect(sql)
}

/// Rows as text, in order.
async fn rows(db: &PgPool, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(db).await.expect(sql)
}

/// Makes every feed due and puts its job in the queue.
async fn enqueue(db: &PgPool) -> i64 {
    sqlx::query("UPDATE feeds SET next_fetch_time = now() - interval '1 minute'").execute(db).await.unwrap();
    ingest_store::enqueue_due_feeds(db, 0, Clock::system().now()).await.unwrap()
}

/// Lets the time pass after which a silent worker's jobs go to another.
async fn expire_leases(db: &PgPool) {
    sqlx::query("UPDATE graphile_worker._private_workers SET last_heartbeat_at = now() - interval '1 hour'")
        .execute(db)
        .await
        .unwrap();
}

const QUEUED: &str = "SELECT count(*) FROM graphile_worker.jobs
    WHERE task_identifier IN ('ingest_feed', 'analyze_articles')";

#[tokio::test]
async fn a_killed_ingest_loses_and_doubles_nothing() {
    let folder = scratch();
    // How long an ingest takes when nothing happens to it.
    let (whole, _feeds, _) = hub(Arc::new(AtomicU64::new(ROUNDS * NEW))).await;
    let mut ingest = euhub_on(&whole, folder.path());
    ingest.arg("ingest");
    let start = Instant::now();
    run_ok(ingest).await;
    let usual = start.elapsed().as_millis();

    let size = Arc::new(AtomicU64::new(0));
    let (hub, feeds, feed_ids) = hub(Arc::clone(&size)).await;
    let mut rng = StdRng::seed_from_u64(20);
    let mut cut_short = 0;
    for round in 0..ROUNDS {
        size.fetch_add(NEW, Ordering::SeqCst);
        let mut command = euhub_on(&hub, folder.path());
        if round.is_multiple_of(2) {
            command.arg("ingest");
        } else {
            expire_leases(&hub.db).await;
            enqueue(&hub.db).await;
            command.arg("worker");
        }
        let mut process = Running::start(command, folder.path());
        sleep(Duration::from_millis(rng.random_range(5..=u64::try_from(usual).unwrap()))).await;
        cut_short += u64::from(process.is_running());
        process.kill().await;
    }
    assert!(cut_short >= ROUNDS / 2, "only {cut_short} of {ROUNDS} were killed at work");

    // One whole ingest, and a worker for what the killed ones left in the queue.
    let mut ingest = euhub_on(&hub, folder.path());
    ingest.arg("ingest");
    run_ok(ingest).await;
    drain(&hub, folder.path()).await;
    everything_once(&hub.db, ROUNDS * NEW).await;

    // No run that was killed keeps a feed from its next one.
    let before = feeds.hits().len();
    assert_eq!(enqueue(&hub.db).await, 2);
    drain(&hub, folder.path()).await;
    assert_eq!(feeds.hits().len(), before + 2, "each feed is fetched once more");
    for feed in feed_ids {
        let failures: i32 = sqlx::query_scalar("SELECT consecutive_failures FROM feeds WHERE id = $1")
            .bind(feed)
            .fetch_one(&hub.db)
            .await
            .unwrap();
        assert_eq!(failures, 0);
    }
    everything_once(&hub.db, ROUNDS * NEW).await;
    assert_eq!(rows(&hub.db, ARTICLES).await, rows(&whole.db, ARTICLES).await, "as if nothing had happened");
}

/// What an article is, whenever it came.
const ARTICLES: &str =
    "SELECT concat_ws('|', s.slug, a.guid, a.title, a.publish_time, a.language, a.sentiment_score,
        a.sentiment_label, (SELECT string_agg(k.slug, ',' ORDER BY k.slug)
            FROM article_keywords l JOIN keywords k ON k.id = l.keyword_id WHERE l.article_id = a.id))
    FROM articles a JOIN sources s ON s.id = a.source_id ORDER BY s.slug, a.guid";

/// Runs a worker until the queue holds no more of ours.
async fn drain(hub: &Hub, folder: &std::path::Path) {
    expire_leases(&hub.db).await;
    let mut command = euhub_on(hub, folder);
    command.arg("worker");
    let mut worker = Running::start(command, folder);
    wait_for("an empty queue", async || {
        assert!(worker.is_running(), "{}", worker.log());
        count(&hub.db, QUEUED).await == 0 && worker.log().contains("started")
    })
    .await;
    worker.stop().await;
}

async fn everything_once(db: &PgPool, articles: u64) {
    let stored = rows(
        db,
        "SELECT s.slug || '-' || a.guid FROM articles a JOIN sources s ON s.id = a.source_id ORDER BY 1",
    )
    .await;
    let expected: BTreeSet<String> = OUTLETS
        .iter()
        .flat_map(|outlet| (0..articles).map(move |number| format!("{outlet}-{outlet}-{number}")))
        .collect();
    assert_eq!(stored, expected.into_iter().collect::<Vec<_>>(), "every article once");

    for (what, sql) in [
        ("analysed", "SELECT count(*) FROM articles WHERE analyze_time IS NULL"),
        (
            "one sentiment an article",
            "SELECT count(*) FROM articles a
             WHERE (SELECT count(*) FROM article_sentiments s WHERE s.article_id = a.id) <> 1",
        ),
        (
            "the same sentiment in both places",
            "SELECT count(*) FROM articles a JOIN article_sentiments s ON s.article_id = a.id
             WHERE (a.sentiment_score, a.sentiment_label, a.sentiment_abstain_reason)
                 IS DISTINCT FROM (s.score, s.label, s.abstain_reason)",
        ),
        (
            "counts of sources",
            "SELECT count(*) FROM sources s
             WHERE s.article_count <> (SELECT count(*) FROM articles a WHERE a.source_id = s.id)",
        ),
        (
            "counts of keywords",
            "SELECT count(*) FROM keywords k
             WHERE k.article_count <> (SELECT count(*) FROM article_keywords l WHERE l.keyword_id = k.id)",
        ),
        (
            "wire copies of wire copies",
            "SELECT count(*) FROM articles a JOIN articles o ON o.id = a.syndicated_of
             WHERE o.syndicated_of IS NOT NULL",
        ),
    ] {
        assert_eq!(count(db, sql).await, 0, "not so: {what}");
    }
    assert!(count(db, "SELECT count(*) FROM articles WHERE sentiment_score IS NOT NULL").await > 0);
    assert!(count(db, "SELECT count(*) FROM article_keywords").await > 0);
    // Every tenth story ran in both outlets.
    let copies = count(db, "SELECT count(*) FROM articles WHERE syndicated_of IS NOT NULL").await;
    assert_eq!(u64::try_from(copies).unwrap(), articles.div_ceil(10));

    const LINKS: &str = "SELECT l::text FROM article_keywords l ORDER BY keyword_id, article_id";
    const DAILY: &str =
        "SELECT concat_ws('|', keyword_id, day, source_id, n, sum::float8, sum_of_squares::float8, positive,
        neutral, negative, abstained) FROM keyword_daily ORDER BY keyword_id, day, source_id";
    let (links, daily) = (rows(db, LINKS).await, rows(db, DAILY).await);
    jobs::rebuild_aggregates(db).await.unwrap();
    assert_eq!(rows(db, DAILY).await, daily, "aggregates equal a rebuild");
    let keywords: Vec<i64> = sqlx::query_scalar("SELECT id FROM keywords").fetch_all(db).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    for keyword in keywords {
        link::relink_keyword(&mut tx, keyword).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(rows(db, LINKS).await, links, "links equal a rebuild");
    assert_eq!(rows(db, DAILY).await, daily, "aggregates of links made anew are the same");
}
