//! The private PostgreSQL of the zero-config default, against real servers in scratch folders.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use euhub::embedded::{EmbeddedConfig, EmbeddedError, EmbeddedPostgres};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// How long a test waits for what must happen, before it calls it missing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tells [`owner_process`] which folder to own.
const OWNER_DIR: &str = "EUHUB_TEST_OWNER_DIR";

/// A server for data that may be lost, with the programs of `EUHUB_PG_BIN`, of the repository's bundle, or of the system.
pub fn config(data_dir: impl Into<PathBuf>) -> EmbeddedConfig {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = std::env::var_os("EUHUB_DATA_DIR").unwrap_or_else(|| ".euhub".into());
    let bundle = repository.join(data).join("postgres/bin");
    let named = std::env::var_os("EUHUB_PG_BIN").map(PathBuf::from);
    let pg_bin = named.or_else(|| bundle.is_dir().then_some(bundle));
    EmbeddedConfig { pg_bin, fsync: false, ..EmbeddedConfig::new(data_dir) }
}

/// A folder that the server's account can enter, too.
pub fn scratch() -> TempDir {
    let dir = tempfile::tempdir().expect("a scratch folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("own folder");
    dir
}

async fn start(dir: &TempDir) -> EmbeddedPostgres {
    EmbeddedPostgres::start(config(dir.path())).await.expect("the server starts")
}

async fn connect(server: &EmbeddedPostgres) -> PgConnection {
    PgConnection::connect(&server.url()).await.expect("the server answers")
}

async fn scalar(server: &EmbeddedPostgres, sql: &'static str) -> String {
    sqlx::query_scalar(sql).fetch_one(&mut connect(server).await).await.expect(sql)
}

fn pid_file(dir: &TempDir) -> PathBuf {
    dir.path().join("pgdata/postmaster.pid")
}

fn server_pid(dir: &TempDir) -> Pid {
    let text = fs::read_to_string(pid_file(dir)).expect("a running server");
    text.lines().next().and_then(|line| line.parse().ok()).and_then(Pid::from_raw).expect("a process id")
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never came: {what}"));
}

fn log(dir: &TempDir) -> String {
    fs::read_to_string(dir.path().join("postgres.log")).expect("the server's log")
}

#[tokio::test]
async fn starts_stops_and_keeps_the_data() {
    let dir = scratch();
    let server = start(&dir).await;
    assert!(server.is_owner());
    let mut connection = connect(&server).await;
    for statement in [
        "CREATE EXTENSION vector",
        "CREATE EXTENSION pg_trgm",
        "CREATE EXTENSION unaccent",
        "CREATE EXTENSION pg_stat_statements",
        "CREATE TABLE kept AS SELECT unaccent('Énergie') AS word",
    ] {
        sqlx::query(statement).execute(&mut connection).await.expect(statement);
    }
    for (setting, value) in
        [("max_connections", "60"), ("TimeZone", "UTC"), ("server_encoding", "UTF8"), ("fsync", "off")]
    {
        let held: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut connection)
            .await
            .expect(setting);
        assert_eq!(held, value, "{setting}");
    }
    server.stop().await.expect("a clean shutdown, open connections or not");
    assert!(!pid_file(&dir).exists());
    assert!(log(&dir).contains("database system is shut down"));

    let server = start(&dir).await;
    assert_eq!(scalar(&server, "SELECT word FROM kept").await, "Energie");
    assert!(!log(&dir).contains("not properly shut down"));
    server.stop().await.expect("a clean shutdown");
}

#[tokio::test]
async fn data_is_closed_to_others_and_tcp_needs_the_password() {
    let dir = scratch();
    let server = start(&dir).await;
    for private in ["pgdata", "run", "pgpass", "postgres.log", "embedded.lock"] {
        let mode = fs::metadata(dir.path().join(private)).expect(private).mode();
        assert_eq!(mode & 0o077, 0, "{private}");
    }
    let pgpass = fs::read_to_string(dir.path().join("pgpass")).expect("the password file");
    let password = pgpass.trim_end().rsplit(':').next().expect("five fields");
    let tcp = |password: &str| format!("postgres://euhub:{password}@127.0.0.1:{}/euhub", server.port());
    PgConnection::connect(&tcp(password)).await.expect("the password opens the port");
    let refused = PgConnection::connect(&tcp("wrong")).await.expect_err("a wrong password");
    assert_eq!(
        refused.as_database_error().and_then(|e| e.code().map(|c| c.into_owned())).as_deref(),
        Some("28P01")
    );
    server.stop().await.expect("a clean shutdown");
}

