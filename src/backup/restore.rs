//! The way back: into a database of its own, compared there, and given its name only when it is what was backed up.

use std::time::Duration;

use rand::RngExt;
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::time::Instant;

use super::catalog::Backup;
use super::error::{BackupError, Result};
use super::manifest::{Id, Manifest, hex};
use super::tool::Tools;
use super::verify::manifest_of;
use super::{Backups, Progress, content, say};
use crate::clock::system_rng;
use crate::{database, telemetry};

/// Where the names of databases are changed.
const MAINTENANCE: &str = "postgres";
/// Longest name of a database, in bytes.
const MAX_NAME: usize = 63;
/// Advisory lock of the restore that runs, together with a number for the database.
const LOCK: i32 = 0x6575_6862;

/// Where a backup goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A database that does not exist yet.
    New(String),
    /// In place of the one of `DATABASE_URL`, which is kept under another name.
    Live,
}

/// What was restored.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// The backup.
    pub backup: Id,
    /// The database that now holds it.
    pub database: String,
    /// What the database that was there before is called now.
    pub previous: Option<String>,
    /// Tables, each compared with the manifest.
    pub tables: usize,
    /// Their rows.
    pub rows: i64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Restored {
    fn new(manifest: &Manifest, database: String, previous: Option<String>, took: Duration) -> Self {
        Self {
            backup: manifest.id.clone(),
            database,
            previous,
            tables: manifest.tables.len(),
            rows: manifest.tables.iter().map(|table| table.rows).sum(),
            seconds: took.as_secs_f64(),
        }
    }
}

/// A connection that makes and renames databases, and the lock that keeps others from doing so.
struct Server {
    connection: PgConnection,
    options: PgConnectOptions,
    /// The database of `DATABASE_URL`.
    live: String,
    /// How the names of its unfinished databases begin.
    scratch: String,
}

impl Backups {
    /// Restores a backup: verified first, all or nothing, and never into a database that others use.
    pub async fn restore(&self, backup: &Backup, target: &Target, progress: &Progress) -> Result<Restored> {
        let start = Instant::now();
        let manifest = manifest_of(backup)?;
        let mut server = self.server().await?;
        let restored = self.restore_to(target, &mut server, manifest, progress).await;
        server.close().await;
        let (database, previous) = restored?;
        Ok(Restored::new(manifest, database, previous, start.elapsed()))
    }

    async fn restore_to(
        &self,
        target: &Target,
        server: &mut Server,
        manifest: &Manifest,
        progress: &Progress,
    ) -> Result<(String, Option<String>)> {
        server.allows(target).await?;
        self.checksum(manifest, progress).await?;
        let scratch = self.restore_scratch(server, manifest, progress).await?;
        let named = server.name(&scratch, target, &manifest.id).await;
        if named.is_err() {
            server.drop(&scratch).await?;
        }
        named
    }

    /// Restores a backup to see that it can be done, and leaves nothing.
    pub(super) async fn restore_and_drop(&self, manifest: &Manifest, progress: &Progress) -> Result<()> {
        let mut server = self.server().await?;
        let restored = match self.restore_scratch(&mut server, manifest, progress).await {
            Ok(scratch) => server.drop(&scratch).await,
            Err(error) => Err(error),
        };
        server.close().await;
        restored
    }

    /// Restores into a new database, and compares. Leaves it only when all is well.
    async fn restore_scratch(
        &self,
        server: &mut Server,
        manifest: &Manifest,
        progress: &Progress,
    ) -> Result<String> {
        server.clear().await?;
        let scratch = format!("{}{:016x}", server.scratch, system_rng().random::<u64>());
        server
            .run(&format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", quoted(&scratch)))
            .await?;
        let done = self.fill(server, &scratch, manifest, progress).await;
        if let Err(error) = done {
            server.drop(&scratch).await?;
            return Err(error);
        }
        Ok(scratch)
    }

    async fn fill(
        &self,
        server: &mut Server,
        scratch: &str,
        manifest: &Manifest,
        progress: &Progress,
    ) -> Result<()> {
        let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
            .fetch_one(&mut server.connection)
            .await?;
        let (found, made) = (version.unsigned_abs() / 10_000, manifest.server_version / 10_000);
        if found < made {
            return Err(BackupError::Refused(format!(
                "backup {} is of PostgreSQL {made}, and this server is {found}: restore it on {made} or newer",
                manifest.id
            )));
        }
        let tools = Tools::find(&self.programs, manifest.tool_version.max(found)).await?;
        let mut command = tools.command("pg_restore", &server.options, scratch, &self.database_url)?;
        command.args(["--exit-on-error", "--no-owner", "--no-privileges", "--verbose"]);
        self.feed(command, manifest, progress).await?;

        say(progress, "comparing");
        let mut connection = server.options.clone().database(scratch).connect().await?;
        let mut problems = compare(&mut connection, manifest, progress).await?;
        if problems.is_empty() {
            say(progress, "gathering statistics");
            sqlx::query("ANALYZE").execute(&mut connection).await?;
        }
        connection.close().await?;
        if problems.is_empty() {
            return Ok(());
        }
        problems.truncate(20);
        Err(BackupError::Differs { id: manifest.id.clone(), problems })
    }

    async fn server(&self) -> Result<Server> {
        let options = self.connect_options()?;
        let live = options.get_database().unwrap_or(options.get_username()).to_owned();
        let mut connection =
            options.clone().database(MAINTENANCE).application_name("euhub restore").connect().await?;
        let scratch = format!("euhub_scratch_{}_", &hex(&live)[..8]);
        let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
            .bind(LOCK)
            .bind(&scratch)
            .fetch_one(&mut connection)
            .await?;
        if !free {
            return Err(BackupError::Running("another restore or full verification".into()));
        }
        // What others may say of their sessions does not hold for this one.
        sqlx::query("SET statement_timeout = 0").execute(&mut connection).await?;
        Ok(Server { connection, options, live, scratch })
    }
}

impl Server {
    async fn run(&mut self, statement: &str) -> Result<()> {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Lets the next restore begin at once.
    async fn close(mut self) {
        if let Err(error) = self.run("SELECT pg_advisory_unlock_all()").await {
            telemetry::degraded("backup", &error);
        }
        // The server ends the lock with the session, too.
        let _ = self.connection.close().await;
    }

    async fn drop(&mut self, database: &str) -> Result<()> {
        self.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(database))).await
    }

