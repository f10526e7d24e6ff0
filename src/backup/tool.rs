//! `pg_dump` and `pg_restore`: which of those installed, how they are told where the server is, and what they say when they fail.

use std::collections::VecDeque;
use std::fs::Permissions;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, getpriority_process, setpriority_process};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use super::error::{BackupError, Result};
use super::{Programs, Progress, say};
use crate::config::Secret;
use crate::embedded::binaries::{major_version, system_dirs};

/// How much a program gives way to others.
const NICE: i32 = 10;
/// What a program sees of this process's environment: where programs, libraries, certificates and tickets are.
const KEPT: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "HOME", "KRB5CCNAME"];
/// Last lines of a program that are kept for its error.
const LAST_LINES: usize = 3;
/// Longest line that is kept.
const LINE: usize = 300;

/// A folder of programs and their major version.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    dir: PathBuf,
    /// Major version.
    pub(super) version: u32,
}

impl Tools {
    /// The oldest that are not older than `oldest`: newer ones may say things that a server of that age does not know.
    pub(super) async fn find(programs: &Programs, oldest: u32) -> Result<Self> {
        let mut dirs: Vec<PathBuf> = programs.named.iter().cloned().collect();
        dirs.push(programs.data_dir.join("postgres/bin"));
        dirs.extend(system_dirs());
        let mut found = Vec::new();
        for dir in dirs {
            if let Some(version) = version(&dir.join("pg_dump")).await {
                found.push(Self { dir, version });
            }
        }
        let newest = found.iter().map(|tools| tools.version).max();
        found.into_iter().filter(|tools| tools.version >= oldest).min_by_key(|tools| tools.version).ok_or_else(|| {
            let have = match newest {
                None => "no pg_dump was found".to_owned(),
                Some(version) => format!("the newest pg_dump here is {version}"),
            };
            BackupError::Program(format!(
                "{have}, and the server is PostgreSQL {oldest}, which an older one cannot read whole: install \
                 postgresql-client-{oldest}, or name the folder of its programs in EUHUB_PG_BIN"
            ))
        })
    }

    /// A program that needs no server.
    pub(super) fn alone(&self, name: &str) -> Connected {
        Connected { command: program(&self.dir.join(name)), name: name.to_owned(), _password: None }
    }

    /// A program, told how to reach `database` of the server of `url`.
    pub(super) fn command(
        &self,
        name: &str,
        options: &PgConnectOptions,
        database: &str,
        url: &Secret,
    ) -> Result<Connected> {
        let Connected { mut command, name, .. } = self.alone(name);
        match options.get_socket() {
            Some(folder) => command.arg("--host").arg(folder),
            None => command.arg("--host").arg(options.get_host()),
        };
        command
            .args(["--port", &options.get_port().to_string()])
            .args(["--username", options.get_username()])
            .args(["--dbname", &format!("dbname={}", quoted(database))])
            .arg("--no-password")
            .env("PGAPPNAME", format!("euhub {name}"))
            .env("PGSSLMODE", ssl_mode(options.get_ssl_mode()))
            // It reads and writes whole tables; only locks are not waited for.
            .env(
                "PGOPTIONS",
                "-c statement_timeout=0 -c lock_timeout=10s -c idle_in_transaction_session_timeout=0",
            );
        let parsed = url::Url::parse(url.expose()).ok();
        let parameter = |wanted: &str| {
            let pairs = parsed.as_ref()?.query_pairs();
            pairs.into_iter().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
        };
        for (name, variable) in [
            ("sslrootcert", "PGSSLROOTCERT"),
            ("ssl-root-cert", "PGSSLROOTCERT"),
            ("sslcert", "PGSSLCERT"),
            ("sslkey", "PGSSLKEY"),
        ] {
            if let Some(value) = parameter(name) {
                command.env(variable, value);
            }
        }
        let password = parsed.as_ref().and_then(|url| url.password()).map(percent_decoded);
        let password = match password.or_else(|| parameter("password")) {
            Some(password) => Some(password_file(&password)?),
            None => None,
        };
        if let Some(file) = &password {
            let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            command.env("PGPASSFILE", path);
        } else if let Some(path) = std::env::var_os("PGPASSFILE") {
            command.env("PGPASSFILE", path);
        }
        Ok(Connected { command, name, _password: password })
    }
}

/// A command that can connect. The password is in a file that has no name, for as long as this lives: not on the command line, not in
/// the environment, and not on disk, whatever becomes of this process.
pub(super) struct Connected {
    command: Command,
    name: String,
    _password: Option<std::fs::File>,
}

