//! `/sources:preview`, `:exportOpml`, `:importOpml` and the health of sources.

use std::net::SocketAddr;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use euhub::ingest::fetch::{FetchPolicy, Fetcher};
use euhub::proto::google::api::HttpBody;
use euhub::proto::source_service_client::SourceServiceClient;
use euhub::proto::{
    ExportOpmlRequest, FeedFormat, GetSourceHealthRequest, ImportOpmlRequest, ListSourceHealthRequest,
    PreviewSourceRequest, SourceState,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::metadata::MetadataValue;

use crate::hub::{Answer, Hub, send};
use crate::paging::all;
use crate::program::rss;

const PREVIEW: &str = "/api/v1/sources:preview";

async fn preview(hub: &Hub, url: &str) -> Value {
    hub.admin("POST", PREVIEW, json!({ "url": url })).await.ok()
}

async fn import(hub: &Hub, query: &str, opml: impl Into<reqwest::Body>) -> Answer {
    let path = format!("/api/v1/sources:importOpml?{query}");
    send(hub.request("POST", &path).bearer_auth(&hub.admin_key).body(opml)).await
}

async fn export(hub: &Hub) -> Answer {
    hub.admin("GET", "/api/v1/sources:exportOpml", Value::Null).await
}

fn with_key<T>(hub: &Hub, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let key: MetadataValue<_> = format!("Bearer {}", hub.admin_key).parse().unwrap();
    request.metadata_mut().insert("authorization", key);
    request
}

/// Ten a day, as far as the hours around the test's second allow.
fn is_ten(expected: Option<f64>) -> bool {
    expected.is_some_and(|expected| (expected - 10.0).abs() < 0.001)
}

/// What a preview or a validation must not change.
async fn stored(db: &PgPool) -> Value {
    sqlx::query_scalar(
        "SELECT jsonb_build_object('articles', (SELECT count(*) FROM articles), 'runs', (SELECT count(*) FROM runs),
             'sources', (SELECT jsonb_agg(to_jsonb(s) ORDER BY id) FROM sources s),
             'feeds', (SELECT jsonb_agg(to_jsonb(f) ORDER BY id) FROM feeds f),
             'jobs', (SELECT count(*) FROM graphile_worker.jobs))",
    )
    .fetch_one(db)
    .await
    .unwrap()
}

async fn audited(db: &PgPool, action: &str) -> Vec<String> {
    sqlx::query_scalar("SELECT resource FROM audit_log WHERE action = $1 ORDER BY id")
        .bind(action)
        .fetch_all(db)
        .await
        .unwrap()
}

const ATOM: &str = r#"<feed xmlns="http://www.w3.org/2005/Atom"><title>Ein Blatt</title><entry><id>1</id><title>Die Regierung hat gestern
    neue Regeln beschlossen</title><link href="/a"/><updated>2026-05-01T08:00:00Z</updated></entry><entry><title>Ohne Kennung</title></entry></feed>"#;
const RDF: &str = r#"<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"><channel><title>R</title></channel>
    <item rdf:about="https://r.example/1"><title>One</title><link>https://r.example/1</link></item></rdf:RDF>"#;
const JSON_FEED: &str = r#"{"version": "https://jsonfeed.org/version/1.1", "title": "J", "items": [{"id": "1", "url": "https://j.example/1", "title": "One"}, 7]}"#;

