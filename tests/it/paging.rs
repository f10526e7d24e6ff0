//! Lists to the end: nothing is lost, nothing comes twice, whatever the page size; and tokens that do not belong.

use std::collections::HashSet;

use euhub::page::{Cursor, Page};
use euhub::proto::{
    ListArticlesRequest, ListKeywordArticlesRequest, ListKeywordsRequest, ListSourceHealthRequest,
    ListSourceRunsRequest, ListSourcesRequest, SearchArticlesRequest, SearchMode,
};
use prost::Message;
use serde_json::{Value, json};

use crate::hub::{Answer, Hub};

/// One page of a list or search.
async fn page(hub: &Hub, path: &str, parameters: &str) -> Answer {
    let joint = if path.contains('?') { '&' } else { '?' };
    hub.admin("GET", &format!("{path}{joint}{parameters}"), Value::Null).await
}

/// Every item of a list, `size` a page.
pub async fn all(hub: &Hub, path: &str, field: &str, size: usize) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    let mut token = String::new();
    loop {
        let answer = page(hub, path, &format!("pageSize={size}&pageToken={token}")).await.ok();
        let found = answer[field].as_array().unwrap_or_else(|| panic!("{path}: no {field}: {answer}"));
        token = answer["nextPageToken"].as_str().unwrap().to_owned();
        assert!(found.len() == size || token.is_empty(), "{path}: only the last page may be short");
        assert!(found.len() <= size, "{path}: {} items on a page of {size}", found.len());
        assert!(!found.is_empty() || items.is_empty(), "{path}: a token led to an empty page");
        items.extend(found.iter().cloned());
        if token.is_empty() {
            return items;
        }
        assert!(items.len() < 10_000, "{path} has no end");
    }
}

/// The names of a list's items.
pub fn names(items: &[Value]) -> Vec<String> {
    let name = |item: &Value| {
        let name = item["name"].as_str().or_else(|| item["article"]["name"].as_str());
        name.unwrap_or_else(|| panic!("no name: {item}")).to_owned()
    };
    items.iter().map(name).collect()
}

/// Lists by path and field.
const LISTS: [(&str, &str); 16] = [
    ("/api/v1/keywords", "keywords"),
    ("/api/v1/keywords?orderBy=article_count%20desc", "keywords"),
    ("/api/v1/keywords?orderBy=create_time%20desc", "keywords"),
    ("/api/v1/keywords?query=energ", "keywords"),
    ("/api/v1/articles", "articles"),
    ("/api/v1/articles?orderBy=publish_time", "articles"),
    ("/api/v1/articles?orderBy=create_time%20desc", "articles"),
    ("/api/v1/articles?keyword=energy", "articles"),
    ("/api/v1/articles?keyword=energy&orderBy=create_time%20desc", "articles"),
    ("/api/v1/articles?language=en&minSentiment=0", "articles"),
    ("/api/v1/keywords/energy-prices/articles", "articles"),
    ("/api/v1/keywords/energy-prices/articles?orderBy=publish_time", "articles"),
    ("/api/v1/sources", "sources"),
    ("/api/v1/articles:search?query=prices&mode=LEXICAL", "results"),
    ("/api/v1/articles:search?query=prices&mode=LEXICAL&orderBy=publish_time%20desc", "results"),
    ("/api/v1/articles:search?query=prices&mode=HYBRID&orderBy=publish_time%20desc", "results"),
];

/// Those that count no total.
const UNCOUNTED: [(&str, &str); 3] = [
    ("/api/v1/sources:health", "sourceHealth"),
    ("/api/v1/sources/harwick-ledger/runs", "runs"),
    ("/api/v1/admin/jobs", "jobs"),
];

async fn check_lists(hub: &Hub) {
    for (path, field) in LISTS.into_iter().chain(UNCOUNTED) {
        let whole = names(&all(hub, path, field, 100).await);
        assert!(whole.len() > 2, "{path}: {whole:?}");
        assert_eq!(whole.iter().collect::<HashSet<_>>().len(), whole.len(), "{path}: an item came twice");
        for size in [7, 13] {
            assert_eq!(names(&all(hub, path, field, size).await), whole, "{path} by {size}");
        }
        if UNCOUNTED.contains(&(path, field)) {
            continue;
        }
        let first = page(hub, path, "pageSize=1&showTotal=true").await.ok();
        assert_eq!(first["totalSize"], whole.len(), "{path}");
        assert!(page(hub, path, "pageSize=1").await.ok()["totalSize"].is_null(), "{path}: not asked for");
    }
}