impl Connected {
    pub(super) fn args<'a>(&mut self, args: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.command.args(args);
        self
    }

    /// Starts it with a pipe for what it says, and for `stdin` and `stdout` as told; it gives way to others.
    pub(super) fn start(mut self, stdin: Stdio, stdout: Stdio) -> Result<(Child, Talk, Self)> {
        self.command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().map_err(|error| BackupError::Program(format!("{}: {error}", self.name)))?;
        if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            // Only root may take back what this process gave way already.
            let own = getpriority_process(None).map_err(std::io::Error::from)?;
            setpriority_process(Some(pid), own.max(NICE)).map_err(std::io::Error::from)?;
        }
        let stderr = child
            .stderr
            .take()
            .ok_or_else(|| BackupError::Program(format!("{} has no stderr", self.name)))?;
        Ok((child, Talk { stderr, name: self.name.clone() }, self))
    }
}

/// What a program says while it runs.
pub(super) struct Talk {
    stderr: ChildStderr,
    name: String,
}

/// What a program said last.
pub(super) struct LastWords {
    lines: VecDeque<String>,
    name: String,
}

impl Talk {
    /// Reads to the end, and tells which table is being worked on.
    pub(super) async fn listen(self, progress: &Progress) -> Result<LastWords> {
        let mut lines = VecDeque::new();
        let mut reader = BufReader::new(self.stderr);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).await? == 0 {
                return Ok(LastWords { lines, name: self.name });
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            let told = text.split_once(": ").map_or(text, |(_, told)| told);
            let table = told
                .strip_prefix("dumping contents of table ")
                .or(told.strip_prefix("processing data for table "));
            if let Some(table) = table {
                say(progress, format!("table {}", table.trim_matches('"')));
            } else if [": error: ", ": detail: ", "DETAIL: "].iter().any(|kind| text.contains(kind)) {
                if lines.len() == LAST_LINES {
                    lines.pop_front();
                }
                lines.push_back(text.chars().take(LINE).collect());
            }
        }
    }
}

impl LastWords {
    /// An error with what was said last, unless the program ended well.
    pub(super) fn check(self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let said = if self.lines.is_empty() { status.to_string() } else { Vec::from(self.lines).join("; ") };
        Err(BackupError::Program(format!("{} failed: {said}", self.name)))
    }
}

/// A program with almost nothing of this process's environment, which holds passwords, and other ideas of where to connect.
fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear().env("LC_ALL", "C").kill_on_drop(true);
    for name in KEPT {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

async fn version(path: &Path) -> Option<u32> {
    let output =
        program(path).arg("--version").output().await.ok().filter(|output| output.status.success())?;
    major_version(&String::from_utf8_lossy(&output.stdout))
}

/// A value in a connection string of libpq.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

fn percent_decoded(text: &str) -> String {
    let form = format!("p={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(form.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

/// A password file for any server, in memory.
fn password_file(password: &str) -> Result<std::fs::File> {
    let file = memfd_create("password", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
    let mut file = std::fs::File::from(file);
    file.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(file, "*:*:*:*:{}", password.replace('\\', r"\\").replace(':', r"\:"))?;
    Ok(file)
}

fn ssl_mode(mode: PgSslMode) -> &'static str {
    match mode {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a `pg_dump` that says it is of a version that no server has.
    fn folder(version: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("postgres/bin/pg_dump");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, format!("#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        folder
    }

    #[tokio::test]
    async fn programs_are_never_older_than_the_server_and_no_newer_than_they_must_be() {
        let (older, newer) = (folder("97.4 (Debian 97.4-1)"), folder("99beta1"));
        let programs =
            Programs { named: Some(newer.path().join("postgres/bin")), data_dir: older.path().to_owned() };
        let found = async |oldest| Tools::find(&programs, oldest).await.map(|tools| tools.version);
        assert_eq!(found(96).await.unwrap(), 97);
        assert_eq!(found(97).await.unwrap(), 97);
        assert_eq!(found(98).await.unwrap(), 99);
        assert_eq!(
            found(100).await.unwrap_err().to_string(),
            "the newest pg_dump here is 99, and the server is PostgreSQL 100, which an older one cannot read whole: install \
             postgresql-client-100, or name the folder of its programs in EUHUB_PG_BIN"
        );
    }

    #[test]
    fn values_are_quoted_for_connection_strings_and_passwords_decoded_once() {
        assert_eq!(quoted(r"it's \ odd"), r"'it\'s \\ odd'");
        assert_eq!(percent_decoded("a%40b+c%2520%C3%A9"), "a@b+c%20é");
    }
}
