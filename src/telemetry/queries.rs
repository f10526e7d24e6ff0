//! Statements, as sqlx tells of them: how long each took, by verb and table, and the slow ones by name; and waits for connections.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::metrics::metrics;
use super::trace;

/// Where sqlx tells of a statement.
pub(super) const STATEMENTS: &str = "sqlx::query";
/// Where it tells of a connection that a pool gave.
pub(super) const CONNECTIONS: &str = "sqlx::pool::acquire";
/// Where slow statements are logged.
const SLOW: &str = "euhub::slow_query";
/// A statement that takes this long is logged.
pub const SLOW_STATEMENT: Duration = Duration::from_millis(250);

/// Nanoseconds that calls have waited for connections since this was last taken.
static WAITED: AtomicU64 = AtomicU64::new(0);

/// Time that calls have waited for connections since this was last asked.
pub(super) fn take_wait() -> Duration {
    Duration::from_nanos(WAITED.swap(0, Ordering::Relaxed))
}

/// Measures each statement that sqlx tells of.
pub(super) struct Queries;

impl<S: Subscriber> Layer<S> for Queries {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut told = Told::default();
        event.record(&mut told);
        let Some(duration) = told.duration else { return };
        if event.metadata().target() == CONNECTIONS {
            let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
            WAITED.fetch_add(nanos, Ordering::Relaxed);
            return;
        }
        let operation = operation(&told.text);
        if duration >= SLOW_STATEMENT {
            let duration_ms = super::milliseconds(duration);
            tracing::warn!(target: SLOW, operation, duration_ms, trace_id = trace::current_id(), "slow query");
        }
        trace::statement(&operation, duration);
        metrics().db_duration.record(duration.as_secs_f64(), &[KeyValue::new("operation", operation)]);
    }
}

/// The fields of an event that matter.
#[derive(Default)]
struct Told {
    text: String,
    duration: Option<Duration>,
}

impl Visit for Told {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if matches!(field.name(), "elapsed_secs" | "acquired_after_secs") {
            self.duration = Duration::try_from_secs_f64(value).ok();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // The statement, or its beginning where that is all of it.
        if field.name() == "db.statement" && !value.is_empty()
            || field.name() == "summary" && self.text.is_empty()
        {
            value.clone_into(&mut self.text);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// A statement's verb and first table (`SELECT keywords`), those of subqueries last: few, since our statements are fixed texts.
fn operation(statement: &str) -> String {
    let mut words = words(statement);
    let first = words.next().map(|(_, word)| word.to_ascii_uppercase()).unwrap_or_default();
    let verb = match first.as_str() {
        "WITH" => statement
            .split_whitespace()
            .map(|word| word.trim_start_matches('('))
            .find(|word| matches!(*word, "INSERT" | "UPDATE" | "DELETE"))
            .unwrap_or("SELECT"),
        "SELECT" | "INSERT" | "UPDATE" | "DELETE" => &first,
        "BEGIN" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "SET" | "LOCK" | "NOTIFY" | "LISTEN" => {
            return first;
        }
        _ => return "OTHER".to_owned(),
    };
    let mut introduced = false;
    let mut tables = words.filter(|(_, word)| {
        let table = introduced;
        introduced = matches!(*word, "FROM" | "INTO" | "UPDATE" | "JOIN");
        table && !introduced && !matches!(*word, "SELECT" | "LATERAL" | "ONLY" | "unnest")
    });
    let table = if first == "UPDATE" {
        statement.split_whitespace().nth(1)
    } else {
        let inner = tables.next();
        let outer = inner.into_iter().chain(tables).find(|(depth, _)| *depth == 0);
        outer.or(inner).map(|(_, table)| table)
    };
    match table {
        Some(table) => format!("{verb} {table}"),
        None => verb.to_owned(),
    }
}

/// The words of a statement, each with the number of parentheses around it.
fn words(statement: &str) -> impl Iterator<Item = (u32, &str)> {
    let other = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    let words = statement.split_inclusive(other).scan(0_u32, move |depth, piece| {
        let around = *depth;
        match piece.chars().next_back() {
            Some('(') => *depth += 1,
            Some(')') => *depth = depth.saturating_sub(1),
            _ => {}
        }
        Some((around, piece.trim_end_matches(other)))
    });
    words.filter(|(_, word)| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::operation;

    #[test]
    fn a_statement_is_named_by_its_verb_and_table() {
        let table = [
            ("SELECT id FROM keywords WHERE id = $1", "SELECT keywords"),
            ("\n\nSELECT count(*)\n FROM articles a JOIN sources s ON true\n", "SELECT articles"),
            ("INSERT INTO audit_log (time) VALUES ($1)", "INSERT audit_log"),
            ("UPDATE api_keys SET last_use_time = $2", "UPDATE api_keys"),
            ("DELETE FROM feeds WHERE id = $1", "DELETE feeds"),
            ("WITH due AS (SELECT id FROM feeds) INSERT INTO jobs SELECT 1", "INSERT jobs"),
            ("SELECT 1 AS one", "SELECT"),
            ("COMMIT", "COMMIT"),
            ("SELECT * FROM (SELECT id FROM runs) r", "SELECT runs"),
            ("SELECT id, (SELECT count(*) FROM links l) AS n FROM keywords k", "SELECT keywords"),
            ("SELECT EXTRACT(EPOCH FROM $1 - min(run_at)) FROM jobs", "SELECT jobs"),
            ("SET LOCAL lock_timeout = '1s'", "SET"),
            ("VACUUM", "OTHER"),
        ];
        for (statement, name) in table {
            assert_eq!(operation(statement), name, "{statement}");
        }
    }
}
