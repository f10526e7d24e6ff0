//! Making a backup: a snapshot, its dump and its numbers side by side, and a manifest only when the dump has been read back.

use std::process::Stdio;

use chrono::{SubsecRound, TimeDelta};
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;

use super::error::{BackupError, Result};
use super::manifest::{Id, Manifest};
use super::pack::Packer;
use super::storage::Upload;
use super::tool::Tools;
use super::{Backups, Progress, content, count, say};
use crate::clock::system_rng;
use crate::{database, telemetry};

/// Advisory lock of the backup that runs.
const LOCK: i64 = 0x6575_6875_6200_0001;
/// What the connection of a running backup is called, before its id.
const NAME: &str = "euhub backup ";
/// Bytes of the dump that are read at once.
const PIECE: usize = 128 << 10;

/// What was stored.
struct Dump {
    size: u64,
    sha256: String,
    dump_size: u64,
}

/// What the snapshot is of.
struct Snapshot {
    name: String,
    wal_position: String,
    schema_version: i64,
}

impl Backups {
    /// An id for a backup that begins now; later than every other, whatever the clock did.
    pub async fn next_id(&self) -> Result<Id> {
        let now = self.clock.now().trunc_subsecs(0);
        let newest = self.entries().await?.last().map(|entry| entry.id.time() + TimeDelta::seconds(1));
        Ok(Id::new(newest.map_or(now, |newest| newest.max(now)), &mut system_rng()))
    }

    /// Makes the backup `id` for `actor`. One runs at a time, whoever makes it; what is torn leaves nothing behind but space to be
    /// cleared.
    pub async fn create(&self, id: &Id, actor: &str, progress: &Progress) -> Result<Manifest> {
        let options = self.connect_options()?;
        let mut connection = options.clone().application_name(&format!("{NAME}{id}")).connect().await?;
        lock(&mut connection).await?;
        let made = self.create_locked(id, actor, &options, &mut connection, progress).await;
        if made.is_err() {
            // Without a manifest it is not offered; a dump that stays is cleared by the next prune.
            if let Err(error) = self.storage.delete(&id.dump()).await {
                telemetry::degraded("backup", &error);
            }
        }
        let unlocked = match made.is_ok() {
            true => unlock(connection).await,
            false => end(id, &options).await,
        };
        if let Err(error) = unlocked {
            telemetry::degraded("backup", &error);
        }
        made
    }

    async fn create_locked(
        &self,
        id: &Id,
        actor: &str,
        options: &PgConnectOptions,
        connection: &mut PgConnection,
        progress: &Progress,
    ) -> Result<Manifest> {
        say(progress, "snapshot");
        let server_version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
            .fetch_one(&mut *connection)
            .await?;
        let server_version = server_version.unsigned_abs();
        let tools = Tools::find(&self.programs, server_version / 10_000).await?;

        let mut transaction = connection.begin().await?;
        let snapshot = snapshot(&mut transaction).await?;
        // Sequences go on whatever the snapshot: what the dump holds of them must not be older.
        let sequences = content::sequences(&mut transaction).await?;
        // Nobody listens: the dump says where it is.
        let unheard = Progress::default();
        let tables = content::tables(&mut transaction, &unheard);
        let dump = self.dump(id, &tools, options, &snapshot.name, progress);
        let (tables, dump) = tokio::try_join!(tables, dump)?;
        transaction.rollback().await?;

        say(progress, "reading back");
        let stored = self.storage.digest(&id.dump(), |_| ()).await?;
        if stored.as_ref() != Some(&(dump.size, dump.sha256.clone())) {
            return Err(BackupError::Corrupt {
                id: id.clone(),
                why: "storage does not give back what it was given".into(),
            });
        }
        let create_time = id.time();
        let manifest = Manifest {
            id: id.clone(),
            create_time,
            end_time: self.clock.now().max(create_time),
            expire_time: create_time + TimeDelta::days(self.keep.days.into()),
            actor: actor.to_owned(),
            size: dump.size,
            sha256: dump.sha256,
            dump_size: dump.dump_size,
            key_id: self.key.as_ref().map(|key| key.id().to_owned()),
            schema_version: snapshot.schema_version,
            server_version,
            tool_version: tools.version,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            wal_position: snapshot.wal_position,
            tables,
            sequences,
        };
        self.storage.create(&id.manifest(), manifest.seal()?).await?;
        Ok(manifest)
    }

