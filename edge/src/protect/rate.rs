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

use axum::{body::Body, response::Response};
use futures_util::future::Either;
use governor::middleware::StateInformationMiddleware;
use http::{HeaderName, Request, StatusCode};
use tonic::Code;
use tower::Service;
use tower_governor::{
    GovernorError, GovernorLayer,
    governor::{Governor, GovernorConfig, GovernorConfigBuilder, SharedRateLimiter},
    key_extractor::KeyExtractor,
};

use super::Client;
use crate::http::{EdgeConfig, Failure, RateLimit, Transcode};

/// Requests between two sweeps of a class: bounds both the work of sweeping and the keys that gather in between.
const SWEEP_EVERY: u32 = 1024;

type Config = GovernorConfig<Clients, StateInformationMiddleware>;
type Limiter<S> = Governor<Clients, StateInformationMiddleware, S, Body>;

/// The limits of all classes, the default one last.
pub(crate) struct Limits {
    classes: Vec<Option<Arc<Config>>>,
    domain: Arc<str>,
    bursts: Vec<u32>,
}

impl Limits {
    pub(crate) fn new(config: &EdgeConfig) -> Self {
        let limits: Vec<RateLimit> =
            config.rate_classes.iter().map(|class| class.limit).chain([config.rate_limit]).collect();
        Self {
            classes: limits.iter().map(|limit| limiter(*limit, config.max_clients)).collect(),
            domain: config.error_domain.as_str().into(),
            bursts: limits.iter().map(|limit| limit.burst).collect(),
        }
    }

    /// The limit of the default class, for routes outside the services; `None` when it is off.
    pub(crate) fn default_layer(&self) -> Option<GovernorLayer<Clients, StateInformationMiddleware, Body>> {
        let config = self.classes.last()?.clone()?;
        let refuse = refusal(self.domain.clone(), *self.bursts.last()?);
        Some(GovernorLayer::new(config).error_handler(refuse))
    }

    /// The services' routes, each under the limit of its class.
    pub(crate) fn service(&self, inner: Transcode) -> Limited {
        let classes = self
            .classes
            .iter()
            .zip(&self.bursts)
            .map(|(config, burst)| {
                let config = config.as_ref()?;
                Some(Governor::new(inner.clone(), config).error_handler(refusal(self.domain.clone(), *burst)))
            })
            .collect();
        Limited { classes, inner }
    }
}

fn limiter(limit: RateLimit, max_clients: usize) -> Option<Arc<Config>> {
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
    Some(Arc::new(config))
}

/// The JSON 429 of a class.
fn refusal(domain: Arc<str>, burst: u32) -> impl Fn(GovernorError) -> Response + Send + Sync + 'static {
    move |error| {
        // The key is always found: nothing but an empty bucket leads here.
        let GovernorError::TooManyRequests { wait_time, .. } = error else {
            return Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Internal,
                "RATE_LIMITER",
                "internal error",
            )
            .into_response(&domain);
        };
        // Whole seconds, rounded up: a client that waits as told finds the bucket filled.
        let seconds = wait_time + 1;
        let message = format!("too many requests; try again in {seconds} s");
        Failure::new(StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, "RATE_LIMITED", message)
            .retry_after(seconds)
            .with(HeaderName::from_static("x-ratelimit-limit"), burst.into())
            .with(HeaderName::from_static("x-ratelimit-remaining"), 0.into())
            .with(HeaderName::from_static("x-ratelimit-after"), seconds.into())
            .into_response(&domain)
    }
}

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

impl KeyExtractor for Clients {
    type Key = u128;

    fn extract<T>(&self, request: &Request<T>) -> Result<u128, GovernorError> {
        self.count.sweep();
        let crowded = self.count.crowded.load(Ordering::Relaxed);
        Ok(request.extensions().get::<Client>().map_or(0, |client| key(client.address, crowded)))
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

/// The services' routes under their limits.
#[derive(Clone)]
pub(crate) struct Limited {
    classes: Arc<[Option<Limiter<Transcode>>]>,
    inner: Transcode,
}

impl Service<Request<Body>> for Limited {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<
        <Limiter<Transcode> as Service<Request<Body>>>::Future,
        <Transcode as Service<Request<Body>>>::Future,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Neither the limiter nor what it wraps ever waits here.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match &self.classes[self.inner.class(&request)] {
            Some(limiter) => Either::Left(limiter.clone().call(request)),
            None => Either::Right(self.inner.call(request)),
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
        let config = limiter(RateLimit::per_minute(60), 2000).unwrap();
        let extractor = Clients { count: Arc::new(Count { max_clients: 2000, ..Count::default() }) };
        extractor.count.limiter.get_or_init(|| config.limiter().clone());
        for number in 0..200_000_u32 {
            let mut request = Request::new(());
            let client = Client {
                address: std::net::Ipv4Addr::from_bits(number).into(),
                request_id: "x".parse().unwrap(),
            };
            request.extensions_mut().insert(client);
            let key = extractor.extract(&request).unwrap();
            let _ = config.limiter().check_key(&key);
        }
        assert!(config.limiter().len() <= 2000 + 2 * SWEEP_EVERY as usize, "{} keys", config.limiter().len());
    }
}
