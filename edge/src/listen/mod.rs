//! Serves a router on a socket, to whoever connects: HTTP/1.1 and HTTP/2, with or without TLS.
//!
//! Slow, silent, greedy and broken clients cost little here, and end soon: [`ListenConfig`] names the bounds. A time for request
//! bodies and handlers is not among them; that is what deadlines are for.
//!
//! Requests carry `axum::extract::ConnectInfo<SocketAddr>`. Upgrades (WebSocket) are not served.

mod activity;
mod connection;
mod io;
mod streams;
mod tls;

use std::{
    collections::HashMap,
    io::{Error, ErrorKind},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{Id, JoinError, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

pub use tls::{Tls, TlsError, TlsFiles};

use activity::{Activity, Order};
use connection::Server;

/// Pause after the system refused a connection, unless one ends: most often for want of file descriptors.
const REFUSED: Duration = Duration::from_millis(100);
/// Pause between two idle connections that must make room.
const MAKE_ROOM: Duration = Duration::from_millis(50);

/// What a listener allows.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    /// Certificates; none for plain text.
    pub tls: Option<Tls>,
    /// How often the certificate's files are looked at.
    pub tls_reload_interval: Duration,
    /// Whether to speak HTTP/2 alone, as gRPC does.
    pub http2_only: bool,
    /// Connections at once. One more waits, and the one that has been idle longest is closed for it.
    pub max_connections: usize,
    /// Connections of one client at once, by address (IPv6 by /64); more are closed at once. 0 for no limit: behind a proxy, all
    /// clients have one address.
    pub max_connections_per_address: usize,
    /// Time for a TLS handshake, and then for the whole head of a request from its first byte on. For the first request it
    /// begins with the connection.
    pub header_timeout: Duration,
    /// Time in which a client must take some of its answer.
    pub write_timeout: Duration,
    /// Time that a connection may stay without a request in flight.
    pub idle_timeout: Duration,
    /// How often HTTP/2 asks whether the client is still there.
    pub ping_interval: Duration,
    /// How long the client may take to say so.
    pub ping_timeout: Duration,
    /// Requests at once on a connection of HTTP/2.
    pub max_streams: u32,
    /// Largest sum of an HTTP/2 request's headers, in bytes; more is a 431. (HTTP/1: 100 headers in 64 KiB.)
    pub max_header_bytes: u32,
    /// Counts the connections that are open.
    pub connections: Connections,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            tls: None,
            tls_reload_interval: Duration::from_secs(5),
            http2_only: false,
            max_connections: 1024,
            max_connections_per_address: 256,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
            max_streams: 128,
            max_header_bytes: 16 * 1024,
            connections: Connections::default(),
        }
    }
}

/// How many connections a listener has open; a clone shows the same number.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<AtomicUsize>);

impl Connections {
    /// Those open now.
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until `shutdown`; then closes the socket and idle connections at once, and returns when what is in flight has ended.
///
/// Nothing that a client or the network does ends it sooner. Dropped, it drops its connections.
pub async fn serve(listener: TcpListener, router: Router, config: ListenConfig, shutdown: CancellationToken) {
    let server = Arc::new(Server::new(router, &config));
    let mut open = Open::new(config.connections.clone());
    let mut reloading = std::pin::pin!(async {
        match &config.tls {
            Some(tls) => tls.keep_fresh(config.tls_reload_interval).await,
            None => std::future::pending().await,
        }
    });
    let mut refused = false;
    // The one that came when all places were taken.
    let mut waiting: Option<(TcpStream, SocketAddr)> = None;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = open.tasks.join_next_with_id() => open.ended(ended),
            () = sleep(MAKE_ROOM), if waiting.is_some() => open.make_room(),
            accepted = listener.accept(), if waiting.is_none() => match accepted {
                Ok((stream, peer)) => {
                    refused = false;
                    let bound = config.max_connections_per_address;
                    if bound > 0 && open.of(peer.ip()) >= bound {
                        tracing::debug!(%peer, "closed: the client has as many connections as it may");
                        continue;
                    }
                    waiting = Some((stream, peer));
                    if open.tasks.len() >= config.max_connections {
                        open.make_room();
                    }
                }
                Err(error) if gone(&error) => tracing::debug!(%error, "a client left before it was let in"),
                Err(error) => {
                    if !refused {
                        tracing::warn!(%error, "cannot accept connections; trying on (raise `ulimit -n` if files ran out)");
                    }
                    refused = true;
                    open.make_room();
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        Some(ended) = open.tasks.join_next_with_id() => open.ended(ended),
                        () = sleep(REFUSED) => {}
                    }
                }
            },
            () = &mut reloading => {}
        }
        if open.tasks.len() < config.max_connections
            && let Some((stream, peer)) = waiting.take()
        {
            open.start(&server, stream, peer);
        }
    }
    drop((listener, waiting));
    open.close().await;
}

/// Whether a failure to accept is about that one connection.
fn gone(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

/// The connections that are open.
struct Open {
    tasks: JoinSet<()>,
    by_task: HashMap<Id, (IpAddr, Arc<Activity>)>,
    by_client: HashMap<IpAddr, usize>,
    count: Connections,
}

impl Open {
    fn new(count: Connections) -> Self {
        Self { tasks: JoinSet::new(), by_task: HashMap::new(), by_client: HashMap::new(), count }
    }

    /// How many a client has.
    fn of(&self, address: IpAddr) -> usize {
        self.by_client.get(&client(address)).copied().unwrap_or(0)
    }

    fn start(&mut self, server: &Arc<Server>, stream: TcpStream, peer: SocketAddr) {
        let activity = Arc::new(Activity::new());
        let task = self.tasks.spawn(Arc::clone(server).serve(stream, peer, Arc::clone(&activity)));
        let client = client(peer.ip());
        self.by_task.insert(task.id(), (client, activity));
        *self.by_client.entry(client).or_default() += 1;
        self.count.0.store(self.tasks.len(), Ordering::Relaxed);
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        // A panic has been reported where it happened; it ends its connection alone.
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        if let Some((client, _)) = self.by_task.remove(&id)
            && let Some(count) = self.by_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
        self.count.0.store(self.tasks.len(), Ordering::Relaxed);
    }

    /// Closes the connection that has been idle longest, if any is.
    fn make_room(&self) {
        let idle = self.by_task.values().filter_map(|(_, activity)| Some((activity.idle_since()?, activity)));
        if let Some((_, activity)) = idle.min_by_key(|(since, _)| *since) {
            activity.order(Order::Evict);
        }
    }

    /// Ends all of them, each when what it has in flight is done.
    async fn close(&mut self) {
        for (_, activity) in self.by_task.values() {
            activity.order(Order::Stop);
        }
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.0.store(0, Ordering::Relaxed);
    }
}

/// A client, as far as an address tells: IPv6 customers have a /64 at least.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart_by_address_and_ipv6_by_network() {
        let client = |address: &str| client(address.parse().unwrap());
        assert_ne!(client("1.2.3.4"), client("1.2.3.5"));
        assert_eq!(client("1.2.3.4"), client("::ffff:1.2.3.4"));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:2"));
        assert_ne!(client("2001:db8:0:1::1"), client("2001:db8:0:2::1"));
    }
}
