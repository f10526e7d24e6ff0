//! What administrators do to `/keywords`: create, change, delete.

use euhub::proto::keyword_service_client::KeywordServiceClient;
use euhub::proto::{Keyword, KeywordTerm, UpdateKeywordRequest};
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;

use crate::hub::{Hub, encode};
use crate::keywords::{create, keyword, linked, number};

#[tokio::test]
async fn create_links_the_whole_archive_at_once() {
    let hub = Hub::seeded().await;
    let body = json!({
        "displayName": "Harvests & crops", "description": "What grows.", "category": "economy",
        "terms": [{"language": "en", "term": "harvest"}, {"language": "de", "term": "Ernte"}],
    });
    let created = create(&hub, body).await;
    assert_eq!(created["name"], "keywords/harvests-crops", "the slug is made from the name");
    assert_eq!((&created["description"], &created["category"]), (&json!("What grows."), &json!("economy")));
    let count = created["articleCount"].as_i64().unwrap();
    assert!(count > 0, "{created}");
    assert_eq!(hub.get("/api/v1/keywords/harvests-crops").await.ok(), created);

    let articles = linked(&hub, "keywords/harvests-crops").await;
    assert_eq!(articles.len() as i64, count);
    for link in &articles {
        let name = link["article"]["name"].as_str().unwrap();
        let article = hub.get(&format!("/api/v1/{name}")).await.ok();
        let text = format!("{} {}", article["title"], article["body"]).to_lowercase();
        let word = if article["language"] == "en" { "harvest" } else { "ernte" };
        assert!(text.contains(word), "{article}");
        if link["inTitle"] == true {
            assert!(article["title"].as_str().unwrap().to_lowercase().contains(word), "{article}");
        }
    }
    let tone = hub.get("/api/v1/keywords/harvests-crops/sentiment").await.ok();
    assert_eq!(tone["overall"]["articleCount"], count);
    assert!(tone["overall"]["scoredCount"].as_i64().unwrap() > 0, "{tone}");
}

#[tokio::test]
async fn a_slug_is_given_or_made() {
    let hub = Hub::seeded().await;
    let accented = create(&hub, keyword("Crème brûlée & Ko.", &[("fr", "crème")])).await;
    assert_eq!(accented["name"], "keywords/creme-brulee-ko");
    let given = hub
        .admin("POST", "/api/v1/keywords?keywordId=my-own", keyword("Crème", &[("fr", "crème")]))
        .await
        .ok();
    assert_eq!(given["name"], "keywords/my-own");
    let none = hub.admin("POST", "/api/v1/keywords", keyword("ข่าว", &[("th", "ข่าว")])).await;
    assert_eq!(none.violation(), "keywordId");
    for wrong in ["Upper", "a--b", "-a", "a_b", "é"] {
        let path = format!("/api/v1/keywords?keywordId={}", encode(wrong));
        let answer = hub.admin("POST", &path, keyword("A", &[("en", "harvest")])).await;
        assert_eq!(answer.violation(), "keywordId", "{wrong}");
    }
}

#[tokio::test]
async fn a_taken_slug_is_a_conflict() {
    let hub = Hub::seeded().await;
    let answer = hub.admin("POST", "/api/v1/keywords", keyword("Energy", &[("en", "power")])).await;
    assert_eq!(answer.status, 409, "{}", answer.text);
    let error = &answer.json()["error"];
    assert_eq!(error["status"], "ALREADY_EXISTS");
    assert!(error["message"].as_str().unwrap().contains("keywords/energy"), "{error}");
    assert_eq!(number(&hub, "SELECT count(*) FROM keywords").await, 13);
}

#[tokio::test]
async fn a_retry_with_the_same_request_id_creates_once() {
    let hub = Hub::seeded().await;
    let path = "/api/v1/keywords?requestId=retry-1";
    let first = hub.admin("POST", path, keyword("Harvest", &[("en", "harvest")])).await.ok();
    let again = hub.admin("POST", path, keyword("Harvest", &[("en", "harvest")])).await.ok();
    assert_eq!(first, again);
    assert_eq!(number(&hub, "SELECT count(*) FROM keywords").await, 14);
    let other = hub
        .admin("POST", "/api/v1/keywords?requestId=retry-2", keyword("Harvest", &[("en", "harvest")]))
        .await;
    assert_eq!(other.status, 409, "another id is another call");
}

#[tokio::test]
async fn retries_at_the_same_time_create_once() {
    let hub = Hub::seeded().await;
    let path = "/api/v1/keywords?requestId=at-once";
    let body = keyword("Harvest", &[("en", "harvest")]);
    let calls = (0..6).map(|_| hub.admin("POST", path, body.clone()));
    let answers = futures_util::future::join_all(calls).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200; 6], "each retry answers with the first result");
    assert!(answers.iter().all(|answer| answer.json()["name"] == "keywords/harvest"));
    assert_eq!(number(&hub, "SELECT count(*) FROM keywords").await, 14);
}

