//! The outermost layer: who calls, under which id, what for, and what became of it.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;
use tonic::Code;

use super::{
    Edge, EdgeConfig, FIXED_ROUTES, docs,
    failure::{Failure, allow_header},
    grpc_web,
    matcher::Outcome,
    template::decode,
};
use crate::protect::{self, Client, RateLimited};

/// Header with the id of a request, kept from the caller when it is sane, and answered.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is kept.
const MAX_REQUEST_ID: usize = 128;

/// Sees every request from its beginning to the last byte of its answer.
pub trait Observer: Send + Sync + 'static {
    /// A request of a route begins.
    fn begun(&self, request: &Begun<'_>) -> Box<dyn Observed>;
}

/// What an observer keeps of one request.
pub trait Observed: Send + Sync {
    /// What the upstream is told as `traceparent`; `None` for what the caller sent.
    fn traceparent(&self) -> Option<HeaderValue>;
    /// The request is over, whatever became of it: answered in full, or its client has left.
    fn ended(&self, request: &Ended<'_>);
}

/// One request that begins.
#[derive(Debug)]
pub struct Begun<'a> {
    /// Its method; `_OTHER` for one that HTTP does not define.
    pub method: &'a str,
    /// The template of its route, never a path that a client made up: `-` when no route matches.
    pub route: &'a str,
    /// Its path as the client wrote it.
    pub path: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

/// One request that is over.
#[derive(Debug)]
pub struct Ended<'a> {
    /// As in [`Begun`].
    pub method: &'a str,
    /// As in [`Begun`].
    pub route: &'a str,
    /// The status of the answer; 499 when the client left before it.
    pub status: u16,
    /// From its first line to the last byte of its answer.
    pub duration: Duration,
    /// Bytes of its body, by its `Content-Length`; 0 when it has none.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// Class of its rate limit; `None` when it has no limit.
    pub class: Option<&'a str>,
    /// The rate limit refused it.
    pub limited: bool,
    /// Address of the client.
    pub client: IpAddr,
    /// Its id.
    pub request_id: &'a str,
    /// Who the upstream says that the caller is, by [`super::EdgeConfig::actor_metadata`].
    pub actor: Option<&'a str>,
}

/// Matches the request, answers what needs no route, and finishes every answer.
pub(crate) async fn observe(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let request_id = request_id(&edge, &request);
    let peer = request.extensions().get::<ConnectInfo<std::net::SocketAddr>>().map(|peer| peer.0.ip());
    let address = protect::client_address(peer, request.headers(), &edge.config.trusted_proxies);
    let path = request.uri().path();
    let page = edge.config.pages.iter().any(|page| page.path == path);
    let fixed = page || FIXED_ROUTES.contains(&path) || docs::PATHS.contains(&path);
    let too_long = request.uri().path_and_query().is_some_and(|uri| is_too_long(&edge, uri.as_str()));
    let grpc_web = grpc_web::spoken(request.headers());
    let outcome = if fixed || too_long || grpc_web {
        Outcome::NotFound
    } else {
        edge.matcher.find(request.method(), path)
    };
    let class = edge.class(request.method(), path, &outcome);
    let method = method_name(request.method());
    let route = match &outcome {
        Outcome::Found(id, _) => edge.routes[*id].binding.template.clone(),
        _ if fixed || (grpc_web && edge.grpc_classes.contains_key(path)) => path.to_owned(),
        _ => "-".to_owned(),
    };
    let begun = Begun { method, route: &route, path, headers: request.headers() };
    let observed = edge.config.observer.as_ref().map(|observer| observer.begun(&begun));
    let traceparent = observed.as_ref().and_then(|observed| observed.traceparent());
    let mut seen = Seen {
        started: Instant::now(),
        method,
        class,
        request_bytes: request.body().size_hint().exact().unwrap_or(0),
        response_bytes: 0,
        limited: false,
        edge: edge.clone(),
        route,
        request_id: request_id.clone(),
        client: address,
        actor: Arc::default(),
        status: None,
        observed,
    };
    let early = if too_long { Some(uri_too_long(&edge)) } else { options(&edge, &request, fixed) };
    let mut response = match early {
        Some(response) => response,
        None => {
            let (request_id, actor) = (request_id.clone(), seen.actor.clone());
            request.extensions_mut().insert(Client { address, request_id, class, traceparent, actor });
            request.extensions_mut().insert(outcome);
            next.run(request).await
        }
    };
    if grpc_web {
        response = grpc_web::refusal(response);
    }
    protect::secure(response.headers_mut(), edge.config.hsts);
    response.headers_mut().insert(REQUEST_ID, request_id);
    seen.status = Some(response.status());
    seen.limited = response.extensions().get::<RateLimited>().is_some();
    response.map(|body| Body::new(Watched { body, seen }))
}

