//! The second layer of tone in the pipeline.

use euhub::ingest::Ingest;
use euhub::jobs;
use euhub::llm::{Llm, LlmProvider};
use euhub::sentiment::store as sentiment;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::jobs::services;
use crate::llm::model::{Act, Model, tone, write};
use crate::program::{FeedServer, add_source, rss, wait_for};

/// A Hub with the samples, and three new articles that were analysed where `llm` is configured.
async fn analysed(llm: Option<Llm>) -> (Hub, Ingest) {
    let hub = Hub::seeded().await;
    let ingest = Ingest { embedder: None, llm, ..hub.ingest.clone() };
    let feeds = FeedServer::start(|_| async { rss("energy", 1..4) }).await;
    let feed = add_source(&hub.db, "tone-outlet", false, &[feeds.url("/feed")]).await[0];
    ingest.run_feed(feed).await.unwrap();
    ingest.analyze(&ids(&hub).await).await.unwrap();
    (hub, ingest)
}

async fn ids(hub: &Hub) -> Vec<i64> {
    sqlx::query_scalar(
        "SELECT a.id FROM articles a JOIN sources s ON s.id = a.source_id WHERE s.slug = 'tone-outlet' ORDER BY a.id",
    )
    .fetch_all(&hub.db)
    .await
    .unwrap()
}

async fn jobs_waiting(hub: &Hub) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM graphile_worker.jobs WHERE task_identifier = 'llm_score'")
        .fetch_one(&hub.db)
        .await
        .unwrap()
}

async fn aggregates(hub: &Hub) -> Vec<Value> {
    sqlx::query_scalar("SELECT to_jsonb(d) FROM keyword_daily d ORDER BY keyword_id, day, source_id")
        .fetch_all(&hub.db)
        .await
        .unwrap()
}

#[tokio::test]
async fn without_a_model_nothing_is_queued() {
    let (hub, ingest) = analysed(None).await;
    assert_eq!(jobs_waiting(&hub).await, 0);
    assert!(!ingest.score_by_llm(ids(&hub).await[0]).await.unwrap());
    let status = hub.get("/api/v1/status").await.ok();
    assert_eq!(status["analyzers"], json!(["vader/3.3.2"]));
}

#[tokio::test]
async fn each_article_gets_a_second_analysis_and_sums_stay_exact() {
    let model = Model::start(LlmProvider::Gemini, [write(&tone())]).await;
    let (hub, ingest) = analysed(Some(model.llm())).await;
    let ids = ids(&hub).await;
    assert_eq!(jobs_waiting(&hub).await, ids.len() as i64);
    assert_eq!(model.requests(), 0, "the analysis itself waits for no model");

    // An article of the samples that a keyword counts, in a language that layer 1 does not score.
    let counted: i64 = sqlx::query_scalar(
        "SELECT a.id FROM articles a JOIN article_keywords l ON l.article_id = a.id
         WHERE a.language = 'de' AND a.sentiment_score IS NULL ORDER BY a.id LIMIT 1",
    )
    .fetch_one(&hub.db)
    .await
    .unwrap();
    let before = aggregates(&hub).await;
    assert!(ingest.score_by_llm(counted).await.unwrap());
    let after = aggregates(&hub).await;
    assert_ne!(after, before);
    let shown = hub.get(&format!("/api/v1/articles/{counted}")).await.ok();
    assert_eq!(shown["sentiment"]["score"], -0.62);
    assert_eq!(shown["sentiment"]["analyzer"], "llm/tone-1");
    let analyses = hub.get(&format!("/api/v1/articles/{counted}/sentiment")).await.ok()["analyses"].clone();
    assert_eq!((&analyses[0]["analyzer"], &analyses[0]["textClass"]), (&json!("llm"), &json!("mixed")));
    assert_eq!((&analyses[1]["analyzer"], &analyses[1]["abstained"]), (&json!("vader"), &json!(true)));

    assert!(!ingest.score_by_llm(counted).await.unwrap(), "a second time there is nothing to do");
    assert_eq!(model.requests(), 1);
    jobs::rebuild_aggregates(&hub.db).await.unwrap();
    assert_eq!(aggregates(&hub).await, after, "a rebuild gives the same");

    let stopping = CancellationToken::new();
    let worker = tokio::spawn(jobs::work(services(&hub, ingest), 2, stopping.clone()));
    wait_for("no waiting job", async || jobs_waiting(&hub).await == 0).await;
    stopping.cancel();
    worker.await.unwrap().unwrap();
    for id in ids {
        let shown = hub.get(&format!("/api/v1/articles/{id}")).await.ok();
        assert_eq!(shown["sentiment"]["analyzer"], "llm/tone-1", "{shown}");
    }
}

