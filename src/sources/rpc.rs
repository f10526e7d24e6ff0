//! SourceService.

use prost_types::FieldMask;
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use crate::admin::audit::audit;
use crate::articles::convert::{count, timestamp};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::ingest::Ingest;
use crate::page::{Cursor, Page};
use crate::proto::source_service_server::SourceService;
use crate::proto::{
    self, CreateSourceRequest, DeleteSourceRequest, Feed, GetSourceRequest, IngestSourceRequest,
    IngestSourceResponse, ListSourceRunsRequest, ListSourceRunsResponse, ListSourcesRequest,
    ListSourcesResponse, Source, UpdateSourceRequest,
};
use crate::resource;
use crate::server::caller;
use crate::sources::service::{self, Mask};
use crate::sources::store::{self, Draft, FeedDraft};
use crate::validation::check;

/// The service over the database.
#[derive(Debug)]
pub struct SourceRpc {
    /// The archive.
    pub db: PgPool,
    /// Times of what is created.
    pub clock: Clock,
    /// Fetches.
    pub ingest: Ingest,
}

#[tonic::async_trait]
impl SourceService for SourceRpc {
    async fn list_sources(
        &self,
        request: Request<ListSourcesRequest>,
    ) -> Result<Response<ListSourcesResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let page = Page::new(request.page_size, 50, &request.page_token, &ListSourcesRequest::default())?;
        let after = page.after.as_ref().map(|at| (at.text.as_str(), at.id));
        let mut sources = store::list(&self.db, after, page.limit()).await?;
        let next_page_token = page.finish(&mut sources, |source| Cursor {
            id: source.id,
            text: source.display_name.clone(),
            ..Cursor::default()
        });
        let total_size = if request.show_total { Some(count(store::count(&self.db).await?)) } else { None };
        let sources = sources.into_iter().map(Into::into).collect();
        Ok(Response::new(ListSourcesResponse { sources, next_page_token, total_size }))
    }

    async fn get_source(&self, request: Request<GetSourceRequest>) -> Result<Response<Source>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        Ok(Response::new(self.source(&request.name).await?.into()))
    }

    async fn create_source(&self, request: Request<CreateSourceRequest>) -> Result<Response<Source>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let draft = draft(request.source.unwrap_or_default());
        let now = self.clock.now();
        let source =
            service::create(&self.db, &caller, &request.source_id, &draft, &request.request_id, now).await?;
        Ok(Response::new(source.into()))
    }

    async fn update_source(&self, request: Request<UpdateSourceRequest>) -> Result<Response<Source>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let source = request.source.clone().unwrap_or_default();
        let mask = mask(request.update_mask.as_ref())?;
        check(&request).map_err(Error::from)?;
        let slug = resource::slug("sources", &source.name)?.to_owned();
        let changed =
            service::update(&self.db, &caller, &slug, &draft(source), mask, self.clock.now()).await?;
        Ok(Response::new(changed.into()))
    }

    async fn delete_source(&self, request: Request<DeleteSourceRequest>) -> Result<Response<()>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let slug = resource::slug("sources", &request.name)?;
        service::retire(&self.db, &caller, slug, self.clock.now()).await?;
        Ok(Response::new(()))
    }

    async fn ingest_source(
        &self,
        request: Request<IngestSourceRequest>,
    ) -> Result<Response<IngestSourceResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let source = self.source(&request.name).await?;
        audit(&self.db, &caller, "sources.ingest", &request.name, self.clock.now()).await?;
        // Apart from the call: a client that goes away leaves no run without its end.
        let ingest = self.ingest.clone();
        let runs = tokio::spawn(async move {
            let mut runs = Vec::with_capacity(source.feeds.0.len());
            for feed in &source.feeds.0 {
                runs.push(run_message(&source.slug, ingest.run_feed(feed.id).await?));
            }
            Ok::<_, Error>(runs)
        });
        let runs = runs.await.map_err(|error| Error::Internal(format!("ingest: {error}")))??;
        Ok(Response::new(IngestSourceResponse { runs }))
    }

    async fn list_source_runs(
        &self,
        request: Request<ListSourceRunsRequest>,
    ) -> Result<Response<ListSourceRunsResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let source = self.source(&request.parent).await?;
        let bound =
            ListSourceRunsRequest { parent: request.parent.clone(), ..ListSourceRunsRequest::default() };
        let page = Page::new(request.page_size, 50, &request.page_token, &bound)?;
        let before = page.after.as_ref().map(|at| at.id);
        let mut runs = store::runs(&self.db, source.id, before, page.limit()).await?;
        let next_page_token = page.finish(&mut runs, |run| Cursor { id: run.id, ..Cursor::default() });
        let runs = runs.into_iter().map(|run| run_message(&source.slug, run)).collect();
        Ok(Response::new(ListSourceRunsResponse { runs, next_page_token }))
    }
}

