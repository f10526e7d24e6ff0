//! The outermost layer: who calls, under which id, what for, and what became of it.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW},
};
use tokio::time::Instant;
use tonic::Code;

use super::{
    Edge, FIXED_ROUTES, docs,
    failure::{Failure, allow_header},
    grpc_web,
    matcher::Outcome,
};
use crate::protect::{self, Client};

/// Header with the id of a request, kept from the caller when it is sane, and answered.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is kept.
const MAX_REQUEST_ID: usize = 128;

/// Matches the request, answers what needs no route, and finishes every answer.
pub(crate) async fn observe(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let request_id = request_id(&edge, &request);
    let peer = request.extensions().get::<ConnectInfo<std::net::SocketAddr>>().map(|peer| peer.0.ip());
    let address = protect::client_address(peer, request.headers(), &edge.config.trusted_proxies);
    let path = request.uri().path();
    let fixed = FIXED_ROUTES.contains(&path) || docs::PATHS.contains(&path);
    let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let too_long = length > edge.config.max_uri_bytes;
    let grpc_web = grpc_web::spoken(request.headers());
    let outcome = if fixed || too_long || grpc_web {
        Outcome::NotFound
    } else {
        edge.matcher.find(request.method(), path)
    };
    let class = edge.class(request.method(), path, &outcome);
    let mut line = AccessLine {
        started: Instant::now(),
        method: request.method().clone(),
        route: match &outcome {
            Outcome::Found(id, _) => edge.routes[*id].binding.template.clone(),
            _ if fixed || (grpc_web && edge.grpc_classes.contains_key(path)) => path.to_owned(),
            _ => "-".to_owned(),
        },
        request_id: request_id.clone(),
        client: address,
        status: None,
    };
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
    line.status = Some(response.status());
    response
}

fn uri_too_long(edge: &Edge) -> Response {
    let message = format!("the path and query are longer than {} bytes", edge.config.max_uri_bytes);
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

/// One line for each request, written when its answer begins, or when the client has left before that.
struct AccessLine {
    started: Instant,
    method: Method,
    route: String,
    request_id: HeaderValue,
    client: std::net::IpAddr,
    status: Option<StatusCode>,
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        tracing::info!(
            target: "euhub_edge::access",
            method = %self.method,
            route = %self.route,
            // 499: the client closed the request.
            status = self.status.map_or(499, |status| status.as_u16()),
            duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            request_id = self.request_id.to_str().unwrap_or_default(),
            client = %self.client,
            "request"
        );
    }
}
