//! Token buckets by client and class of route.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request, response::Response};
use futures_util::future::BoxFuture;
use governor::middleware::StateInformationMiddleware;
use http::{HeaderName, StatusCode};
use tonic::Code;
use tower::{Layer, Service};
use tower_governor::{
    GovernorError,
    governor::{Governor, GovernorConfig, GovernorConfigBuilder, SharedRateLimiter},
    key_extractor::KeyExtractor,
};

use super::{
    Client,
    shared::{Remaining, Shared, SharedLimiter},
};
use crate::http::{EdgeConfig, Failure, RateLimit};

/// Requests between two sweeps of a class: bounds both the work of sweeping and the keys that gather in between.
const SWEEP_EVERY: u32 = 1024;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const AFTER: HeaderName = HeaderName::from_static("x-ratelimit-after");

type Config = GovernorConfig<Clients, StateInformationMiddleware>;

/// The limits of all classes, the default one last.
#[derive(Clone)]
pub(crate) struct Limits {
    classes: Arc<[Class]>,
    domain: Arc<str>,
    shared: Option<Arc<dyn SharedLimiter>>,
}

struct Class {
    name: String,
    limit: RateLimit,
    counted: Option<(Clients, Arc<Config>)>,
}

impl Limits {
    pub(crate) fn new(config: &EdgeConfig) -> Self {
        let class = |name: &str, limit| Class {
            name: name.to_owned(),
            limit,
            counted: limiter(limit, config.max_clients),
        };
        let classes = config.route_classes.iter().map(|known| class(&known.name, known.limit));
        Self {
            classes: classes.chain([class("default", config.rate_limit)]).collect(),
            domain: config.error_domain.as_str().into(),
            shared: config.shared_limiter.clone(),
        }
    }
}

fn limiter(limit: RateLimit, max_clients: usize) -> Option<(Clients, Arc<Config>)> {
    let period = Duration::from_secs(60).checked_div(limit.per_minute)?;
    let clients = Clients { count: Arc::new(Count { max_clients, ..Count::default() }) };
    let config = GovernorConfigBuilder::default()
        .period(period)
        .burst_size(limit.burst)
        .key_extractor(clients.clone())
        .use_headers()
        .finish()?;
    // The extractor sees every request of its class, so it sweeps as it goes.
    clients.count.limiter.get_or_init(|| config.limiter().clone());
    Some((clients, Arc::new(config)))
}

impl<S: Clone> Layer<S> for Limits {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        let classes = self.classes.iter().map(|class| {
            let (clients, config) = class.counted.as_ref()?;
            let shared = Shared {
                inner: inner.clone(),
                limiter: self.shared.clone(),
                class: class.name.as_str().into(),
                limit: class.limit,
                clients: clients.clone(),
                domain: self.domain.clone(),
            };
            let (domain, limit) = (self.domain.clone(), class.limit);
            let refuse = move |error| match error {
                // Whole seconds, rounded up: a client that waits as told finds the bucket filled.
                GovernorError::TooManyRequests { wait_time, .. } => refusal(&domain, limit, wait_time + 1),
                // The key is always found: nothing but an empty bucket leads here.
                _ => refusal(&domain, limit, 1),
            };
            Some(Governor::new(shared, config).error_handler(refuse))
        });
        Limited { classes: classes.collect(), inner }
    }
}

/// The JSON 429 of a class.
pub(super) fn refusal(domain: &str, limit: RateLimit, seconds: u64) -> Response {
    let message = format!("too many requests; try again in {seconds} s");
    let mut response =
        Failure::new(StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, "RATE_LIMITED", message)
            .retry_after(seconds)
            .with(LIMIT, limit.burst.into())
            .with(REMAINING, 0.into())
            .with(AFTER, seconds.into())
            .into_response(domain);
    response.extensions_mut().insert(RateLimited);
    response
}

/// Marks the answer to a request that a limit refused.
#[derive(Clone, Copy)]
pub(crate) struct RateLimited;

/// Knows clients by address: IPv4 by all of it, IPv6 by its /64, which one customer has at least.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    count: Arc<Count>,
}

