//! SourceService over gRPC: what a caller of create, change, pause and delete sees, and what the audit log keeps of it.

use euhub::proto::article_service_client::ArticleServiceClient;
use euhub::proto::source_service_client::SourceServiceClient;
use euhub::proto::{
    CreateSourceRequest, DeleteSourceRequest, Feed, GetSourceRequest, IngestSourceRequest,
    ListArticlesRequest, ListSourcesRequest, RunOutcome, Source, UpdateSourceRequest,
};
use prost_types::FieldMask;
use sqlx::PgPool;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::admin_keys::audit;
use crate::hub::Hub;
use crate::program::rss;

const NAME: &str = "sources/the-outlet";

/// The calls of an administrator.
struct Sources {
    stub: SourceServiceClient<Channel>,
    key: MetadataValue<tonic::metadata::Ascii>,
}

impl Sources {
    async fn of(hub: &Hub) -> Self {
        let key = format!("Bearer {}", hub.admin_key).parse().unwrap();
        Self { stub: SourceServiceClient::new(hub.channel().await), key }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.key.clone());
        request
    }

    async fn create(&mut self, source: Source, request_id: &str) -> Result<Source, Status> {
        let request_id = request_id.to_owned();
        let message = CreateSourceRequest { source: Some(source), request_id, ..Default::default() };
        Ok(self.stub.create_source(self.request(message)).await?.into_inner())
    }

    async fn update(&mut self, source: Source, paths: &[&str]) -> Result<Source, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(FieldMask { paths });
        let message = UpdateSourceRequest { source: Some(source), update_mask };
        Ok(self.stub.update_source(self.request(message)).await?.into_inner())
    }

    async fn delete(&mut self, name: &str) -> Result<(), Status> {
        let message = DeleteSourceRequest { name: name.to_owned() };
        self.stub.delete_source(self.request(message)).await.map(|_| ())
    }

    async fn get(&mut self, name: &str) -> Result<Source, Status> {
        let message = GetSourceRequest { name: name.to_owned() };
        Ok(self.stub.get_source(self.request(message)).await?.into_inner())
    }

    async fn list(&mut self) -> Vec<Source> {
        let request = self.request(ListSourcesRequest { page_size: 100, ..Default::default() });
        self.stub.list_sources(request).await.unwrap().into_inner().sources
    }
}

fn source(feeds: &[&str]) -> Source {
    let feed = |url: &&str| Feed { url: (*url).to_owned(), language: "en".into(), ..Default::default() };
    Source {
        display_name: "The Outlet".into(),
        homepage_url: "https://outlet.example/".into(),
        country: "IE".into(),
        feeds: feeds.iter().map(feed).collect(),
        ..Default::default()
    }
}

fn urls(source: &Source) -> Vec<&str> {
    source.feeds.iter().map(|feed| feed.url.as_str()).collect()
}