#[tokio::test]
async fn a_killed_server_comes_back_under_the_same_url() {
    let dir = scratch();
    let server = start(&dir).await;
    sqlx::query("CREATE TABLE kept AS SELECT 'still here' AS word")
        .execute(&mut connect(&server).await)
        .await
        .expect("a table");
    for _ in 0..3 {
        let killed = server_pid(&dir);
        kill_process(killed, Signal::KILL).expect("own server");
        wait_until("another server", || {
            fs::read_to_string(pid_file(&dir)).is_ok_and(|text| {
                text.contains("ready") && !text.starts_with(&format!("{}\n", killed.as_raw_pid()))
            })
        })
        .await;
        assert_eq!(scalar(&server, "SELECT word FROM kept").await, "still here");
    }
    assert!(log(&dir).contains("automatic recovery in progress"));
    server.stop().await.expect("a clean shutdown");
}

#[tokio::test]
async fn a_second_process_joins_and_leaves_the_server_running() {
    let dir = scratch();
    let owner = start(&dir).await;
    let guest = start(&dir).await;
    assert!(!guest.is_owner());
    assert_eq!(guest.url(), owner.url());
    guest.stop().await.expect("nothing to do");
    assert_eq!(scalar(&owner, "SELECT 'up'").await, "up");
    owner.stop().await.expect("a clean shutdown");
    assert!(start(&dir).await.is_owner());
}

#[tokio::test]
async fn processes_that_start_together_share_one_server() {
    let dir = scratch();
    let (a, b, c) = tokio::join!(start(&dir), start(&dir), start(&dir));
    assert_eq!([&a, &b, &c].iter().filter(|server| server.is_owner()).count(), 1);
    for server in [&a, &b, &c] {
        assert_eq!(scalar(server, "SELECT current_database()::text").await, "euhub");
    }
    for server in [a, b, c] {
        server.stop().await.expect("a clean shutdown");
    }
}

#[tokio::test]
async fn a_dropped_handle_stops_the_server() {
    let dir = scratch();
    drop(start(&dir).await);
    wait_until("the server's end", || !pid_file(&dir).exists()).await;
}

/// Owns a server until it is killed; run by the tests below as a process of its own.
#[tokio::test]
#[ignore = "a helper of other tests"]
async fn owner_process() {
    let Some(dir) = std::env::var_os(OWNER_DIR).map(PathBuf::from) else { return };
    let _server = EmbeddedPostgres::start(config(&dir)).await.expect("the server starts");
    fs::write(dir.join("owned"), "").expect("own folder");
    std::future::pending().await
}

async fn spawn_owner(dir: &TempDir) -> Child {
    let module = module_path!().split_once("::").expect("a module of a test binary").1;
    let owner = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "--ignored", &format!("{module}::owner_process")])
        .env(OWNER_DIR, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("a second process");
    wait_until("the owner's server", || dir.path().join("owned").exists()).await;
    owner
}

/// The children of a process that run a given program.
fn children(parent: &Child, program: &str) -> Vec<Pid> {
    let stat_of = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("stat")).ok();
    let parent = parent.id().to_string();
    fs::read_dir("/proc")
        .expect("procfs")
        .flatten()
        .filter_map(stat_of)
        .filter_map(|stat| {
            let (pid, rest) = stat.split_once(" (")?;
            let (name, rest) = rest.rsplit_once(") ")?;
            let found = name == program && rest.split(' ').nth(1) == Some(&parent);
            found.then(|| pid.parse().ok().and_then(Pid::from_raw)).flatten()
        })
        .collect()
}

#[tokio::test]
async fn a_killed_owner_takes_its_server_along() {
    let dir = scratch();
    let mut owner = spawn_owner(&dir).await;
    owner.kill().expect("own child");
    owner.wait().expect("own child");
    wait_until("a clean shutdown", || log(&dir).contains("database system is shut down")).await;
    let server = start(&dir).await;
    assert!(server.is_owner());
    assert!(!log(&dir).contains("not properly shut down"));
    server.stop().await.expect("a clean shutdown");
}

#[tokio::test]
async fn a_server_that_outlived_its_owner_is_taken_over() {
    let dir = scratch();
    let mut owner = spawn_owner(&dir).await;
    let running = server_pid(&dir);
    let watchdogs = children(&owner, "sh");
    assert_eq!(watchdogs.len(), 1);
    kill_process(watchdogs[0], Signal::KILL).expect("own process");
    owner.kill().expect("own child");
    owner.wait().expect("own child");

    let server = start(&dir).await;
    assert!(server.is_owner());
    assert_eq!(server_pid(&dir), running);
    assert_eq!(scalar(&server, "SELECT 'up'").await, "up");

    kill_process(running, Signal::KILL).expect("own process");
    wait_until("another server", || {
        fs::read_to_string(pid_file(&dir))
            .is_ok_and(|text| text.contains("ready") && !text.starts_with(&running.as_raw_pid().to_string()))
    })
    .await;
    assert_eq!(scalar(&server, "SELECT 'up again'").await, "up again");
    server.stop().await.expect("a clean shutdown");
    assert!(test_kill_process(running).is_err());
    assert!(!pid_file(&dir).exists());
}

