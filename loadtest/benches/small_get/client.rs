//! Clients: one that asks and waits, slow ones, and one that asks too much.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use euhub_loadtest::codec::GetRequest;
use euhub_loadtest::codec::library_client::LibraryClient;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tonic::transport::{Channel, Endpoint};

use crate::Result;

const NAME: &str = "articles/8123";
/// Connections of the flood.
const FLOODERS: usize = 4;

/// Round-trip times.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn extend(&mut self, other: Times) {
        self.0.extend(other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that this share of the requests did not exceed.
    pub fn quantile(&mut self, share: f64) -> Duration {
        self.0.sort_unstable();
        let index = (self.0.len() as f64 * share) as usize;
        self.0.get(index.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// A connection of a tonic client.
pub struct Grpc(LibraryClient<Channel>);

impl Grpc {
    pub async fn connect(address: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        Ok(Self(LibraryClient::new(endpoint.connect().await?)))
    }

    pub async fn repeat(&mut self, requests: usize) -> Result<Times> {
        let mut times = Vec::with_capacity(requests);
        for _ in 0..requests {
            let request = GetRequest { name: NAME.to_owned(), ..GetRequest::default() };
            let start = Instant::now();
            self.0.get(request).await?;
            times.push(start.elapsed());
        }
        Ok(Times(times))
    }
}

/// A connection of HTTP/1.1 that is kept.
pub struct Rest {
    sender: http1::SendRequest<Empty<Bytes>>,
    clients: u32,
}

impl Rest {
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, clients: 0 })
    }

    /// Each request in the name of another client, so that none meets a rate limit.
    pub async fn repeat(&mut self, requests: usize) -> Result<Times> {
        let mut times = Vec::with_capacity(requests);
        for _ in 0..requests {
            self.clients += 1;
            let client = Ipv4Addr::from_bits(0x0a00_0000 | self.clients & 0x00ff_ffff);
            let start = Instant::now();
            let status = self.get(&client.to_string()).await?;
            times.push(start.elapsed());
            if status != StatusCode::OK {
                return Err(format!("answered with {status}").into());
            }
        }
        Ok(Times(times))
    }

    async fn get(&mut self, client: &str) -> Result<StatusCode> {
        let request = Request::get(format!("/v1/{NAME}"))
            .header("host", "edge.example")
            .header("x-forwarded-for", client)
            .body(Empty::new())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok(status)
    }
}

/// Runs clients in a thread of their own, apart from the one that is measured.
fn apart<T: Send + 'static>(run: impl Future<Output = T> + Send + 'static) -> JoinHandle<Result<T>> {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(run))
    })
}

/// Clients that send one byte a second, of a head or of a body, and come again when they are cut off.
pub struct Slow {
    stopped: Arc<AtomicBool>,
    bytes: Arc<AtomicUsize>,
    thread: JoinHandle<Result<()>>,
}

impl Slow {
    pub fn start(address: &str, clients: usize) -> Self {
        let (stopped, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, sent, address) = (stopped.clone(), bytes.clone(), address.to_owned());
        let thread = apart(async move {
            for client in 0..clients {
                let head: &[u8] = match client % 2 {
                    0 => b"",
                    _ => {
                        b"POST /v1/articles:get HTTP/1.1\r\nhost: edge.example\r\n\
                          content-type: application/json\r\ncontent-length: 1000\r\n\r\n"
                    }
                };
                tokio::spawn(slow(address.clone(), head, sent.clone()));
            }
            while !stop.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(100)).await;
            }
        });
        Self { stopped, bytes, thread }
    }

    /// Ends them; returns how many bytes they sent.
    pub fn stop(self) -> usize {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.bytes.load(Ordering::Relaxed)
    }
}

async fn slow(address: String, head: &[u8], sent: Arc<AtomicUsize>) {
    const REQUEST: &[u8] = b"GET /v1/articles/8123 HTTP/1.1\r\nhost: edge.example\r\nx-padding: ";
    loop {
        let Ok(mut stream) = TcpStream::connect(&address).await else { return };
        let _ = stream.write_all(head).await;
        for byte in REQUEST.iter().chain(std::iter::repeat(&b' ')) {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            sent.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// One client that sends many requests.
pub struct Flood {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Result<(usize, Duration)>>>,
}

impl Flood {
    /// `pace` is in requests a second; without one, each of its connections asks again once it is answered.
    pub fn start(address: &str, requests: usize, pace: Option<u32>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (ended, address) = (over.clone(), address.to_owned());
        let thread = apart(async move {
            let start = Instant::now();
            let outcome = flood(address, requests, pace).await;
            ended.store(true, Ordering::Relaxed);
            outcome.map(|refused| (refused, start.elapsed()))
        });
        Self { over, thread }
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// How many of its requests were refused, and how long they took in all.
    pub fn end(self) -> Result<(usize, Duration)> {
        self.thread.join().map_err(|_| "the flood broke off")??
    }
}

async fn flood(address: String, requests: usize, pace: Option<u32>) -> Result<usize> {
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..FLOODERS {
        let mut rest = Rest::connect(&address).await?;
        let mut ticks = pace.map(|pace| {
            let mut ticks = interval(Duration::from_secs(1) * FLOODERS as u32 / pace);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            ticks
        });
        connections.spawn(async move {
            let mut refused = 0;
            for _ in 0..requests / FLOODERS {
                if let Some(ticks) = &mut ticks {
                    ticks.tick().await;
                }
                refused += usize::from(rest.get("198.51.100.7").await? == StatusCode::TOO_MANY_REQUESTS);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(refused)
        });
    }
    let mut refused = 0;
    while let Some(connection) = connections.join_next().await {
        refused += connection??;
    }
    Ok(refused)
}
