//! A gRPC server behind a socket, which may go away and come back.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::time::sleep;
use tonic::{
    Status,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::{BoxError, Service, ServiceExt};

use crate::http::Upstream;

/// Waits between attempts to reconnect: the first, then twice as long each time up to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The server at `endpoint`. While it is away, calls fail at once, and it is looked for in the background.
///
/// Must be called within a tokio runtime. Connecting is bounded by the endpoint's `connect_timeout`.
pub fn connect(endpoint: Endpoint) -> Upstream {
    let remote = Arc::new(Remote { endpoint, channel: Mutex::new(None) });
    tokio::spawn(reconnect(Arc::downgrade(&remote)));
    Upstream::new(Calls(remote))
}

struct Remote {
    endpoint: Endpoint,
    /// `None` while the server is away; then one task is looking for it.
    channel: Mutex<Option<Channel>>,
}

impl Remote {
    fn channel(&self) -> Option<Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, channel: Option<Channel>) -> Option<Channel> {
        std::mem::replace(&mut *self.channel.lock().unwrap_or_else(PoisonError::into_inner), channel)
    }
}

/// Connects, however long it takes, unless nobody is left to call.
async fn reconnect(remote: Weak<Remote>) {
    let (mut wait, longest) = RETRY;
    while let Some(held) = remote.upgrade() {
        let connecting = held.endpoint.clone();
        match connecting.connect().await {
            Ok(channel) => {
                held.set(Some(channel));
                tracing::info!(upstream = %held.endpoint.uri(), "connected to the upstream");
                return;
            }
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "upstream is away"),
        }
        drop(held);
        sleep(wait).await;
        wait = longest.min(wait * 2);
    }
}

#[derive(Clone)]
struct Calls(Arc<Remote>);

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let remote = self.0.clone();
        Box::pin(async move {
            let Some(channel) = remote.channel() else { return Err("the upstream is away".into()) };
            let answer = channel.oneshot(request).await;
            // A status is an answer; anything else means that the connection is gone.
            if let Err(error) = &answer
                && !carries_status(error)
                && remote.set(None).is_some()
            {
                tracing::warn!(upstream = %remote.endpoint.uri(), "lost the upstream");
                tokio::spawn(reconnect(Arc::downgrade(&remote)));
            }
            Ok(answer?)
        })
    }
}

fn carries_status(error: &tonic::transport::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.is::<Status>() {
            return true;
        }
        cause = current.source();
    }
    false
}
