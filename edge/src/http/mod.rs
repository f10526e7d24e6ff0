//! HTTP/JSON in front of a gRPC upstream: `google.api.http` routes found by a matcher of their own, messages moved by the
//! plan, errors in one JSON form.

mod cache;
mod call;
mod compress;
mod config;
mod details;
mod docs;
mod failure;
mod fixed;
mod frame;
mod grpc_web;
pub mod matcher;
mod negotiate;
mod observe;
mod request;
mod route;
mod spelling;
mod status;
mod stream;
pub mod template;
mod wire;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body, middleware, response::Response, routing::get};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request};
use tower_http::compression::{
    CompressionLayer, Predicate,
    predicate::{DefaultPredicate, NotForContentType},
};

pub use config::{EdgeConfig, Page, RateLimit, RequestIds, RouteClass};
pub(crate) use failure::Failure;
pub use grpc_web::grpc_timeout;
pub use observe::{Begun, Ended, Observed, Observer, Sees, Watched};

pub use crate::protect::{SharedLimiter, Take};
pub use status::name as code_name;

use crate::{
    openapi,
    plan::{Plan, PlanError},
    protect,
};

/// The gRPC service behind the edge: a tonic `Channel`, or a tonic `Routes` in the same process, with no socket between;
/// its error mapped into a [`tower::BoxError`].
pub type Upstream = tower::util::BoxCloneSyncService<
    Request<tonic::body::Body>,
    http::Response<tonic::body::Body>,
    tower::BoxError,
>;

/// Paths that are not the services', [`docs::PATHS`] aside.
const FIXED_ROUTES: [&str; 3] = ["/", "/health", "/api/openapi.json"];

/// Bindings or settings that the edge cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// A path template is malformed.
    #[error(transparent)]
    Template(#[from] template::TemplateError),
    /// Two bindings claim one method and path.
    #[error(transparent)]
    Conflict(#[from] matcher::Conflict),
    /// A binding does not fit its messages.
    #[error("{method}, {template}: {reason}")]
    Binding {
        /// Full name of the method.
        method: String,
        /// Its path template.
        template: String,
        /// What is wrong.
        reason: String,
    },
    /// A setting is out of range.
    #[error("{setting}: {reason}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The standard error messages did not compile.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// What every request shares.
pub(crate) struct Edge {
    plan: Arc<Plan>,
    upstream: Upstream,
    config: EdgeConfig,
    routes: Vec<route::Route>,
    matcher: matcher::Matcher,
    /// Class of each method's first route by gRPC path.
    grpc_classes: HashMap<String, usize>,
    compressed: compress::Compressed,
    details: details::Details,
    openapi: Bytes,
    assets: docs::Assets,
    health: fixed::Health,
}

/// Builds the edge of a service: its bindings, `/`, `/health`, `/api/openapi.json`, `/docs` and the pages of its own.
///
/// Serve it with `into_make_service_with_connect_info::<SocketAddr>()`: without the peer's address, all clients share
/// one rate limit.
///
/// # Errors
/// When a path template or a setting is malformed, a binding does not fit its messages, or two claim the same path.
pub fn router(plan: Arc<Plan>, upstream: Upstream, config: EdgeConfig) -> Result<Router, EdgeError> {
    let (routes, matcher) = route::routes(&plan, &config)?;
    let grpc_classes = plan.methods().iter().map(|method| {
        let route = routes.iter().find(|route| route.grpc_path == method.grpc_path);
        (method.grpc_path.path().to_owned(), route.map_or(config.route_classes.len(), |route| route.class))
    });
    let cors = protect::cors(&config.cors_origins).map_err(|origin| EdgeError::Setting {
        setting: "cors_origins",
        reason: format!("{origin} is no origin"),
    })?;
    let limits = protect::Limits::new(&config);
    let edge = Arc::new(Edge {
        openapi: openapi::document(&plan, &config.api_title, &config.api_version).into(),
        details: details::Details::new()?,
        assets: docs::Assets::new(),
        health: fixed::Health::default(),
        grpc_classes: grpc_classes.collect(),
        compressed: compress::Compressed::new(config.compressed_cache_bytes),
        plan,
        upstream,
        config,
        routes,
        matcher,
    });
    let pages = edge.config.pages.iter().fold(Router::new(), |router, page| {
        let answer = page.answer.clone();
        router.route(page.path, get(move |headers| answer(headers)))
    });
    Ok(pages
        .route("/", get(fixed::index))
        .route("/api/openapi.json", get(fixed::openapi))
        .route("/health", get(fixed::health))
        .route("/docs", get(docs::page))
        .route("/docs/init.js", get(docs::init))
        .route("/docs/swagger-ui.css", get(docs::asset))
        .route("/docs/swagger-ui-bundle.js", get(docs::asset))
        .method_not_allowed_fallback(fixed::method_not_allowed)
        .fallback_service(Transcode(edge.clone()))
        .layer(limits)
        .layer(
            CompressionLayer::new()
                .compress_when(DefaultPredicate::new().and(NotForContentType::const_new(negotiate::NDJSON))),
        )
        .layer(cors)
        .layer(middleware::from_fn_with_state(edge.clone(), observe::observe))
        .with_state(edge))
}

/// The services' routes, as a tower service.
#[derive(Clone)]
pub(crate) struct Transcode(Arc<Edge>);

impl Edge {
    /// Index of the rate limit that holds for a request, the default last; `None` when none does.
    fn class(&self, method: &Method, path: &str, outcome: &matcher::Outcome) -> Option<usize> {
        match outcome {
            matcher::Outcome::Found(id, _) => {
                Some(self.routes[*id].class).filter(|_| !self.routes[*id].rate_exempt)
            }
            _ if config::names_route(&self.config.rate_exempt, method, path) => None,
            _ => Some(self.grpc_classes.get(path).copied().unwrap_or(self.config.route_classes.len())),
        }
    }
}

impl tower::Service<Request<Body>> for Transcode {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let edge = self.0.clone();
        Box::pin(async move {
            Ok(if grpc_web::spoken(request.headers()) {
                grpc_web::answer(edge, request).await
            } else {
                call::answer(edge, request).await
            })
        })
    }
}