impl SourceRpc {
    async fn source(&self, name: &str) -> Result<store::Source> {
        let slug = resource::slug("sources", name)?;
        store::by_slug(&self.db, slug).await?.ok_or_else(|| Error::NotFound(name.to_owned()))
    }
}

fn run_message(slug: &str, run: store::Run) -> proto::Run {
    proto::Run {
        name: format!("sources/{slug}/runs/{}", run.id),
        feed_url: run.feed_url,
        outcome: i32::from(run.outcome),
        start_time: Some(timestamp(run.start_time)),
        end_time: run.end_time.map(timestamp),
        fetched_count: run.fetched,
        new_count: run.new,
        duplicate_count: run.duplicate,
        failed_count: run.failed,
        error: run.error,
        error_class: run.error_class,
        http_status: run.http_status,
    }
}

fn draft(source: Source) -> Draft {
    Draft {
        display_name: source.display_name,
        homepage_url: source.homepage_url,
        country: source.country,
        paused: source.paused,
        feeds: source
            .feeds
            .into_iter()
            .map(|feed| FeedDraft { url: feed.url, language: feed.language, section: feed.section })
            .collect(),
    }
}

fn mask(mask: Option<&FieldMask>) -> Result<Mask> {
    let Some(paths) = mask.map(|mask| &mask.paths).filter(|paths| !paths.is_empty() && paths[..] != ["*"])
    else {
        return Ok(Mask { display_name: true, homepage_url: true, country: true, feeds: true, paused: true });
    };
    let mut set = Mask::default();
    for path in paths {
        match path.as_str() {
            "display_name" => set.display_name = true,
            "homepage_url" => set.homepage_url = true,
            "country" => set.country = true,
            "feeds" => set.feeds = true,
            "paused" => set.paused = true,
            // A client may send back what it read: what only the server sets is passed over (AIP-203).
            "name" | "article_count" | "create_time" | "update_time" => {}
            _ => {
                return Err(Error::invalid(
                    "update_mask",
                    "may name display_name, homepage_url, country, feeds and paused only.",
                ));
            }
        }
    }
    Ok(set)
}

impl From<store::Source> for Source {
    fn from(source: store::Source) -> Self {
        Self {
            name: format!("sources/{}", source.slug),
            display_name: source.display_name,
            homepage_url: source.homepage_url,
            country: source.country,
            feeds: source
                .feeds
                .0
                .into_iter()
                .map(|feed| Feed {
                    url: feed.url,
                    language: feed.language,
                    section: feed.section,
                    next_fetch_time: Some(timestamp(feed.next_fetch_time)),
                    last_success_time: feed.last_success_time.map(timestamp),
                    consecutive_failures: feed.consecutive_failures,
                })
                .collect(),
            paused: source.paused,
            article_count: source.article_count,
            create_time: Some(timestamp(source.create_time)),
            update_time: Some(timestamp(source.update_time)),
        }
    }
}
