//! `/admin/search`: one search over keywords, articles, suggestions and sources.

use euhub::proto::admin_service_client::AdminServiceClient;
use euhub::proto::{SearchAdminRequest, SearchAdminResponse};
use serde_json::{Value, json};
use tonic::{Code, Request, Status};

use crate::hub::{Answer, Hub, encode};
use crate::keywords::{create, keyword, number};
use crate::suggestions::{call, suggest, term};

const GROUPS: [&str; 4] = ["keywords", "articles", "suggestions", "sources"];

async fn rest(hub: &Hub, query: &str) -> Answer {
    hub.admin("GET", &format!("/api/v1/admin/search?query={}", encode(query)), Value::Null).await
}

/// Names of the results of a group, and its total.
async fn found(hub: &Hub, query: &str, group: &str) -> (Vec<String>, i64) {
    let answer = rest(hub, query).await.ok();
    let results = answer[group]["results"].as_array().unwrap();
    let names = results.iter().map(|result| result["name"].as_str().unwrap().to_owned()).collect();
    (names, answer[group]["totalSize"].as_i64().unwrap())
}

async fn grpc(
    hub: &Hub,
    key: Option<&str>,
    query: &str,
    page_size: i32,
) -> Result<SearchAdminResponse, Status> {
    let mut request = Request::new(SearchAdminRequest { query: query.into(), page_size });
    if let Some(key) = key {
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    let mut client = AdminServiceClient::new(hub.channel().await);
    client.search_admin(request).await.map(tonic::Response::into_inner)
}

/// An article with this title, and nothing of it in the body.
async fn article(hub: &Hub, title: &str) -> String {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO articles (source_id, country, guid, url, canonical_url, content_hash, title, body, language,
             language_confidence, publish_time, create_time, near_duplicate_bands)
         SELECT id, country, $1, 'https://a.example/' || md5($1), 'https://a.example/' || md5($1), '', $1, 'Text.', 'en',
             1, now(), now(), '{}' FROM sources ORDER BY id LIMIT 1 RETURNING id",
    )
    .bind(title)
    .fetch_one(&hub.db)
    .await
    .unwrap();
    format!("articles/{id}")
}

#[tokio::test]
async fn one_call_finds_in_every_group_and_counts_all() {
    let hub = Hub::seeded().await;
    create(&hub, keyword("Quxométrie", &[("en", "quxometry"), ("de", "Quxmessung")])).await;
    let suggestion = suggest(&hub, term("Quxometry station", "en")).await;
    let title = article(&hub, "The QUXOMETRY of rivers").await;
    let source = json!({
        "displayName": "Quxometry Today", "country": "DE", "homepageUrl": "https://today.example/",
        "feeds": [{"url": "https://feeds.example/quxfeed.xml"}],
    });
    let source = hub.admin("POST", "/api/v1/sources", source).await.ok();
    let source = source["name"].as_str().unwrap().to_owned();

    let answer = rest(&hub, " quxometry ").await.ok();
    for (group, name) in GROUPS.iter().zip(["keywords/quxometrie", &title, &suggestion, &source]) {
        assert_eq!(answer[group]["totalSize"], 1, "{group}: {answer}");
        assert_eq!(answer[group]["results"][0]["name"], name, "{group}");
    }
    let found_by_grpc = grpc(&hub, Some(&hub.admin_key), "quxometry", 0).await.unwrap();
    assert_eq!(found_by_grpc.keywords.unwrap().results[0].name, "keywords/quxometrie");
    assert_eq!(found_by_grpc.articles.unwrap().results[0].name, title);
    assert_eq!(found_by_grpc.suggestions.unwrap().results[0].name, suggestion);
    assert_eq!(found_by_grpc.sources.unwrap().results[0].name, source);

    // Each by what else it is known by; accents, case and surplus white space aside.
    for (query, group, name) in [
        ("QUXOMETRIE", "keywords", "keywords/quxometrie"),
        ("quxométrïe", "keywords", "keywords/quxometrie"),
        ("quxmessung", "keywords", "keywords/quxometrie"),
        ("of   RÍVERS", "articles", &title),
        ("xometry   STATION", "suggestions", &suggestion),
        ("TODAY.example", "sources", &source),
        ("quxfeed.xml", "sources", &source),
        ("quxometry-today", "sources", &source),
    ] {
        let (names, total) = found(&hub, query, group).await;
        assert!(names.contains(&name.to_owned()) && total >= 1, "{query}: {names:?}");
    }
    let nothing = rest(&hub, "zzyzx quxless").await.ok();
    for group in GROUPS {
        assert_eq!(nothing[group], json!({"results": [], "totalSize": 0}), "{group}");
    }
}

