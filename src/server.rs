//! The gRPC services and the layers in front of them, in order: measurement with access line and trace, deadline, authorization, cached answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request as HttpRequest;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use euhub_edge::http::{Upstream, grpc_timeout};
use euhub_edge::plan::Plan;
use futures_util::future::ready;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyStream, StreamBody};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::ServiceExt;

use crate::admin::rpc::AdminRpc;
use crate::articles::rpc::ArticleRpc;
use crate::articles::watch::NewArticles;
use crate::auth::{self, Authorizer, Caller};
use crate::backup::rpc::BackupRpc;
use crate::backup::service::BackupService;
use crate::cache::layer::{self, Answers};
use crate::clock::Clock;
use crate::documents::extract::worker::Extractor;
use crate::documents::rpc::DocumentRpc;
use crate::documents::service::Documents;
use crate::error::{Error, Result};
use crate::ingest::Ingest;
use crate::keywords::rpc::KeywordRpc;
use crate::operations::health::Health as Dependencies;
use crate::operations::rpc::OperationsRpc;
use crate::proto::DESCRIPTOR_SET;
use crate::proto::admin_service_server::{AdminServiceServer, SERVICE_NAME as ADMIN};
use crate::proto::article_service_server::{ArticleServiceServer, SERVICE_NAME as ARTICLE};
use crate::proto::backup_service_server::{BackupServiceServer, SERVICE_NAME as BACKUP};
use crate::proto::document_service_server::{DocumentServiceServer, SERVICE_NAME as DOCUMENT};
use crate::proto::keyword_service_server::{KeywordServiceServer, SERVICE_NAME as KEYWORD};
use crate::proto::operations_service_server::{OperationsServiceServer, SERVICE_NAME as OPERATIONS};
use crate::proto::search_service_server::{SERVICE_NAME as SEARCH, SearchServiceServer};
use crate::proto::sentiment_service_server::{SERVICE_NAME as SENTIMENT, SentimentServiceServer};
use crate::proto::source_service_server::{SERVICE_NAME as SOURCE, SourceServiceServer};
use crate::proto::suggestion_service_server::{SERVICE_NAME as SUGGESTION, SuggestionServiceServer};
use crate::search::rpc::SearchRpc;
use crate::search::service::Search;
use crate::sentiment::rpc::SentimentRpc;
use crate::sources::rpc::SourceRpc;
use crate::suggestions::rpc::SuggestionRpc;
use crate::suggestions::service::Suggestions;
use crate::telemetry::calls::{self, Methods};

/// Every service, for health.
pub const SERVICES: [&str; 10] =
    [ADMIN, ARTICLE, BACKUP, DOCUMENT, KEYWORD, OPERATIONS, SEARCH, SENTIMENT, SOURCE, SUGGESTION];

/// Longest time for a call, unless the caller asks for less.
const DEADLINE: Duration = Duration::from_secs(30);
/// Largest request message: a JSON body's limit, and room for what protobuf adds.
const MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;
/// Largest answer: a page of 100 whole articles.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// What the services are made of.
#[derive(Debug)]
pub struct Parts {
    /// Search, and through it the archive, the cache and the model.
    pub search: Search,
    /// Fetches that an administrator asks for.
    pub ingest: Ingest,
    /// Proposals of keywords.
    pub suggestions: Suggestions,
    /// Backups.
    pub backups: BackupService,
    /// Reads uploaded files.
    pub extractor: Extractor,
    /// How everything is.
    pub health: Dependencies,
    /// Wakes watchers.
    pub new_articles: NewArticles,
    /// Who may what.
    pub authorizer: Authorizer,
    /// Writes exports as JSON.
    pub plan: Arc<Plan>,
    /// The time.
    pub clock: Clock,
    /// Reading needs no key.
    pub public_read: bool,
    /// Ends what would go on for ever.
    pub stopping: CancellationToken,
}

