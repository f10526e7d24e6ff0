//! What prune takes, on stored files; and odd names.

use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use euhub::backup::{Depth, Id, Manifest};
use euhub::clock::{Clock, system_rng};
use euhub::config::Config;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Lab, create, open, problems};
use crate::program::{run_err, run_ok};

fn at(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

/// Stores a backup of another time, verified or not.
fn store(lab: &Lab, model: &Manifest, time: DateTime<Utc>, verified: bool) -> Id {
    let id = Id::new(time, &mut system_rng());
    let dump = format!("dump of {id}");
    let manifest = Manifest {
        id: id.clone(),
        create_time: time,
        end_time: time,
        expire_time: time + TimeDelta::days(7),
        size: dump.len() as u64,
        sha256: format!("{:x}", Sha256::digest(&dump)),
        ..model.clone()
    };
    let sealed = manifest.seal().unwrap();
    if verified {
        let hash = format!("{:x}", Sha256::digest(&sealed));
        let check = json!({"depth": "full", "time": time, "problems": [], "manifest_sha256": hash});
        fs::write(lab.store().join(id.check()), check.to_string()).unwrap();
    }
    fs::write(lab.store().join(id.dump()), dump).unwrap();
    fs::write(lab.store().join(id.manifest()), sealed).unwrap();
    id
}

/// The manifest of a backup that was made, and is gone.
async fn model(lab: &Lab) -> Manifest {
    let real = create(&lab.backups()).await;
    let model = lab.backups().get(&real).await.unwrap().manifest.unwrap();
    for name in [real.dump(), real.manifest()] {
        fs::remove_file(lab.store().join(name)).unwrap();
    }
    model
}

#[tokio::test]
async fn prune_keeps_what_is_young_the_newest_good_one_and_the_last_two_verified() {
    let lab = Lab::empty().await;
    let model = model(&lab).await;
    let now = at("2031-05-20T12:00:00Z");
    let ago = |days: i64| now - TimeDelta::days(days);
    let ancient = store(&lab, &model, ago(400), true);
    let old_verified = store(&lab, &model, ago(90), true);
    let last_verified = store(&lab, &model, ago(60), true);
    let plain = store(&lab, &model, ago(30), false);
    let newest_good = store(&lab, &model, ago(20), false);
    let broken = store(&lab, &model, ago(10), false);
    fs::remove_file(lab.store().join(broken.dump())).unwrap();
    let unreadable = store(&lab, &model, ago(9), false);
    fs::write(lab.store().join(unreadable.manifest()), "?").unwrap();
    let young_and_broken = store(&lab, &model, ago(6), false);
    fs::write(lab.store().join(young_and_broken.manifest()), "?").unwrap();
    fs::write(lab.store().join("notes.txt"), "somebody's").unwrap();
    let orphan = Id::new(now - TimeDelta::days(3), &mut system_rng());
    fs::write(lab.store().join(orphan.dump()), "torn").unwrap();

    let backups = lab.backups_at(Clock::from_fn(move || now));
    let before = lab.files();
    let dry = backups.prune(true).await.unwrap();
    assert_eq!(lab.files(), before, "only told");
    let pruned = backups.prune(false).await.unwrap();
    assert_eq!(format!("{dry:?}"), format!("{pruned:?}"));
    assert_eq!(pruned.removed, [unreadable, broken, plain, ancient]);
    let kept: Vec<_> = pruned.kept.iter().map(|(id, why)| (id.clone(), why.as_str())).collect();
    let until = (young_and_broken.time() + TimeDelta::days(7)).format("kept until %F %R UTC").to_string();
    assert_eq!(
        kept,
        [
            (young_and_broken.clone(), until.as_str()),
            (newest_good.clone(), "the newest good one"),
            (last_verified.clone(), "one of the last two verified"),
            (old_verified.clone(), "one of the last two verified"),
        ]
    );
    assert_eq!(pruned.orphans, [orphan.dump()]);
    let mut left: Vec<String> = vec!["notes.txt".into()];
    for id in [&young_and_broken, &newest_good, &last_verified, &old_verified] {
        left.extend([id.dump(), id.manifest()]);
    }
    left.extend([last_verified.check(), old_verified.check()]);
    assert_eq!(lab.files(), left.into_iter().collect());
    assert_eq!(backups.prune(false).await.unwrap().removed, [], "once is enough");

    for (id, why) in [(&newest_good, "the newest good one"), (&last_verified, "one of the last two verified")]
    {
        let told = backups.delete(id).await.unwrap_err().to_string();
        assert_eq!(told, format!("backup {id} is {why} and is kept"));
    }
    backups.delete(&young_and_broken).await.unwrap();
    let told = backups.delete(&young_and_broken).await.unwrap_err().to_string();
    assert!(told.contains(&format!("backup {young_and_broken} does not exist")), "{told}");
}

#[tokio::test]
async fn prune_keeps_the_newest_of_weeks_and_months_when_told_to() {
    let lab = Lab::empty().await;
    let model = model(&lab).await;
    let now = at("2031-05-20T12:00:00Z");
    let every_night: Vec<Id> = (0..200)
        .map(|n| store(&lab, &model, at("2031-05-20T01:00:00Z") - TimeDelta::days(n), false))
        .collect();
    let config = Config { backup_keep_weeks: 5, backup_keep_months: 4, ..lab.config() };
    let backups = open(&config, &lab.hub.database_url, Clock::from_fn(move || now));
    let pruned = backups.prune(false).await.unwrap();
    let kept: Vec<String> = pruned.kept.iter().map(|(id, _)| id.time().format("%F").to_string()).collect();
    assert_eq!(
        kept,
        [
            // A week, and then the last day of each of four weeks more and of three months more.
            "2031-05-20",
            "2031-05-19",
            "2031-05-18",
            "2031-05-17",
            "2031-05-16",
            "2031-05-15",
            "2031-05-14",
            "2031-05-11",
            "2031-05-04",
            "2031-04-30",
            "2031-04-27",
            "2031-03-31",
            "2031-02-28",
        ]
    );
    assert_eq!(pruned.removed.len() + kept.len(), every_night.len());
    assert_eq!(lab.files().len(), 2 * kept.len());
}

#[tokio::test]
async fn prune_says_what_it_does() {
    let lab = Lab::empty().await;
    let ids = [create(&lab.backups()).await, create(&lab.backups()).await];
    let said = run_ok(lab.backup(&["prune"])).await;
    assert!(said.contains(&format!("kept     {}, the newest good one", ids[1])), "{said}");
    assert!(said.contains(&format!("kept     {}, kept until ", ids[0])), "{said}");
    assert!(said.contains("removed: 0 backups, 0 other files, 0 B"), "{said}");
    let mut command = lab.backup(&["create", "--no-verify"]);
    command.env("EUHUB_BACKUP_KEEP_DAYS", "0");
    run_ok(command).await;
    let later = lab.backups_at(Clock::from_fn(|| at("2061-01-01T00:00:00Z")));
    assert_eq!(later.prune(false).await.unwrap().removed, [ids[1].clone(), ids[0].clone()]);
    let listed: Value = super::json(lab.backup(&["list", "--json"])).await;
    let manifest = &listed["manifest"];
    assert_eq!(manifest["expire_time"], manifest["create_time"]);

    // Longer than there are dates.
    let mut command = lab.backup(&["create", "--no-verify"]);
    command.env("EUHUB_BACKUP_KEEP_DAYS", u32::MAX.to_string());
    let told = run_err(command).await;
    assert!(told.contains("backup_keep_days") && !told.contains("panicked"), "{told}");
}

#[tokio::test]
async fn a_name_that_is_no_id_is_refused_everywhere() {
    let lab = Lab::empty().await;
    let id = create(&lab.backups()).await;
    let secret = lab.folder.path().join(".euhub/secret.manifest.json");
    fs::write(&secret, "{}").unwrap();
    let before = lab.files();
    let inside = format!("../backups/{id}");
    let upper = id.as_str().to_uppercase();
    for odd in [
        "../x",
        "../secret",
        "..",
        ".",
        "/",
        "",
        " ",
        "/etc/passwd",
        "a/b",
        "%2e%2e%2fx",
        "Latest",
        "latest ",
        "20261124T010000Z-1a2b3c/../x",
        "20261124T010000Z-1a2b3",
        "20261324T010000Z-1a2b3c",
        "20261124T 1 0 0Z-1a2b3c",
        "20261124T010000Z-1a2b3c.manifest.json",
        "-x",
        &inside,
        &upper,
        &format!("{id}\n"),
        &"9".repeat(5000),
    ] {
        // A name without letters in it is an id already.
        if odd == id.as_str() {
            continue;
        }
        for arguments in [["verify", "--", odd], ["restore", "--", odd]] {
            let told = run_err(lab.backup(&arguments)).await;
            assert!(
                told.contains("is no backup's id: an id looks like 20261124T010000Z-1a2b3c"),
                "{odd:?}: {told}"
            );
            assert!(told.len() < 400, "{odd:?}: {told}");
        }
    }
    for arguments in [["verify", "20261124T010000Z-1a2b3c"], ["restore", "20261124T010000Z-1a2b3c"]] {
        let told = run_err(lab.backup(&arguments)).await;
        assert!(
            told.contains("backup 20261124T010000Z-1a2b3c does not exist; `euhub backup list`"),
            "{told}"
        );
    }
    assert_eq!(lab.files(), before);
    assert!(secret.exists());
    assert_eq!(problems(&lab.backups(), &id, Depth::Full).await, [""; 0]);
}
