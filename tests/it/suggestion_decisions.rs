//! `/suggestions`: the evidence, and what administrators decide.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::hub::{Hub, suggestions};
use crate::jobs::services;
use crate::keywords::{create, keyword, linked, number};
use crate::paging::all;
use crate::program::wait_for;
use crate::suggestions::{decide, get, info, propose, suggest, term};

#[tokio::test]
async fn evidence_is_what_can_be_counted_and_is_kept_each_time() {
    let hub = Hub::seeded().await;
    let mut body = term("winter", "en");
    body["translations"] = json!([{"language": "de", "term": "Frühjahr"}]);
    let name = suggest(&hub, body).await;
    let found = decide(&hub, &name, "evaluate", json!({})).await.ok();
    let matching = "FROM articles WHERE publish_time >= now() - interval '30 days' AND (
        language = 'en' AND search @@ phraseto_tsquery('euhub_english', 'winter')
        OR language = 'de' AND search @@ phraseto_tsquery('euhub_german', 'Frühjahr'))";
    for (field, what, from) in [
        ("articleCount", "count(*)", matching),
        ("sourceCount", "count(DISTINCT source_id)", matching),
        ("countryCount", "count(DISTINCT country)", matching),
        ("archiveCount", "count(*)", "FROM articles WHERE publish_time >= now() - interval '30 days'"),
        (
            "activeSourceCount",
            "count(DISTINCT source_id)",
            "FROM articles WHERE publish_time >= now() - interval '30 days'",
        ),
        (
            "activeCountryCount",
            "count(DISTINCT country)",
            "FROM articles WHERE publish_time >= now() - interval '30 days'",
        ),
    ] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {what} {from}"));
        let expected: i64 = sqlx::query_scalar(sql).fetch_one(&hub.db).await.unwrap();
        assert!(expected > 0, "{field}");
        assert_eq!(found[field], expected, "{field}");
    }
    let (articles, archive) =
        (found["articleCount"].as_f64().unwrap(), found["archiveCount"].as_f64().unwrap());
    assert_eq!(found["share"].as_f64().unwrap(), articles / archive);
    assert_eq!(
        found["searchability"].as_f64().unwrap(),
        (100.0 * articles.ln_1p() / 100f64.ln_1p()).round().min(100.0)
    );
    assert_eq!(found["windowDays"], 30);
    let reasons = found["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 4);
    assert!(
        reasons[0].as_str().unwrap().starts_with(&format!("{articles} of {archive} articles")),
        "{reasons:?}"
    );
    assert_eq!(
        (&found["proposedTranslations"], &found["note"]),
        (&json!([]), &json!("")),
        "no language model"
    );

    let again = decide(&hub, &name, "evaluate", json!({})).await.ok();
    let kept = all(&hub, &format!("/api/v1/{name}/evaluations"), "evaluations", 1).await;
    assert_eq!(kept, [again.clone(), found], "newest first");
    let suggestion = get(&hub, &name).await;
    assert_eq!(
        (&suggestion["state"], &suggestion["latestEvaluation"]),
        (&json!("SUGGESTION_STATE_EVALUATED"), &again)
    );
}

#[tokio::test]
async fn what_a_keyword_means_already_is_to_be_merged_and_the_unheard_of_rejected() {
    let hub = Hub::seeded().await;
    let near = suggest(&hub, term("price of energy", "en")).await;
    let evaluation = decide(&hub, &near, "evaluate", json!({})).await.ok();
    assert_eq!(evaluation["decision"], "SUGGESTION_DECISION_MERGE", "{evaluation}");
    let similar = evaluation["similarKeywords"].as_array().unwrap();
    assert_eq!((similar.len(), &similar[0]["keyword"]), (5, &json!("keywords/energy-prices")), "{similar:?}");
    assert!(similar.is_sorted_by(|a, b| a["similarity"].as_f64() >= b["similarity"].as_f64()));
    assert!(
        similar[0]["similarity"].as_f64().unwrap() >= 0.85
            && similar[1]["similarity"].as_f64().unwrap() < 0.85
    );
    assert!(evaluation["reasons"][3].as_str().unwrap().contains("keywords/energy-prices"), "{evaluation}");
    assert_eq!(number(&hub, "SELECT count(*) FROM keywords WHERE embedding_model IS NULL").await, 0, "kept");

    // Compared in English, when there is English.
    let mut body = term("Preis der Energie", "de");
    body["translations"] = json!([{"language": "en", "term": "price of the energy"}]);
    let german = suggest(&hub, body).await;
    let evaluation = decide(&hub, &german, "evaluate", json!({})).await.ok();
    assert_eq!(evaluation["similarKeywords"][0]["keyword"], "keywords/energy-prices");

    // A new name needs a new vector.
    hub.admin(
        "PATCH",
        "/api/v1/keywords/energy-prices?updateMask=displayName",
        json!({"displayName": "Volcanoes"}),
    )
    .await
    .ok();
    let evaluation = decide(&hub, &near, "evaluate", json!({})).await.ok();
    assert_ne!(evaluation["similarKeywords"][0]["keyword"], "keywords/energy-prices");

    let unheard = suggest(&hub, term("zorblat quimby", "en")).await;
    let evaluation = decide(&hub, &unheard, "evaluate", json!({})).await.ok();
    assert_eq!(
        (&evaluation["decision"], &evaluation["articleCount"]),
        (&json!("SUGGESTION_DECISION_REJECT"), &json!(0))
    );
    assert_eq!(evaluation["breadth"], "SUGGESTION_BREADTH_TOO_SPECIFIC");
}