/// Every service behind deadline and authorization; the same for a socket and for the edge in this process.
pub fn core<H: Health>(parts: Parts, health: HealthServer<H>) -> anyhow::Result<Router> {
    let db = parts.search.db.clone();
    let clock = parts.clock;
    let methods = Methods::new(parts.plan.methods().iter().map(|method| method.grpc_path.path()));
    let answers = Answers { cache: parts.search.cache.clone(), clock: clock.clone() };
    let admin = AdminRpc {
        db: db.clone(),
        clock: clock.clone(),
        start_time: clock.now(),
        search: parts.search.clone(),
        llm: parts.ingest.llm.clone(),
        plan: Arc::clone(&parts.plan),
        public_read: parts.public_read,
    };
    let articles = ArticleRpc { db: db.clone(), new_articles: parts.new_articles, plan: parts.plan };
    let documents =
        Documents { search: parts.search.clone(), extractor: parts.extractor, clock: clock.clone() };
    let keywords = KeywordRpc { db: db.clone(), clock: clock.clone() };
    let operations = OperationsRpc {
        db: db.clone(),
        clock: clock.clone(),
        health: parts.health,
        public_read: parts.public_read,
    };
    let sentiment = SentimentRpc { db: db.clone(), clock: clock.clone() };
    let sources = SourceRpc { db, clock, ingest: parts.ingest };

    macro_rules! limited {
        ($service:expr) => {
            $service
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .max_encoding_message_size(MAX_RESPONSE_BYTES)
        };
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router = Routes::new(limited!(AdminServiceServer::new(admin)))
        .add_service(limited!(ArticleServiceServer::new(articles)))
        .add_service(limited!(BackupServiceServer::new(BackupRpc::new(parts.backups, parts.stopping))))
        .add_service(limited!(DocumentServiceServer::new(DocumentRpc { documents })))
        .add_service(limited!(KeywordServiceServer::new(keywords)))
        .add_service(limited!(OperationsServiceServer::new(operations)))
        .add_service(limited!(SearchServiceServer::new(SearchRpc { search: parts.search })))
        .add_service(limited!(SentimentServiceServer::new(sentiment)))
        .add_service(limited!(SourceServiceServer::new(sources)))
        .add_service(limited!(SuggestionServiceServer::new(SuggestionRpc { suggestions: parts.suggestions })))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare()
        .into_axum_router();
    Ok(router
        .layer(from_fn_with_state(answers, layer::answer))
        .layer(from_fn_with_state(parts.authorizer, auth::authorize))
        .layer(from_fn(deadline))
        .layer(from_fn_with_state(methods, calls::see)))
}

/// The services for the edge in this process, with no socket between.
pub fn in_process(router: Router) -> Upstream {
    let service = router
        .map_request(|request: http::Request<tonic::body::Body>| request.map(axum::body::Body::new))
        .map_response(|response: Response| response.map(tonic::body::Body::new))
        .map_err(tower::BoxError::from);
    Upstream::new(service)
}

/// A core in another process, whose watches end with this one: they have no end of their own to wait for. Downloads may finish.
pub fn ending_watches(upstream: Upstream, plan: &Plan, stopping: CancellationToken) -> Upstream {
    let download = plan.message("google.api.HttpBody");
    let methods =
        plan.methods().iter().filter(|method| method.server_streaming && Some(method.output) != download);
    let watches: Arc<[String]> = methods.map(|method| method.grpc_path.path().to_owned()).collect();
    Upstream::new(tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        let (upstream, stopping) = (upstream.clone(), stopping.clone());
        let watch = watches.iter().any(|path| path == request.uri().path());
        async move {
            let response = upstream.oneshot(request).await?;
            Ok(if watch { response.map(|body| end_with(body, stopping)) } else { response })
        }
    }))
}

/// A body that breaks off with the status of a server that stops.
fn end_with(body: tonic::body::Body, stopping: CancellationToken) -> tonic::body::Body {
    let status = Status::from(Error::Stopping);
    let stopped = stopping.clone();
    let end = stream::once(async move {
        let mut trailers = http::HeaderMap::new();
        let told = stopped.is_cancelled() && status.add_header(&mut trailers).is_ok();
        told.then(|| Ok(Frame::trailers(trailers)))
    });
    let frames = BodyStream::new(body).take_until(stopping.cancelled_owned());
    tonic::body::Body::new(StreamBody::new(Box::pin(frames.chain(end.filter_map(ready)))))
}

/// Who makes a call; the authorization layer put it there.
pub fn caller<T>(request: &Request<T>) -> Result<Caller> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Error::Internal("a call came around the authorization layer".into()))
}

/// Ends a call at its deadline: the caller's by `grpc-timeout`, but no later than ours. Streams must begin by then.
async fn deadline(request: HttpRequest, next: Next) -> Response {
    let asked = request.headers().get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
    let deadline = asked.map_or(DEADLINE, |asked| asked.min(DEADLINE));
    match tokio::time::timeout(deadline, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Status::from(Error::DeadlineExceeded).into_http::<axum::body::Body>().into_response(),
    }
}
