//! Server streams, deadlines and limits: watching and exporting articles over gRPC, NDJSON and server-sent events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use euhub::proto::article_service_client::ArticleServiceClient;
use euhub::proto::sentiment_service_client::SentimentServiceClient;
use euhub::proto::{
    AnalyzeTextRequest, ExportArticlesRequest, ExportFormat, WatchArticlesRequest, WatchArticlesResponse,
};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::hub::{Hub, send};
use crate::program::{FeedServer, PATIENCE, add_source, client, rss, wait_for};

/// A Hub with one source whose feed holds as many articles as `size` says.
struct Growing {
    hub: Hub,
    feed: i64,
    size: Arc<AtomicU64>,
    _feeds: FeedServer,
}

impl Growing {
    async fn new() -> Self {
        let hub = Hub::empty().await;
        let size = Arc::new(AtomicU64::new(0));
        let feeds = FeedServer::start({
            let size = Arc::clone(&size);
            move |_| {
                let size = size.load(Ordering::SeqCst);
                async move { rss("paper", 0..size) }
            }
        })
        .await;
        let feed = add_source(&hub.db, "paper", true, &[feeds.url("/feed")]).await[0];
        Self { hub, feed, size, _feeds: feeds }
    }

    /// Stores `n` more articles, without their analysis; their numbers.
    async fn store(&self, n: u64) -> Vec<i64> {
        self.size.fetch_add(n, Ordering::SeqCst);
        let run = self.hub.ingest.run_feed(self.feed).await.unwrap();
        assert_eq!(u64::try_from(run.new).unwrap(), n, "{run:?}");
        sqlx::query_scalar("SELECT id FROM articles WHERE analyze_time IS NULL ORDER BY id")
            .fetch_all(&self.hub.db)
            .await
            .unwrap()
    }

    /// Stores and analyses `n` more articles; their names.
    async fn publish(&self, n: u64) -> BTreeSet<String> {
        let ids = self.store(n).await;
        // The model has no part in this, and takes its time.
        euhub::ingest::Ingest { embedder: None, ..self.hub.ingest.clone() }.analyze(&ids).await.unwrap();
        names(&ids)
    }

    async fn watch(&self, request: WatchArticlesRequest) -> Streaming<WatchArticlesResponse> {
        let mut client = ArticleServiceClient::new(self.hub.channel().await);
        client.watch_articles(request).await.unwrap().into_inner()
    }
}

fn names(ids: &[i64]) -> BTreeSet<String> {
    ids.iter().map(|id| format!("articles/{id}")).collect()
}

fn after(token: &str) -> WatchArticlesRequest {
    WatchArticlesRequest { resume_token: token.into(), ..WatchArticlesRequest::default() }
}

/// The next `n` articles of a watch, with their tokens.
async fn take(stream: &mut Streaming<WatchArticlesResponse>, n: usize) -> Vec<(String, String)> {
    let mut taken = Vec::new();
    while taken.len() < n {
        let next = timeout(PATIENCE, stream.message()).await.expect("a message").unwrap().expect("no end");
        taken.push((next.article.unwrap().name, next.resume_token));
    }
    taken
}

fn names_of(taken: &[(String, String)]) -> BTreeSet<String> {
    let names: BTreeSet<String> = taken.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names.len(), taken.len(), "no article twice");
    names
}