    /// Runs `pg_dump` into storage.
    async fn dump(
        &self,
        id: &Id,
        tools: &Tools,
        options: &PgConnectOptions,
        snapshot: &str,
        progress: &Progress,
    ) -> Result<Dump> {
        let database = options.get_database().unwrap_or(options.get_username());
        let mut command = tools.command("pg_dump", options, database, &self.database_url)?;
        command.args(["--format=custom", "--compress=0", "--lock-wait-timeout=10s", "--verbose"]);
        command.args([format!("--snapshot={snapshot}").as_str()]);
        command.args([format!("--exclude-table-data={}", content::NOT_DUMPED).as_str()]);
        let mut upload = self.storage.upload(&id.dump()).await?;
        let stored = async {
            let (mut child, talk, _password) = command.start(Stdio::null(), Stdio::piped())?;
            let stdout =
                child.stdout.take().ok_or_else(|| BackupError::Program("pg_dump has no stdout".into()))?;
            let (stored, words) =
                tokio::join!(self.store(stdout, &mut upload, progress), talk.listen(progress));
            // Storage that fails ends pg_dump, whose own words then say less.
            let stored = stored?;
            words?.check(child.wait().await?)?;
            Ok(stored)
        };
        match stored.await {
            Ok(stored) => {
                upload.finish().await?;
                Ok(stored)
            }
            Err(error) => {
                if let Err(error) = upload.abort().await {
                    telemetry::degraded("backup", &error);
                }
                Err(error)
            }
        }
    }

    async fn store(&self, mut stdout: ChildStdout, upload: &mut Upload, progress: &Progress) -> Result<Dump> {
        let mut packer = Packer::new(self.key.as_ref(), &mut system_rng())?;
        let (mut hash, mut size, mut dump_size) = (Sha256::new(), 0, 0);
        let mut piece = vec![0; PIECE];
        loop {
            let n = stdout.read(&mut piece).await?;
            if n == 0 {
                break;
            }
            dump_size += n as u64;
            count(progress, n);
            let packed = packer.push(&piece[..n])?;
            hash.update(&packed);
            size += packed.len() as u64;
            upload.write(&packed).await?;
        }
        let packed = packer.finish()?;
        hash.update(&packed);
        size += packed.len() as u64;
        upload.write(&packed).await?;
        Ok(Dump { size, sha256: format!("{:x}", hash.finalize()), dump_size })
    }
}

/// Takes the lock, or says who has it.
async fn lock(connection: &mut PgConnection) -> Result<()> {
    if sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut *connection).await? {
        return Ok(());
    }
    let holder: Option<String> = sqlx::query_scalar(
        "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE locktype = 'advisory' AND granted AND classid = ($1 >> 32)::int4::oid AND objid = ($1 & x'7fffffff'::int8)::int4::oid
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .bind(LOCK)
    .fetch_optional(connection)
    .await?;
    let running = holder.as_deref().and_then(|name| name.strip_prefix(NAME)).unwrap_or("of another process");
    Err(BackupError::Running(format!("backup {running}")))
}

/// Lets the next one begin at once.
async fn unlock(mut connection: PgConnection) -> Result<()> {
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// Ends the session of a backup that failed, which may still read a table, and with it the lock.
async fn end(id: &Id, options: &PgConnectOptions) -> Result<()> {
    let mut connection = options.clone().application_name("euhub").connect().await?;
    sqlx::query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1")
        .bind(format!("{NAME}{id}"))
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
}

/// Begins the snapshot that the dump and its numbers share.
async fn snapshot(transaction: &mut PgConnection) -> Result<Snapshot> {
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *transaction)
        .await?;
    content::prepare(transaction).await?;
    let (name, wal_position): (String, String) = sqlx::query_as(
        "SELECT pg_export_snapshot(), coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_lsn() END, '0/0')::text",
    )
    .fetch_one(&mut *transaction)
    .await?;
    let schema_version = database::schema_version(transaction).await?;
    Ok(Snapshot { name, wal_position, schema_version })
}