#[derive(Default)]
struct Count {
    max_clients: usize,
    requests: AtomicU32,
    crowded: AtomicBool,
    limiter: OnceLock<SharedRateLimiter<u128, StateInformationMiddleware>>,
}

impl std::fmt::Debug for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Count").field("crowded", &self.crowded).finish_non_exhaustive()
    }
}

impl Count {
    /// Forgets the clients whose buckets are full again, every now and then.
    fn sweep(&self) {
        if self.requests.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY != SWEEP_EVERY - 1 {
            return;
        }
        if let Some(limiter) = self.limiter.get() {
            limiter.retain_recent();
            self.crowded.store(limiter.len() >= self.max_clients, Ordering::Relaxed);
        }
    }
}

impl Clients {
    /// The key that a request is counted under.
    pub(super) fn key<T>(&self, request: &http::Request<T>) -> u128 {
        let crowded = self.count.crowded.load(Ordering::Relaxed);
        request.extensions().get::<Client>().map_or(0, |client| key(client.address, crowded))
    }
}

impl KeyExtractor for Clients {
    type Key = u128;

    fn extract<T>(&self, request: &http::Request<T>) -> Result<u128, GovernorError> {
        self.count.sweep();
        Ok(self.key(request))
    }
}

/// The key of an address. When too many clients are counted, neighbours share one: an IPv4 /16, an IPv6 /32.
fn key(address: IpAddr, crowded: bool) -> u128 {
    match address {
        IpAddr::V4(address) => {
            let mask = if crowded { 0xffff_0000 } else { u32::MAX };
            std::net::Ipv4Addr::from_bits(address.to_bits() & mask).to_ipv6_mapped().to_bits()
        }
        IpAddr::V6(address) => address.to_bits() & (u128::MAX << if crowded { 96 } else { 64 }),
    }
}

type Limiter<S> = Governor<Clients, StateInformationMiddleware, Shared<S>, Body>;

/// A service under the limit of each request's class.
#[derive(Clone)]
pub(crate) struct Limited<S> {
    classes: Arc<[Option<Limiter<S>>]>,
    inner: S,
}

impl<S> Service<Request> for Limited<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Neither the limiter nor what it wraps ever waits here.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let class = request.extensions().get::<Client>().and_then(|client| client.class);
        match class.and_then(|class| self.classes[class].as_ref()) {
            None => Box::pin(self.inner.call(request)),
            Some(limiter) => {
                let answer = limiter.clone().call(request);
                Box::pin(async move {
                    let mut response = answer.await?;
                    // What all edges have counted together is less than what this one has.
                    if let Some(Remaining(remaining)) = response.extensions_mut().remove() {
                        response.headers_mut().insert(REMAINING, remaining.into());
                    }
                    Ok(response)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart_by_address_and_ipv6_by_network() {
        let key = |address: &str, crowded| key(address.parse().unwrap(), crowded);
        assert_ne!(key("1.2.3.4", false), key("1.2.3.5", false));
        assert_eq!(key("2001:db8::1", false), key("2001:db8::ffff:2", false));
        assert_ne!(key("2001:db8:0:1::1", false), key("2001:db8:0:2::1", false));
        assert_eq!(key("1.2.3.4", true), key("1.2.9.9", true));
        assert_ne!(key("1.2.3.4", true), key("1.3.3.4", true));
        assert_eq!(key("2001:db8:1::1", true), key("2001:db8:2::1", true));
    }

    #[test]
    fn many_addresses_cost_bounded_memory() {
        let (clients, config) = limiter(RateLimit::per_minute(60), 2000).unwrap();
        for number in 0..200_000_u32 {
            let mut request = http::Request::new(());
            request.extensions_mut().insert(Client {
                address: std::net::Ipv4Addr::from_bits(number).into(),
                request_id: "x".parse().unwrap(),
                class: None,
                traceparent: None,
                actor: Arc::default(),
            });
            let key = clients.extract(&request).unwrap();
            let _ = config.limiter().check_key(&key);
        }
        assert!(config.limiter().len() <= 2000 + 2 * SWEEP_EVERY as usize, "{} keys", config.limiter().len());
    }
}
