//! One limit over several edges, behind the count of each.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{extract::Request, response::Response};
use futures_util::future::BoxFuture;
use tower::Service;

use super::rate::{self, Clients};
use crate::http::RateLimit;

/// Counts requests in a place that several edges share.
pub trait SharedLimiter: Send + Sync + 'static {
    /// Takes one token of a client's bucket, which holds `limit.burst` of them and regains `limit.per_minute` a minute.
    ///
    /// `None` when the place cannot be reached: then the edge's own count decides alone.
    fn take<'a>(&'a self, class: &'a str, client: u128, limit: RateLimit) -> BoxFuture<'a, Option<Take>>;
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It may pass.
    Granted {
        /// Tokens that are left.
        remaining: u32,
    },
    /// The bucket is empty.
    Refused {
        /// Time until the next token.
        after: Duration,
    },
}

/// Tokens that are left by the shared count, on their way into the response's headers.
#[derive(Clone, Copy)]
pub(super) struct Remaining(pub u32);

/// A service under a shared limit. It stands behind the edge's own limit of the same size, which a client can only
/// reach after the shared one: whoever floods one edge is refused there, without a question to anyone.
#[derive(Clone)]
pub(super) struct Shared<S> {
    pub inner: S,
    pub limiter: Option<Arc<dyn SharedLimiter>>,
    pub class: Arc<str>,
    pub limit: RateLimit,
    pub clients: Clients,
    pub domain: Arc<str>,
}

impl<S> Service<Request> for Shared<S>
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
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(limiter) = self.limiter.clone() else { return Box::pin(self.inner.call(request)) };
        let Self { mut inner, class, limit, clients, domain, .. } = self.clone();
        Box::pin(async move {
            let taken = limiter.take(&class, clients.key(&request), limit).await;
            if let Some(Take::Refused { after }) = taken {
                let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
                let mut response = rate::refusal(&domain, limit, seconds.max(1));
                response.extensions_mut().insert(Remaining(0));
                return Ok(response);
            }
            let mut response = inner.call(request).await?;
            if let Some(Take::Granted { remaining }) = taken {
                response.extensions_mut().insert(Remaining(remaining));
            }
            Ok(response)
        })
    }
}
