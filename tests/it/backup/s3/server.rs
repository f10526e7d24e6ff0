//! A server of S3 in this process, that checks signatures and can be made to fail.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

pub const KEY: &str = "test-key";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+of-the-test";
pub const BUCKET: &str = "backups";

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// 503 for an answer.
    Refuses,
    /// No answer.
    Hangs,
    /// A part of the answer, and then nothing.
    Stalls,
}

/// Which requests it happens to, and to how many of them.
#[derive(Debug)]
struct Fault {
    trouble: Trouble,
    method: &'static str,
    /// Part of the path and query.
    with: &'static str,
    left: usize,
}

/// The server; it ends with the test.
pub struct S3 {
    pub address: SocketAddr,
    folder: TempDir,
    fault: Arc<Mutex<Option<Fault>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl S3 {
    pub async fn start() -> Self {
        let folder = crate::embedded::scratch();
        fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let fault: Arc<Mutex<Option<Fault>>> = Arc::default();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (faults, seen) = (Arc::clone(&fault), Arc::clone(&requests));
        let router = Router::new().fallback(move |request: Request| {
            seen.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
            answer(service.clone(), take(&faults, &request), request)
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, folder, fault, requests }
    }

    /// The next `n` requests of this kind get into trouble.
    pub fn trouble(&self, trouble: Trouble, method: &'static str, with: &'static str, n: usize) {
        *self.fault.lock().unwrap() = Some(Fault { trouble, method, with, left: n });
    }

    /// No more trouble; how many requests that was meant for have not come.
    pub fn heal(&self) -> usize {
        self.fault.lock().unwrap().take().expect("a fault").left
    }

    /// Requests of a kind so far.
    pub fn count(&self, method: &str, with: &str) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.starts_with(method) && request.contains(with)).count()
    }

    /// Where it keeps the objects of the bucket.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// Everything it keeps, parts of unfinished uploads too.
    pub fn files(&self) -> Vec<String> {
        let mut folders = vec![self.folder.path().to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path.strip_prefix(self.folder.path()).unwrap().display().to_string()),
                }
            }
        }
        // The server's own notes.
        files.retain(|name| {
            !name.contains(".json") || name.contains(".manifest.") || name.contains(".check.")
        });
        files.retain(|name| !name.split('/').any(|part| part.starts_with(".bucket-")));
        files.sort();
        files
    }

    /// An address that passes on to the server, and cuts the first `n` connections that carry more than `bytes`.
    pub async fn behind_cuts(&self, n: usize, bytes: u64) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, server) = (listener.local_addr().unwrap(), self.address);
        let left = Arc::new(Mutex::new(n));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let left = Arc::clone(&left);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    if *left.lock().unwrap() == 0 {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                        return;
                    }
                    let (reader, mut writer) = client.split();
                    let (mut answers, mut requests) = server.split();
                    let mut first = reader.take(bytes);
                    tokio::select! {
                        _ = copy(&mut answers, &mut writer) => {}
                        copied = copy(&mut first, &mut requests) => {
                            if copied.is_ok_and(|n| n == bytes) {
                                let mut left = left.lock().unwrap();
                                *left = left.saturating_sub(1);
                            }
                        }
                    }
                    let _ = requests.shutdown().await;
                });
            }
        });
        address
    }
}

/// The trouble that a request gets into.
fn take(fault: &Mutex<Option<Fault>>, request: &Request) -> Option<Trouble> {
    let mut fault = fault.lock().unwrap();
    let fault = fault.as_mut()?;
    let meant = request.method() == fault.method && request.uri().to_string().contains(fault.with);
    if !meant || fault.left == 0 {
        return None;
    }
    fault.left -= 1;
    Some(fault.trouble)
}

async fn answer(service: S3Service, trouble: Option<Trouble>, request: Request) -> Response {
    match trouble {
        Some(Trouble::Refuses) => return (StatusCode::SERVICE_UNAVAILABLE, "too busy").into_response(),
        Some(Trouble::Hangs) => std::future::pending().await,
        Some(Trouble::Stalls) | None => {}
    }
    let request = request.map(s3s::Body::http_body_unsync);
    let answer = service.call(request).await.expect("an answer").map(Body::new);
    if trouble.is_none() {
        return answer;
    }
    answer.map(|body| {
        let some = body.into_data_stream().take(1);
        Body::from_stream(some.chain(stream::pending()))
    })
}
