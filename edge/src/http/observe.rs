//! The outermost layer: who calls, under which id, what for, and what became of it.

use std::{
    pin::Pin,
    sync::Arc,
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
    HeaderName, HeaderValue, Method, StatusCode,
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
    /// A request of a route begins; [`Observer::ended`] follows, whatever becomes of it.
    fn begun(&self, method: &str, route: &str);
    /// It is over: answered in full, or its client has left.
    fn ended(&self, request: &Ended<'_>);
}

/// One request that is over.
#[derive(Debug)]
pub struct Ended<'a> {
    /// Its method; `_OTHER` for one that HTTP does not define.
    pub method: &'a str,
    /// The template of its route, never a path that a client made up: `-` when no route matches.
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
    let mut seen = Seen {
        started: Instant::now(),
        method: method_name(request.method()),
        class,
        request_bytes: request.body().size_hint().exact().unwrap_or(0),
        response_bytes: 0,
        limited: false,
        edge: edge.clone(),
        route: match &outcome {
            Outcome::Found(id, _) => edge.routes[*id].binding.template.clone(),
            _ if fixed || (grpc_web && edge.grpc_classes.contains_key(path)) => path.to_owned(),
            _ => "-".to_owned(),
        },
        request_id: request_id.clone(),
        client: address,
        status: None,
    };
    if let Some(observer) = &edge.config.observer {
        observer.begun(seen.method, &seen.route);
    }
    let early = if too_long { Some(uri_too_long(&edge)) } else { options(&edge, &request, fixed) };
    let mut response = match early {
        Some(response) => response,
        None => {
            request.extensions_mut().insert(Client { address, request_id: request_id.clone(), class });
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

/// What is known of a request; written as one line, and told to the observer, when its answer has ended or its client has left.
struct Seen {
    edge: Arc<Edge>,
    started: Instant,
    method: &'static str,
    route: String,
    class: Option<usize>,
    request_id: HeaderValue,
    client: std::net::IpAddr,
    status: Option<StatusCode>,
    request_bytes: u64,
    response_bytes: u64,
    limited: bool,
}

impl Drop for Seen {
    fn drop(&mut self) {
        let config = &self.edge.config;
        let duration = self.started.elapsed();
        // 499: the client closed the request.
        let status = self.status.map_or(499, |status| status.as_u16());
        if let Some(observer) = &config.observer {
            let class =
                |at: usize| config.route_classes.get(at).map_or("default", |class| class.name.as_str());
            observer.ended(&Ended {
                method: self.method,
                route: &self.route,
                status,
                duration,
                request_bytes: self.request_bytes,
                response_bytes: self.response_bytes,
                class: self.class.map(class),
                limited: self.limited,
            });
        }
        tracing::info!(
            target: "euhub_edge::access",
            method = self.method,
            route = %self.route,
            status,
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            bytes = self.response_bytes,
            request_id = self.request_id.to_str().unwrap_or_default(),
            client = %self.client,
            "request"
        );
    }
}

/// An answer's body that counts its bytes.
struct Watched {
    body: Body,
    seen: Seen,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.seen.response_bytes += data.len() as u64;
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