#[tokio::test]
async fn update_changes_what_its_mask_names() {
    let hub = Hub::seeded().await;
    let before = hub.get("/api/v1/keywords/housing").await.ok();

    let path = "/api/v1/keywords/housing?updateMask=category";
    let changed = hub.admin("PATCH", path, json!({"category": "economy"})).await.ok();
    let expected = {
        let mut expected = before.clone();
        expected["category"] = "economy".into();
        expected["updateTime"] = changed["updateTime"].clone();
        expected
    };
    assert_eq!(changed, expected, "nothing else changed, and the name was not needed");
    assert_ne!(changed["updateTime"], before["updateTime"]);

    let path = "/api/v1/keywords/housing?updateMask=displayName,description";
    let body = json!({"displayName": "Homes", "description": "Roofs.", "category": "ignored"});
    let changed = hub.admin("PATCH", path, body).await.ok();
    assert_eq!((&changed["displayName"], &changed["description"]), (&json!("Homes"), &json!("Roofs.")));
    assert_eq!(changed["category"], "economy", "not in the mask");
    assert_eq!(changed["terms"], before["terms"]);
}

#[tokio::test]
async fn changed_terms_link_anew() {
    let hub = Hub::seeded().await;
    let path = "/api/v1/keywords/housing?update_mask=terms";
    let body = json!({"terms": [{"language": "en", "term": "harvest"}]});
    let changed = hub.admin("PATCH", path, body).await.ok();
    assert_eq!(changed["terms"], json!([{"language": "en", "term": "harvest"}]));
    let articles = linked(&hub, "keywords/housing").await;
    assert_eq!(articles.len() as i64, changed["articleCount"].as_i64().unwrap());
    assert!(!articles.is_empty() && articles.iter().all(|link| link["matchedTerm"] == "harvest"));
    let tone = hub.get("/api/v1/keywords/housing/sentiment").await.ok();
    assert_eq!(tone["overall"]["articleCount"], articles.len());

    let path = "/api/v1/keywords/housing?update_mask=boolean_query";
    let more = hub.admin("PATCH", path, json!({"booleanQuery": "railway OR phishing"})).await.ok();
    assert!(more["articleCount"].as_i64() > changed["articleCount"].as_i64(), "{more}");
    let less = hub.admin("PATCH", path, json!({"booleanQuery": ""})).await.ok();
    assert_eq!(less["articleCount"], changed["articleCount"]);
}

/// AIP-134: without a mask, what the body holds is what changes.
#[tokio::test]
async fn update_over_rest_without_mask_changes_what_the_body_holds() {
    let hub = Hub::seeded().await;
    let before = hub.get("/api/v1/keywords/housing").await.ok();
    let path = "/api/v1/keywords/housing";
    let changed = hub.admin("PATCH", path, json!({"category": "x"})).await.ok();
    assert_eq!(changed["category"], "x");
    assert_eq!((&changed["displayName"], &changed["terms"]), (&before["displayName"], &before["terms"]));
}

#[tokio::test]
async fn update_over_grpc_without_mask_replaces_everything() {
    let hub = Hub::seeded().await;
    let mut client = KeywordServiceClient::new(hub.channel().await);
    let mut update = async |keyword: Keyword| {
        let mut request =
            tonic::Request::new(UpdateKeywordRequest { keyword: Some(keyword), update_mask: None });
        let key: MetadataValue<_> = format!("Bearer {}", hub.admin_key).parse().unwrap();
        request.metadata_mut().insert("authorization", key);
        client.update_keyword(request).await
    };
    let name = "keywords/housing".to_owned();
    let nameless = update(Keyword { name: name.clone(), category: "x".into(), ..Default::default() }).await;
    assert_eq!(nameless.unwrap_err().code(), tonic::Code::InvalidArgument, "display_name is required");
    let terms = vec![KeywordTerm { language: "en".into(), term: "harvest".into() }];
    let whole = Keyword { name: name.clone(), display_name: "Homes".into(), terms, ..Default::default() };
    let changed = update(whole).await.unwrap().into_inner();
    assert_eq!((changed.name, changed.display_name.as_str()), (name, "Homes"));
    assert_eq!((changed.category.as_str(), changed.description.as_str(), changed.terms.len()), ("", "", 1));
}

