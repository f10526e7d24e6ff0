//! SIGKILL at any moment: a backup is there whole or not at all, and so is a restored database.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use euhub::backup::{Backups, Depth, Id};
use tokio::process::Command;
use tokio::time::sleep;

use super::{Lab, connect, contents, json, problems, random};
use crate::program::{PATIENCE, run_ok, wait_for};

/// Kills of a backup that is being made.
const KILLS: usize = 30;
/// Kills of a restore, half of them into a new database and half in the live one's place.
const RESTORE_KILLS: usize = 16;

/// Rows that keep a backup busy for a moment.
const LOAD: &str = "CREATE TABLE load AS SELECT n, encode(sha256(n::text::bytea), 'hex') AS word FROM generate_series(1, 150000) n";

/// Runs a command, and kills it at a random moment within `limit`; whether it still ran. When it did not, the limit sinks.
async fn killed(mut command: Command, limit: &mut Duration) -> bool {
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    sleep(Duration::from_micros(random(0..u64::try_from(limit.as_micros()).unwrap()))).await;
    if child.try_wait().unwrap().is_some() {
        *limit = limit.mul_f64(0.8);
        return false;
    }
    child.kill().await.unwrap();
    true
}

/// How long a command takes that nobody kills.
async fn time_of(command: Command) -> Duration {
    let start = Instant::now();
    run_ok(command).await;
    start.elapsed().min(PATIENCE)
}

async fn ids(backups: &Backups) -> BTreeSet<Id> {
    let listed = backups.list(None, usize::MAX).await.unwrap();
    for backup in &listed {
        assert!(backup.manifest.is_ok(), "{backup:?}");
    }
    listed.into_iter().map(|backup| backup.id).collect()
}

