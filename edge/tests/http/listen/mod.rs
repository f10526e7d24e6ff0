//! The listener on real sockets, against clients of every kind.

mod limits;
mod serving;
mod shutdown;
mod slow;
mod tls;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, State},
    routing::get,
};
use bytes::Bytes;
use euhub_edge::listen::{Connections, ListenConfig, serve};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Long enough for any test to be over: nothing waits for it.
const LONG: Duration = Duration::from_secs(60);

/// A bound that a test waits to see at work.
const SHORT: Duration = Duration::from_millis(100);

/// Ends a test that would hang.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(30), future).await.expect("this should have ended by now")
}

async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// What the handlers share with a test.
struct Gate {
    /// Requests to `/held` that have come.
    entered: AtomicUsize,
    /// Lets as many of them go as it has permits.
    release: Semaphore,
    /// Endless bodies that have been dropped.
    dropped: AtomicUsize,
}

struct Server {
    address: SocketAddr,
    gate: Arc<Gate>,
    connections: Connections,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// No bound but those that a test sets.
fn patient() -> ListenConfig {
    ListenConfig {
        header_timeout: LONG,
        write_timeout: LONG,
        idle_timeout: LONG,
        tls_reload_interval: Duration::from_millis(10),
        ..ListenConfig::default()
    }
}

async fn start(config: ListenConfig) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Arc::new(Gate {
        entered: AtomicUsize::new(0),
        release: Semaphore::new(0),
        dropped: AtomicUsize::new(0),
    });
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/held", get(held))
        .route("/endless", get(endless))
        .route("/slowly", get(slowly))
        .route("/large", get(|| async { vec![b'x'; 5_000_000] }))
        .route("/trailers", get(trailers))
        .with_state(Arc::clone(&gate));
    let (stop, connections) = (CancellationToken::new(), config.connections.clone());
    let task = tokio::spawn(serve(listener, router, config, stop.clone()));
    Server { address, gate, connections, stop, task }
}

/// Answers when the test lets it.
async fn held(State(gate): State<Arc<Gate>>) -> &'static str {
    gate.entered.fetch_add(1, Ordering::SeqCst);
    gate.release.acquire().await.unwrap().forget();
    "held"
}

/// More than any buffer on the way takes.
async fn endless(State(gate): State<Arc<Gate>>) -> Body {
    struct OnDrop(Arc<Gate>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
    let guard = OnDrop(gate);
    Body::from_stream(stream::repeat_with(move || {
        let _ = &guard;
        Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 100_000]))
    }))
}

/// Events with much time in between, as a quiet watch has.
async fn slowly() -> Body {
    Body::from_stream(events())
}

fn events() -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    stream::iter(0..3).then(|number| async move {
        if number > 0 {
            sleep(3 * SHORT).await;
        }
        Ok(Bytes::from(format!("event {number}\n")))
    })
}

/// What gRPC answers look like.
async fn trailers() -> Body {
    let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let frames = [Frame::data(Bytes::from(vec![b'x'; 200_000])), Frame::trailers(status)];
    Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, std::io::Error>))))
}

const EVENTS: &str = "event 0\nevent 1\nevent 2\n";

async fn connect(server: &Server) -> TcpStream {
    within(TcpStream::connect(server.address)).await.unwrap()
}

/// Sends the head of a request.
async fn ask(stream: &mut (impl AsyncWrite + Unpin), path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).await.unwrap();
}

/// Reads an answer whose body ends so.
async fn answer(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    within(async {
        while !text.ends_with(end.as_bytes()) {
            let read = stream.read_buf(&mut text).await.unwrap();
            assert_ne!(read, 0, "ended in {:?}", String::from_utf8_lossy(&text));
        }
    })
    .await;
    String::from_utf8(text).unwrap()
}

/// What is left to read when the server ends the connection, by its leave or without.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let _ = within(stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

type Http2 = http2::SendRequest<Empty<Bytes>>;

/// A client of HTTP/2, and the task that ends with its connection.
async fn http2<S>(stream: S) -> (Http2, JoinHandle<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    // An endless answer fills a stream, and leaves room for others.
    builder.initial_stream_window_size(100_000).initial_connection_window_size(10_000_000);
    let (client, connection) = within(builder.handshake(TokioIo::new(stream))).await.unwrap();
    let task = tokio::spawn(async move {
        let _ = connection.await;
    });
    (client, task)
}

async fn get2(client: &mut Http2, path: &str) -> Result<Response<Incoming>, hyper::Error> {
    let request = Request::get(format!("http://test{path}")).body(Empty::new()).unwrap();
    within(client.ready()).await?;
    within(client.send_request(request)).await
}

async fn text(response: Response<Incoming>) -> String {
    let body = within(response.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}
