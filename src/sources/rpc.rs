//! SourceService.

use prost_types::FieldMask;
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use crate::admin::audit::audit;
use crate::articles::convert::count;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::ingest::Ingest;
use crate::ingest::feed::charset;
use crate::page::{Cursor, Page};
use crate::proto::google::api::HttpBody;
use crate::proto::source_service_server::SourceService;
use crate::proto::{
    CreateSourceRequest, DeleteSourceRequest, ExportOpmlRequest, GetSourceHealthRequest, GetSourceRequest,
    ImportOpmlRequest, ImportOpmlResponse, IngestSourceRequest, IngestSourceResponse,
    ListSourceHealthRequest, ListSourceHealthResponse, ListSourceRunsRequest, ListSourceRunsResponse,
    ListSourcesRequest, ListSourcesResponse, PreviewSourceRequest, PreviewSourceResponse, Source,
    SourceHealth, UpdateSourceRequest,
};
use crate::resource;
use crate::server::caller;
use crate::sources::convert::{draft, refused_feed, refused_outlet, run_message};
use crate::sources::service::{self, Mask};
use crate::sources::{health, import, opml, store};
use crate::telemetry;
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
        let runs = tokio::spawn(telemetry::within_call(async move {
            let mut runs = Vec::with_capacity(source.feeds.0.len());
            for feed in &source.feeds.0 {
                runs.push(run_message(&source.slug, ingest.run_feed(feed.id).await?));
            }
            Ok::<_, Error>(runs)
        }));
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

    async fn preview_source(
        &self,
        request: Request<PreviewSourceRequest>,
    ) -> Result<Response<PreviewSourceResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        if let Some(problem) = service::url_problem(&request.url) {
            return Err(Error::invalid("url", problem).into());
        }
        audit(&self.db, &caller, "sources.preview", &request.url, self.clock.now()).await?;
        Ok(Response::new(self.ingest.preview(&request.url, &request.language).await?.into()))
    }

    async fn export_opml(&self, request: Request<ExportOpmlRequest>) -> Result<Response<HttpBody>, Status> {
        check(&request.into_inner()).map_err(Error::from)?;
        let opml = opml::write(&store::list(&self.db, None, i64::MAX).await?);
        let content_type = "text/x-opml; charset=utf-8".into();
        Ok(Response::new(HttpBody { content_type, data: opml.into(), extensions: Vec::new() }))
    }

    async fn import_opml(
        &self,
        request: Request<ImportOpmlRequest>,
    ) -> Result<Response<ImportOpmlResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let content = request.content.unwrap_or_default();
        if content.data.len() > opml::MAX_BYTES {
            let limit = format!("must be at most {} MiB.", opml::MAX_BYTES >> 20);
            return Err(Error::invalid("content", limit).into());
        }
        let text = charset::decode(&content.data, Some(&content.content_type));
        let mut document =
            opml::parse(&text).map_err(|error| Error::invalid("content", error.to_string()))?;
        for outlet in &mut document.outlets {
            if outlet.draft.country.is_empty() {
                outlet.draft.country = request.country.to_ascii_uppercase();
            }
        }
        let now = self.clock.now();
        let import = import::import(
            &self.db,
            &caller,
            document,
            request.validate_only,
            refused_feed,
            refused_outlet,
            now,
        );
        Ok(Response::new(import.await?.into()))
    }

    async fn get_source_health(
        &self,
        request: Request<GetSourceHealthRequest>,
    ) -> Result<Response<SourceHealth>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let not_found = || Error::NotFound(request.name.clone());
        let source = request.name.strip_suffix("/health").ok_or_else(not_found)?;
        let slug = resource::slug("sources", source).map_err(|_| not_found())?;
        let health = health::all(&self.db, Some(slug), self.clock.now()).await?.pop();
        Ok(Response::new(health.ok_or_else(not_found)?.into()))
    }

    async fn list_source_health(
        &self,
        request: Request<ListSourceHealthRequest>,
    ) -> Result<Response<ListSourceHealthResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let page =
            Page::new(request.page_size, 50, &request.page_token, &ListSourceHealthRequest::default())?;
        let after = page.after.as_ref().map(|at| (at.number, at.text.as_str()));
        let mut found = health::all(&self.db, None, self.clock.now()).await?;
        found.retain(|judged| after.is_none_or(|after| judged.place() > after));
        let next_page_token = page.finish(&mut found, |last| {
            let (number, text) = last.place();
            Cursor { number, text: text.to_owned(), ..Cursor::default() }
        });
        let source_health = found.into_iter().map(Into::into).collect();
        Ok(Response::new(ListSourceHealthResponse { source_health, next_page_token }))
    }
}

impl SourceRpc {
    async fn source(&self, name: &str) -> Result<store::Source> {
        let slug = resource::slug("sources", name)?;
        store::by_slug(&self.db, slug).await?.ok_or_else(|| Error::NotFound(name.to_owned()))
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
