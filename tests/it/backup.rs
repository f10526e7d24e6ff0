//! Backups with the real program on the real Postgres: made, verified, restored, pruned, and what must not happen to them.

mod awkward;
mod encryption;
mod failing;
mod full_disk;
mod kills;
mod password;
mod pruning;
mod races;
mod restoring;
mod s3;
mod tampering;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use euhub::backup::{Backups, Depth, Id, Progress};
use euhub::clock::Clock;
use euhub::config::{Config, Secret};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio::process::Command;

use crate::embedded::scratch;
use crate::hub::Hub;
use crate::program::{euhub, run_ok, wait_for};

/// A Hub, and a folder with its backups.
pub struct Lab {
    pub hub: Hub,
    pub folder: TempDir,
}

impl Lab {
    /// With the sample articles.
    pub async fn new() -> Self {
        Self { hub: Hub::seeded().await, folder: scratch() }
    }

    /// Without articles.
    pub async fn empty() -> Self {
        Self { hub: Hub::empty().await, folder: scratch() }
    }

    /// `euhub backup` with arguments.
    pub fn backup(&self, arguments: &[&str]) -> Command {
        self.backup_of(&self.hub.database_url, arguments)
    }

    /// `euhub backup` of another database.
    pub fn backup_of(&self, database_url: &str, arguments: &[&str]) -> Command {
        let mut command = euhub(self.folder.path());
        command.env("DATABASE_URL", database_url).arg("backup").args(arguments);
        if let Some(bin) = pg_bin() {
            command.env("EUHUB_PG_BIN", bin);
        }
        command
    }

    /// Settings of the library that are those of [`Lab::backup`].
    pub fn config(&self) -> Config {
        Config { data_dir: self.folder.path().join(".euhub"), pg_bin: pg_bin(), ..Config::default() }
    }

    /// The library on the same backups.
    pub fn backups(&self) -> Backups {
        self.backups_at(Clock::system())
    }

    /// [`Lab::backups`] at another time.
    pub fn backups_at(&self, clock: Clock) -> Backups {
        open(&self.config(), &self.hub.database_url, clock)
    }

    /// Makes a backup that is not restored to see that it can be.
    pub async fn create(&self) -> Id {
        create(&self.backups()).await
    }

    /// Where the backups are.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join(".euhub/backups")
    }

    /// Names of the stored files, unfinished ones too.
    pub fn files(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.store()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Runs statements on the Hub's database.
    pub async fn run(&self, statements: &str) {
        run(&self.hub.database_url, statements).await;
    }

    /// Address of another database of the same server.
    pub fn url_of(&self, database: &str) -> String {
        let (_, end) = self.hub.database_url.split_once('?').expect("the address of a socket");
        format!("postgres:///{database}?{end}")
    }

    /// The Hub's database.
    pub fn database(&self) -> &str {
        let name = self.hub.database_url.strip_prefix("postgres:///").expect("the address of a socket");
        name.split_once('?').expect("the address of a socket").0
    }

    /// Ends the Hub, so that nothing is connected to its database.
    pub async fn leave(&self) {
        self.hub.stopping.cancel();
        self.hub.db.close().await;
        let mut connection = connect(&self.url_of("postgres")).await;
        wait_for("an unused database", async || {
            let users = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
            let users: i64 =
                sqlx::query_scalar(users).bind(self.database()).fetch_one(&mut connection).await.unwrap();
            users == 0
        })
        .await;
    }

    /// Databases of the server whose names begin with `start`.
    pub async fn databases(&self, start: &str) -> Vec<String> {
        let mut connection = connect(&self.url_of("postgres")).await;
        let found = "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1) ORDER BY 1";
        sqlx::query_scalar(found).bind(start).fetch_all(&mut connection).await.unwrap()
    }

    /// The unfinished databases of restores of this Hub.
    pub async fn scratches(&self) -> Vec<String> {
        use sha2::{Digest, Sha256};
        let hash = format!("{:x}", Sha256::digest(self.database()));
        self.databases(&format!("euhub_scratch_{}_", &hash[..8])).await
    }
}

