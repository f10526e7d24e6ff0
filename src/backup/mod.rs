//! Backups that have been restored: a dump in storage, a manifest written last, and a comparison with what the manifest promises.
//! How it is used and what is promised: `docs/BACKUP.md`.

mod catalog;
pub mod command;
mod content;
mod create;
mod error;
pub mod manifest;
mod pack;
mod prune;
mod restore;
pub mod rpc;
pub mod service;
pub mod storage;
mod store;
mod tool;
mod verify;

use std::path::PathBuf;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;

pub use catalog::Backup;
pub use error::{BackupError, Result};
pub use manifest::{Id, Manifest};
pub use prune::{Keep, Pruned};
pub use restore::{Restored, Target};
pub use verify::{Check, Depth};

use crate::clock::Clock;
use crate::config::{Config, Secret};
use pack::Key;
use storage::Storage;

/// Longest that backups may be told to be kept: a hundred years. Dates end somewhere.
const MAX_DAYS: u32 = 36_500;

/// Backups of one database, in one storage.
#[derive(Clone, Debug)]
pub struct Backups {
    database_url: Secret,
    storage: Storage,
    key: Option<Key>,
    keep: Keep,
    programs: Programs,
    clock: Clock,
}

/// Where the programs of PostgreSQL are looked for before the system's own folders.
#[derive(Clone, Debug)]
struct Programs {
    named: Option<PathBuf>,
    data_dir: PathBuf,
}

impl Backups {
    /// Backups of the database at `database_url`, as the settings say. Reads the key file; connects to nothing.
    pub fn open(config: &Config, database_url: Secret, clock: Clock) -> Result<Self> {
        let url = config.backup_url.clone();
        let storage = match url {
            Some(url) => Storage::open(&url)?,
            None => Storage::folder(&config.data_dir.join("backups"))?,
        };
        let keep = Keep {
            days: config.backup_keep_days,
            weeks: config.backup_keep_weeks,
            months: config.backup_keep_months,
        };
        if keep.days > MAX_DAYS {
            return Err(BackupError::Setting(format!(
                "backup_keep_days is {}, and {MAX_DAYS} is the most",
                keep.days
            )));
        }
        let programs = Programs { named: config.pg_bin.clone(), data_dir: config.data_dir.clone() };
        let key = config.backup_key_file.as_deref().map(Key::read).transpose()?;
        Ok(Self { database_url, storage, key, keep, programs, clock })
    }

    /// Where the backups are.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// How to connect to the database. The message of the driver may hold the address, and with it a password.
    fn connect_options(&self) -> Result<PgConnectOptions> {
        self.database_url
            .expose()
            .parse()
            .map_err(|_| BackupError::Setting("DATABASE_URL is not valid".into()))
    }

    /// The key that a backup was encrypted with, if it was.
    fn key_of(&self, manifest: &Manifest) -> Result<Option<&Key>> {
        let Some(wanted) = &manifest.key_id else { return Ok(None) };
        match &self.key {
            None => Err(BackupError::Setting(format!(
                "backup {} is encrypted with key {wanted}: set EUHUB_BACKUP_KEY_FILE to the file that holds it",
                manifest.id
            ))),
            Some(key) if key.id() != wanted => Err(BackupError::Setting(format!(
                "backup {} is encrypted with key {wanted}, and EUHUB_BACKUP_KEY_FILE holds key {}",
                manifest.id,
                key.id()
            ))),
            key => Ok(key.as_ref()),
        }
    }
}

/// How far a backup, verification or restore is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What is being done, for people; of a dump, the table.
    pub what: String,
    /// Bytes that have gone through, before compression.
    pub bytes: u64,
}

/// Where steps are told; nobody need listen.
pub type Progress = watch::Sender<Step>;

/// Says what is done next.
fn say(progress: &Progress, what: impl Into<String>) {
    progress.send_modify(|step| step.what = what.into());
}

/// Counts bytes that went through.
fn count(progress: &Progress, bytes: usize) {
    progress.send_modify(|step| step.bytes += bytes as u64);
}