#[tokio::test]
async fn without_a_model_the_evidence_is_what_words_show() {
    let hub = Hub::without_model().await;
    let name = suggest(&hub, term("price of energy", "en")).await;
    let evaluation = decide(&hub, &name, "evaluate", json!({})).await.ok();
    assert_eq!(evaluation["similarKeywords"], json!([]));
    assert!(evaluation["reasons"][3].as_str().unwrap().starts_with("No embedding model"), "{evaluation}");
    decide(&hub, &name, "approve", json!({})).await.ok();
}

#[tokio::test]
async fn approval_makes_a_keyword_with_its_history() {
    let hub = Hub::seeded().await;
    let mut body = term("winter", "en");
    body["translations"] = json!([{"language": "de", "term": "Frühjahr"}]);
    body["category"] = "economy".into();
    let name = suggest(&hub, body).await;
    let due = "SELECT count(*) FROM feeds f JOIN sources s ON s.id = f.source_id
               WHERE f.next_fetch_time <= now() AND NOT s.paused AND s.retire_time IS NULL";
    sqlx::query("UPDATE feeds SET next_fetch_time = now() - interval '1 minute'")
        .execute(&hub.db)
        .await
        .unwrap();
    let due = number(&hub, due).await;
    let approved = decide(&hub, &name, "approve", json!({})).await.ok();
    let keyword = &approved["keyword"];
    assert_eq!((&keyword["name"], &keyword["displayName"]), (&json!("keywords/winter"), &json!("winter")));
    assert_eq!(keyword["category"], "economy");
    assert_eq!(
        keyword["terms"],
        json!([{"language": "en", "term": "winter"}, {"language": "de", "term": "Frühjahr"}])
    );
    assert_eq!(&hub.get("/api/v1/keywords/winter").await.ok(), keyword);
    let articles = linked(&hub, "keywords/winter").await;
    assert!(!articles.is_empty());
    assert_eq!(approved["linkedArticleCount"], articles.len());
    assert_eq!((&approved["addedTermCount"], &approved["queuedFeedCount"]), (&json!(2), &json!(due)));
    assert!(due > 0);
    assert_eq!(
        number(&hub, "SELECT count(*) FROM graphile_worker.jobs WHERE task_identifier = 'ingest_feed'").await,
        due
    );
    let tone = hub.get("/api/v1/keywords/winter/sentiment").await.ok();
    assert_eq!(tone["overall"]["articleCount"], articles.len(), "aggregates are there");
    assert_eq!(
        number(&hub, "SELECT count(*) FROM keywords WHERE slug = 'winter' AND embedding IS NOT NULL").await,
        1
    );
    let suggestion = &approved["suggestion"];
    assert_eq!(
        (&suggestion["state"], &suggestion["keyword"]),
        (&json!("SUGGESTION_STATE_APPROVED"), &json!("keywords/winter"))
    );
    assert_eq!(&get(&hub, &name).await, suggestion);
    assert_eq!(number(&hub, "SELECT count(*) FROM audit_log WHERE action = 'suggestions.approve'").await, 1);
    assert_eq!(propose(&hub, term("FRÜHJAHR", "de")).await.ok()["existingKeyword"], "keywords/winter");

    let thai = suggest(&hub, term("ข้าว", "th")).await;
    assert_eq!(
        decide(&hub, &thai, "approve", json!({})).await.violation(),
        "keywordId",
        "no slug can be made of it"
    );
    let named = json!({"keywordId": "rice", "displayName": "Rice"});
    assert_eq!(decide(&hub, &thai, "approve", named).await.ok()["keyword"]["displayName"], "Rice");
}