/// The programs of the run's Postgres.
pub fn pg_bin() -> Option<PathBuf> {
    crate::embedded::config("").pg_bin
}

pub fn open(config: &Config, database_url: &str, clock: Clock) -> Backups {
    Backups::open(config, Secret::new(database_url), clock).unwrap()
}

/// Makes a backup that is not restored to see that it can be.
pub async fn create(backups: &Backups) -> Id {
    let id = backups.next_id().await.unwrap();
    backups.create(&id, "test", &Progress::default()).await.unwrap();
    id
}

/// What a verification finds.
pub async fn problems(backups: &Backups, id: &Id, depth: Depth) -> Vec<String> {
    backups.verify(id, depth, &Progress::default()).await.unwrap().problems
}

/// Runs a command that must succeed; the JSON object that it prints.
pub async fn json(command: Command) -> Value {
    let text = run_ok(command).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

pub async fn run(url: &str, statements: &str) {
    let mut connection = connect(url).await;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// All that a database holds, a line each: columns, indexes, constraints, triggers, functions, sequences, and each table's rows. The
/// server writes functions that it has parsed itself without a needless alias.
pub async fn contents(url: &str) -> BTreeSet<String> {
    const SCHEMA: &str = "
        WITH ours AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
        SELECT format('column %s %s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod),
                attnotnull, pg_get_expr(adbin, adrelid))
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE attnum > 0 AND NOT attisdropped AND relnamespace IN (SELECT oid FROM ours)
        UNION ALL SELECT indexdef FROM pg_indexes WHERE quote_ident(schemaname)::regnamespace::oid IN (SELECT oid FROM ours)
        UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
            FROM pg_constraint WHERE connamespace IN (SELECT oid FROM ours)
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT replace(pg_get_functiondef(oid), ' AS text,', ',') FROM pg_proc WHERE pronamespace IN (SELECT oid FROM ours) AND prokind <> 'a'
        UNION ALL SELECT format('sequence %s %s', format('%I.%I', schemaname, sequencename), last_value) FROM pg_sequences
        UNION ALL SELECT format('view %s %s', oid::regclass, pg_get_viewdef(oid)) FROM pg_class
            WHERE relkind IN ('v', 'm') AND relnamespace IN (SELECT oid FROM ours)
        UNION ALL SELECT format('extension %s', extname) FROM pg_extension";
    const TABLES: &str = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
        WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema' AND tablename <> 'backup_runs'";

    let mut connection = connect(url).await;
    sqlx::query("SET search_path = ''").execute(&mut connection).await.unwrap();
    let mut lines: BTreeSet<String> =
        sqlx::query_scalar(SCHEMA).fetch_all(&mut connection).await.unwrap().into_iter().collect();
    let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut connection).await.unwrap();
    for table in tables {
        let rows = format!(
            "SELECT format('%s rows, %s', count(*), md5(string_agg(md5(t::text), '' ORDER BY md5(t::text) COLLATE \"C\"))) FROM {table} t"
        );
        let rows: String = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(&mut connection).await.unwrap();
        lines.insert(format!("table {table}: {rows}"));
    }
    connection.close().await.unwrap();
    lines
}

/// Two databases hold the same.
pub async fn assert_same(one: &str, other: &str) {
    let (one, other) = (contents(one).await, contents(other).await);
    let differences: Vec<_> = one.symmetric_difference(&other).collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Waits until a program of PostgreSQL, or the backup itself, waits for a lock on a table of the database.
pub async fn waits_for_a_lock(url: &str, application: &str) {
    let mut connection = connect(url).await;
    wait_for("a backup that waits", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND starts_with(application_name, $1) AND wait_event_type = 'Lock'";
        let waiting = sqlx::query_scalar::<_, i64>(waiting).bind(application);
        waiting.fetch_one(&mut connection).await.unwrap() == 1
    })
    .await;
}

/// A number of the test's own; each run takes others.
pub fn random(range: std::ops::Range<u64>) -> u64 {
    use rand::RngExt;
    euhub::clock::system_rng().random_range(range)
}