    /// Drops what a restore that was killed left behind; the lock says that none runs.
    async fn clear(&mut self) -> Result<()> {
        let left: Vec<String> =
            sqlx::query_scalar("SELECT datname FROM pg_database WHERE starts_with(datname, $1)")
                .bind(&self.scratch)
                .fetch_all(&mut self.connection)
                .await?;
        for database in left {
            self.drop(&database).await?;
        }
        Ok(())
    }

    async fn exists(&mut self, database: &str) -> Result<bool> {
        let found = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)");
        Ok(found.bind(database).fetch_one(&mut self.connection).await?)
    }

    /// Refuses a target that is taken, or in use.
    async fn allows(&mut self, target: &Target) -> Result<()> {
        match target {
            Target::New(name) => {
                let fits = (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
                if !fits {
                    return Err(BackupError::Refused(format!(
                        "the name of a database has 1 to {MAX_NAME} bytes and no control characters"
                    )));
                }
                if self.exists(name).await? {
                    return Err(BackupError::Refused(format!(
                        "database {name} exists already: choose another name with --into"
                    )));
                }
                Ok(())
            }
            Target::Live => {
                let users: Vec<(String, i64)> = sqlx::query_as(
                    "SELECT CASE application_name WHEN '' THEN usename ELSE application_name END::text, count(*)
                     FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend' GROUP BY 1 ORDER BY 1",
                )
                .bind(&self.live)
                .fetch_all(&mut self.connection)
                .await?;
                if users.is_empty() {
                    return Ok(());
                }
                let users: Vec<String> = users.iter().map(|(name, n)| format!("{name} ({n})")).collect();
                Err(BackupError::Refused(format!(
                    "database {} is in use by {}: stop every `euhub serve`, `worker` and `standalone`, and other programs, \
                     then run this again",
                    self.live,
                    users.join(", ")
                )))
            }
        }
    }

    /// Gives the restored database its name, in one step; the names of it and of what was there before.
    async fn name(&mut self, scratch: &str, target: &Target, id: &Id) -> Result<(String, Option<String>)> {
        let rename =
            |from: &str, to: &str| format!("ALTER DATABASE {} RENAME TO {}", quoted(from), quoted(to));
        self.allows(target).await?;
        let live = self.live.clone();
        let (database, previous) = match target {
            Target::New(name) => (name.clone(), None),
            Target::Live if self.exists(&live).await? => {
                let random = format!("{:06x}", system_rng().random::<u32>() >> 8);
                let room = MAX_NAME - "_before_".len() - id.as_str().len() - 1 - random.len();
                let start = &live[..live.floor_char_boundary(room)];
                (live.clone(), Some(format!("{start}_before_{id}_{random}")))
            }
            Target::Live => (live.clone(), None),
        };
        let mut transaction = self.connection.begin().await?;
        if let Some(previous) = &previous {
            sqlx::query(AssertSqlSafe(rename(&live, previous))).execute(&mut *transaction).await?;
        }
        sqlx::query(AssertSqlSafe(rename(scratch, &database))).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok((database, previous))
    }
}

/// What a restored database lacks of what the manifest promises.
async fn compare(
    connection: &mut PgConnection,
    manifest: &Manifest,
    progress: &Progress,
) -> Result<Vec<String>> {
    let mut transaction = connection.begin().await?;
    content::prepare(&mut transaction).await?;
    let tables = content::tables(&mut transaction, progress).await?;
    let sequences = content::sequences(&mut transaction).await?;
    let mut problems = content::differences((&manifest.tables, &manifest.sequences), (&tables, &sequences));
    // Without its tables, nothing can be said of the schema.
    if problems.is_empty() {
        problems.extend(database::changed_migrations(&mut transaction).await?);
        let version = database::schema_version(&mut transaction).await?;
        if version != manifest.schema_version {
            problems.push(format!("its schema is at {version} instead of {}", manifest.schema_version));
        }
    }
    transaction.rollback().await?;
    Ok(problems)
}

/// A name in SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