/// A letter beyond ASCII is one character, though its escapes are up to twelve bytes.
fn is_too_long(edge: &Edge, uri: &str) -> bool {
    let characters = || decode(uri, false).map_or(uri.len(), |uri| uri.chars().count());
    let EdgeConfig { max_uri_characters, max_uri_bytes, .. } = edge.config;
    uri.len() > max_uri_bytes || (uri.len() > max_uri_characters && characters() > max_uri_characters)
}

fn uri_too_long(edge: &Edge) -> Response {
    let EdgeConfig { max_uri_characters, max_uri_bytes, .. } = edge.config;
    let message = format!(
        "the path and query are longer than {max_uri_characters} characters or {max_uri_bytes} bytes"
    );
    Failure::new(StatusCode::URI_TOO_LONG, Code::InvalidArgument, "URI_TOO_LONG", message)
        .into_response(&edge.config.error_domain)
}

/// The answer to OPTIONS on a known path, unless it is a CORS preflight.
fn options(edge: &Edge, request: &Request, fixed: bool) -> Option<Response> {
    let preflight = request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if request.method() != Method::OPTIONS || preflight {
        return None;
    }
    let methods = if fixed {
        vec![Method::GET, Method::HEAD, Method::OPTIONS]
    } else {
        edge.matcher.methods(request.uri().path())?
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, allow_header(&methods));
    Some(response)
}

fn request_id(edge: &Edge, request: &Request) -> HeaderValue {
    let sane = |id: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(b))
    };
    match request.headers().get(REQUEST_ID).filter(sane) {
        Some(id) => id.clone(),
        None => HeaderValue::from_str(&(edge.config.request_ids)()).unwrap_or(HeaderValue::from_static("-")),
    }
}

/// The name of a method that HTTP defines; a client may send any word for one.
fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// What is known of a request; told to the observer when its answer has ended or its client has left.
struct Seen {
    edge: Arc<Edge>,
    started: Instant,
    method: &'static str,
    route: String,
    class: Option<usize>,
    request_id: HeaderValue,
    client: IpAddr,
    actor: Arc<OnceLock<HeaderValue>>,
    status: Option<StatusCode>,
    request_bytes: u64,
    response_bytes: u64,
    limited: bool,
    observed: Option<Box<dyn Observed>>,
}

impl Drop for Seen {
    fn drop(&mut self) {
        let Some(observed) = &self.observed else { return };
        let classes = &self.edge.config.route_classes;
        let class = |at: usize| classes.get(at).map_or("default", |class| class.name.as_str());
        observed.ended(&Ended {
            method: self.method,
            route: &self.route,
            // 499: the client closed the request.
            status: self.status.map_or(499, |status| status.as_u16()),
            duration: self.started.elapsed(),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            class: self.class.map(class),
            limited: self.limited,
            client: self.client,
            request_id: self.request_id.to_str().unwrap_or_default(),
            actor: self.actor.get().and_then(|actor| actor.to_str().ok()),
        });
    }
}

impl Sees for Seen {
    fn frame(&mut self, frame: &Frame<Bytes>) {
        self.response_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}

/// Sees the frames of a body.
pub trait Sees: Send + Unpin + 'static {
    /// The next frame.
    fn frame(&mut self, frame: &Frame<Bytes>);
}

/// A body whose frames are seen; what sees them is dropped with it.
#[derive(Debug)]
pub struct Watched<S> {
    /// The body.
    pub body: Body,
    /// What sees it.
    pub seen: S,
}

impl<S: Sees> HttpBody for Watched<S> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.seen.frame(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
