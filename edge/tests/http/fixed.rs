//! Index and health.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::support::*;

#[tokio::test]
async fn the_index_links_onwards() {
    let answer = get(&app(), "/").await;
    assert_eq!(
        answer.json()["links"],
        json!({"docs": "/docs", "openapi": "/api/openapi.json", "health": "/health"})
    );
}

#[tokio::test(start_paused = true)]
async fn health_is_the_upstreams_and_holds_for_a_second() {
    let (app, seen) = app_with(config());
    let down = get(&app, "/health").await;
    assert_eq!(
        (down.status, &down.json()["error"]["status"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("UNAVAILABLE"))
    );
    seen.healthy.store(true, Ordering::Relaxed);
    assert_eq!(get(&app, "/health").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(seen.calls.load(Ordering::Relaxed), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    let up = get(&app, "/health").await;
    assert_eq!((up.status, up.json()), (StatusCode::OK, json!({"status": "SERVING"})));
    assert_eq!(up.header("cache-control"), "no-store");
    assert_eq!(get(&app_without_upstream(), "/health").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_hangs_does_not_make_its_probes_hang() {
    let (app, seen) = app_with(config());
    seen.healthy.store(true, Ordering::Relaxed);
    assert_eq!(get(&app, "/health").await.status, StatusCode::OK);
    seen.hanging.store(true, Ordering::Relaxed);
    // Of what is not known yet the last is told, and then what the check came to.
    for status in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE] {
        tokio::time::advance(Duration::from_secs(5)).await;
        let asked = Instant::now();
        assert_eq!(get(&app, "/health").await.status, status);
        // The clock stands still but for what is waited for.
        assert!(asked.elapsed() < Duration::from_millis(5), "{:?}", asked.elapsed());
    }
    seen.hanging.store(false, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(5)).await;
    get(&app, "/health").await;
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(get(&app, "/health").await.status, StatusCode::OK);
}
