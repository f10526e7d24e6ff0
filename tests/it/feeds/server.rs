//! An HTTP server that says exactly what it is told to, however wrong.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// What the server sends before it closes the connection.
pub enum Reply {
    /// These bytes.
    Once(Vec<u8>),
    /// `head`, then `chunk` again and again, `pause` apart, until the client hangs up.
    Forever { head: Vec<u8>, chunk: Vec<u8>, pause: Duration },
}

impl Reply {
    /// A status line and headers, `Content-Length` and a body.
    pub fn new(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let mut bytes = head(status, headers);
        bytes.truncate(bytes.len() - 2);
        bytes.extend(format!("Content-Length: {}\r\n\r\n", body.as_ref().len()).bytes());
        bytes.extend(body.as_ref());
        Self::Once(bytes)
    }

    pub fn redirect(status: u16, location: &str) -> Self {
        Self::new(status, &[("Location", location)], "")
    }
}

/// A response's head with its closing empty line.
pub fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    (head + "\r\n").into_bytes()
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    sent: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

pub struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Server {
    /// On 127.0.0.1; `handler` gets the path and the whole head of each request.
    pub async fn start(handler: impl Fn(&str, &str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST, handler).await
    }

    pub async fn start_on(
        ip: Ipv4Addr,
        handler: impl Fn(&str, &str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let seen = Arc::new(Seen::default());
        let handler = Arc::new(handler);
        tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (seen, handler) = (Arc::clone(&seen), Arc::clone(&handler));
                    tokio::spawn(async move { answer(stream, &seen, handler.as_ref()).await });
                }
            }
        });
        Self { address, seen }
    }

    pub fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).expect("a URL")
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().expect("not poisoned").clone()
    }

    /// Bytes that clients have taken.
    pub fn sent(&self) -> usize {
        self.seen.sent.load(Ordering::SeqCst)
    }

    /// Most connections open at once.
    pub fn most_open(&self) -> usize {
        self.seen.most_open.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, seen: &Seen, handler: &(dyn Fn(&str, &str) -> Reply + Send + Sync)) {
    let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most_open.fetch_max(open, Ordering::SeqCst);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => break,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.requests.lock().expect("not poisoned").push(request.clone());
    match handler(&path, &request) {
        Reply::Once(bytes) => {
            if stream.write_all(&bytes).await.is_ok() {
                seen.sent.fetch_add(bytes.len(), Ordering::SeqCst);
            }
        }
        Reply::Forever { head, chunk, pause } => {
            let mut next = head;
            while stream.write_all(&next).await.is_ok() {
                seen.sent.fetch_add(next.len(), Ordering::SeqCst);
                next = chunk.clone();
                tokio::time::sleep(pause).await;
            }
        }
    }
    seen.open.fetch_sub(1, Ordering::SeqCst);
    let _closed = stream.shutdown().await;
}
