//! The files of one data folder: the cluster's, its first initialisation, and the server's pid file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::process::{Pid, test_kill_process};

use super::{DATABASE, EmbeddedError, account::Account, at, binaries::Binaries};

/// Longest path of a Unix socket on Linux, in bytes (`sun_path` less its terminator).
const SOCKET_PATH_MAX: usize = 107;
/// Size at which the log is moved to `postgres.log.1`, in bytes.
const LOG_MAX: u64 = 8 << 20;
/// How much of the log an error quotes, in bytes.
const LOG_TAIL: u64 = 2048;

/// Paths under one data folder, all absolute.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) data_dir: PathBuf,
    pub(super) pgdata: PathBuf,
    pub(super) log: PathBuf,
    pgpass: PathBuf,
}

impl Cluster {
    /// Makes the data folder where it is missing.
    pub(super) fn new(data_dir: &Path) -> Result<Self, EmbeddedError> {
        if !data_dir.is_dir() {
            fs::create_dir_all(data_dir).map_err(at("make", data_dir))?;
            // Whatever the umask: the server's account has to enter it. What is in it protects itself.
            fs::set_permissions(data_dir, fs::Permissions::from_mode(0o755)).map_err(at("open", data_dir))?;
        }
        let data_dir = fs::canonicalize(data_dir).map_err(at("resolve", data_dir))?;
        if data_dir.to_str().is_none() {
            return Err(EmbeddedError::Path(data_dir));
        }
        Ok(Self {
            pgdata: data_dir.join("pgdata"),
            log: data_dir.join("postgres.log"),
            pgpass: data_dir.join("pgpass"),
            data_dir,
        })
    }

    /// The lock that makes its holder the server's owner, or `None` while another process holds it.
    pub(super) fn try_lock(&self) -> Result<Option<File>, EmbeddedError> {
        let path = self.data_dir.join("embedded.lock");
        let file =
            private_file().append(true).open(&path).map_err(|error| self.denied(error, "open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(source)) => Err(at("lock", &path)(source)),
        }
    }

    /// Says whose data folder it is where that is the reason of an error.
    fn denied(&self, error: io::Error, action: &'static str, path: &Path) -> EmbeddedError {
        match fs::metadata(&self.data_dir) {
            Ok(metadata) if error.kind() == io::ErrorKind::PermissionDenied => {
                EmbeddedError::Foreign { path: self.data_dir.clone(), owner: metadata.uid() }
            }
            _ => at(action, path)(error),
        }
    }

    /// The socket's folder, made and protected.
    pub(super) fn socket_dir(&self, account: &Account) -> Result<PathBuf, EmbeddedError> {
        let mut dir = self.data_dir.join("run");
        if dir.as_os_str().as_bytes().len() + "/.s.PGSQL.65535".len() > SOCKET_PATH_MAX {
            dir = account.short_socket_dir(&self.pgdata);
        }
        account.private_dir(&dir)?;
        Ok(dir)
    }

    /// Removes the socket's folder where it is not part of the data folder.
    pub(super) fn remove_outside_socket_dir(&self, dir: &Path) {
        if !dir.starts_with(&self.data_dir) {
            // One that stays behind is used again at the next start.
            let _ = fs::remove_dir(dir);
        }
    }

    /// Runs `initdb` where the cluster is missing; fails where it is of another major version than the programs.
    pub(super) async fn init(
        &self,
        binaries: &Binaries,
        account: &Account,
        fsync: bool,
    ) -> Result<(), EmbeddedError> {
        let version_file = self.pgdata.join("PG_VERSION");
        match fs::read_to_string(&version_file) {
            Ok(text) => {
                let cluster = text.trim().parse().unwrap_or(0);
                if cluster == binaries.version {
                    return Ok(());
                }
                return Err(EmbeddedError::Version {
                    pgdata: self.pgdata.clone(),
                    cluster,
                    bin: binaries.dir.clone(),
                    programs: binaries.version,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("read", &version_file)(error)),
        }

        // Made beside its place and moved there at the end: a killed initdb leaves nothing that looks like a cluster.
        let new = self.data_dir.join("pgdata.new");
        remove_dir(&new)?;
        account.private_dir(&new)?;
        let password = new_password()?;
        let password_file = self.data_dir.join("initdb.password");
        remove_file(&password_file)?;
        write_private(&password_file, &password)?;
        account.give(&password_file)?;
        let program = binaries.dir.join("initdb");
        let mut command = account.command(&program, &new);
        command
            .args(["--locale=C.UTF-8", "--encoding=UTF8", "--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--no-instructions", "--username", DATABASE, "--pwfile"])
            .arg(&password_file)
            .arg("--pgdata")
            .arg(&new);
        if !fsync {
            command.arg("--no-sync");
        }
        let output = command.output().await;
        remove_file(&password_file)?;
        let output = output.map_err(|error| account.explain(&program, &new, error))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(EmbeddedError::Init { pgdata: self.pgdata.clone(), output: text });
        }
        remove_file(&self.pgpass)?;
        write_private(&self.pgpass, &format!("127.0.0.1:*:*:{DATABASE}:{password}\n"))?;
        fs::rename(&new, &self.pgdata).map_err(at("rename", &new))
    }

    /// The log, opened for appending.
    pub(super) fn open_log(&self) -> Result<File, EmbeddedError> {
        private_file().append(true).open(&self.log).map_err(at("open", &self.log))
    }

    /// Keeps the log's last bytes in `postgres.log.1` and starts it anew once it is large. The server writes through a
    /// descriptor opened for appending, so the file is emptied in place.
    pub(super) fn rotate_log(&self) -> Result<(), EmbeddedError> {
        let log = self.open_log()?;
        if log.metadata().map_err(at("look at", &self.log))?.len() <= LOG_MAX {
            return Ok(());
        }
        let kept = self.data_dir.join("postgres.log.1");
        remove_file(&kept)?;
        write_private(&kept, &self.log_since(0, LOG_MAX))?;
        log.set_len(0).map_err(at("empty", &self.log))
    }

    /// Up to 2 KiB of the log's end, of what was written after the first `start` bytes.
    pub(super) fn log_tail(&self, start: u64) -> String {
        self.log_since(start, LOG_TAIL)
    }

    /// At most `max` bytes of the log's end; empty when it cannot be read, since it only illustrates an error.
    fn log_since(&self, start: u64, max: u64) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut log = File::open(&self.log)?;
            let end = log.metadata()?.len();
            log.seek(SeekFrom::Start(start.max(end.saturating_sub(max))))?;
            let mut text = Vec::new();
            log.take(max).read_to_end(&mut text)?;
            Ok(text)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).trim().to_owned()
    }