#[tokio::test]
async fn a_group_shows_a_page_and_counts_all_articles_that_search_finds() {
    let hub = Hub::seeded().await;
    let total = number(
        &hub,
        "SELECT count(*) FROM articles a WHERE fold(title) LIKE '%energy%' OR EXISTS (
             SELECT 1 FROM search_queries('{en,de,fr,es,it,sv,nl,da,und}', 'energy') q
             WHERE a.search @@ q.query AND search_config(a.language) = q.config)",
    )
    .await;
    assert!(total > 20, "{total}");
    let (names, counted) = found(&hub, "energy", "articles").await;
    assert_eq!((names.len(), counted), (5, total), "five unless told otherwise");
    let found = grpc(&hub, Some(&hub.admin_key), "energy", 20).await.unwrap();
    let articles = found.articles.unwrap();
    assert_eq!((articles.results.len(), i64::from(articles.total_size)), (20, total));
    assert!(articles.results.is_sorted_by_key(|article| {
        std::cmp::Reverse(article.publish_time.map(|time| (time.seconds, time.nanos)))
    }));
    let keywords = found.keywords.unwrap();
    assert_eq!(keywords.total_size as usize, keywords.results.len());
    assert!(keywords.results.len() >= 3, "energy, energy-prices, renewable-energy");
}

#[tokio::test]
async fn wildcards_and_quotes_stand_for_themselves() {
    let hub = Hub::seeded().await;
    let odd = r"Up 100%_of 'it' a\b";
    let title = article(&hub, odd).await;
    let name = suggest(&hub, term(odd, "en")).await;
    for query in ["0%_o", "%_of", "'it'", r"a\b", odd] {
        assert_eq!(found(&hub, query, "suggestions").await, (vec![name.clone()], 1), "{query}");
        assert!(found(&hub, query, "articles").await.0.contains(&title), "{query}");
    }
    for query in ["1%0", "1__%", "%_'"] {
        for group in GROUPS {
            let (names, total) = found(&hub, query, group).await;
            assert!(!names.contains(&title) && !names.contains(&name), "{query} {group}: {total}");
        }
    }
}

#[tokio::test]
async fn queries_have_bounds_and_need_the_admin_scope() {
    let hub = Hub::seeded().await;
    assert_eq!(rest(&hub, &"x".repeat(500)).await.status, 200);
    grpc(&hub, Some(&hub.admin_key), &"é".repeat(500), 0).await.unwrap();
    let long = grpc(&hub, Some(&hub.admin_key), &"é".repeat(501), 0).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
    for query in ["", "   ", "a\nb", "a\u{7f}", &"x".repeat(501)] {
        assert_eq!(rest(&hub, query).await.violation(), "query", "{query:?}");
        let status = grpc(&hub, Some(&hub.admin_key), query, 0).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{query:?}");
    }
    for page_size in [-1, 21] {
        let path = format!("/api/v1/admin/search?query=x&pageSize={page_size}");
        assert_eq!(hub.admin("GET", &path, Value::Null).await.violation(), "pageSize");
    }

    let body = json!({"displayName": "reader", "scopes": ["read", "suggest"]});
    let made = hub.admin("POST", "/api/v1/admin/apiKeys", body).await.ok();
    let reader = made["secret"].as_str().unwrap();
    for path in ["/api/v1/admin/search?query=x", "/api/v1/admin/llm"] {
        assert_eq!(call(&hub, None, "GET", path, Value::Null).await.status, 401);
        assert_eq!(call(&hub, Some(reader), "GET", path, Value::Null).await.status, 403);
    }
    assert_eq!(grpc(&hub, None, "x", 0).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(grpc(&hub, Some(reader), "x", 0).await.unwrap_err().code(), Code::PermissionDenied);
}