#[tokio::test]
async fn a_pid_file_that_names_another_process_is_no_obstacle() {
    let dir = scratch();
    start(&dir).await.stop().await.expect("a clean shutdown");
    let owner = fs::metadata(dir.path().join("pgdata")).expect("the cluster");
    let (uid, gid) = (owner.uid(), owner.gid());
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    // Only a process of the server's own account makes Postgres believe the file.
    if rustix::process::geteuid().is_root() {
        sleep.uid(uid).gid(gid);
    }
    let mut stranger = sleep.spawn().expect("a process");
    let text = format!(
        "{}\n{}\n1700000000\n5432\n{}\n127.0.0.1\n  1234567     65536\nready   \n",
        stranger.id(),
        dir.path().join("pgdata").display(),
        dir.path().join("run").display()
    );
    fs::write(pid_file(&dir), text).expect("own folder");
    if rustix::process::geteuid().is_root() {
        chown(pid_file(&dir), Some(uid), Some(gid)).expect("root");
    }
    let server = start(&dir).await;
    assert_eq!(scalar(&server, "SELECT 'up'").await, "up");
    server.stop().await.expect("a clean shutdown");
    stranger.kill().expect("own child");
    stranger.wait().expect("own child");
}

#[tokio::test]
async fn a_half_made_cluster_is_made_anew() {
    let dir = scratch();
    fs::create_dir_all(dir.path().join("pgdata.new/base")).expect("own folder");
    fs::write(dir.path().join("pgdata.new/PG_VERSION"), "18\n").expect("own folder");
    let server = start(&dir).await;
    assert_eq!(scalar(&server, "SELECT 'up'").await, "up");
    server.stop().await.expect("a clean shutdown");
    assert!(!dir.path().join("pgdata.new").exists());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_will_do() {
    let dir = scratch();
    let long = dir.path().join("a folder with a long name, é & all ".repeat(5));
    let server = EmbeddedPostgres::start(config(&long)).await.expect("the server starts");
    assert_eq!(scalar(&server, "SELECT 'up'").await, "up");
    let url = server.url();
    let socket_dir = url.split(['=', '&']).nth(1).expect("the URL names the socket's folder");
    assert!(socket_dir.starts_with("/tmp/euhub-"), "{socket_dir}");
    server.stop().await.expect("a clean shutdown");
    assert!(!Path::new(socket_dir).exists());
}

#[tokio::test]
async fn a_wrong_folder_of_programs_is_named() {
    let dir = scratch();
    let empty = dir.path().join("no-postgres-here");
    for (make, reason) in [(false, "No such file"), (true, "it has no initdb")] {
        if make {
            fs::create_dir(&empty).expect("own folder");
        }
        let config =
            EmbeddedConfig { pg_bin: Some(empty.clone()), ..EmbeddedConfig::new(dir.path().join("data")) };
        let error = EmbeddedPostgres::start(config).await.expect_err("no programs there");
        assert!(matches!(error, EmbeddedError::Unusable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("no-postgres-here") && text.contains(reason), "{text}");
    }
}

#[tokio::test]
async fn a_cluster_of_another_version_is_refused() {
    let dir = scratch();
    start(&dir).await.stop().await.expect("a clean shutdown");
    fs::write(dir.path().join("pgdata/PG_VERSION"), "14\n").expect("own folder");
    let error = EmbeddedPostgres::start(config(dir.path())).await.expect_err("an older cluster");
    assert!(matches!(error, EmbeddedError::Version { cluster: 14, .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let dir = scratch();
    start(&dir).await.stop().await.expect("a clean shutdown");
    fs::write(dir.path().join("pgdata/postgresql.conf"), "no_such_setting = 1\n").expect("own folder");
    let error = EmbeddedPostgres::start(config(dir.path())).await.expect_err("a broken configuration");
    assert!(
        matches!(&error, EmbeddedError::Start { tail, .. } if tail.contains("no_such_setting")),
        "{error}"
    );
}

#[tokio::test]
async fn a_folder_that_the_servers_account_cannot_enter_is_named() {
    if !rustix::process::geteuid().is_root() {
        return; // An ordinary user runs the server as itself.
    }
    let dir = scratch();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).expect("own folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("own folder");
    let error = EmbeddedPostgres::start(config(closed.join("data"))).await.expect_err("a closed folder");
    assert!(matches!(&error, EmbeddedError::Blocked { folder, .. } if *folder == closed), "{error}");
    assert!(error.to_string().contains("chmod o+x"), "{error}");
}
