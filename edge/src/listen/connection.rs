//! One connection, from its first byte to its last.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::net::TcpStream;
use tokio_util::either::Either;
use tower::Service;

use super::{
    ListenConfig, Tls,
    activity::{Activity, Patience, watch},
    io::{Reads, Writes},
    streams::{Answer, Streams},
};

/// What hyper may hold of a head, and of an answer until the client takes some.
const BUFFER: usize = 64 * 1024;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Server {
    http: auto::Builder<Streams>,
    http2_only: bool,
    patience: Patience,
    router: Router,
    tls: Option<Tls>,
}

impl Server {
    pub fn new(router: Router, config: &ListenConfig) -> Self {
        let mut http = auto::Builder::new(Streams { patience: config.write_timeout });
        if config.http2_only {
            http = http.http2_only();
        }
        // `watch` keeps the time instead.
        http.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(BUFFER);
        // What bounds floods of resets and control frames stays as hyper and h2 set it.
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(config.ping_interval)
            .keep_alive_timeout(config.ping_timeout)
            .max_concurrent_streams(config.max_streams)
            .max_header_list_size(config.max_header_bytes)
            .max_send_buf_size(BUFFER);
        Self {
            http,
            http2_only: config.http2_only,
            patience: Patience {
                header: config.header_timeout,
                write: config.write_timeout,
                idle: config.idle_timeout,
            },
            // Now, not for each request.
            router: router.with_state(()),
            tls: config.tls.clone(),
        }
    }

    /// Serves a connection until it ends. Faults are the client's, and nothing to wake anyone for.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, activity: Arc<Activity>) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "no TCP_NODELAY");
        }
        let stream = Writes::new(stream, Arc::clone(&activity));
        let stream = match &self.tls {
            None => Either::Left(stream),
            Some(tls) => {
                let handshake = tls.acceptor(self.http2_only).accept(stream);
                match watch(&activity, &self.patience, handshake, |_| ()).await {
                    Ok(Ok(stream)) => {
                        activity.secured();
                        Either::Right(stream)
                    }
                    Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS"),
                    Err(reason) => return tracing::debug!(%peer, reason, "cut off during the TLS handshake"),
                }
            }
        };

        let service = service_fn(|request: Request<Incoming>| {
            let in_flight = activity.begin();
            let version = request.version();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let response = self.router.clone().call(request);
            async move { Ok::<_, Infallible>(response.await?.map(|body| Answer::new(body, version, in_flight))) }
        });
        let io = TokioIo::new(Reads { stream, activity: Arc::clone(&activity) });
        let connection = self.http.serve_connection(io, service);
        match watch(&activity, &self.patience, connection, |connection| connection.graceful_shutdown()).await
        {
            Ok(Ok(())) => tracing::trace!(%peer, "closed"),
            Ok(Err(error)) => tracing::debug!(%peer, error, "broke off"),
            Err(reason) => tracing::debug!(%peer, reason, "cut off"),
        }
    }
}
