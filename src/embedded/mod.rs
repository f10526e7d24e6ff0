//! The private PostgreSQL of the zero-config default: found, initialised, started, watched and stopped by the process.
//!
//! One process owns a data folder's server (a file lock says which). It starts the server, or takes over one that a killed
//! process left running, starts it again when it dies, and stops it at the end; a helper process stops it when the owner is
//! killed. Any other process on the same data folder uses the running server and leaves it alone.
//!
//! The data folder holds `pgdata` (the cluster), `run` (the Unix socket), `postgres.log`, `pgpass` (for TCP clients, in libpq's
//! password file format) and `embedded.lock`. Connections over the socket are trusted, since only the server's account can enter
//! its folder; those over the loopback port need the password.

mod account;
pub(crate) mod binaries;
mod cluster;
mod server;

use std::{
    fmt::Write as _,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::oneshot;

/// Name of the application's database and of its role, which owns the cluster.
pub const DATABASE: &str = "euhub";

/// How to run the private server.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Folder of everything the server keeps; created when missing.
    pub data_dir: PathBuf,
    /// Folder of the server's programs (`EUHUB_PG_BIN`); `None` looks in the bundle and then in the system's folders.
    pub pg_bin: Option<PathBuf>,
    /// Whether a commit reaches the disk before it is acknowledged. `false` survives a killed server but no power cut: for tests.
    pub fsync: bool,
    /// Longest wait for a server to accept connections, crash recovery included.
    pub start_timeout: Duration,
    /// Longest wait for a fast shutdown; after it the server is stopped at once and recovers at its next start.
    pub stop_timeout: Duration,
}

impl EmbeddedConfig {
    /// A durable server under `data_dir`, with the programs found by themselves.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            pg_bin: None,
            fsync: true,
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(15),
        }
    }
}

/// Why the private server could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No usable server programs on this machine.
    #[error(
        "no PostgreSQL 15 or newer with pgvector was found: run scripts/postgres-bundle, set EUHUB_PG_BIN to the folder of its \
         programs, or set DATABASE_URL to a running server"
    )]
    NotFound,
    /// The named folder holds no usable server programs.
    #[error("{} holds no usable PostgreSQL: {reason}", dir.display())]
    Unusable {
        /// The folder that was named.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Postgres refuses to run as root, and no account to run it as exists.
    #[error(
        "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it as"
    )]
    NoAccount,
    /// The server's account may not enter a folder above the data or the programs.
    #[error(
        "user {account} cannot enter {}, which is above {}: run `chmod o+x {}`, or set EUHUB_DATA_DIR to a folder such as \
         /var/lib/euhub",
        folder.display(), path.display(), folder.display()
    )]
    Blocked {
        /// Name of the account the server runs as.
        account: String,
        /// The folder that cannot be entered.
        folder: PathBuf,
        /// What was to be reached.
        path: PathBuf,
    },
    /// The cluster belongs to another user.
    #[error(
        "{} belongs to user {owner}: run euhub as that user, or set EUHUB_DATA_DIR to a folder of your own",
        path.display()
    )]
    Foreign {
        /// The folder in question.
        path: PathBuf,
        /// Its owner's numeric id.
        owner: u32,
    },
    /// The cluster was made by another major version of PostgreSQL.
    #[error(
        "{} was made by PostgreSQL {cluster}, and {} is {programs}: set EUHUB_PG_BIN to version {cluster}, or restore a backup \
         into an empty EUHUB_DATA_DIR",
        pgdata.display(), bin.display()
    )]
    Version {
        /// The cluster's folder.
        pgdata: PathBuf,
        /// Its major version.
        cluster: u32,
        /// The folder of the programs.
        bin: PathBuf,
        /// Their major version.
        programs: u32,
    },
    /// The data folder's path has no form that a connection URL can carry.
    #[error("the path {} is not UTF-8: set EUHUB_DATA_DIR to one that is", .0.display())]
    Path(PathBuf),
    /// `initdb` failed.
    #[error("initdb could not make {}: {output}", pgdata.display())]
    Init {
        /// The cluster's folder.
        pgdata: PathBuf,
        /// What it printed.
        output: String,
    },
    /// The server ended before it accepted connections.
    #[error("PostgreSQL did not start (see {}): {tail}", log.display())]
    Start {
        /// The server's log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The server accepted no connections in time.
    #[error("PostgreSQL was not ready after {} s (see {})", after.as_secs(), log.display())]
    NotReady {
        /// How long it was waited for.
        after: Duration,
        /// The server's log.
        log: PathBuf,
    },
    /// Another process owns the data folder, but its server does not answer.
    #[error("another process uses {} and its server is not ready: wait for it or stop it", .0.display())]
    Held(PathBuf),
    /// The server was stopped, but not in time for a clean shutdown; it recovers at its next start.
    #[error("PostgreSQL did not shut down within {} s and was stopped at once", .0.as_secs())]
    StopTimeout(Duration),
    /// The application's database could not be made.
    #[error("the database could not be prepared: {0}")]
    Database(#[from] sqlx::Error),
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was done, such as `read`.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// The thread that watches the server ended without a word.
    #[error("the thread that watches PostgreSQL ended unexpectedly")]
    Supervisor,
}

/// Turns an [`io::Error`] into [`EmbeddedError::Io`] with what was done to which file.
fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> EmbeddedError + 'a {
    move |source| EmbeddedError::Io { action, path: path.to_owned(), source }
}

