//! The service, the edge in front of it, and processes of either.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use euhub_edge::http::{EdgeConfig, RateLimit, Upstream, router};
use euhub_edge::listen::{self, ListenConfig};
use euhub_edge::plan::Plan;
use euhub_loadtest::codec::library_server::{Library, LibraryServer};
use euhub_loadtest::codec::{Article, Empty, GetRequest, UpdateRequest};
use euhub_loadtest::{ARTICLE, DESCRIPTOR_SET};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tower::{BoxError, ServiceExt};

use crate::Result;

/// Answers each name with the same article.
struct Shelf(Article);

#[tonic::async_trait]
impl Library for Shelf {
    type UpdateStream = tokio_stream::Empty<Result<Article, Status>>;

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<Article>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn update(
        &self,
        _: Request<Streaming<UpdateRequest>>,
    ) -> Result<Response<Self::UpdateStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn plain(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

fn library() -> Result<LibraryServer<Shelf>> {
    Ok(LibraryServer::new(Shelf(serde_json::from_str(ARTICLE)?)))
}

fn upstream<S>(service: S) -> Upstream
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Error: Into<BoxError>,
{
    Upstream::new(service.map_err(Into::into))
}

/// As a deployment would have it: everything on, behind a proxy that says who asks.
fn edge(upstream: Upstream) -> Result<Router> {
    let config = EdgeConfig {
        trusted_proxies: vec!["127.0.0.0/8".parse()?],
        rate_limit: RateLimit::per_minute(60),
        route_classes: Vec::new(),
        ..EdgeConfig::default()
    };
    Ok(router(Arc::new(Plan::compile(DESCRIPTOR_SET)?), upstream, config)?)
}

/// Serves as the arguments say, and prints the address: `core`, `edge <core>`, or `standalone`.
pub fn run(args: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let service = match args[..] {
            ["core", ..] => {
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                return Ok(Server::builder().add_service(library()?).serve_with_incoming(incoming).await?);
            }
            ["edge", core, ..] => {
                let channel =
                    Endpoint::from_shared(format!("http://{core}"))?.tcp_nodelay(true).connect_lazy();
                upstream(channel)
            }
            ["standalone", ..] => upstream(Routes::new(library()?).prepare()),
            _ => return Err("no such role".into()),
        };
        listen::serve(listener, edge(service)?, ListenConfig::default(), CancellationToken::new()).await;
        Ok(())
    })
}

/// One of them, until it is dropped.
pub struct Process {
    child: Child,
    pub address: String,
}

impl Process {
    pub fn start(role: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .args(role)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned() })
    }

    /// CPU time of all its threads so far: the first number of each one's `schedstat`, in nanoseconds.
    pub fn cpu(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = fs::read_to_string(task?.path().join("schedstat"))?;
            let nanos = stat.split(' ').next().ok_or("an empty schedstat")?;
            total += Duration::from_nanos(nanos.parse()?);
        }
        Ok(total)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