async fn outlet() -> SocketAddr {
    let app = axum::Router::new()
        .route("/rss", get(|| async { rss("outlet", 1..13) }))
        .route("/more", get(|| async { rss("outlet", 11..15) }))
        .route("/atom", get(|| async { ATOM }))
        .route("/rdf", get(|| async { RDF }))
        .route("/json", get(|| async { JSON_FEED }))
        .route("/moved", get(|| async { Redirect::permanent("/rss") }))
        .route("/circle", get(|| async { Redirect::temporary("/circle") }))
        .route("/page", get(|| async { "<html><body>Hello</body></html>" }))
        .route("/gone", get(|| async { StatusCode::NOT_FOUND.into_response() }))
        .route("/huge", get(|| async { "x".repeat(10 * 1024 * 1024 + 1) }))
        .route(
            "/bomb",
            get(|| async { "<!DOCTYPE rss [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><rss><channel><title>&b;</title></channel></rss>" }),
        )
        .route("/deep", get(|| async { format!("<rss>{}", "<a>".repeat(200)) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn a_preview_shows_what_a_feed_would_bring_and_stores_nothing() {
    let hub = Hub::empty().await;
    let outlet = outlet().await;
    let before = stored(&hub.db).await;
    let shown = preview(&hub, &format!("http://{outlet}/moved")).await;
    assert_eq!((&shown["format"], &shown["title"]), (&json!("FEED_FORMAT_RSS"), &json!("outlet")), "{shown}");
    assert_eq!(
        (&shown["httpStatus"], &shown["finalUrl"]),
        (&json!(200), &json!(format!("http://{outlet}/rss")))
    );
    let counts = |shown: &Value| {
        ["fetchedCount", "newCount", "duplicateCount", "failedCount"]
            .map(|name| shown[name].as_i64().unwrap())
    };
    assert_eq!(counts(&shown), [12, 12, 0, 0]);
    assert_eq!(
        (&shown["error"], &shown["errorClass"], &shown["source"]),
        (&json!(""), &json!(""), &json!(""))
    );
    let entries = shown["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 10, "the first ten");
    assert!(
        entries.iter().all(|entry| entry["wouldBeStored"] == true && entry["language"] == "en"),
        "{entries:?}"
    );
    assert!(entries[0]["url"].as_str().unwrap().starts_with("http") && entries[0]["publishTime"].is_string());

    let atom = preview(&hub, &format!("http://{outlet}/atom")).await;
    assert_eq!(
        (&atom["format"], &atom["entries"][0]["language"]),
        (&json!("FEED_FORMAT_ATOM"), &json!("de")),
        "{atom}"
    );
    assert_eq!(counts(&atom), [2, 1, 0, 1]);
    assert_eq!(atom["entries"][0]["publishTime"], "2026-05-01T08:00:00Z");
    assert_eq!(atom["skippedEntries"], json!([{"position": 2, "reason": "neither URL nor identifier"}]));
    assert_eq!(atom["errorClass"], "entry");
    assert_eq!(preview(&hub, &format!("http://{outlet}/rdf")).await["format"], "FEED_FORMAT_RDF");
    let json_feed = preview(&hub, &format!("http://{outlet}/json")).await;
    assert_eq!((&json_feed["format"], counts(&json_feed)), (&json!("FEED_FORMAT_JSON"), [2, 1, 0, 1]));
    assert_eq!(stored(&hub.db).await, before);
    let urls = audited(&hub.db, "sources.preview").await;
    assert_eq!(urls, ["moved", "atom", "rdf", "json"].map(|path| format!("http://{outlet}/{path}")));
}

#[tokio::test]
async fn a_preview_tells_new_entries_from_stored_ones() {
    let hub = Hub::empty().await;
    let outlet = outlet().await;
    let url = format!("http://{outlet}/rss");
    let body = json!({"displayName": "Outlet", "country": "IE", "feeds": [{"url": url}]});
    hub.admin("POST", "/api/v1/sources", body).await.ok();
    hub.admin("POST", "/api/v1/sources/outlet:ingest", json!({})).await.ok();
    let before = stored(&hub.db).await;

    let shown = preview(&hub, &format!("http://{outlet}/more")).await;
    assert_eq!(
        (&shown["newCount"], &shown["duplicateCount"], &shown["source"]),
        (&json!(2), &json!(2), &json!("")),
        "{shown}"
    );
    let entries = shown["entries"].as_array().unwrap();
    for (entry, new) in entries.iter().zip([false, false, true, true]) {
        assert_eq!(entry["wouldBeStored"], new, "{entry}");
        let duplicate = entry["duplicateOf"].as_str().unwrap();
        assert_eq!(duplicate.is_empty(), new, "{entry}");
        if !new {
            let article = hub.get(&format!("/api/v1/{duplicate}")).await.ok();
            assert_eq!(article["title"], entry["title"]);
        }
    }
    let again = preview(&hub, &url).await;
    assert_eq!(
        (&again["newCount"], &again["duplicateCount"], &again["source"]),
        (&json!(0), &json!(12), &json!("sources/outlet"))
    );
    assert_eq!(stored(&hub.db).await, before);
}

#[tokio::test]
async fn what_cannot_be_previewed_says_why() {
    let hub = Hub::empty().await;
    let outlet = outlet().await;
    let before = stored(&hub.db).await;
    for (path, class, status) in [
        ("gone", "http_status_404", 404),
        ("page", "not_a_feed", 200),
        ("huge", "too_large", 0),
        ("circle", "redirect_loop", 0),
        ("bomb", "entity_declaration", 200),
        ("deep", "too_deep", 200),
    ] {
        let shown = preview(&hub, &format!("http://{outlet}/{path}")).await;
        assert_eq!((&shown["errorClass"], &shown["httpStatus"]), (&json!(class), &json!(status)), "{shown}");
        assert!(!shown["error"].as_str().unwrap().is_empty());
        assert_eq!((&shown["format"], &shown["entries"]), (&json!("FEED_FORMAT_UNSPECIFIED"), &json!([])));
    }
    for url in ["", "gopher://a.example/", "https://", "https://user:secret@a.example/"] {
        let answer = hub.admin("POST", PREVIEW, json!({ "url": url })).await;
        assert_eq!(answer.violation(), "url", "{url}");
        assert!(!answer.text.contains("secret"), "{}", answer.text);
    }
    let without_key = hub.request("POST", PREVIEW).header("content-type", "application/json").body("{}");
    assert_eq!(send(without_key).await.status, 401);
    assert_eq!(stored(&hub.db).await, before);
}

#[tokio::test]
async fn a_preview_never_reaches_a_private_address() {
    let hub = Hub::empty().await;
    let outlet = outlet().await;
    let ingest = euhub::ingest::Ingest {
        fetcher: Fetcher::new(FetchPolicy::default()).unwrap(),
        ..hub.ingest.clone()
    };
    for url in [
        format!("http://{outlet}/rss"),
        format!("http://localhost:{}/rss", outlet.port()),
        "http://169.254.169.254/latest".into(),
        "http://[::1]/".into(),
        "http://10.0.0.1/".into(),
    ] {
        let shown = ingest.preview(&url, "").await.unwrap();
        assert_eq!(shown.error_class, "private_address", "{url}");
        assert!(shown.entries.is_empty() && !shown.error.contains("10.0.0.1"), "{shown:?}");
    }
    assert_eq!(ingest.preview("file:///etc/passwd", "").await.unwrap().error_class, "invalid_url");
}

#[tokio::test]
async fn an_export_makes_the_same_sources_elsewhere() {
    let (hub, other) = (Hub::seeded().await, Hub::empty().await);
    let body = json!({"displayName": "A  \"quoted\" <name> & co", "country": "IE", "paused": true, "homepageUrl": "https://q.example/?a=1&b=2",
        "feeds": [{"url": "https://q.example/?x='1'&y=2", "language": "ga", "section": "a & b"}, {"url": "https://q.example/2"}]});
    hub.admin("POST", "/api/v1/sources?sourceId=odd", body).await.ok();
    let exported = export(&hub).await;
    assert_eq!(
        (exported.status, exported.headers["content-type"].to_str().unwrap()),
        (200, "text/x-opml; charset=utf-8")
    );

    let validated = import(&other, "validateOnly=true", exported.text.clone()).await.ok();
    assert_eq!(validated["sources"].as_array().unwrap().len(), 19, "{validated}");
    assert_eq!(all(&other, "/api/v1/sources", "sources", 100).await.len(), 0, "nothing is kept");
    let imported = import(&other, "", exported.text.clone()).await.ok();
    assert_eq!((&imported["skipped"], &imported["failed"]), (&json!([]), &json!([])));
    assert_eq!(export(&other).await.text, exported.text);
    let settings = |sources: Vec<Value>| -> Vec<Value> {
        let feeds = |source: &Value| -> Vec<Value> {
            source["feeds"]
                .as_array()
                .unwrap()
                .iter()
                .map(|feed| json!([feed["url"], feed["language"], feed["section"]]))
                .collect()
        };
        let setting = |source: &Value| {
            json!([
                source["name"],
                source["displayName"],
                source["homepageUrl"],
                source["country"],
                source["paused"],
                feeds(source)
            ])
        };
        sources.iter().map(setting).collect()
    };
    let there = settings(all(&other, "/api/v1/sources", "sources", 100).await);
    assert_eq!(there, settings(all(&hub, "/api/v1/sources", "sources", 100).await));
    assert_eq!(audited(&other.db, "sources.create").await.len(), 19);
    assert_eq!(audited(&other.db, "sources.importOpml").await, [""]);
    assert_eq!(audited(&other.db, "sources.validateOpml").await, [""]);
    assert_eq!(audited(&hub.db, "SourceService/ExportOpml").await.len(), 1);

    let again = import(&other, "", exported.text).await.ok();
    assert_eq!(again["sources"], json!([]));
    let skipped = again["skipped"].as_array().unwrap();
    assert!(
        skipped
            .iter()
            .any(|feed| feed["url"] == "https://q.example/2" && feed["reason"] == "is a feed of sources/odd"),
        "{skipped:?}"
    );
}

#[tokio::test]
async fn an_import_takes_what_is_right_and_names_the_rest() {
    let hub = Hub::empty().await;
    let body =
        json!({"displayName": "Taken", "country": "IE", "feeds": [{"url": "https://taken.example/1"}]});
    hub.admin("POST", "/api/v1/sources", body).await.ok();
    let opml = r#"<?xml version="1.0"?><opml version="1.0"><head/><body><outline text="News">
        <outline text="Alpha" type="rss" xmlUrl="https://feeds.alpha.example/1" htmlUrl="https://www.alpha.example/" language="de-DE"/>
        <outline text="Folder" euhub:country="at"><outline text="Beta" xmlUrl="https://beta.example/1"/></outline>
        <outline text="Known" xmlUrl="https://taken.example/1"/>
        <outline text="Taken" xmlUrl="https://other.example/1"/>
        <outline text="Twice" xmlUrl="https://beta.example/1"/>
        <outline text="Secret" xmlUrl="https://u:p@secret.example/"/>
        <outline text="Gopher" xmlUrl="gopher://gopher.example/"/>
        <outline text="Nothing"/></outline>
        <outline text="Alpha 2" xmlUrl="https://feeds.alpha.example/2" htmlUrl="https://alpha.example/x"/></body></opml>"#;
    let answer = import(&hub, "country=de", opml).await.ok();
    let names: Vec<&str> =
        answer["sources"].as_array().unwrap().iter().map(|source| source["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["sources/alpha", "sources/beta"], "{answer}");
    let alpha = &answer["sources"][0];
    assert_eq!(
        (&alpha["country"], &alpha["homepageUrl"]),
        (&json!("DE"), &json!("https://www.alpha.example/"))
    );
    assert_eq!(
        (&alpha["feeds"][0]["language"], &alpha["feeds"][0]["section"]),
        (&json!("de"), &json!("News"))
    );
    assert_eq!(
        (&alpha["feeds"][1]["url"], &alpha["feeds"][1]["section"]),
        (&json!("https://feeds.alpha.example/2"), &json!(""))
    );
    assert_eq!(answer["sources"][1]["country"], "AT");
    assert_eq!(
        answer["skipped"],
        json!([{"title": "Known", "url": "https://taken.example/1", "reason": "is a feed of sources/taken"}])
    );
    let mut failed: Vec<&str> =
        answer["failed"].as_array().unwrap().iter().map(|left| left["title"].as_str().unwrap()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["Gopher", "Nothing", "Secret", "Taken", "Twice"]);
    assert!(
        answer["failed"].as_array().unwrap().iter().all(|left| !left["reason"].as_str().unwrap().is_empty())
    );
    assert_eq!(
        hub.admin("GET", "/api/v1/sources/beta", Value::Null).await.ok()["feeds"][0]["section"],
        "Folder"
    );

    let homeless = r#"<opml><body><outline text="Gamma" xmlUrl="https://gamma.example/1"/></body></opml>"#;
    let answer = import(&hub, "", homeless).await.ok();
    assert!(answer["failed"][0]["reason"].as_str().unwrap().contains("no country"), "{answer}");
}

#[tokio::test]
async fn documents_that_are_no_opml_are_refused_whole() {
    let hub = Hub::empty().await;
    let before = stored(&hub.db).await;
    let bomb = r#"<!DOCTYPE opml [<!ENTITY a "https://a.example/"><!ENTITY b "&a;&a;&a;">]><opml><body><outline text="&b;" xmlUrl="&a;"/></body></opml>"#;
    let good = r#"<outline text="A" xmlUrl="https://a.example/"/>"#;
    for opml in [
        String::new(),
        "no markup".into(),
        "<rss/>".into(),
        format!("<opml><body>{good}"),
        format!("<opml><body>{good}</outline></body></opml>"),
        bomb.into(),
        format!("<opml><body>{}", "<outline text='x'>".repeat(10_000)),
        format!("<opml><body>{}</body></opml>", good.repeat(1001)),
        format!("<opml><body>{good}</body></opml>{}", " ".repeat(1024 * 1024)),
    ] {
        let answer = import(&hub, "country=DE", opml.clone()).await;
        assert_eq!(answer.violation(), "content", "{}: {}", &opml[..opml.len().min(60)], answer.text);
    }
    assert_eq!(import(&hub, "country=D", "<opml/>").await.violation(), "country");
    assert_eq!(stored(&hub.db).await, before);
    let path = "/api/v1/sources:importOpml?country=DE";
    assert_eq!(send(hub.request("POST", path).body("<opml/>")).await.status, 401);
    let undefined = r#"<opml><body><outline text="A &nbsp; &lt;b&gt;" xmlUrl="https://a.example/?a=1&amp;b=2"/></body></opml>"#;
    let answer = import(&hub, "country=DE", undefined).await.ok();
    assert_eq!(answer["sources"][0]["feeds"][0]["url"], "https://a.example/?a=1&b=2", "{answer}");
}

/// A source of 30 days with 10 articles and a successful run on each, the last `silent` hours aside.
async fn history(db: &PgPool, slug: &str, silent: i32) {
    sqlx::query(
        "WITH s AS (INSERT INTO sources (slug, display_name, country, create_time, update_time)
                    VALUES ($1, $1, 'IE', now() - interval '60 days', now()) RETURNING id),
             f AS (INSERT INTO feeds (source_id, position, url, next_fetch_time, last_success_time)
                   SELECT id, 0, 'https://' || $1 || '.example/', now(), now() FROM s),
             r AS (INSERT INTO runs (source_id, feed_url, start_time, end_time, outcome)
                   SELECT id, 'https://' || $1 || '.example/', t, t, 1 FROM s, generate_series(now() - interval '50 days', now(), '1 day') t)
         INSERT INTO articles (source_id, country, guid, url, canonical_url, content_hash, title, body, language, language_confidence,
             publish_time, create_time, near_duplicate_bands)
         SELECT s.id, 'IE', t::text, '', $1 || t::text, sha256((t::text)::bytea), 't', 'b', 'en', 1, t, t, '{}'
         FROM s, generate_series(now() - interval '50 days', now() - make_interval(hours => $2), '144 minutes') t",
    )
    .bind(slug)
    .bind(silent)
    .execute(db)
    .await
    .unwrap();
}

#[tokio::test]
async fn silent_and_failing_sources_are_flagged_first() {
    let hub = Hub::empty().await;
    for (slug, silent) in
        [("well", 0), ("silent", 48), ("long-silent", 15 * 24), ("failing", 0), ("paused", 0)]
    {
        history(&hub.db, slug, silent).await;
    }
    hub.admin("PATCH", "/api/v1/sources/paused?updateMask=paused", json!({"paused": true})).await.ok();
    sqlx::query("UPDATE feeds SET consecutive_failures = 4 WHERE url = 'https://failing.example/'")
        .execute(&hub.db)
        .await
        .unwrap();
    let body = json!({"displayName": "Fresh", "country": "IE", "feeds": [{"url": "https://fresh.example/"}]});
    hub.admin("POST", "/api/v1/sources", body).await.ok();

    let list = all(&hub, "/api/v1/sources:health", "sourceHealth", 2).await;
    let states: Vec<(&str, &str)> = list
        .iter()
        .map(|health| (health["name"].as_str().unwrap(), health["state"].as_str().unwrap()))
        .collect();
    let expected = [
        ("sources/failing/health", "SOURCE_STATE_FAILING"),
        ("sources/long-silent/health", "SOURCE_STATE_SILENT"),
        ("sources/silent/health", "SOURCE_STATE_SILENT"),
        ("sources/fresh/health", "SOURCE_STATE_NEW"),
        ("sources/well/health", "SOURCE_STATE_HEALTHY"),
        ("sources/paused/health", "SOURCE_STATE_PAUSED"),
    ];
    assert_eq!(states, expected, "{list:?}");
    assert_eq!(all(&hub, "/api/v1/sources:health", "sourceHealth", 100).await.len(), 6);

    let well = hub.admin("GET", "/api/v1/sources/well/health", Value::Null).await.ok();
    assert!(well["observedDayCount"] == 28 && is_ten(well["expectedCount"].as_f64()), "{well}");
    assert!((10..=11).contains(&well["receivedCount"].as_i64().unwrap()), "{well}");
    assert!(well["lastArticleTime"].is_string() && well["lastSuccessTime"].is_string());
    assert_eq!(list[0]["consecutiveFailures"], 4);
    let silent = &list[2];
    assert!(silent["receivedCount"] == 0 && is_ten(silent["expectedCount"].as_f64()), "{silent}");
    assert!(silent["reason"].as_str().unwrap().contains("expected"), "{silent}");
    let fresh = hub.admin("GET", "/api/v1/sources/fresh/health", Value::Null).await.ok();
    assert!(
        fresh.get("expectedCount").is_none_or(Value::is_null) && fresh["observedDayCount"] == 0,
        "{fresh}"
    );
    for path in ["/api/v1/sources/nosuch/health", "/api/v1/sources/A/health"] {
        assert_eq!(hub.admin("GET", path, Value::Null).await.status, 404, "{path}");
    }
    for path in ["/api/v1/sources/well/health", "/api/v1/sources:health", "/api/v1/sources:exportOpml"] {
        assert_eq!(hub.get(path).await.status, 401, "{path}");
    }

    let mut client = SourceServiceClient::new(hub.channel().await);
    let request = with_key(&hub, GetSourceHealthRequest { name: "sources/silent/health".into() });
    let health = client.get_source_health(request).await.unwrap().into_inner();
    assert_eq!(health.state(), SourceState::Silent);
    assert!(is_ten(health.expected_count), "{health:?}");
    let bare = with_key(&hub, GetSourceHealthRequest { name: "sources/silent".into() });
    assert_eq!(client.get_source_health(bare).await.unwrap_err().code(), Code::NotFound);
    let request = with_key(&hub, ListSourceHealthRequest { page_size: 3, ..Default::default() });
    let page = client.list_source_health(request).await.unwrap().into_inner();
    assert_eq!((page.source_health.len(), page.next_page_token.is_empty()), (3, false));
}

#[tokio::test]
async fn the_same_holds_over_grpc() {
    let hub = Hub::empty().await;
    let outlet = outlet().await;
    let mut client = SourceServiceClient::new(hub.channel().await);
    let url = format!("http://{outlet}/rss");
    let request = PreviewSourceRequest { url: url.clone(), language: "en".into() };
    let shown = client.preview_source(with_key(&hub, request.clone())).await.unwrap().into_inner();
    assert_eq!((shown.format(), shown.new_count, shown.entries.len()), (FeedFormat::Rss, 12, 10));
    assert_eq!(client.preview_source(request).await.unwrap_err().code(), Code::Unauthenticated);
    let gone = PreviewSourceRequest { url: format!("http://{outlet}/gone"), ..Default::default() };
    let shown = client.preview_source(with_key(&hub, gone)).await.unwrap().into_inner();
    assert_eq!((shown.error_class.as_str(), shown.http_status), ("http_status_404", 404));

    let opml = format!(r#"<opml><body><outline text="Outlet" xmlUrl="{url}"/></body></opml>"#);
    let content = |data: &str| Some(HttpBody { data: data.to_owned().into(), ..HttpBody::default() });
    let request = ImportOpmlRequest { content: content(&opml), country: "IE".into(), validate_only: false };
    let imported = client.import_opml(with_key(&hub, request)).await.unwrap().into_inner();
    assert_eq!(imported.sources[0].name, "sources/outlet");
    let broken = ImportOpmlRequest { content: content("<opml>"), ..Default::default() };
    assert_eq!(client.import_opml(with_key(&hub, broken)).await.unwrap_err().code(), Code::InvalidArgument);
    let exported = client.export_opml(with_key(&hub, ExportOpmlRequest {})).await.unwrap().into_inner();
    assert_eq!(exported.data, export(&hub).await.text.into_bytes());
}