#[tokio::test]
async fn a_source_is_created_changed_paused_and_deleted() {
    let hub = Hub::empty().await;
    let mut sources = Sources::of(&hub).await;
    let created = sources.create(source(&["https://outlet.example/a.xml"]), "").await.unwrap();
    assert_eq!((created.name.as_str(), created.article_count, created.paused), (NAME, 0, false));
    assert!(created.create_time.is_some() && created.feeds[0].next_fetch_time.is_some(), "{created:?}");
    assert_eq!(sources.get(NAME).await.unwrap(), created);
    assert_eq!(sources.list().await, std::slice::from_ref(&created));

    // Only what the mask names is taken.
    let paused = Source { name: NAME.into(), paused: true, country: "FR".into(), ..Default::default() };
    let paused = sources.update(paused, &["paused"]).await.unwrap();
    assert_eq!((paused.paused, paused.country.as_str(), urls(&paused)), (true, "IE", urls(&created)));
    let feeds = source(&["https://outlet.example/b.xml", "https://outlet.example/a.xml"]).feeds;
    let changed = Source { feeds, country: "FR".into(), name: NAME.into(), ..Default::default() };
    let changed = sources.update(changed, &["feeds", "country"]).await.unwrap();
    assert_eq!(urls(&changed), ["https://outlet.example/b.xml", "https://outlet.example/a.xml"]);
    assert_eq!((changed.paused, changed.country.as_str()), (true, "FR"));
    assert_ne!(changed.update_time, created.update_time);
    assert_eq!(sources.get(NAME).await.unwrap(), changed);

    sources.delete(NAME).await.unwrap();
    assert_eq!(sources.get(NAME).await.unwrap_err().code(), Code::NotFound);
    assert!(sources.list().await.is_empty());
    let found: Vec<_> = audit(&hub).await.into_iter().map(|row| (row.action, row.resource)).collect();
    for action in ["sources.create", "sources.update", "sources.delete"] {
        assert!(found.contains(&(action.to_owned(), NAME.to_owned())), "{action}: {found:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_told() {
    let hub = Hub::empty().await;
    let mut sources = Sources::of(&hub).await;
    let good = source(&["https://outlet.example/a.xml"]);
    let created = sources.create(good.clone(), "once").await.unwrap();
    assert_eq!(sources.create(good.clone(), "once").await.unwrap(), created, "the same call again");

    let taken = sources.create(source(&["https://outlet.example/z.xml"]), "").await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    assert!(taken.message().contains(NAME), "{taken}");
    let mut field = async |source: Source, field: &str| {
        let status = sources.create(source, "").await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, field);
    };
    let other = Source { display_name: "Other".into(), ..good.clone() };
    // In proto names, as a caller of a stub wrote them.
    field(Source { display_name: String::new(), ..good.clone() }, "source.display_name").await;
    field(Source { country: "Ireland".into(), ..other.clone() }, "source.country").await;
    field(Source { feeds: Vec::new(), ..other.clone() }, "source.feeds").await;
    field(Source { feeds: source(&["https://a b"]).feeds, ..other.clone() }, "source.feeds[0].url").await;
    field(other, "source.feeds[0].url").await;

    let mask = sources.update(Source { name: NAME.into(), ..good.clone() }, &["nosuch"]).await.unwrap_err();
    assert_eq!(mask.code(), Code::InvalidArgument);
    let nobody = Source { name: "sources/nobody".into(), ..good };
    assert_eq!(sources.update(nobody, &["paused"]).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(sources.delete("sources/nobody").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(sources.list().await, [created]);
}

#[tokio::test]
async fn articles_stay_when_their_source_is_deleted() {
    let hub = Hub::empty().await;
    let mut sources = Sources::of(&hub).await;
    let folder = tempfile::tempdir().unwrap();
    let feed = folder.path().join("feed.xml");
    std::fs::write(&feed, rss("outlet", 1..4)).unwrap();
    sources.create(source(&[url::Url::from_file_path(&feed).unwrap().as_str()]), "").await.unwrap();
    let ingest = sources.request(IngestSourceRequest { name: NAME.into() });
    let runs = sources.stub.ingest_source(ingest).await.unwrap().into_inner().runs;
    assert_eq!((runs[0].outcome(), runs[0].new_count), (RunOutcome::Ok, 3));
    assert_eq!(sources.get(NAME).await.unwrap().article_count, 3);

    let mut articles = ArticleServiceClient::new(hub.channel().await);
    let mut stored = async || {
        let request = ListArticlesRequest { source: vec!["the-outlet".into()], ..Default::default() };
        articles.list_articles(request).await.unwrap().into_inner().articles
    };
    let before = stored().await;
    assert_eq!(before.len(), 3);
    sources.delete(NAME).await.unwrap();
    assert_eq!(stored().await, before);
    assert_eq!(before[0].source_display_name, "The Outlet");

    let back = sources.create(source(&["https://outlet.example/new.xml"]), "").await.unwrap();
    assert_eq!(back.article_count, 3, "its articles are its own again");
}

/// The transaction that wrote the source's row, and that of the newest audit row.
async fn writers(db: &PgPool) -> (String, String) {
    sqlx::query_as(
        "SELECT (SELECT xmin::text FROM sources WHERE slug = 'the-outlet'),
             (SELECT xmin::text FROM audit_log ORDER BY id DESC LIMIT 1)",
    )
    .fetch_one(db)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_change_and_its_audit_row_are_one_transaction() {
    let hub = Hub::empty().await;
    let mut sources = Sources::of(&hub).await;
    let named =
        |paused: bool| Source { name: NAME.into(), paused, ..source(&["https://outlet.example/a.xml"]) };
    for step in 0..3 {
        match step {
            0 => drop(sources.create(named(false), "").await.unwrap()),
            1 => drop(sources.update(named(true), &["paused"]).await.unwrap()),
            _ => sources.delete(NAME).await.unwrap(),
        }
        let (source, audit) = writers(&hub.db).await;
        assert_eq!(source, audit, "step {step}");
    }
    let rows = audit(&hub).await;
    let found: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.outcome.as_str())).collect();
    assert_eq!(found, [("sources.create", "ok"), ("sources.update", "ok"), ("sources.delete", "ok")]);
}

/// What cannot be written to the log does not happen.
#[tokio::test]
async fn a_change_that_cannot_be_audited_is_not_made() {
    let hub = Hub::empty().await;
    let mut sources = Sources::of(&hub).await;
    let named =
        |paused: bool| Source { name: NAME.into(), paused, ..source(&["https://outlet.example/a.xml"]) };
    let created = sources.create(named(false), "").await.unwrap();
    sqlx::raw_sql(
        "CREATE FUNCTION full_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the log is full'; END $$;
         CREATE TRIGGER full_log BEFORE INSERT ON audit_log FOR EACH ROW WHEN (NEW.action LIKE 'sources.%')
         EXECUTE FUNCTION full_log()",
    )
    .execute(&hub.db)
    .await
    .unwrap();
    let another = Source { display_name: "Another".into(), ..source(&["https://another.example/a.xml"]) };
    for status in [
        sources.create(another, "").await.unwrap_err(),
        sources.update(named(true), &["paused"]).await.unwrap_err(),
        sources.delete(NAME).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("full"), "nothing of the database is told: {status}");
    }
    assert_eq!(sources.list().await, [created]);
    let rows = audit(&hub).await;
    let found: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.outcome.as_str())).collect();
    let expected = [
        ("sources.create", "ok"),
        ("SourceService/CreateSource", "INTERNAL"),
        ("SourceService/UpdateSource", "INTERNAL"),
        ("SourceService/DeleteSource", "INTERNAL"),
    ];
    assert_eq!(
        found.into_iter().filter(|(action, _)| !action.contains("List")).collect::<Vec<_>>(),
        expected
    );
}