#[tokio::test]
async fn when_the_model_fails_layer_one_stands() {
    let acts = [Act::Status(400, None), Act::Refuse, Act::Write("no".into())];
    let model = Model::start(LlmProvider::OpenAi, acts).await;
    let (hub, ingest) = analysed(Some(model.llm())).await;
    let id = ids(&hub).await[0];
    let (before, sums) = (hub.get(&format!("/api/v1/articles/{id}")).await.ok(), aggregates(&hub).await);
    assert!(ingest.score_by_llm(id).await.is_err(), "the queue tries again");
    assert!(!ingest.score_by_llm(id).await.unwrap(), "a refusal is the end of it");
    assert!(!ingest.score_by_llm(id).await.unwrap(), "it is not asked again");
    assert_eq!(model.requests(), 2);
    let other = ids(&hub).await[1];
    assert!(!ingest.score_by_llm(other).await.unwrap(), "a wrong answer is the end of it too");
    assert_eq!(model.requests(), 3);
    assert_eq!(before["sentiment"]["analyzer"], "vader/3.3.2");
    assert_eq!(hub.get(&format!("/api/v1/articles/{id}")).await.ok(), before);
    assert_eq!(aggregates(&hub).await, sums);
    let analyses = hub.get(&format!("/api/v1/articles/{id}/sentiment")).await.ok()["analyses"].clone();
    assert_eq!((&analyses[0]["analyzer"], &analyses[0]["abstained"]), (&json!("llm"), &json!(true)));
    assert_eq!(analyses[0]["abstainReason"], "the model gave no answer that can be used");
}

#[tokio::test]
async fn articles_from_before_the_model_came_are_swept_up_once() {
    let (hub, before) = analysed(None).await;
    let all: i64 = sqlx::query_scalar("SELECT count(*) FROM articles").fetch_one(&hub.db).await.unwrap();
    assert_eq!(jobs_waiting(&hub).await, 0);
    // All but the three new ones have been asked about before.
    sqlx::query(
        "INSERT INTO article_sentiments (article_id, analyzer, analyzer_version, language, abstain_reason, create_time)
         SELECT id, 'llm', 'tone-1', language, 'as before', now() FROM articles WHERE id <> ALL ($1)",
    )
    .bind(ids(&hub).await)
    .execute(&hub.db)
    .await
    .unwrap();
    let model = Model::start(LlmProvider::Gemini, [Act::Refuse, write(&tone())]).await;
    let ingest = Ingest { llm: Some(model.llm()), ..before };

    let stopping = CancellationToken::new();
    let worker = tokio::spawn(jobs::work(services(&hub, ingest), 2, stopping.clone()));
    let sweep = "SELECT graphile_worker.add_job('analyze_left_over')";
    let asked = "SELECT count(*) FROM article_sentiments WHERE analyzer = 'llm'";
    let sweeps =
        "SELECT COALESCE(sum(run_count), 0)::bigint FROM job_status WHERE task = 'analyze_left_over'";
    let number =
        async |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&hub.db).await.unwrap();
    sqlx::query(sweep).execute(&hub.db).await.unwrap();
    wait_for("an answer for each article", async || number(asked).await == all).await;
    sqlx::query(sweep).execute(&hub.db).await.unwrap();
    wait_for("the second sweep", async || number(sweeps).await == 2).await;
    stopping.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!(jobs_waiting(&hub).await, 0, "nothing is left to ask, not even after a refusal");
    assert_eq!(model.requests(), 3);
    let scored = number("SELECT count(*) FROM articles WHERE sentiment_analyzer = 'llm/tone-1'").await;
    assert_eq!(scored, 2);
}

#[tokio::test]
async fn a_job_that_failed_for_good_is_not_put_in_the_queue_anew() {
    let (hub, _) = analysed(None).await;
    let all = sentiment::unscored(&hub.db, "llm", "tone-1", 1_000).await.unwrap();
    assert_eq!(
        sentiment::unscored(&hub.db, "llm", "tone-1", 5).await.unwrap(),
        all[..5],
        "bounded, newest first"
    );
    jobs::store::enqueue_llm_scores(&hub.db, &all[..2]).await.unwrap();
    sqlx::query(
        "UPDATE graphile_worker._private_jobs SET attempts = max_attempts WHERE key LIKE 'llm_score:%'",
    )
    .execute(&hub.db)
    .await
    .unwrap();
    assert_eq!(sentiment::unscored(&hub.db, "llm", "tone-1", 1_000).await.unwrap(), all[2..]);
}
