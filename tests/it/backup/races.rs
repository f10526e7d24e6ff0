//! Many at once, and clocks that go backwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use euhub::backup::{BackupError, Depth, Progress};
use euhub::clock::Clock;
use euhub::config::Config;
use serde_json::Value;
use sqlx::Connection;

use super::{Lab, connect, create, open, problems, waits_for_a_lock};
use crate::program::{run_err, run_ok};

#[tokio::test]
async fn of_two_backups_at_once_the_second_is_told_of_the_first() {
    let lab = Lab::empty().await;
    // The first waits for this transaction.
    let mut connection = connect(&lab.hub.database_url).await;
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query("LOCK TABLE feeds IN ACCESS EXCLUSIVE MODE").execute(&mut *transaction).await.unwrap();
    let mut command = lab.backup(&["create", "--json"]);
    let first =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    waits_for_a_lock(&lab.hub.database_url, "euhub backup ").await;

    let told = run_err(lab.backup(&["create"])).await;
    transaction.rollback().await.unwrap();
    let output = first.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = made["backup"].as_str().unwrap();
    assert!(told.contains(&format!("backup {id} is running; one at a time")), "{told}");
    assert_eq!(made["verified"], true);
    assert_eq!(lab.files().len(), 3, "of the first alone: {:?}", lab.files());
}

#[tokio::test]
async fn backups_that_begin_together_never_run_together() {
    let lab = Lab::empty().await;
    let backups = lab.backups();
    let mut made = BTreeSet::new();
    for round in 0..8 {
        let one = async || {
            let id = backups.next_id().await.unwrap();
            backups.create(&id, "test", &Progress::default()).await.map(|manifest| manifest.id)
        };
        let (a, b, c) = tokio::join!(one(), one(), one());
        let before = made.len();
        for result in [a, b, c] {
            match result {
                Ok(id) => assert!(made.insert(id), "ids are made once"),
                Err(BackupError::Running(what)) => assert!(what.starts_with("backup "), "{what}"),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(made.len() > before, "round {round}: one wins");
    }
    let listed = backups.list(None, usize::MAX).await.unwrap();
    assert_eq!(listed.iter().map(|backup| backup.id.clone()).collect::<BTreeSet<_>>(), made);
    assert_eq!(lab.files().len(), 2 * made.len());
    for id in &made {
        assert_eq!(problems(&backups, id, Depth::Checksum).await, [""; 0]);
    }
}

#[tokio::test]
async fn full_verifications_and_restores_wait_for_nobody_and_mix_up_nothing() {
    let lab = Lab::empty().await;
    let backups = lab.backups();
    let id = create(&backups).await;
    let (progress, other) = (Progress::default(), Progress::default());
    let (a, b) =
        tokio::join!(backups.verify(&id, Depth::Full, &progress), backups.verify(&id, Depth::Full, &other));
    let mut passed = 0;
    for result in [a, b] {
        match result {
            Ok(check) => {
                assert_eq!(check.problems, [""; 0]);
                passed += 1;
            }
            Err(BackupError::Running(what)) => assert_eq!(what, "another restore or full verification"),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(passed > 0);
    assert_eq!(lab.scratches().await, Vec::<String>::new());
}

#[tokio::test]
async fn pruning_while_backups_are_made_takes_none_that_must_stay() {
    let lab = Lab::empty().await;
    // An hour later every backup is past its time; only the floor stays.
    let config = Config { backup_keep_days: 0, ..lab.config() };
    let backups = open(&config, &lab.hub.database_url, Clock::system());
    let later = Clock::from_fn(|| Clock::system().now() + TimeDelta::hours(1));
    let pruner = open(&config, &lab.hub.database_url, later);
    let done = AtomicBool::new(false);
    let making = async {
        for _ in 0..20 {
            let id = create(&backups).await;
            assert_eq!(problems(&backups, &id, Depth::Checksum).await, [""; 0]);
            let newest = backups.find("latest").await.unwrap();
            assert_eq!(newest.id, id, "the newest good one stays");
        }
        done.store(true, Ordering::SeqCst);
    };
    let pruning = async {
        let mut removed = 0;
        while !done.load(Ordering::SeqCst) {
            let pruned = pruner.prune(false).await.unwrap();
            assert_eq!(pruned.orphans, [""; 0], "what is on its way is no orphan");
            removed += pruned.removed.len();
            tokio::task::yield_now().await;
        }
        removed
    };
    let ((), removed) = tokio::join!(making, pruning);
    let left = backups.list(None, usize::MAX).await.unwrap();
    assert_eq!(removed + left.len(), 20);
    pruner.prune(false).await.unwrap();
    assert_eq!(backups.list(None, usize::MAX).await.unwrap().len(), 1);
    assert_eq!(lab.files().len(), 2);
}

#[tokio::test]
async fn a_clock_that_goes_backwards_changes_no_order() {
    let lab = Lab::empty().await;
    let now = Arc::new(AtomicI64::new(0));
    let told = Arc::clone(&now);
    let clock =
        Clock::from_fn(move || DateTime::<Utc>::from_timestamp(told.load(Ordering::SeqCst), 0).unwrap());
    let backups = lab.backups_at(clock);
    let mut made = Vec::new();
    for time in
        ["2031-03-01T00:00:00Z", "2031-02-01T00:00:00Z", "2029-01-01T00:00:00Z", "2031-02-28T23:59:59Z"]
    {
        now.store(time.parse::<DateTime<Utc>>().unwrap().timestamp(), Ordering::SeqCst);
        made.push(create(&backups).await);
        assert!(made.is_sorted(), "{made:?}");
        assert_eq!(backups.find("latest").await.unwrap().id, *made.last().unwrap());
    }
    let listed = backups.list(None, usize::MAX).await.unwrap();
    assert!(listed.iter().map(|backup| &backup.id).rev().eq(&made));
    for backup in &listed {
        let manifest = backup.manifest.as_ref().unwrap();
        assert!(manifest.create_time <= manifest.end_time && manifest.create_time == backup.id.time());
    }
    assert_eq!(backups.prune(false).await.unwrap().removed, []);
    run_ok(lab.backup(&["verify", "latest"])).await;
}