#[tokio::test]
async fn a_merge_adds_what_the_keyword_lacks() {
    let hub = Hub::seeded().await;
    create(&hub, keyword("Seasons", &[("en", "winter")])).await;
    let mut body = term("mild winter", "en");
    body["translations"] =
        json!([{"language": "en", "term": "WINTER"}, {"language": "de", "term": "Frühjahr"}]);
    let name = suggest(&hub, body).await;
    let both = json!({"mergeInto": "keywords/seasons", "keywordId": "x"});
    assert_eq!(decide(&hub, &name, "approve", both).await.violation(), "mergeInto");
    assert_eq!(decide(&hub, &name, "approve", json!({"mergeInto": "keywords/no-such"})).await.status, 404);
    let merged = decide(&hub, &name, "approve", json!({"mergeInto": "keywords/seasons"})).await.ok();
    let terms = json!([
        {"language": "en", "term": "winter"}, {"language": "en", "term": "mild winter"}, {"language": "de", "term": "Frühjahr"}
    ]);
    assert_eq!((&merged["keyword"]["terms"], &merged["addedTermCount"]), (&terms, &json!(2)));
    let articles = linked(&hub, "keywords/seasons").await;
    assert_eq!(merged["linkedArticleCount"], articles.len());
    let languages: BTreeSet<_> =
        articles.iter().map(|link| link["article"]["language"].as_str().unwrap()).collect();
    assert!(languages.contains("de"), "{languages:?}");
    assert_eq!(merged["suggestion"]["state"], "SUGGESTION_STATE_MERGED");
    assert_eq!(merged["suggestion"]["keyword"], "keywords/seasons");
}

#[tokio::test]
async fn an_approval_that_fails_leaves_nothing_behind() {
    let hub = Hub::seeded().await;
    let full: Vec<(String, &str)> = (0..99).map(|n| (format!("word{n}"), "en")).collect();
    let full: Vec<(&str, &str)> = full.iter().map(|(term, language)| (*language, term.as_str())).collect();
    create(&hub, keyword("Full", &full)).await;
    let mut body = term("winter", "en");
    body["translations"] = json!([{"language": "de", "term": "Frühjahr"}]);
    let name = suggest(&hub, body).await;
    let before = get(&hub, &name).await;
    let rows = "SELECT (SELECT count(*) FROM keywords) + (SELECT count(*) FROM keyword_terms) + (SELECT count(*) FROM audit_log WHERE outcome = 'ok')
        + (SELECT count(*) FROM article_keywords) + (SELECT count(*) FROM keyword_daily) + (SELECT count(*) FROM graphile_worker.jobs)";
    sqlx::query("UPDATE feeds SET next_fetch_time = now() - interval '1 minute'")
        .execute(&hub.db)
        .await
        .unwrap();
    let counted = number(&hub, rows).await;

    let taken = decide(&hub, &name, "approve", json!({"keywordId": "energy"})).await;
    assert_eq!((taken.status, &taken.json()["error"]["status"]), (409, &json!("ALREADY_EXISTS")));
    let full = decide(&hub, &name, "approve", json!({"mergeInto": "full"})).await;
    assert_eq!((full.status, &info(&full)["reason"]), (400, &json!("TOO_MANY_TERMS")), "{}", full.text);
    // The queue is the last to be written.
    sqlx::raw_sql("ALTER SCHEMA graphile_worker RENAME TO away").execute(&hub.db).await.unwrap();
    assert_eq!(decide(&hub, &name, "approve", json!({})).await.status, 500);
    sqlx::raw_sql("ALTER SCHEMA away RENAME TO graphile_worker").execute(&hub.db).await.unwrap();
    assert_eq!(number(&hub, rows).await, counted);
    assert_eq!(get(&hub, &name).await, before);
    decide(&hub, &name, "approve", json!({})).await.ok();
}

