//! One server process: launched or taken over, waited for, restarted and stopped.

use std::{
    fs::File,
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin},
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    DATABASE, EmbeddedConfig, EmbeddedError, Endpoint, account::Account, at, binaries::Binaries,
    cluster::Cluster,
};

/// How often the server's state is looked at while it starts or ends.
const POLL: Duration = Duration::from_millis(5);
/// How often the log's size is looked at.
const LOG_CHECK: Duration = Duration::from_secs(10);
/// Starts that are tried before an error is believed to be lasting.
const ATTEMPTS: u32 = 4;
/// Pause after a failed start; grows with each.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between attempts to bring a dead server back.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long an immediate shutdown may take before the process is killed.
const IMMEDIATE_STOP: Duration = Duration::from_secs(5);
/// SQLSTATE codes that are met on purpose.
const ADMIN_SHUTDOWN: &str = "57P01";
const CANNOT_CONNECT_NOW: &str = "57P03";
const DUPLICATE_DATABASE: &str = "42P04";
const UNIQUE_VIOLATION: &str = "23505";
/// Log lines that tell of a predecessor's last processes, which are about to end.
const PASSING: [&str; 2] =
    ["pre-existing shared memory block", "lock file \"postmaster.pid\" already exists"];

type Started = Result<(Endpoint, bool), EmbeddedError>;

/// Brings the server up, reports where it is and whether this process owns it, and then serves it until `stop` is sent or
/// dropped. The body of the supervising thread.
pub(super) async fn run(
    config: EmbeddedConfig,
    started: oneshot::Sender<Started>,
    mut stop: oneshot::Receiver<()>,
    stopped: oneshot::Sender<Result<(), EmbeddedError>>,
) {
    let role = match Role::take(config).await {
        Ok(role) => role,
        Err(error) => {
            // Whoever asked has gone if this fails; so it does below.
            let _ = started.send(Err(error));
            return;
        }
    };
    match role {
        Role::Guest(endpoint) => {
            let _ = started.send(Ok((endpoint, false)));
        }
        Role::Owner(owned) => {
            let Owned { launcher, server, lock } = *owned;
            let _ = started.send(Ok((server.endpoint.clone(), true)));
            let outcome = launcher.supervise(server, &mut stop).await;
            launcher.cluster.remove_outside_socket_dir(&launcher.socket_dir);
            drop(lock);
            let _ = stopped.send(outcome);
        }
    }
}

/// What this process is to the data folder's server.
enum Role {
    /// It holds the lock and so starts, watches and stops the server.
    Owner(Box<Owned>),
    /// It uses a server that another process owns.
    Guest(Endpoint),
}

/// A server and the lock that makes it this process's.
struct Owned {
    launcher: Launcher,
    server: Server,
    lock: File,
}

/// The first step to a role: whichever came first of the lock and a server to join.
enum Claim {
    Lock(File),
    Running(Endpoint),
}

impl Role {
    async fn take(config: EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let cluster = Cluster::new(&config.data_dir)?;
        let claim = timeout(config.start_timeout, claim(&cluster))
            .await
            .map_err(|_| EmbeddedError::Held(cluster.data_dir.clone()))??;
        match claim {
            Claim::Lock(lock) => {
                let launcher = Launcher::new(config, cluster).await?;
                let server = launcher.launch(None).await?;
                ensure_database(&server.endpoint, launcher.config.start_timeout, &launcher.cluster).await?;
                Ok(Self::Owner(Box::new(Owned { launcher, server, lock })))
            }
            Claim::Running(endpoint) => {
                ensure_database(&endpoint, config.start_timeout, &cluster).await?;
                Ok(Self::Guest(endpoint))
            }
        }
    }
}

async fn claim(cluster: &Cluster) -> Result<Claim, EmbeddedError> {
    loop {
        if let Some(lock) = cluster.try_lock()? {
            return Ok(Claim::Lock(lock));
        }
        if let Some(file) = cluster.pid_file().filter(|file| file.ready && cluster.is_server(file.pid)) {
            return Ok(Claim::Running(Endpoint { socket_dir: file.socket_dir, port: file.port }));
        }
        sleep(POLL).await;
    }
}

/// Makes the application's database where it is missing. A server that was taken over may be on its way out, so a refused
/// connection is tried again for a while.
async fn ensure_database(
    endpoint: &Endpoint,
    patience: Duration,
    cluster: &Cluster,
) -> Result<(), EmbeddedError> {
    let options: PgConnectOptions = endpoint.url("postgres").parse()?;
    let attempt = async || {
        let mut connection = PgConnection::connect_with(&options).await?;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(DATABASE)
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            let created = sqlx::query("CREATE DATABASE euhub").execute(&mut connection).await;
            // Two processes that start together may both find it missing.
            if let Err(error) = created.map(drop)
                && !error.as_database_error().is_some_and(|e| {
                    matches!(e.code().as_deref(), Some(DUPLICATE_DATABASE | UNIQUE_VIOLATION))
                })
            {
                return Err(error);
            }
        }
        connection.close().await
    };
    let attempts = async {
        loop {
            match attempt().await {
                Err(error) if is_refusal(&error) => sleep(RETRY_PAUSE).await,
                other => return other.map_err(EmbeddedError::Database),
            }
        }
    };
    timeout(patience, attempts)
        .await
        .map_err(|_| EmbeddedError::NotReady { after: patience, log: cluster.log.clone() })?
}