#[tokio::test]
async fn a_backup_that_is_killed_is_none_and_harms_none() {
    let lab = Lab::new().await;
    lab.run(LOAD).await;
    let backups = lab.backups();
    run_ok(lab.backup(&["create"])).await;
    let mut limit = time_of(lab.backup(&["create"])).await;
    let earlier = ids(&backups).await;
    assert_eq!(earlier.len(), 2);

    let mut connection = connect(&lab.hub.database_url).await;
    let mut good = earlier.clone();
    let mut kills = 0;
    while kills < KILLS {
        let arguments = if kills % 3 == 0 { &["create"][..] } else { &["create", "--no-verify"] };
        kills += usize::from(killed(lab.backup(arguments), &mut limit).await);

        wait_for("a lock that ends with its holder", async || {
            let locks = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
                WHERE locktype = 'advisory' AND datname = current_database()";
            sqlx::query_scalar::<_, i64>(locks).fetch_one(&mut connection).await.unwrap() == 0
        })
        .await;
        for id in ids(&backups).await.difference(&good.clone()) {
            assert_eq!(
                problems(&backups, id, Depth::Checksum).await,
                [""; 0],
                "it was whole when it was killed"
            );
            good.insert(id.clone());
        }
        let next = super::create(&backups).await;
        assert_eq!(good.last().unwrap().cmp(&next), std::cmp::Ordering::Less, "the newest");
        good.insert(next);
    }
    assert_eq!(ids(&backups).await, good, "none is lost");
    for id in &good {
        let depth = if earlier.contains(id) { Depth::Full } else { Depth::Checksum };
        assert_eq!(problems(&backups, id, depth).await, [""; 0]);
    }

    // What the kills left, two days later.
    let whole = |name: &String| {
        let id = name.split_once('.').map_or(name.as_str(), |(id, _)| id);
        good.iter().any(|good| good.as_str() == id) && !name.contains('#')
    };
    let left: BTreeSet<String> = lab.files().into_iter().filter(|name| !whole(name)).collect();
    assert!(!left.is_empty(), "{KILLS} kills must have torn something");
    run_ok(lab.backup(&["prune"])).await;
    assert!(left.is_subset(&lab.files()), "what may still be on its way stays");
    for name in &left {
        let mut touch = Command::new("touch");
        touch.args(["-d", "2 days ago"]).arg(lab.store().join(name));
        run_ok(touch).await;
    }
    let dry = json(lab.backup(&["prune", "--dry-run", "--json"])).await;
    let orphans = |pruned: &serde_json::Value| -> BTreeSet<String> {
        pruned["orphans"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(orphans(&dry), left);
    assert!(left.is_subset(&lab.files()), "only told");
    let pruned = json(lab.backup(&["prune", "--json"])).await;
    assert_eq!(orphans(&pruned), left);
    assert!(lab.files().iter().all(whole), "{:?}", lab.files());
    assert_eq!(ids(&backups).await, good);
}

#[tokio::test]
async fn a_stopped_backup_clears_what_it_began() {
    use rustix::process::{Pid, Signal, kill_process};

    let lab = Lab::empty().await;
    lab.run(LOAD).await;
    lab.create().await;
    let before = lab.files();
    // It cannot end while this transaction has the table.
    let mut connection = connect(&lab.hub.database_url).await;
    let mut transaction = sqlx::Connection::begin(&mut connection).await.unwrap();
    sqlx::query("LOCK TABLE load IN ACCESS EXCLUSIVE MODE").execute(&mut *transaction).await.unwrap();
    let child = lab.backup(&["create"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    wait_for("an unfinished file", async || lab.files() != before).await;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stopped"));
    assert_eq!(lab.files(), before);
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_the_live_database_and_no_half_one() {
    let lab = Lab::new().await;
    lab.run(LOAD).await;
    let id = lab.create().await;
    let backed_up = contents(&lab.hub.database_url).await;
    lab.run("UPDATE load SET word = upper(word) WHERE n < 100").await;
    let live = contents(&lab.hub.database_url).await;
    lab.leave().await;

    let name = |n: usize| format!("killed_{n:02}_{}", lab.database());
    let mut limit = time_of(lab.backup(&["restore", id.as_str(), "--into", &name(99)])).await;
    let mut server = connect(&lab.url_of("postgres")).await;
    let mut kills = 0;
    let mut left = 0;
    while kills < RESTORE_KILLS {
        let target = name(kills);
        let in_place = kills % 2 == 1;
        let command = match in_place {
            false => lab.backup(&["restore", "latest", "--into", &target]),
            true => lab.backup(&["restore", "latest", "--into-live", "--yes"]),
        };
        let mut killed_now = killed(command, &mut limit).await;
        wait_for("the end of its session", async || {
            let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'euhub restore'
                AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = hashtext($1)::oid)";
            let scratch = lock_name(&lab);
            let left: i64 =
                sqlx::query_scalar(sessions).bind(scratch).fetch_one(&mut server).await.unwrap();
            left == 0
        })
        .await;
        left += lab.scratches().await.len();

        let is_there = lab.databases(&target).await == [target.clone()];
        if is_there {
            assert_eq!(contents(&lab.url_of(&target)).await, backed_up, "whole, or not there");
            super::run(&lab.url_of("postgres"), &format!("DROP DATABASE {target} WITH (FORCE)")).await;
            killed_now = false;
        }
        let found = contents(&lab.hub.database_url).await;
        if found != live {
            assert!(in_place, "only --into-live may change the live database");
            assert_eq!(found, backed_up, "the one or the other");
            lab.run("UPDATE load SET word = upper(word) WHERE n < 100").await;
            assert_eq!(contents(&lab.hub.database_url).await, live);
            killed_now = false;
        }
        kills += usize::from(killed_now);
    }
    assert!(left > 0, "{RESTORE_KILLS} kills must have left a database behind");
    run_ok(lab.backup(&["restore", "latest", "--into", &name(98)])).await;
    assert_eq!(contents(&lab.url_of(&name(98))).await, backed_up);
    assert_eq!(lab.scratches().await, Vec::<String>::new(), "the next restore clears them");
    assert_eq!(contents(&lab.hub.database_url).await, live);
}

/// What the lock of a restore is named by.
fn lock_name(lab: &Lab) -> String {
    use sha2::{Digest, Sha256};
    format!("euhub_scratch_{}_", &format!("{:x}", Sha256::digest(lab.database()))[..8])
}
