//! What shields the edge and its browsers: response headers, CORS, rate limits.

mod address;
mod cors;
mod headers;
mod rate;
mod shared;

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use http::HeaderValue;

pub(crate) use address::client_address;
pub(crate) use cors::cors;
pub(crate) use headers::secure;
pub(crate) use rate::{Limits, RateLimited};
pub use shared::{SharedLimiter, Take};

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// The client itself, behind any trusted proxies.
    pub address: IpAddr,
    /// Kept from the caller, or made here.
    pub request_id: HeaderValue,
    /// Index of its class's limit, the default class last; `None` when it has none.
    pub class: Option<usize>,
    /// What the upstream is told instead of the caller's own.
    pub traceparent: Option<HeaderValue>,
    /// Who the upstream says it is.
    pub actor: Arc<OnceLock<HeaderValue>>,
}