#[tokio::test]
async fn lists_go_to_the_end_without_loss_or_doubles() {
    check_lists(&Hub::seeded().await).await;
}

/// Every sort value the same: the order rests on what breaks the tie.
#[tokio::test]
async fn ties_lose_nothing() {
    let hub = Hub::seeded().await;
    for change in [
        "UPDATE keywords SET display_name = 'Same', article_count = 1, create_time = '2026-01-01Z'",
        "UPDATE sources SET display_name = 'Same'",
        "UPDATE articles SET publish_time = '2026-01-01Z', create_time = '2026-01-01Z'",
        "UPDATE article_keywords SET publish_time = '2026-01-01Z'",
    ] {
        sqlx::query(change).execute(&hub.db).await.unwrap();
    }
    check_lists(&hub).await;
}

#[tokio::test]
async fn semantic_search_goes_to_the_end_of_its_candidates() {
    let hub = Hub::seeded().await;
    for mode in ["SEMANTIC", "HYBRID"] {
        let path = format!("/api/v1/articles:search?query=rising+power+bills&mode={mode}");
        let whole = names(&all(&hub, &path, "results", 100).await);
        assert_eq!(whole.iter().collect::<HashSet<_>>().len(), whole.len(), "{mode}: an article came twice");
        assert_eq!(names(&all(&hub, &path, "results", 11).await), whole, "{mode}");
        let total = page(&hub, &path, "showTotal=true").await.ok()["totalSize"].clone();
        assert_eq!(total, whole.len(), "{mode}");
        let stored: i64 =
            sqlx::query_scalar("SELECT count(*) FROM articles").fetch_one(&hub.db).await.unwrap();
        assert_eq!(whole.len() as i64, stored.min(200), "{mode}: every article has a meaning");
    }
}

#[tokio::test]
async fn items_that_come_while_a_client_pages_shift_nothing() {
    let hub = Hub::seeded().await;
    let before = names(&all(&hub, "/api/v1/keywords", "keywords", 100).await);
    let first = page(&hub, "/api/v1/keywords", "pageSize=5").await.ok();
    let keyword = json!({"displayName": "AAA comes first", "terms": [{"language": "en", "term": "harvest"}]});
    hub.admin("POST", "/api/v1/keywords", keyword).await.ok();
    let token = first["nextPageToken"].as_str().unwrap();
    let second = page(&hub, "/api/v1/keywords", &format!("pageSize=100&pageToken={token}")).await.ok();
    let mut seen = names(first["keywords"].as_array().unwrap());
    seen.extend(names(second["keywords"].as_array().unwrap()));
    assert_eq!(seen, before);
}

#[tokio::test]
async fn page_size_and_total_may_change_between_pages() {
    let hub = Hub::seeded().await;
    let first = page(&hub, "/api/v1/articles", "pageSize=3").await.ok();
    let token = first["nextPageToken"].as_str().unwrap();
    let second =
        page(&hub, "/api/v1/articles", &format!("page_size=5&show_total=true&page_token={token}")).await.ok();
    let whole = names(&all(&hub, "/api/v1/articles", "articles", 100).await);
    assert_eq!(names(second["articles"].as_array().unwrap()), whole[3..8]);
    assert_eq!(second["totalSize"], whole.len());
}

/// Lists whose tokens could be mixed up.
const TOKEN_LISTS: [&str; 10] = [
    "/api/v1/keywords",
    "/api/v1/keywords?orderBy=article_count%20desc",
    "/api/v1/articles",
    "/api/v1/articles?orderBy=publish_time",
    "/api/v1/articles?keyword=keywords/energy",
    "/api/v1/keywords/energy/articles",
    "/api/v1/sources",
    "/api/v1/sources:health",
    "/api/v1/articles:search?query=prices&mode=LEXICAL",
    "/api/v1/articles:search?query=prices&mode=SEMANTIC",
];

#[tokio::test]
async fn a_token_of_another_list_or_other_parameters_is_refused() {
    let hub = Hub::seeded().await;
    let mut tokens = Vec::new();
    for path in TOKEN_LISTS {
        let answer = page(&hub, path, "pageSize=1").await.ok();
        tokens.push((path, answer["nextPageToken"].as_str().unwrap().to_owned()));
    }
    let mut taken = Vec::new();
    for (from, token) in &tokens {
        for (to, _) in tokens.iter().filter(|(to, _)| to != from) {
            let answer = page(&hub, to, &format!("pageToken={token}")).await;
            if answer.status != 400 {
                taken.push(format!("{to} took a token of {from} ({})", answer.status));
            } else {
                assert_eq!(answer.violation(), "pageToken", "{to} with a token of {from}");
            }
        }
    }
    assert!(taken.is_empty(), "{}", taken.join("\n"));
}