/// The lines of a streamed body, as they come.
struct Lines {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Lines {
    async fn open(request: reqwest::RequestBuilder, media: &str) -> Self {
        let response = request.header("accept", media).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], media);
        Self { response, buffer: Vec::new() }
    }

    /// The next line; none at the end of the body.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.drain(..=end).collect::<Vec<u8>>();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("a chunk").unwrap();
            self.buffer.extend(chunk?);
        }
    }

    /// The next server-sent event: its type (empty for a message), id and data.
    async fn event(&mut self) -> Option<(String, String, Value)> {
        let (mut event, mut id, mut data) = (String::new(), String::new(), None);
        loop {
            let line = self.next().await?;
            match line.split_once(": ") {
                Some(("event", value)) => event = value.to_owned(),
                Some(("id", value)) => id = value.to_owned(),
                Some(("data", value)) => data = Some(serde_json::from_str(value).unwrap()),
                _ if line.is_empty() && data.is_some() => return data.map(|data| (event, id, data)),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_watch_over_grpc_brings_new_articles_and_resumes() {
    let growing = Growing::new().await;
    growing.publish(3).await;
    let mut watch = growing.watch(WatchArticlesRequest::default()).await;
    let published = growing.publish(7).await;
    let taken = take(&mut watch, 7).await;
    assert_eq!(names_of(&taken), published, "what was there before is not new");

    // Whatever the place it breaks at, the rest follows, and what comes later.
    let later = growing.publish(4).await;
    let all: Vec<String> = taken.iter().map(|(name, _)| name.clone()).chain(later).collect();
    for (place, (_, token)) in taken.iter().enumerate() {
        let rest = take(&mut growing.watch(after(token)).await, all.len() - place - 1).await;
        assert_eq!(names_of(&rest), all[place + 1..].iter().cloned().collect(), "after {place}");
    }
}

#[tokio::test]
async fn a_watch_broken_again_and_again_loses_and_doubles_nothing_while_many_analyse() {
    const ARTICLES: u64 = 240;
    let growing = Growing::new().await;
    let mut watch = growing.watch(WatchArticlesRequest::default()).await;
    let ids = growing.store(ARTICLES).await;
    let ingest = euhub::ingest::Ingest { embedder: None, ..growing.hub.ingest.clone() };
    let analyses: Vec<_> = (0..6)
        .map(|part| {
            let (ingest, ids) = (ingest.clone(), ids.clone());
            tokio::spawn(async move {
                // Each takes its share, in bites, and a neighbour's as well.
                for bite in ids.chunks(5).skip(part).step_by(3) {
                    ingest.analyze(bite).await.unwrap();
                }
            })
        })
        .collect();
    let mut taken = Vec::new();
    while taken.len() < ids.len() {
        let bite = take(&mut watch, 7.min(ids.len() - taken.len())).await;
        watch = growing.watch(after(&bite.last().unwrap().1)).await;
        taken.extend(bite);
    }
    for analysis in analyses {
        analysis.await.unwrap();
    }
    assert_eq!(names_of(&taken), names(&ids));
    let next = growing.publish(1).await;
    assert_eq!(names_of(&take(&mut watch, 1).await), next, "nothing came twice before the next");
}

#[tokio::test]
async fn a_watch_brings_only_what_its_filter_asks_for() {
    let growing = Growing::new().await;
    let hub = &growing.hub;
    let keyword = json!({"displayName": "Rail", "terms": [{"language": "en", "term": "railway"}]});
    hub.admin("POST", "/api/v1/keywords?keyword_id=rail", keyword).await.ok();
    let filter = WatchArticlesRequest { keyword: "rail".into(), ..WatchArticlesRequest::default() };
    let mut rail = growing.watch(filter).await;
    let filter = WatchArticlesRequest { country: vec!["FR".into()], ..WatchArticlesRequest::default() };
    let mut french = growing.watch(filter).await;
    growing.publish(40).await;
    let linked = hub.get("/api/v1/keywords/rail/articles?page_size=100").await.ok();
    let linked: BTreeSet<String> = linked["articles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|linked| linked["article"]["name"].as_str().or(linked["name"].as_str()).unwrap().to_owned())
        .collect();
    assert!(!linked.is_empty() && linked.len() < 40, "{}", linked.len());
    assert_eq!(names_of(&take(&mut rail, linked.len()).await), linked);
    let nothing = timeout(Duration::from_millis(300), french.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn a_watch_over_rest_is_lines_or_events_and_resumes() {
    let growing = Growing::new().await;
    let request = |query: &str| growing.hub.request("GET", &format!("/api/v1/articles:watch{query}"));
    let mut lines = Lines::open(request(""), "application/x-ndjson").await;
    let mut events = Lines::open(request(""), "text/event-stream").await;
    let published = growing.publish(5).await;
    let mut tokens = Vec::new();
    for _ in 0..5 {
        let line: Value = serde_json::from_str(&lines.next().await.unwrap()).unwrap();
        let (event, id, data) = events.event().await.unwrap();
        assert_eq!((event.as_str(), &data), ("", &line), "the same in both forms");
        assert_eq!(id, line["resumeToken"]);
        tokens.push((line["article"]["name"].as_str().unwrap().to_owned(), id));
    }
    assert_eq!(names_of(&tokens), published);

    // A browser's EventSource sends the last id by itself; a program may put it in the query, which then wins.
    let (_, token) = &tokens[1];
    let resumed = [
        request("").header("last-event-id", token),
        request(&format!("?resume_token={token}")),
        request(&format!("?resumeToken={token}")).header("last-event-id", &tokens[4].1),
    ];
    for request in resumed {
        let mut events = Lines::open(request, "text/event-stream").await;
        for (name, token) in &tokens[2..] {
            let (_, id, data) = events.event().await.unwrap();
            assert_eq!((data["article"]["name"].as_str(), &id), (Some(name.as_str()), token));
        }
    }
}

#[tokio::test]
async fn a_foreign_resume_token_is_refused() {
    let growing = Growing::new().await;
    let hub = &growing.hub;
    let mut watch = growing.watch(WatchArticlesRequest::default()).await;
    growing.publish(1).await;
    let (_, token) = take(&mut watch, 1).await.remove(0);
    let list = hub.get("/api/v1/articles?page_size=1").await.ok();
    assert_eq!(list["nextPageToken"], "");

    let watch = |query: &str| hub.request("GET", &format!("/api/v1/articles:watch{query}"));
    for foreign in ["!", "AAAA", "not%20a%20token", &"A".repeat(500), &token[1..]] {
        assert_eq!(
            send(watch(&format!("?resume_token={foreign}"))).await.violation(),
            "resume_token",
            "{foreign}"
        );
    }
    let other_filter = watch(&format!("?resume_token={token}&country=FR"));
    assert_eq!(send(other_filter).await.violation(), "resume_token");
    assert_eq!(send(watch(&format!("?resume_token={}", "A".repeat(501)))).await.violation(), "resume_token");
    let by_header = watch("").header("accept", "text/event-stream").header("last-event-id", "!");
    assert_eq!(send(by_header).await.violation(), "resumeToken");
    let page_token = hub.get(&format!("/api/v1/articles?page_token={token}")).await;
    assert_eq!(page_token.violation(), "page_token", "nor does a watch's token open a list");

    let mut client = ArticleServiceClient::new(hub.channel().await);
    let status = client.watch_articles(after("!")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_watch_of_something_unknown_is_refused_before_it_begins() {
    let hub = Hub::empty().await;
    assert_eq!(hub.get("/api/v1/articles:watch?keyword=nothing").await.status, 404);
    assert_eq!(hub.get("/api/v1/articles:watch?source=nothing").await.status, 404);
    assert_eq!(hub.get("/api/v1/articles:watch?country=FRA").await.violation(), "country[0]");
    assert_eq!(hub.get("/api/v1/articles:watch?nothing=1").await.status, 400);
}

#[tokio::test]
async fn a_watch_over_rest_ends_at_the_callers_deadline_with_an_error() {
    let growing = Growing::new().await;
    let request = growing.hub.request("GET", "/api/v1/articles:watch").header("x-request-timeout", "0.4");
    let mut events = Lines::open(request, "text/event-stream").await;
    let (event, _, data) = events.event().await.expect("a last event");
    assert_eq!((event.as_str(), &data["error"]["status"]), ("error", &json!("DEADLINE_EXCEEDED")));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn an_export_is_the_archive_in_pieces() {
    let hub = Hub::seeded().await;
    let total = hub.get("/api/v1/articles?show_total=true").await.ok()["totalSize"].as_u64().unwrap();
    let mut client = ArticleServiceClient::new(hub.channel().await);
    let request = ExportArticlesRequest::default();
    let mut stream = client.export_articles(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    let mut types = BTreeSet::new();
    while let Some(piece) = stream.message().await.unwrap() {
        types.insert(piece.content_type);
        bytes.extend(piece.data);
    }
    assert_eq!(types.into_iter().collect::<Vec<_>>(), ["application/x-ndjson"]);
    let grpc = String::from_utf8(bytes).unwrap();
    assert_eq!(grpc.lines().count() as u64, total);

    let rest = hub.get("/api/v1/articles:export").await;
    assert_eq!((rest.status, &rest.text), (200, &grpc));
    assert_eq!(rest.headers["content-type"], "application/x-ndjson");
    let mut names = BTreeSet::new();
    let mut last = String::from("9999");
    for line in grpc.lines() {
        let article: Value = serde_json::from_str(line).unwrap();
        let name = article["name"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} stands twice");
        let time = article["publishTime"].as_str().unwrap().to_owned();
        assert!(time <= last, "newest first");
        last = time;
    }
    let name = names.first().unwrap();
    let one: Value = grpc
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|article| article["name"] == **name)
        .unwrap();
    assert_eq!(
        one,
        hub.get(&format!("/api/v1/{name}")).await.ok(),
        "as the article itself, with its full text"
    );
}

#[tokio::test]
async fn an_export_as_csv_reads_back() {
    let hub = Hub::seeded().await;
    let answer = hub.get("/api/v1/articles:export?format=EXPORT_FORMAT_CSV&language=fr").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/csv; charset=utf-8");
    let mut reader = csv::Reader::from_reader(answer.text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name).expect("the column");
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 12);
    for row in &rows {
        assert_eq!((&row[column("language")], &row[column("sentiment_score")]), ("fr", ""));
        assert!(!row[column("abstain_reason")].is_empty());
        let article = hub.get(&format!("/api/v1/{}", &row[column("name")])).await.ok();
        assert_eq!(
            (&article["title"], &article["body"]),
            (&json!(row[column("title")]), &json!(row[column("body")]))
        );
    }
    let nothing = hub.get("/api/v1/articles:export?format=EXPORT_FORMAT_CSV&country=FI").await;
    assert_eq!(nothing.text.lines().count(), 1, "the header stands even when nothing follows");
    let mut client = ArticleServiceClient::new(hub.channel().await);
    let request = ExportArticlesRequest {
        format: ExportFormat::Csv.into(),
        country: vec!["FI".into()],
        ..Default::default()
    };
    let first = client.export_articles(request).await.unwrap().into_inner().message().await.unwrap();
    assert_eq!(first.unwrap().data.as_ref(), nothing.text.as_bytes());
}

/// A Hub with a source whose feed answers only when it is let.
async fn slow() -> (Hub, FeedServer, Arc<Notify>) {
    let hub = Hub::empty().await;
    let release = Arc::new(Notify::new());
    let feeds = FeedServer::start({
        let release = Arc::clone(&release);
        move |_| {
            let release = Arc::clone(&release);
            async move {
                release.notified().await;
                rss("slow", 0..3)
            }
        }
    })
    .await;
    add_source(&hub.db, "slow", true, &[feeds.url("/slow")]).await;
    (hub, feeds, release)
}

#[tokio::test]
async fn a_call_ends_at_its_callers_deadline() {
    let (hub, feeds, release) = slow().await;
    let ingest = hub
        .request("POST", "/api/v1/sources/slow:ingest")
        .bearer_auth(&hub.admin_key)
        .header("content-type", "application/json")
        .header("x-request-timeout", "300ms")
        .body("{}");
    let answer = timeout(PATIENCE, send(ingest)).await.expect("long before the server's own 30 s");
    assert_eq!(answer.status, 504, "{}", answer.text);
    assert_eq!(answer.json()["error"]["status"], "DEADLINE_EXCEEDED");
    assert_eq!(feeds.hits().len(), 1);

    // The bare protocol, so that it is the server that ends the call and no client library. The message is `name = "sources/slow"`.
    let message = b"\0\0\0\0\x0e\x0a\x0csources/slow";
    let call = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap()
        .post(format!("http://{}/euhub.v1.SourceService/IngestSource", hub.grpc))
        .bearer_auth(&hub.admin_key)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "300m")
        .body(message.to_vec());
    let answer = timeout(PATIENCE, send(call)).await.expect("long before the server's own 30 s");
    assert_eq!(answer.headers["grpc-status"], "4", "{answer:?}");
    release.notify_waiters();
}

#[tokio::test]
async fn a_run_whose_caller_has_left_ends_all_the_same() {
    let (hub, _feeds, release) = slow().await;
    let ingest = hub
        .request("POST", "/api/v1/sources/slow:ingest")
        .bearer_auth(&hub.admin_key)
        .header("content-type", "application/json")
        .header("x-request-timeout", "300ms")
        .body("{}");
    assert_eq!(send(ingest).await.status, 504);
    for _ in 0..10 {
        release.notify_one();
    }
    wait_for("the end of the run", async || {
        let runs = hub.admin("GET", "/api/v1/sources/slow/runs", Value::Null).await.ok();
        let run = &runs["runs"][0];
        assert!(run.is_object(), "every run leaves a row: {runs}");
        run["endTime"].is_string() && run["outcome"] != "RUN_OUTCOME_UNSPECIFIED"
    })
    .await;
}

#[tokio::test]
async fn a_deadline_that_is_none_is_a_400() {
    let hub = Hub::empty().await;
    for timeout in ["0", "-1", "soon", "1x", ""] {
        let answer = send(hub.request("GET", "/api/v1/keywords").header("x-request-timeout", timeout)).await;
        assert_eq!(answer.violation(), "X-Request-Timeout", "{timeout:?}");
    }
    let long = send(hub.request("GET", "/api/v1/keywords").header("x-request-timeout", "1h")).await;
    assert_eq!(long.status, 200, "longer than the server's own is that one");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    const REST: usize = 1 << 20;
    const GRPC: usize = 2 << 20;
    let hub = Hub::empty().await;
    let post = |size: usize| {
        let mut body = json!({"text": "A good day."}).to_string();
        body.extend(std::iter::repeat_n(' ', size - body.len()));
        client()
            .post(format!("http://{}/api/v1/sentiment:analyze", hub.rest))
            .header("content-type", "application/json")
            .body(body)
    };
    assert_eq!(send(post(REST)).await.status, 200);
    let answer = send(post(REST + 1)).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert_eq!(answer.json()["error"]["code"], 413);

    let mut client = SentimentServiceClient::new(hub.channel().await);
    let request =
        |text: usize| AnalyzeTextRequest { text: "a".repeat(text), ..AnalyzeTextRequest::default() };
    // A text of that length takes four bytes more: a tag and its length.
    let status = client.analyze_text(request(GRPC - 4)).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::InvalidArgument,
        "read, and found too long by the field's own rule: {status}"
    );
    let status = client.analyze_text(request(GRPC - 3)).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
    assert!(client.analyze_text(request(10)).await.is_ok(), "the connection goes on");
}