/// Whether the server could not be reached, or said that it is starting or stopping.
fn is_refusal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => {
            matches!(error.code().as_deref(), Some(CANNOT_CONNECT_NOW | ADMIN_SHUTDOWN))
        }
        _ => false,
    }
}

/// All that is needed to start the server, again and again.
struct Launcher {
    config: EmbeddedConfig,
    cluster: Cluster,
    binaries: Binaries,
    account: Account,
    socket_dir: PathBuf,
}

impl Launcher {
    /// Finds the programs and prepares the data folder; the caller holds its lock.
    async fn new(config: EmbeddedConfig, cluster: Cluster) -> Result<Self, EmbeddedError> {
        let binaries = Binaries::find(config.pg_bin.as_deref(), &cluster.data_dir)?;
        let account = Account::choose(&cluster.pgdata)?;
        let socket_dir = cluster.socket_dir(&account)?;
        cluster.init(&binaries, &account, config.fsync).await?;
        cluster.rotate_log()?;
        Ok(Self { config, cluster, binaries, account, socket_dir })
    }

    /// Takes over the server that runs, or starts one and waits until it accepts connections. After a crash the first attempts
    /// may meet the last processes of the dead server. With `port`, the URL stays what it was.
    async fn launch(&self, port: Option<u16>) -> Result<Server, EmbeddedError> {
        let attempts = async {
            let mut attempt = 0;
            loop {
                if let Some(server) = self.take_over().await? {
                    return Ok(server);
                }
                self.cluster.remove_misleading_pid_file()?;
                match self.start(port).await {
                    Err(EmbeddedError::Start { log, tail }) => {
                        attempt += 1;
                        if attempt >= ATTEMPTS && !PASSING.iter().any(|line| tail.contains(line)) {
                            return Err(EmbeddedError::Start { log, tail });
                        }
                        sleep(RETRY_PAUSE * attempt.min(ATTEMPTS)).await;
                    }
                    other => return other,
                }
            }
        };
        let after = self.config.start_timeout;
        timeout(after, attempts)
            .await
            .map_err(|_| EmbeddedError::NotReady { after, log: self.cluster.log.clone() })?
    }

    /// The server that a killed owner left running, once it is ready; `None` if there is none or it ends meanwhile.
    async fn take_over(&self) -> Result<Option<Server>, EmbeddedError> {
        while let Some(file) = self.cluster.pid_file().filter(|file| self.cluster.is_server(file.pid)) {
            if file.ready {
                let watchdog = Watchdog::new(&self.account, self.cluster.pgdata.as_path(), file.pid)?;
                let endpoint = Endpoint { socket_dir: file.socket_dir, port: file.port };
                return Ok(Some(Server { pid: file.pid, endpoint, child: None, watchdog }));
            }
            sleep(POLL).await;
        }
        Ok(None)
    }