#[tokio::test]
async fn malformed_tokens_are_refused_by_every_list() {
    let hub = Hub::seeded().await;
    let runs = "/api/v1/sources/harwick-ledger/runs";
    for path in TOKEN_LISTS.iter().chain([&runs]) {
        let good = page(&hub, path, "pageSize=1").await.ok()["nextPageToken"].as_str().unwrap().to_owned();
        let cut = &good[..good.len() / 2];
        let long = "A".repeat(500);
        let longer = "A".repeat(501);
        for token in ["!", "%00", "AAAA", "____", "eyJhIjoxfQ", "%F0%9F%98%80", "-1", cut, &long, &longer] {
            let answer = page(&hub, path, &format!("pageToken={token}")).await;
            assert_eq!(answer.violation(), "pageToken", "{path}: {token}");
        }
    }
}

/// Tokens are not signed: whoever makes one up gets an answer or a 400, never a fault of the server.
#[tokio::test]
async fn tokens_with_values_that_no_list_has_do_no_harm() {
    let hub = Hub::seeded().await;
    let cursors = || {
        let cursor = Cursor::default;
        [
            Cursor { id: i64::MAX, number: i64::MAX, score: f64::MAX, text: "\u{10ffff}".into(), ..cursor() },
            Cursor { id: i64::MIN, number: i64::MIN, score: f64::MIN, ..cursor() },
            Cursor { id: -1, number: -1, score: -1.0, ..cursor() },
            Cursor { number: 8_200_000_000_000_000_000, score: f64::INFINITY, ..cursor() },
            Cursor { number: -8_200_000_000_000_000_000, score: f64::NEG_INFINITY, ..cursor() },
            Cursor { number: -300_000_000_000_000_000, score: f64::NAN, ..cursor() },
            Cursor { text: "\0".into(), ..cursor() },
            Cursor { text: "'; DROP TABLE articles; --".into(), ..cursor() },
        ]
    };
    fn tokens(parameters: &impl Message, cursors: impl IntoIterator<Item = Cursor>) -> Vec<String> {
        let page = Page::new(1, 1, "", parameters).unwrap();
        cursors.into_iter().map(|cursor| page.token(cursor)).collect()
    }
    let search = |mode: SearchMode| SearchArticlesRequest {
        query: "prices".into(),
        mode: mode.into(),
        ..Default::default()
    };
    let by_time =
        SearchArticlesRequest { order_by: "publish_time desc".into(), ..search(SearchMode::Lexical) };
    let runs = ListSourceRunsRequest { parent: "sources/harwick-ledger".into(), ..Default::default() };
    let linked = ListKeywordArticlesRequest { parent: "keywords/energy".into(), ..Default::default() };
    let lists = [
        ("/api/v1/keywords".to_owned(), tokens(&ListKeywordsRequest::default(), cursors())),
        ("/api/v1/articles".to_owned(), tokens(&ListArticlesRequest::default(), cursors())),
        ("/api/v1/sources".to_owned(), tokens(&ListSourcesRequest::default(), cursors())),
        ("/api/v1/sources:health".to_owned(), tokens(&ListSourceHealthRequest::default(), cursors())),
        ("/api/v1/sources/harwick-ledger/runs".to_owned(), tokens(&runs, cursors())),
        ("/api/v1/keywords/energy/articles".to_owned(), tokens(&linked, cursors())),
        (
            "/api/v1/articles:search?query=prices&mode=LEXICAL&orderBy=publish_time%20desc".to_owned(),
            tokens(&by_time, cursors()),
        ),
    ];
    let modes = [SearchMode::Lexical, SearchMode::Semantic, SearchMode::Hybrid].map(|mode| {
        let path = format!("/api/v1/articles:search?query=prices&mode={}", mode.as_str_name());
        (path, tokens(&search(mode), cursors()))
    });
    let mut faults = Vec::new();
    for (path, tokens) in lists.into_iter().chain(modes) {
        for (token, cursor) in tokens.into_iter().zip(cursors()) {
            let answer = page(&hub, &path, &format!("pageToken={token}")).await;
            if !matches!(answer.status, 200 | 400) {
                faults.push(format!("{path} {cursor:?}: {} {}", answer.status, answer.text));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
