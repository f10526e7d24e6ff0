//! What is logged, and how; the filter can be changed while the process runs.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

use super::queries;
use crate::config::LogFormat;

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    configured: String,
    filter: Handle<EnvFilter, Registry>,
}

/// Reads a filter of `tracing_subscriber` (`info`, `euhub=debug,sqlx=warn`); what is wrong with it otherwise.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

/// Starts logging to standard error.
pub fn init(text: &str, format: LogFormat) -> Result<(), String> {
    let filter = filter(text).map_err(|error| format!("log filter `{text}`: {error}"))?;
    let configured = filter.to_string();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let plain = match format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let lines = if plain {
        lines.with_target(false).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(false).boxed()
    };
    let statements = Targets::new()
        .with_target(queries::STATEMENTS, LevelFilter::TRACE)
        .with_target(queries::CONNECTIONS, LevelFilter::TRACE);
    let done = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        // The last to hear of an event: it logs events of its own.
        .with(queries::Queries.with_filter(statements))
        .try_init();
    done.map_err(|error| error.to_string())?;
    LOG.set(Log { configured, filter: handle }).map_err(|_| "logging was started twice".to_owned())
}

/// The filter that holds, and the one that the process was started with.
pub fn filters() -> (String, String) {
    let Some(log) = LOG.get() else { return Default::default() };
    let holds = log.filter.with_current(ToString::to_string).unwrap_or_default();
    (holds, log.configured.clone())
}

/// Logs by another filter from now on.
pub fn set(filter: EnvFilter) -> Result<(), String> {
    let log = LOG.get().ok_or("logging was not started")?;
    let shown = filter.to_string();
    log.filter.reload(filter).map_err(|error| error.to_string())?;
    super::lifecycle("log filter", &shown);
    Ok(())
}
