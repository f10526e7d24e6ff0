//! Dumps that end half-way: the backup fails with the last words of its program, and leaves nothing.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection};

use super::{Lab, connect, waits_for_a_lock};
use crate::program::{run_err, run_ok};

/// A table that takes a while to dump.
const LOAD: &str = "CREATE TABLE load AS SELECT n, encode(sha256(n::text::bytea), 'hex') AS word FROM generate_series(1, 400000) n";

/// Nothing of a failed backup stays, and the next one works.
async fn recovers(lab: &Lab) {
    assert_eq!(lab.files(), Default::default());
    assert_eq!(lab.scratches().await, Vec::<String>::new());
    run_ok(lab.backup(&["create"])).await;
}

async fn count(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.expect(sql)
}

#[tokio::test]
async fn a_dump_that_loses_its_connection_fails_with_its_last_words() {
    let lab = Lab::empty().await;
    lab.run(LOAD).await;
    let mut connection = connect(&lab.hub.database_url).await;
    let told = loop {
        let ended = AtomicBool::new(false);
        let create = async {
            let output = crate::program::run(lab.backup(&["create", "--no-verify"])).await;
            ended.store(true, Ordering::SeqCst);
            output
        };
        let cut = async {
            // While rows are on their way.
            let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'euhub pg_dump' AND state = 'active' AND query LIKE 'COPY%load%'";
            while !ended.load(Ordering::SeqCst) && count(&mut connection, cut).await == 0 {
                tokio::task::yield_now().await;
            }
        };
        let (output, ()) = tokio::join!(create, cut);
        if !output.status.success() {
            break String::from_utf8(output.stderr).unwrap();
        }
        // It was faster. Again.
        for name in lab.files() {
            fs::remove_file(lab.store().join(name)).unwrap();
        }
    };
    assert!(told.contains("pg_dump failed: pg_dump: error: "), "{told}");
    assert!(told.contains("terminating connection due to administrator command"), "{told}");
    recovers(&lab).await;
}

#[tokio::test]
async fn a_dump_that_is_killed_fails() {
    let lab = Lab::empty().await;
    lab.run(LOAD).await;
    let mut connection = connect(&lab.hub.database_url).await;
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query("LOCK TABLE feeds IN ACCESS EXCLUSIVE MODE").execute(&mut *transaction).await.unwrap();
    let mut command = lab.backup(&["create"]);
    let create = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    waits_for_a_lock(&lab.hub.database_url, "euhub pg_dump").await;
    kill_process(child_of(create.id().unwrap()), Signal::KILL).unwrap();
    transaction.rollback().await.unwrap();
    let output = create.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("pg_dump failed: signal: 9 (SIGKILL)"), "{told}");
    recovers(&lab).await;
}

/// The one child of a process.
fn child_of(parent: u32) -> Pid {
    let children: Vec<i32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned()).unwrap_or_default();
            fields.split(' ').nth(1) == Some(&parent.to_string())
        })
        .collect();
    assert_eq!(children.len(), 1, "{children:?}");
    Pid::from_raw(children[0]).unwrap()
}

#[tokio::test]
async fn a_table_that_others_lock_for_long_fails_the_backup_and_is_named() {
    let lab = Lab::empty().await;
    let mut connection = connect(&lab.hub.database_url).await;
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query("LOCK TABLE feeds IN ACCESS EXCLUSIVE MODE").execute(&mut *transaction).await.unwrap();
    let told = run_err(lab.backup(&["create"])).await;
    // pg_dump and what hashes beside it wait equally long: the first to give up tells.
    assert!(
        ["lock", "statement"].iter().any(|which| told.contains(&format!("due to {which} timeout"))),
        "{told}"
    );
    assert!(told.contains("public.feeds"), "{told}");
    transaction.rollback().await.unwrap();
    recovers(&lab).await;
}

#[tokio::test]
async fn a_table_that_is_dropped_meanwhile_fails_the_backup_and_is_named() {
    let lab = Lab::empty().await;
    lab.run("CREATE TABLE short_lived AS SELECT 1 AS n").await;
    let mut connection = connect(&lab.hub.database_url).await;
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query("DROP TABLE short_lived").execute(&mut *transaction).await.unwrap();
    let mut command = lab.backup(&["create"]);
    let create = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    waits_for_a_lock(&lab.hub.database_url, "euhub pg_dump").await;
    transaction.commit().await.unwrap();
    let output = create.wait_with_output().await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("public.short_lived"), "{told}");
    recovers(&lab).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told() {
    let lab = Lab::empty().await;
    let name = format!("missing_{}", lab.database());
    let told = run_err(lab.backup_of(&lab.url_of(&name), &["create"])).await;
    assert!(told.contains(&format!("database \"{name}\" does not exist")), "{told}");
    let nowhere = "postgres://someone:hunter2@127.0.0.1:1/euhub";
    for arguments in [["create"].as_slice(), &["restore", "latest"]] {
        fs::create_dir_all(lab.store()).unwrap();
        let told = run_err(lab.backup_of(nowhere, arguments)).await;
        assert!(!told.contains("hunter2"), "{told}");
    }
    let odd = run_err(lab.backup_of("postgres://someone:hunter2@[/euhub", &["create"])).await;
    assert!(odd.contains("DATABASE_URL is not valid") && !odd.contains("hunter2"), "{odd}");
    recovers(&lab).await;
}
