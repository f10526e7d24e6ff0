//! `/sources`: outlets, their feeds, and what each fetch brought.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use euhub::proto::ListSourcesRequest;
use euhub::proto::source_service_client::SourceServiceClient;
use euhub::seed::analyze_stored;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::metadata::MetadataValue;

use crate::hub::Hub;
use crate::paging::{all, names};

const SOURCES: &str = "/api/v1/sources";

fn source(display_name: &str, feeds: &[&str]) -> Value {
    let feeds: Vec<Value> =
        feeds.iter().map(|url| json!({"url": url, "language": "en", "section": "news"})).collect();
    json!({"displayName": display_name, "homepageUrl": "https://outlet.example/", "country": "IE", "feeds": feeds})
}

async fn create(hub: &Hub, body: Value) -> Value {
    hub.admin("POST", SOURCES, body).await.ok()
}

async fn ingest(hub: &Hub, name: &str) -> Vec<Value> {
    let answer = hub.admin("POST", &format!("/api/v1/{name}:ingest"), json!({})).await.ok();
    answer["runs"].as_array().unwrap().clone()
}

/// An RSS feed of as many articles; their texts are their own.
fn rss(articles: usize) -> String {
    let items: String = (1..=articles)
        .map(|n| {
            format!(
                "<item><title>Harbour report number {n}</title><link>https://outlet.example/{n}</link><guid>g-{n}</guid>
                 <pubDate>Mon, 0{n} Jun 2026 08:00:00 GMT</pubDate>
                 <description>The harbour of town {n} had a wonderful week with {n} ships and no accident at all.</description></item>"
            )
        })
        .collect();
    format!(
        "<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>Outlet</title>{items}</channel></rss>"
    )
}

fn file_feed(articles: usize) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.xml");
    std::fs::write(&path, rss(articles)).unwrap();
    let url = url::Url::from_file_path(&path).unwrap().to_string();
    (folder, url)
}

