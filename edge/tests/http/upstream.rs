//! An upstream behind a socket, which goes away and comes back.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use euhub_edge::{http::router, upstream};
use http::StatusCode;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::transport::Endpoint;

use crate::support::*;

/// Serves the test service until the task is aborted.
async fn start(address: &str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, service()).await.unwrap() });
    (address, server)
}

fn edge(address: SocketAddr) -> Router {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    router(plan(), upstream::connect(endpoint), config()).unwrap()
}

/// Asks until the answer has that status; a test that waits in vain is stopped from outside.
async fn until(app: &Router, status: StatusCode) -> Answer {
    loop {
        let answer = get(app, "/v1/plain/x").await;
        if answer.status == status {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_upstream_that_goes_away_is_503_until_it_is_back() {
    let (address, server) = start("127.0.0.1:0").await;
    let app = edge(address);
    until(&app, StatusCode::OK).await;
    server.abort();
    let away = until(&app, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!((away.error().0.as_str(), away.header("retry-after")), ("UPSTREAM_UNAVAILABLE", "1"));
    assert!(away.text().contains("google.rpc.RetryInfo"));
    let (_, _server) = start(&address.to_string()).await;
    until(&app, StatusCode::OK).await;
}

/// Nothing answers at this address: connecting would take as long as the endpoint's timeout, and a call the whole deadline.
#[tokio::test]
async fn a_call_does_not_wait_for_a_connection() {
    let app = edge("192.0.2.1:9".parse().unwrap());
    // No timer fires in between: the call never waits for anything outside.
    for _ in 0..20 {
        let answer = tokio::select! {
            biased;
            answer = get(&app, "/v1/plain/x") => answer,
            () = tokio::task::yield_now() => panic!("the call waited"),
        };
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