#[tokio::test]
async fn a_rejection_needs_a_reason_and_closed_suggestions_take_nothing_more() {
    let hub = Hub::seeded().await;
    let name = suggest(&hub, term("winter", "en")).await;
    for reason in ["", "   ", &"x".repeat(501)] {
        assert_eq!(decide(&hub, &name, "reject", json!({"reason": reason})).await.violation(), "reason");
    }
    let rejected = decide(&hub, &name, "reject", json!({"reason": "Too seasonal."})).await.ok();
    assert_eq!(
        (&rejected["state"], &rejected["rejectionReason"]),
        (&json!("SUGGESTION_STATE_REJECTED"), &json!("Too seasonal."))
    );
    for (verb, body) in [
        ("vote", json!({})),
        ("evaluate", json!({})),
        ("approve", json!({})),
        ("reject", json!({"reason": "Again."})),
    ] {
        assert_eq!(decide(&hub, "suggestions/999", verb, body.clone()).await.status, 404, "{verb}");
        let refused = decide(&hub, &name, verb, body).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["status"]),
            (400, &json!("FAILED_PRECONDITION")),
            "{verb}"
        );
        let info = info(&refused);
        assert_eq!(
            (&info["reason"], &info["metadata"]["state"]),
            (&json!("WRONG_STATE"), &json!("REJECTED")),
            "{verb}"
        );
        assert!(
            refused.json()["error"]["message"].as_str().unwrap().contains("REJECTED"),
            "{}",
            refused.text
        );
    }
    assert_eq!(get(&hub, &name).await, rejected);
}

/// Both calls have seen an open suggestion when the lock that holds them up is let go.
#[tokio::test]
async fn of_two_administrators_at_once_one_wins_and_the_other_is_told() {
    let hub = Hub::seeded().await;
    for round in 0..3 {
        let name = suggest(&hub, term(&format!("winter {round}"), "en")).await;
        let mut blocker = hub.db.begin().await.unwrap();
        sqlx::query("SELECT FROM suggestions FOR UPDATE").execute(&mut *blocker).await.unwrap();
        let waiting = async {
            wait_for("both calls to wait", async || {
                number(
                    &hub,
                    "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'",
                )
                .await
                    == 2
            })
            .await;
            blocker.rollback().await.unwrap();
        };
        let reason = json!({"reason": "Too seasonal."});
        let (approve, reject, ()) = tokio::join!(
            decide(&hub, &name, "approve", json!({})),
            decide(&hub, &name, "reject", reason),
            waiting
        );
        let (won, lost, state) =
            if approve.status == 200 { (approve, reject, "APPROVED") } else { (reject, approve, "REJECTED") };
        assert_eq!((won.status, lost.status), (200, 409), "{} {}", won.text, lost.text);
        assert_eq!(lost.json()["error"]["status"], "ABORTED");
        let info = info(&lost);
        assert_eq!((&info["reason"], &info["metadata"]["state"]), (&json!("STATE_CHANGED"), &json!(state)));
        assert_eq!(get(&hub, &name).await["state"], format!("SUGGESTION_STATE_{state}"));
    }
}

#[tokio::test]
async fn the_nightly_job_evaluates_what_is_pending() {
    let hub = Hub::seeded().await;
    let pending = suggest(&hub, term("winter", "en")).await;
    let rejected = suggest(&hub, term("Heat pumps", "en")).await;
    decide(&hub, &rejected, "reject", json!({"reason": "No."})).await.ok();
    let stopping = hub.stopping.child_token();
    let suggestions = suggestions(hub.db.clone(), None);
    let services = services(&hub, hub.ingest.clone());
    let worker = tokio::spawn(euhub::jobs::work(services, 1, stopping.clone()));
    // What the cron does at 02:00.
    sqlx::query("SELECT graphile_worker.add_job('evaluate_suggestions', '{}'::json)")
        .execute(&hub.db)
        .await
        .unwrap();
    wait_for("the evaluation", async || get(&hub, &pending).await["state"] == "SUGGESTION_STATE_EVALUATED")
        .await;
    stopping.cancel();
    tokio::time::timeout(Duration::from_secs(30), worker)
        .await
        .expect("a worker stops in time")
        .unwrap()
        .unwrap();
    suggestions.evaluate_pending().await.unwrap();
    assert_eq!(
        number(&hub, "SELECT count(*) FROM suggestion_evaluations").await,
        1,
        "nothing is pending any more"
    );
    assert_eq!(number(&hub, "SELECT count(*) FROM audit_log WHERE action = 'suggestions.evaluate'").await, 0);
}