    async fn start(&self, port: Option<u16>) -> Result<Server, EmbeddedError> {
        let log = self.cluster.open_log()?;
        let log_start = log.metadata().map_err(at("look at", &self.cluster.log))?.len();
        let mut server = self.spawn(port, log)?;
        loop {
            if server.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
                server.watchdog.dismiss().await;
                let log = self.cluster.log.clone();
                return Err(EmbeddedError::Start { log, tail: self.cluster.log_tail(log_start) });
            }
            if self.cluster.pid_file().is_some_and(|file| file.pid == server.pid && file.ready) {
                return Ok(server);
            }
            sleep(POLL).await;
        }
    }

    fn spawn(&self, port: Option<u16>, log: File) -> Result<Server, EmbeddedError> {
        // Between this look and the server's own bind another process may take the port; then the start fails and is repeated.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0)))
            .and_then(|listener| Ok(listener.local_addr()?.port()));
        // The port is part of the socket's name, so a server that comes back keeps it, and goes without TCP if it is taken.
        let (port, addresses) = match (free, port) {
            (Ok(free), _) => (free, "127.0.0.1"),
            (Err(_), Some(port)) => (port, ""),
            (Err(source), None) => return Err(at("bind", "127.0.0.1".as_ref())(source)),
        };
        let pgdata = &self.cluster.pgdata;
        let error_log = log.try_clone().map_err(at("open", &self.cluster.log))?;
        let program = self.binaries.dir.join("postgres");
        let mut command = self.account.command(&program, pgdata);
        command.arg("-D").arg(pgdata).stdin(Stdio::null()).stdout(log).stderr(error_log);
        for (name, value) in self.settings(port, addresses) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let child = command.spawn().map_err(|error| self.account.explain(&program, pgdata, error))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = id.ok_or_else(|| at("watch postgres in", pgdata)(io::ErrorKind::NotFound.into()))?;
        let watchdog = Watchdog::new(&self.account, pgdata, pid)?;
        let endpoint = Endpoint { socket_dir: self.socket_dir.clone(), port };
        Ok(Server { pid, endpoint, child: Some(child), watchdog })
    }

    /// A server for one machine's worth of articles, beside the application that uses it.
    fn settings(&self, port: u16, addresses: &str) -> Vec<(&'static str, String)> {
        let quoted_dir = format!("\"{}\"", self.socket_dir.display().to_string().replace('"', "\"\""));
        let mut settings: Vec<_> = [
            ("listen_addresses", addresses),
            ("unix_socket_directories", &quoted_dir),
            ("unix_socket_permissions", "0700"),
            ("cluster_name", DATABASE),
            ("max_connections", "60"),
            ("shared_buffers", "128MB"),
            ("maintenance_work_mem", "256MB"),
            ("max_wal_size", "512MB"),
            ("random_page_cost", "1.1"),
            // Compiling a plan costs more than it saves on queries of milliseconds.
            ("jit", "off"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            // Server messages are looked for in the log by their English text.
            ("lc_messages", "C"),
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
            ("log_line_prefix", "%m [%p] %d "),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into();
        settings.push(("port", port.to_string()));
        if self.binaries.has_statement_statistics {
            settings.push(("shared_preload_libraries", "pg_stat_statements".to_owned()));
        }
        if !self.config.fsync {
            settings.extend(["fsync", "full_page_writes"].map(|name| (name, "off".to_owned())));
        }
        settings
    }

    /// Keeps the server running until `stop` is sent or dropped, and then shuts it down.
    async fn supervise(
        &self,
        mut server: Server,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<(), EmbeddedError> {
        let mut log_check = interval(LOG_CHECK);
        log_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut *stop => return server.stop(&self.cluster, self.config.stop_timeout).await,
                _ = log_check.tick() => {
                    // A log that cannot be trimmed now is tried again; it is no reason to stop.
                    let _ = self.cluster.rotate_log();
                }
                () = server.exited(&self.cluster) => {
                    server.watchdog.dismiss().await;
                    self.note("the server ended unexpectedly; starting it again");
                    server = tokio::select! {
                        _ = &mut *stop => return Ok(()),
                        revived = self.revive(server.endpoint.port) => revived,
                    };
                }
            }
        }
    }

    /// Starts the server again under its old port, for as long as it takes.
    async fn revive(&self, port: u16) -> Server {
        let mut pause = RETRY_PAUSE;
        loop {
            sleep(pause).await;
            match self.launch(Some(port)).await {
                Ok(server) => return server,
                Err(error) => self.note(&format!("the server could not be started again: {error}")),
            }
            pause = (pause * 2).min(RESTART_PAUSE_MAX);
        }
    }

    /// Adds a line to the server's log, which is where its troubles are looked for.
    fn note(&self, line: &str) {
        if let Ok(mut log) = self.cluster.open_log() {
            // There is no better place to report a log that takes no line.
            let _ = writeln!(log, "euhub: {line}");
        }
    }
}

/// A running server process.
struct Server {
    pid: Pid,
    endpoint: Endpoint,
    /// `None` for a server that another process started.
    child: Option<Child>,
    watchdog: Watchdog,
}

impl Server {
    /// Returns when the process has ended.
    async fn exited(&mut self, cluster: &Cluster) {
        if let Some(child) = &mut self.child {
            // An error means that there is nothing left to wait for.
            let _ = child.wait().await;
        } else {
            while cluster.is_server(self.pid) {
                sleep(POLL * 20).await;
            }
        }
    }

    /// Fast shutdown; immediate shutdown if that takes longer than `patience`.
    async fn stop(mut self, cluster: &Cluster, patience: Duration) -> Result<(), EmbeddedError> {
        let mut outcome = Err(EmbeddedError::StopTimeout(patience));
        for (signal, wait) in
            [(Signal::INT, patience), (Signal::QUIT, IMMEDIATE_STOP), (Signal::KILL, IMMEDIATE_STOP)]
        {
            if cluster.is_server(self.pid) {
                // It may end by itself in between, which is as well.
                let _ = kill_process(self.pid, signal);
            }
            if timeout(wait, self.exited(cluster)).await.is_ok() {
                if signal == Signal::INT {
                    outcome = Ok(());
                }
                break;
            }
        }
        self.watchdog.dismiss().await;
        outcome
    }
}

/// A shell that shuts the server down when this process ends without having done so: the pipe it reads from closes with it.
struct Watchdog {
    stdin: Option<ChildStdin>,
}

impl Watchdog {
    fn new(account: &Account, dir: &Path, server: Pid) -> Result<Self, EmbeddedError> {
        let shell = Path::new("/bin/sh");
        let mut child = account
            .command(shell, dir)
            .args(["-c", "read -r _ || kill -INT \"$0\" 2>/dev/null"])
            .arg(server.as_raw_pid().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(at("run", shell))?;
        Ok(Self { stdin: child.stdin.take() })
    }

    /// Sends it away: the server has ended.
    async fn dismiss(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // If it is gone already, so much the better.
            let _ = stdin.write_all(b"\n").await;
        }
    }
}