#[tokio::test]
async fn updates_that_make_no_sense_are_refused_and_change_nothing() {
    let hub = Hub::seeded().await;
    let before = hub.get("/api/v1/keywords/energy").await.ok();
    let path = |mask: &str| format!("/api/v1/keywords/energy?updateMask={mask}");
    // What only the server sets may come back as it was read, and changes nothing (AIP-203).
    let read = json!({"name": "keywords/energy", "articleCount": 9});
    let same = hub.admin("PATCH", &path("name,articleCount"), read).await.ok();
    assert_eq!((&same["articleCount"], &same["name"]), (&before["articleCount"], &before["name"]));
    let before = hub.get("/api/v1/keywords/energy").await.ok();
    for (mask, body, field) in [
        ("nosuch", json!({}), "updateMask"),
        ("terms.term", json!({}), "updateMask"),
        ("displayName", json!({"displayName": ""}), "keyword.displayName"),
        ("terms", json!({"terms": []}), "keyword.terms"),
        ("terms", json!({"terms": [{"language": "en", "term": "the"}]}), "keyword.terms[0].term"),
        ("booleanQuery", json!({"booleanQuery": "-football"}), "keyword.booleanQuery"),
    ] {
        let answer = hub.admin("PATCH", &path(mask), body).await;
        assert_eq!(answer.violation(), field, "{mask}");
    }
    assert_eq!(hub.get("/api/v1/keywords/energy").await.ok(), before);
    let unknown =
        hub.admin("PATCH", "/api/v1/keywords/no-such?updateMask=category", json!({"category": "x"}));
    let unknown = unknown.await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text.contains("keywords/no-such"));
}

#[tokio::test]
async fn delete_takes_links_and_aggregates_and_leaves_articles() {
    let hub = Hub::seeded().await;
    let article = linked(&hub, "keywords/housing").await[0]["article"]["name"].as_str().unwrap().to_owned();
    let articles = number(&hub, "SELECT count(*) FROM articles").await;
    hub.admin("DELETE", "/api/v1/keywords/housing", Value::Null).await.ok();
    assert_eq!(hub.get("/api/v1/keywords/housing").await.status, 404);
    assert_eq!(hub.get("/api/v1/keywords/housing/articles").await.status, 404);
    assert_eq!(hub.get("/api/v1/keywords/housing/sentiment").await.status, 404);
    let found = hub.get(&format!("/api/v1/{article}")).await.ok();
    assert!(!found["keywords"].as_array().unwrap().iter().any(|name| name == "keywords/housing"));
    assert_eq!(number(&hub, "SELECT count(*) FROM articles").await, articles);
    assert_eq!(
        number(
            &hub,
            "SELECT count(*) FROM article_keywords WHERE keyword_id NOT IN (SELECT id FROM keywords)"
        )
        .await,
        0
    );
    assert_eq!(
        number(&hub, "SELECT count(*) FROM keyword_daily WHERE keyword_id NOT IN (SELECT id FROM keywords)")
            .await,
        0
    );
    assert_eq!(hub.admin("DELETE", "/api/v1/keywords/housing", Value::Null).await.status, 404);
    create(&hub, keyword("Housing", &[("en", "social housing")])).await;
}

#[tokio::test]
async fn keywords_that_match_nothing_or_everything_are_refused() {
    let hub = Hub::seeded().await;
    for (body, field) in [
        (keyword("A", &[("en", "the")]), "keyword.terms[0].term"),
        (keyword("A", &[("en", "harvest"), ("de", "und")]), "keyword.terms[1].term"),
        (keyword("A", &[("en", "?!")]), "keyword.terms[0].term"),
        (keyword("A", &[("en", "harvest"), ("en", "harvest")]), "keyword.terms[1].term"),
        (keyword("A", &[]), "keyword.terms"),
        (json!({"displayName": "A", "booleanQuery": "-football"}), "keyword.booleanQuery"),
        (json!({"displayName": "A", "booleanQuery": "-football -\"power bill\""}), "keyword.booleanQuery"),
        (json!({"displayName": "A", "booleanQuery": "harvest OR -football"}), "keyword.booleanQuery"),
        (json!({"displayName": "A", "booleanQuery": "..."}), "keyword.booleanQuery"),
        // A stop word drops out of the query in its language, and leaves the exclusion alone.
        (json!({"displayName": "A", "booleanQuery": "the -football"}), "keyword.booleanQuery"),
        (json!({"displayName": "A", "booleanQuery": "der OR -zebra"}), "keyword.booleanQuery"),
    ] {
        let answer = hub.admin("POST", "/api/v1/keywords", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert_eq!(answer.violation(), field, "{body}");
    }
    assert_eq!(number(&hub, "SELECT count(*) FROM keywords").await, 13, "nothing stayed behind");
}
