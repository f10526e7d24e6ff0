//! The weekly review: keywords that find nothing are flagged, with the evidence, and nothing else happens to them.

use chrono::{DateTime, TimeDelta, Utc};
use euhub::clock::Clock;
use euhub::keywords::review::review;
use euhub::proto::keyword_service_client::KeywordServiceClient;
use euhub::proto::{GetKeywordRequest, ListKeywordsRequest};
use serde_json::{Value, json};

use crate::hub::Hub;
use crate::jobs::{Worker, count};
use crate::keywords::{create, keyword};
use crate::paging::{all, names};
use crate::program::wait_for;

/// A Hub with the samples, whose keywords are a year old, and one more that no article is linked to.
async fn old_hub() -> Hub {
    let hub = Hub::seeded().await;
    create(&hub, keyword("Zeppelins", &[("en", "zeppelin mooring mast")])).await;
    sqlx::query("UPDATE keywords SET create_time = create_time - interval '1 year'")
        .execute(&hub.db)
        .await
        .unwrap();
    hub
}

async fn shown(hub: &Hub, slug: &str) -> Value {
    hub.get(&format!("/api/v1/keywords/{slug}")).await.ok()["review"].clone()
}

async fn recent(hub: &Hub, now: DateTime<Utc>) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM articles WHERE publish_time > $1 AND publish_time <= $2")
        .bind(now - TimeDelta::days(30))
        .bind(now)
        .fetch_one(&hub.db)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_job_flags_what_finds_nothing_and_says_why() {
    let hub = old_hub().await;
    assert_eq!(shown(&hub, "zeppelins").await, Value::Null, "not before the first review");
    let keywords = count(&hub.db, "SELECT count(*) FROM keywords").await;
    hub.admin("POST", "/api/v1/admin/jobs/review-keywords:run", json!({})).await.ok();
    let worker = Worker::start(&hub).await;
    wait_for("a review", async || count(&hub.db, "SELECT count(*) FROM keyword_reviews").await == keywords)
        .await;
    worker.stop().await;

    let review = shown(&hub, "zeppelins").await;
    let archive = recent(&hub, Clock::system().now()).await;
    assert!(archive > 0);
    assert_eq!(review["flagged"], true);
    let reason = format!("None of the {archive} articles of the last 30 days is linked: it never had one.");
    assert_eq!(review["reason"], reason);
    assert!(review["reviewTime"].is_string());
    let energy = hub.get("/api/v1/keywords/energy").await.ok();
    assert_eq!(energy["review"]["flagged"], false);
    let reason = energy["review"]["reason"].as_str().unwrap();
    assert!(
        reason.contains(&format!(" of the {archive} articles of the last 30 days are linked: ")),
        "{reason}"
    );

    let flagged = all(&hub, "/api/v1/keywords?flagged=true&showTotal=true", "keywords", 100).await;
    assert_eq!(names(&flagged), ["keywords/zeppelins"]);
    for order in ["article_count%20desc", "create_time%20desc"] {
        let flagged =
            all(&hub, &format!("/api/v1/keywords?flagged=true&orderBy={order}"), "keywords", 100).await;
        assert_eq!(names(&flagged), ["keywords/zeppelins"], "{order}");
    }
    let mut client = KeywordServiceClient::new(hub.channel().await);
    let request = ListKeywordsRequest { flagged: true, show_total: true, ..ListKeywordsRequest::default() };
    assert_eq!(client.list_keywords(request).await.unwrap().into_inner().total_size, Some(1));
    let request = GetKeywordRequest { name: "keywords/zeppelins".into() };
    assert!(client.get_keyword(request).await.unwrap().into_inner().review.unwrap().flagged);
    assert_eq!(count(&hub.db, "SELECT count(*) FROM keywords").await, keywords, "nothing is deleted");
}

#[tokio::test]
async fn articles_take_the_flag_back_at_the_next_review_and_their_end_sets_it_again() {
    let hub = old_hub().await;
    let now = Clock::system().now();
    assert_eq!(review(&hub.db, now).await.unwrap(), 1);
    let terms = json!({"terms": [{"language": "en", "term": "energy"}]});
    hub.admin("PATCH", "/api/v1/keywords/zeppelins?updateMask=terms", terms).await.ok();
    assert_eq!(shown(&hub, "zeppelins").await["flagged"], true, "until the next review");
    assert_eq!(review(&hub.db, now).await.unwrap(), 0);
    assert_eq!(shown(&hub, "zeppelins").await["flagged"], false);

    // Two months on, nothing has come.
    let later = now + TimeDelta::days(60);
    let keywords = count(&hub.db, "SELECT count(*) FROM keywords").await;
    assert_eq!(review(&hub.db, later).await.unwrap(), keywords);
    let latest: DateTime<Utc> = sqlx::query_scalar(
        "SELECT max(l.publish_time) FROM article_keywords l JOIN keywords k ON k.id = l.keyword_id WHERE slug = 'zeppelins'",
    )
    .fetch_one(&hub.db)
    .await
    .unwrap();
    let reason = shown(&hub, "zeppelins").await["reason"].clone();
    let date = latest.date_naive();
    assert_eq!(
        reason,
        format!("None of the 0 articles of the last 30 days is linked: the newest is of {date}.")
    );
}

#[tokio::test]
async fn a_keyword_younger_than_the_window_is_not_flagged() {
    let hub = Hub::seeded().await;
    create(&hub, keyword("Zeppelins", &[("en", "zeppelin mooring mast")])).await;
    assert_eq!(review(&hub.db, Clock::system().now()).await.unwrap(), 0);
    let review = shown(&hub, "zeppelins").await;
    assert_eq!(review["flagged"], false);
    assert!(review["reason"].as_str().unwrap().contains("younger"), "{review}");
}