/// Where a running server is reached.
#[derive(Debug, Clone)]
struct Endpoint {
    socket_dir: PathBuf,
    port: u16,
}

impl Endpoint {
    /// The connection URL of `database`, read alike by sqlx and libpq.
    fn url(&self, database: &str) -> String {
        format!(
            "postgres:///{}?host={}&port={}&user={DATABASE}",
            percent_encode(database.as_bytes()),
            percent_encode(self.socket_dir.as_os_str().as_bytes()),
            self.port
        )
    }
}

/// RFC 3986 percent-encoding of all but unreserved characters and `/`.
fn percent_encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut out, &byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
        out
    })
}

/// A handle on the private server. Dropping the owner's handle stops the server in the background; [`EmbeddedPostgres::stop`]
/// also waits for it.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    endpoint: Endpoint,
    owner: Option<Owner>,
}

/// The owner's two ends of the talk with its supervisor.
#[derive(Debug)]
struct Owner {
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<Result<(), EmbeddedError>>,
}

impl EmbeddedPostgres {
    /// Starts the server of `config.data_dir`, or joins the one that runs; its database `euhub` exists afterwards.
    ///
    /// The first start initialises the cluster (about 0.6 s); later ones take 0.1 to 0.2 s. The server does not depend on the
    /// calling task's runtime: it is watched from a thread of its own.
    pub async fn start(config: EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let (started_tx, started) = oneshot::channel();
        let (stop, stop_rx) = oneshot::channel();
        let (stopped_tx, stopped) = oneshot::channel();
        std::thread::Builder::new()
            .name("embedded-postgres".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => runtime.block_on(server::run(config, started_tx, stop_rx, stopped_tx)),
                    Err(source) => {
                        // A start that was given up needs no answer.
                        let _ = started_tx.send(Err(at("start a runtime for", &config.data_dir)(source)));
                    }
                }
            })
            .map_err(at("start a thread from", Path::new("/proc/self")))?;
        let (endpoint, owned) = started.await.map_err(|_| EmbeddedError::Supervisor)??;
        Ok(Self { endpoint, owner: owned.then_some(Owner { stop, stopped }) })
    }

    /// The connection URL of the application's database, over the Unix socket. It holds for the handle's life, restarts included.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// The connection URL of another database of the same server.
    pub fn url_of(&self, database: &str) -> String {
        self.endpoint.url(database)
    }

    /// The port on 127.0.0.1, for tools that know no Unix sockets; the password is in the data folder's `pgpass`.
    pub fn port(&self) -> u16 {
        self.endpoint.port
    }

    /// Whether this process started or took over the server, and so stops it.
    pub fn is_owner(&self) -> bool {
        self.owner.is_some()
    }

    /// Ends all connections and shuts the server down, within `stop_timeout` and a few seconds. Where another process owns the
    /// server, nothing happens.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        let Some(owner) = self.owner else { return Ok(()) };
        // Fails only if the supervisor is gone, which the next line reports.
        let _ = owner.stop.send(());
        owner.stopped.await.map_err(|_| EmbeddedError::Supervisor)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_escapes_the_socket_folder() {
        let endpoint = Endpoint { socket_dir: PathBuf::from("/srv/a b&c+é/run"), port: 61234 };
        assert_eq!(
            endpoint.url("euhub"),
            "postgres:///euhub?host=/srv/a%20b%26c%2B%C3%A9/run&port=61234&user=euhub"
        );
        let options: sqlx::postgres::PgConnectOptions =
            endpoint.url("euhub").parse().expect("sqlx reads the URL");
        assert_eq!(options.get_socket().map(PathBuf::as_path), Some(Path::new("/srv/a b&c+é/run")));
        assert_eq!((options.get_port(), options.get_username()), (61234, "euhub"));
    }
}