/// A server whose answer to every request a test sets.
async fn http_feed(status: u16, body: String) -> (Arc<Mutex<(u16, String)>>, String) {
    let answer = Arc::new(Mutex::new((status, body)));
    let app = axum::Router::new()
        .route(
            "/feed.xml",
            get(|State(answer): State<Arc<Mutex<(u16, String)>>>| async move {
                let (status, body) = answer.lock().unwrap().clone();
                (StatusCode::from_u16(status).unwrap(), body)
            }),
        )
        .with_state(Arc::clone(&answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/feed.xml", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (answer, url)
}

#[tokio::test]
async fn a_source_is_created_read_changed_and_retired() {
    let hub = Hub::empty().await;
    let feeds = ["https://outlet.example/a.xml", "https://outlet.example/b.xml"];
    let created = create(&hub, source("The Outlet", &feeds)).await;
    assert_eq!(created["name"], "sources/the-outlet");
    assert_eq!((&created["country"], &created["paused"]), (&json!("IE"), &json!(false)));
    assert_eq!(created["articleCount"], 0);
    let urls = |source: &Value| -> Vec<String> {
        source["feeds"].as_array().unwrap().iter().map(|f| f["url"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(urls(&created), feeds);
    assert_eq!(created["feeds"][1]["section"], "news");

    let path = "/api/v1/sources/the-outlet";
    assert_eq!(hub.admin("GET", path, Value::Null).await.ok(), created);
    let list = hub.admin("GET", "/api/v1/sources?showTotal=true", Value::Null).await.ok();
    assert_eq!((&list["totalSize"], &list["sources"][0]), (&json!(1), &created));

    let paused = hub.admin("PATCH", &format!("{path}?updateMask=paused"), json!({"paused": true})).await.ok();
    assert_eq!((&paused["paused"], &paused["displayName"]), (&json!(true), &json!("The Outlet")));
    assert_eq!(paused["feeds"], created["feeds"], "feeds were not in the mask");

    let body =
        json!({"feeds": [{"url": "https://outlet.example/c.xml"}, {"url": feeds[0], "section": "world"}]});
    let changed = hub.admin("PATCH", &format!("{path}?updateMask=feeds"), body).await.ok();
    assert_eq!(urls(&changed), ["https://outlet.example/c.xml", feeds[0]], "in the order given");
    assert_eq!(changed["feeds"][1]["section"], "world");
    assert_eq!(changed["feeds"][1]["nextFetchTime"], created["feeds"][0]["nextFetchTime"], "keeps its state");

    hub.admin("DELETE", path, Value::Null).await.ok();
    assert_eq!(hub.admin("GET", path, Value::Null).await.status, 404);
    assert_eq!(hub.admin("DELETE", path, Value::Null).await.status, 404);
    assert_eq!(hub.admin("POST", &format!("{path}:ingest"), json!({})).await.status, 404);
    let list = hub.admin("GET", "/api/v1/sources?showTotal=true", Value::Null).await.ok();
    assert_eq!((&list["totalSize"], &list["sources"]), (&json!(0), &json!([])));
    create(&hub, source("The Outlet", &feeds)).await;
}

#[tokio::test]
async fn samples_and_real_outlets_come_configured() {
    let hub = Hub::seeded().await;
    let every = all(&hub, SOURCES, "sources", 100).await;
    assert_eq!(every.len(), 18);
    assert!(every.is_sorted_by_key(|source| source["displayName"].as_str().unwrap().to_owned()));
    let found = names(&every);
    for slug in ["bbc-news", "le-monde", "harwick-ledger"] {
        assert!(found.contains(&format!("sources/{slug}")), "{slug}: {found:?}");
    }
    let mut client = SourceServiceClient::new(hub.channel().await);
    let mut request = tonic::Request::new(ListSourcesRequest { page_size: 100, ..Default::default() });
    let key: MetadataValue<_> = format!("Bearer {}", hub.admin_key).parse().unwrap();
    request.metadata_mut().insert("authorization", key);
    let grpc = client.list_sources(request).await.unwrap().into_inner().sources;
    assert_eq!(grpc.iter().map(|source| source.name.clone()).collect::<Vec<_>>(), found);
}

#[tokio::test]
async fn sources_that_make_no_sense_are_refused() {
    let hub = Hub::seeded().await;
    let taken = all(&hub, SOURCES, "sources", 100).await[0]["feeds"][0]["url"].as_str().unwrap().to_owned();
    let with = |field: &str, value: Value| {
        let mut body = source("Another", &["https://outlet.example/a.xml"]);
        body[field] = value;
        body
    };
    for (body, field) in [
        (source("Another", &[]), "source.feeds"),
        (source("Another", &["gopher://outlet.example/"]), "source.feeds[0].url"),
        (source("Another", &["https://a b"]), "source.feeds[0].url"),
        (source("Another", &["https://"]), "source.feeds[0].url"),
        (source("Another", &["https://user:secret@outlet.example/"]), "source.feeds[0].url"),
        (source("Another", &["https://x.example/", "https://x.example/"]), "source.feeds[1].url"),
        (source("Another", &["https://x.example/", &taken]), "source.feeds[1].url"),
        (with("country", json!("ie")), "source.country"),
        (with("country", json!("IRL")), "source.country"),
        (with("country", json!("")), "source.country"),
        (with("displayName", json!("")), "source.displayName"),
        (with("displayName", json!("ข่าว")), "sourceId"),
        (with("homepageUrl", json!("javascript:alert(1)")), "source.homepageUrl"),
    ] {
        let answer = hub.admin("POST", SOURCES, body.clone()).await;
        assert_eq!(answer.violation(), field, "{body}");
        assert!(!answer.text.contains("secret"), "{}", answer.text);
    }
    assert_eq!(hub.admin("GET", "/api/v1/sources/another", Value::Null).await.status, 404);
    let taken =
        hub.admin("POST", "/api/v1/sources?sourceId=bbc-news", source("B", &["https://b.example/"])).await;
    assert_eq!(taken.status, 409, "{}", taken.text);
    assert!(taken.text.contains("sources/bbc-news"));
    let mask = hub.admin("PATCH", "/api/v1/sources/bbc-news?updateMask=nosuch", json!({})).await;
    assert_eq!(mask.violation(), "updateMask");
}

#[tokio::test]
async fn a_retry_with_the_same_request_id_creates_once() {
    let hub = Hub::empty().await;
    let path = "/api/v1/sources?requestId=r1&sourceId=once";
    let first = hub.admin("POST", path, source("Once", &["https://once.example/"])).await.ok();
    assert_eq!(hub.admin("POST", path, source("Once", &["https://once.example/"])).await.ok(), first);
    assert_eq!(all(&hub, SOURCES, "sources", 100).await.len(), 1);
}

#[tokio::test]
async fn a_file_is_ingested_and_its_articles_are_kept_once() {
    let hub = Hub::empty().await;
    let (folder, url) = file_feed(2);
    create(&hub, source("Outlet", &[&url])).await;

    let first = ingest(&hub, "sources/outlet").await;
    let run = &first[0];
    assert_eq!(run["outcome"], "RUN_OUTCOME_OK", "{run}");
    assert_eq!(
        (&run["fetchedCount"], &run["newCount"], &run["duplicateCount"]),
        (&json!(2), &json!(2), &json!(0))
    );
    assert_eq!((&run["failedCount"], &run["error"], &run["errorClass"]), (&json!(0), &json!(""), &json!("")));
    assert_eq!(run["feedUrl"], url);
    assert!(run["endTime"].is_string() && run["name"].as_str().unwrap().starts_with("sources/outlet/runs/"));

    let unchanged = ingest(&hub, "sources/outlet").await;
    assert_eq!(unchanged[0]["outcome"], "RUN_OUTCOME_NOT_MODIFIED", "{unchanged:?}");
    std::fs::write(folder.path().join("feed.xml"), rss(3)).unwrap();
    let more = ingest(&hub, "sources/outlet").await;
    assert_eq!(
        (&more[0]["fetchedCount"], &more[0]["newCount"], &more[0]["duplicateCount"]),
        (&json!(3), &json!(1), &json!(2)),
        "{more:?}"
    );

    let runs = all(&hub, "/api/v1/sources/outlet/runs", "runs", 2).await;
    assert_eq!(runs, [more, unchanged, first].concat(), "newest first");
    let source = hub.admin("GET", "/api/v1/sources/outlet", Value::Null).await.ok();
    assert_eq!(source["articleCount"], 3);
    assert!(source["feeds"][0]["lastSuccessTime"].is_string());

    analyze_stored(&hub.ingest).await.unwrap();
    let articles = all(&hub, "/api/v1/articles?source=outlet&orderBy=publish_time", "articles", 100).await;
    let titles: Vec<&str> = articles.iter().map(|article| article["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["Harbour report number 1", "Harbour report number 2", "Harbour report number 3"]);
    assert!(articles[0]["sentiment"]["score"].as_f64().unwrap() > 0.0, "{}", articles[0]);
    assert_eq!(articles[0]["publishTime"], "2026-06-01T08:00:00Z");
    assert_eq!(articles[0]["country"], "IE");
}

#[tokio::test]
async fn new_articles_are_linked_to_the_keywords_that_are_there() {
    let hub = Hub::empty().await;
    let keyword = json!({"displayName": "Harbours", "terms": [{"language": "en", "term": "harbour"}]});
    hub.admin("POST", "/api/v1/keywords", keyword).await.ok();
    let (_folder, url) = file_feed(3);
    create(&hub, source("Outlet", &[&url])).await;
    ingest(&hub, "sources/outlet").await;
    analyze_stored(&hub.ingest).await.unwrap();
    assert_eq!(hub.get("/api/v1/keywords/harbours").await.ok()["articleCount"], 3);
    let tone = hub.get("/api/v1/keywords/harbours/sentiment").await.ok();
    assert_eq!(tone["overall"]["scoredCount"], 3);
    assert_eq!(tone["countries"][0]["country"], "IE");
}

#[tokio::test]
async fn a_feed_over_http_is_ingested_and_its_failures_leave_runs() {
    let hub = Hub::empty().await;
    let (answer, url) = http_feed(200, rss(2)).await;
    create(&hub, source("Outlet", &[&url])).await;
    let run = &ingest(&hub, "sources/outlet").await[0];
    assert_eq!((&run["outcome"], &run["newCount"]), (&json!("RUN_OUTCOME_OK"), &json!(2)), "{run}");
    assert_eq!(run["httpStatus"], 200);
    let again = &ingest(&hub, "sources/outlet").await[0];
    assert_eq!((&again["newCount"], &again["duplicateCount"]), (&json!(0), &json!(2)), "{again}");

    for (status, body, class, http_status) in
        [(500, "oops".to_owned(), "http_status_500", 500), (404, String::new(), "http_status_404", 404)]
    {
        *answer.lock().unwrap() = (status, body);
        let run = &ingest(&hub, "sources/outlet").await[0];
        assert_eq!(
            (&run["outcome"], &run["errorClass"]),
            (&json!("RUN_OUTCOME_FAILED"), &json!(class)),
            "{run}"
        );
        assert_eq!(run["httpStatus"], http_status);
        assert_eq!(run["newCount"], 0);
    }
    *answer.lock().unwrap() = (200, "this is no feed".to_owned());
    let run = &ingest(&hub, "sources/outlet").await[0];
    assert_eq!(run["outcome"], "RUN_OUTCOME_FAILED", "{run}");
    assert!(!run["errorClass"].as_str().unwrap().is_empty());
    let source = hub.admin("GET", "/api/v1/sources/outlet", Value::Null).await.ok();
    assert_eq!((&source["feeds"][0]["consecutiveFailures"], &source["articleCount"]), (&json!(3), &json!(2)));

    *answer.lock().unwrap() = (200, rss(3));
    assert_eq!(ingest(&hub, "sources/outlet").await[0]["newCount"], 1);
    let source = hub.admin("GET", "/api/v1/sources/outlet", Value::Null).await.ok();
    assert_eq!(source["feeds"][0]["consecutiveFailures"], 0, "a success forgets failures");
    assert_eq!(all(&hub, "/api/v1/sources/outlet/runs", "runs", 100).await.len(), 6);
}

#[tokio::test]
async fn what_cannot_be_reached_is_a_failed_run_and_no_article() {
    let hub = Hub::empty().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}/feed.xml", listener.local_addr().unwrap());
    drop(listener);
    let (_folder, good) = file_feed(1);
    let missing = "file:///nowhere/feed.xml";
    create(&hub, source("Outlet", &[&closed, missing, &good])).await;
    let runs = ingest(&hub, "sources/outlet").await;
    let ends: Vec<(&str, &str)> = runs
        .iter()
        .map(|run| (run["outcome"].as_str().unwrap(), run["errorClass"].as_str().unwrap()))
        .collect();
    let expected =
        [("RUN_OUTCOME_FAILED", "refused"), ("RUN_OUTCOME_FAILED", "file"), ("RUN_OUTCOME_OK", "")];
    assert_eq!(ends, expected, "one feed does not harm another");
    for run in &runs[..2] {
        let error = run["error"].as_str().unwrap();
        assert!(!error.is_empty() && !error.contains("127.0.0.1") && !error.contains("nowhere"), "{error}");
    }
    let articles = hub.get("/api/v1/articles?showTotal=true").await.ok();
    assert_eq!(articles["totalSize"], 1, "nothing is invented");
}

#[tokio::test]
async fn a_broken_sample_feed_harms_no_other() {
    let hub = Hub::seeded().await;
    let runs = all(&hub, "/api/v1/sources/vespero-montelario/runs", "runs", 100).await;
    let broken: Vec<&Value> =
        runs.iter().filter(|run| run["feedUrl"].as_str().unwrap().ends_with("broken.rss")).collect();
    assert_eq!(broken.len(), 1);
    assert!(!broken[0]["errorClass"].as_str().unwrap().is_empty(), "{}", broken[0]);
    let others = runs.iter().filter(|run| run["outcome"] == "RUN_OUTCOME_OK" && run["error"] == "");
    assert_eq!(others.count(), runs.len() - 1);
}

#[tokio::test]
async fn a_paused_source_is_ingested_when_asked() {
    let hub = Hub::empty().await;
    let (_folder, url) = file_feed(1);
    let mut body = source("Outlet", &[&url]);
    body["paused"] = true.into();
    create(&hub, body).await;
    assert_eq!(ingest(&hub, "sources/outlet").await[0]["newCount"], 1);
}

#[tokio::test]
async fn a_retired_source_leaves_its_articles_and_numbers() {
    let hub = Hub::seeded().await;
    let before = all(&hub, "/api/v1/articles?source=fanal-des-alpes", "articles", 100).await;
    let tone = hub.get("/api/v1/keywords/energy/sentiment").await.ok();
    hub.admin("DELETE", "/api/v1/sources/fanal-des-alpes", Value::Null).await.ok();
    assert_eq!(all(&hub, "/api/v1/articles?source=fanal-des-alpes", "articles", 100).await, before);
    assert_eq!(hub.get("/api/v1/keywords/energy/sentiment").await.ok(), tone);
    let name = before[0]["name"].as_str().unwrap();
    assert_eq!(hub.get(&format!("/api/v1/{name}")).await.ok()["sourceDisplayName"], "Le Fanal des Alpes");
    let completions = hub.get("/api/v1/search:autocomplete?query=fanal").await.ok();
    assert!(!completions.to_string().contains("sources/fanal-des-alpes"), "listed no more");

    let body = source("Le Fanal", &["https://fanal.example/new.xml"]);
    let back = hub.admin("POST", "/api/v1/sources?sourceId=fanal-des-alpes", body).await.ok();
    assert_eq!(back["articleCount"], before.len(), "its articles are still its own");
}

/// A source's country is a property of the source: filters, articles and tones must not disagree about it.
#[tokio::test]
async fn a_changed_country_holds_for_every_article() {
    let hub = Hub::seeded().await;
    let count = all(&hub, "/api/v1/articles?source=fanal-des-alpes", "articles", 100).await.len();
    let path = "/api/v1/sources/fanal-des-alpes?updateMask=country";
    hub.admin("PATCH", path, json!({"country": "CH"})).await.ok();
    let articles = all(&hub, "/api/v1/articles?country=CH", "articles", 100).await;
    assert_eq!(articles.len(), count);
    assert!(articles.iter().all(|article| article["country"] == "CH"));
    assert_eq!(all(&hub, "/api/v1/articles?country=FR", "articles", 100).await.len(), 0);
    let tone = hub.get("/api/v1/keywords/energy/sentiment").await.ok();
    let countries = tone["countries"].as_array().unwrap();
    assert!(countries.iter().any(|row| row["country"] == "CH"), "{countries:?}");
}

#[tokio::test]
async fn markup_and_entities_of_a_feed_become_plain_text() {
    let hub = Hub::empty().await;
    let (answer, url) = http_feed(200, String::new()).await;
    *answer.lock().unwrap() = (
        200,
        "<rss version=\"2.0\"><channel><title>t</title><item><title>Profit &amp;lt;script&amp;gt;alert(1)&amp;lt;/script&amp;gt; '; DROP TABLE articles; --</title>
         <guid>x</guid><link>https://outlet.example/x</link>
         <description>&lt;p&gt;Read &lt;b&gt;this&lt;/b&gt;&lt;script&gt;alert(2)&lt;/script&gt; now &amp;amp; then.&lt;/p&gt;</description></item></channel></rss>"
            .into(),
    );
    create(&hub, source("Outlet", &[&url])).await;
    assert_eq!(ingest(&hub, "sources/outlet").await[0]["newCount"], 1);
    let answer = hub.get("/api/v1/articles?source=outlet").await;
    let article = &answer.ok()["articles"][0];
    let title = article["title"].as_str().unwrap();
    assert!(title.starts_with("Profit") && title.ends_with("'; DROP TABLE articles; --"), "{title}");
    let body = article["body"].as_str().unwrap();
    assert!(!body.contains("alert(2)") && !body.contains("<p>") && body.contains("now & then."), "{body}");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}
