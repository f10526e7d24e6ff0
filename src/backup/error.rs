//! What can go wrong with a backup.

use super::manifest::Id;

/// Result of what is done with backups.
pub type Result<T, E = BackupError> = std::result::Result<T, E>;

/// Why a backup was not made, verified, restored or removed. Messages are for operators; no secret is in them.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Another one runs.
    #[error("{0} is running; one at a time")]
    Running(String),
    /// No backup has this id, or there is none at all.
    #[error("{0}; `euhub backup list` shows what there is")]
    NotFound(String),
    /// What is no id.
    #[error("`{0}` is no backup's id: an id looks like 20261124T010000Z-1a2b3c")]
    Id(String),
    /// A setting that does not hold.
    #[error("{0}")]
    Setting(String),
    /// A manifest that cannot be trusted.
    #[error("the manifest of backup {id} {why}")]
    Manifest {
        /// The backup.
        id: Id,
        /// What is wrong with it.
        why: String,
    },
    /// Stored bytes that are not those that were stored.
    #[error("backup {id} is corrupt: {why}")]
    Corrupt {
        /// The backup.
        id: Id,
        /// What is wrong.
        why: String,
    },
    /// A restored database that is not the one that was backed up.
    #[error("backup {id} restores to something else: {}", .problems.join("; "))]
    Differs {
        /// The backup.
        id: Id,
        /// What differs, a table or a sequence each.
        problems: Vec<String>,
    },
    /// A program of PostgreSQL that is missing, too old or failed.
    #[error("{0}")]
    Program(String),
    /// The storage.
    #[error("storage, {doing}: {source}")]
    Storage {
        /// What was done with it.
        doing: String,
        /// What it answered.
        source: object_store::Error,
    },
    /// The state of things does not allow it.
    #[error("{0}")]
    Refused(String),
    /// The database.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A table that could not be read.
    #[error("table {name}: {source}")]
    Table {
        /// `schema.table`.
        name: String,
        /// Why.
        source: sqlx::Error,
    },
    /// A pipe or a file of this process.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl BackupError {
    /// Wraps an answer of the storage.
    pub(super) fn storage(doing: impl Into<String>) -> impl FnOnce(object_store::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Storage { doing, source }
    }

    /// What is kept of it where administrators read: without the texts of libraries, which the log has.
    pub fn told(&self) -> String {
        match self {
            Self::Database(_) => "the database failed: the log of the worker says more".into(),
            Self::Io(_) => "the worker failed: its log says more".into(),
            Self::Storage { doing, .. } => {
                format!("storage failed, {doing}: the log of the worker says more")
            }
            error => error.to_string(),
        }
    }
}
