//! Logs: the one place that touches the tracing API, so that what is logged, and how, is seen on one page.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tonic::Status;
use tracing_subscriber::EnvFilter;

use crate::auth::Caller;
use crate::config::LogFormat;

/// Starts logging to standard error. `filter` is a filter of `tracing_subscriber` (`info`, `euhub=debug,sqlx=warn`).
pub fn init(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log filter `{filter}`: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let text = match format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let done = if text {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    };
    done.map_err(|error| error.to_string())
}

/// One access line a gRPC call: method, status, duration until the response starts, client, request id.
pub async fn access(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let response = next.run(request).await;
    let code = Status::from_header_map(response.headers()).map_or(tonic::Code::Ok, |status| status.code());
    let caller = response.extensions().get::<Caller>();
    tracing::info!(
        method,
        code = ?code,
        duration_ms = milliseconds(start.elapsed()),
        client = caller.map(|caller| caller.client.as_str()),
        request_id = caller.map(|caller| caller.request_id.as_str()),
        "grpc"
    );
    response
}

/// A fault of ours or of what we depend on; the caller got a status without its text.
pub fn fault(part: &str, error: &dyn Display) {
    tracing::error!(part, %error, "fault");
}

/// Something works less well than it should, and goes on.
pub fn degraded(part: &str, error: &dyn Display) {
    tracing::warn!(part, %error, "degraded");
}

/// What was degraded works again.
pub fn recovered(part: &str) {
    tracing::info!(part, "recovered");
}

/// A step of starting and stopping.
pub fn lifecycle(step: &str, detail: &dyn Display) {
    tracing::info!(%detail, "{step}");
}

/// A service began or ceased to be ready.
pub fn readiness(ready: bool) {
    if ready {
        tracing::info!("ready: the database answers");
    } else {
        tracing::error!("not ready: the database does not answer");
    }
}

/// A feed was fetched.
pub fn run(source: &str, feed: &str, new: i32, duplicate: i32, failed: i32, error: &str) {
    if error.is_empty() {
        tracing::info!(source, feed, new, duplicate, failed, "ingest");
    } else {
        tracing::warn!(source, feed, new, duplicate, failed, error, "ingest");
    }
}

/// Articles were analysed.
pub fn analyzed(articles: usize, linked: u64, duration: Duration) {
    tracing::info!(articles, linked, duration_ms = milliseconds(duration), "analyze");
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
