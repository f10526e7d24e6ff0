//! The pool of connections and the schema.

use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;
use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection, PgPool};

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

/// The newest migration of a schema; 0 when there is none. Named in full, as it may be called under any search path.
pub async fn schema_version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    if !has_migrations(connection).await? {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM public._sqlx_migrations WHERE success";
    sqlx::query_scalar(newest).fetch_one(connection).await
}

/// The migrations of a schema that are not those of this program, in words.
pub async fn changed_migrations(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    if !has_migrations(connection).await? {
        return Ok(Vec::new());
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM public._sqlx_migrations ORDER BY version")
            .fetch_all(connection)
            .await?;
    let problem = |(version, checksum): &(i64, Vec<u8>)| match MIGRATOR
        .iter()
        .find(|migration| migration.version == *version)
    {
        None => Some(format!("migration {version} is not known to this program")),
        Some(migration) if migration.checksum.as_ref() != checksum.as_slice() => {
            Some(format!("migration {version} is another than this program's"))
        }
        Some(_) => None,
    };
    Ok(applied.iter().filter_map(problem).collect())
}

async fn has_migrations(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let found = "SELECT to_regclass('public._sqlx_migrations') IS NOT NULL";
    sqlx::query_scalar(found).fetch_one(connection).await
}