    /// The running server's pid file, if there is one and it is complete enough to connect by.
    pub(super) fn pid_file(&self) -> Option<PidFile> {
        PidFile::parse(&fs::read_to_string(self.pgdata.join("postmaster.pid")).ok()?)
    }

    /// Whether `pid` is this cluster's server. A server's working folder is its cluster, which tells it from an unrelated
    /// process that got the number after a crash.
    pub(super) fn is_server(&self, pid: Pid) -> bool {
        fs::read_link(format!("/proc/{}/cwd", pid.as_raw_pid())).is_ok_and(|cwd| cwd == self.pgdata)
    }

    /// Removes a pid file that names a living process which is not the server: Postgres would refuse to start. One that names a
    /// dead process it replaces itself, after it has made sure that no orphan still uses the memory that the file names.
    pub(super) fn remove_misleading_pid_file(&self) -> Result<(), EmbeddedError> {
        match self.pid_file() {
            Some(file) if test_kill_process(file.pid).is_ok() && !self.is_server(file.pid) => {
                remove_file(&self.pgdata.join("postmaster.pid"))
            }
            _ => Ok(()),
        }
    }
}

/// What `postmaster.pid` says, by line: 1 pid, 4 port, 5 first socket folder, 8 status (PostgreSQL's `pidfile.h`).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: Pid,
    pub(super) port: u16,
    pub(super) socket_dir: PathBuf,
    pub(super) ready: bool,
}

impl PidFile {
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        Some(Self {
            pid: Pid::from_raw(lines.first()?.trim().parse().ok().filter(|&pid| pid > 0)?)?,
            port: lines.get(3)?.trim().parse().ok()?,
            socket_dir: PathBuf::from(*lines.get(4)?),
            ready: lines.get(7).is_some_and(|status| status.trim() == "ready"),
        })
    }
}

/// 192 bits from the kernel, in hexadecimal: the password that TCP clients need.
fn new_password() -> Result<String, EmbeddedError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 24];
    File::open(source).and_then(|mut file| file.read_exact(&mut bytes)).map_err(at("read", source))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Options that make a missing file readable by its owner only.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

fn write_private(path: &Path, text: &str) -> Result<(), EmbeddedError> {
    private_file()
        .write(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(at("write", path))
}

fn remove_file(path: &Path) -> Result<(), EmbeddedError> {
    absent_is_fine(fs::remove_file(path)).map_err(at("remove", path))
}

fn remove_dir(path: &Path) -> Result<(), EmbeddedError> {
    absent_is_fine(fs::remove_dir_all(path)).map_err(at("remove", path))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_files() {
        let text = "4242\n/data/pgdata\n1700000000\n61234\n/data/run\n127.0.0.1\n  1234567  0\nready   \n";
        let file = PidFile::parse(text).expect("a whole file");
        assert_eq!((file.pid.as_raw_pid(), file.port, file.ready), (4242, 61234, true));
        assert_eq!(file.socket_dir, Path::new("/data/run"));
        let starting = text.replace("ready   ", "starting");
        assert!(!PidFile::parse(&starting).expect("a whole file").ready);
        for broken in [
            "",
            "4242\n",
            "-7\n/d\n1\n5\n/r\n",
            "0\n/d\n1\n5\n/r\n",
            "x\n/d\n1\n5\n/r\n",
            "1\n/d\n1\n70000\n/r\n",
        ] {
            assert_eq!(PidFile::parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_large_log_is_emptied_and_its_end_kept() {
        let dir = std::env::temp_dir().join(format!("euhub-log-{}", std::process::id()));
        let cluster = Cluster::new(&dir).expect("a scratch folder");
        let mut server_side = cluster.open_log().expect("own folder");
        server_side.write_all(&vec![b'x'; usize::try_from(LOG_MAX).expect("fits") + 1]).expect("own file");
        server_side.write_all(b"\nlast line\n").expect("own file");
        cluster.rotate_log().expect("own folder");
        assert_eq!(fs::metadata(&cluster.log).expect("own file").len(), 0);
        assert!(fs::read_to_string(dir.join("postgres.log.1")).expect("own file").ends_with("last line"));
        server_side.write_all(b"after\n").expect("own file");
        assert_eq!(cluster.log_tail(0), "after");
        fs::remove_dir_all(&dir).expect("own folder");
    }
}
