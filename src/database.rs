//! The pool of connections and the schema.

use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;
use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};

use crate::telemetry;

/// Our own schema; the job queue brings its own.
static MIGRATOR: Migrator = sqlx::migrate!();

/// How long a call waits for a connection before the database counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// A pool of at most `connections`, opened as needed.
pub fn pool(url: &str, connections: u32) -> Result<PgPool, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?.application_name("euhub");
    // `telemetry` hears of every statement and every wait for a connection, and logs the slow ones itself.
    let options = options.log_slow_statements(LevelFilter::Debug, telemetry::SLOW_STATEMENT);
    let options = options.options([
        // Filters that a client left out vanish from the plan only when it is made for the call's own parameters.
        ("plan_cache_mode", "force_custom_plan"),
        ("statement_timeout", "30s"),
        ("idle_in_transaction_session_timeout", "60s"),
        ("timezone", "UTC"),
        // Filtered vector search goes on through the index until enough rows pass the filters.
        ("hnsw.iterative_scan", "strict_order"),
        ("hnsw.ef_search", "100"),
        ("jit", "off"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .acquire_time_level(LevelFilter::Trace)
        .connect_lazy_with(options))
}

/// Brings the schema up to date: ours and the job queue's. A second time changes nothing.
pub async fn migrate(db: &PgPool) -> anyhow::Result<()> {
    MIGRATOR.run(db).await?;
    crate::jobs::migrate(db).await
}

/// The newest migration that the database lacks, if it lacks any.
pub async fn pending(db: &PgPool) -> anyhow::Result<Option<String>> {
    let mut connection = db.acquire().await?;
    connection.ensure_migrations_table(&MIGRATOR.table_name).await?;
    let applied = connection.list_applied_migrations(&MIGRATOR.table_name).await?;
    let missing = MIGRATOR.iter().rfind(|wanted| !applied.iter().any(|done| done.version == wanted.version));
    Ok(missing
        .map(|migration| format!("{:04}_{}", migration.version, migration.description.replace(' ', "_"))))
}
