//! What is kept, and what goes.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use serde::Serialize;

use super::Backups;
use super::catalog::Backup;
use super::error::Result;
use super::manifest::Id;
use super::storage::Stored;

/// How many verified backups stay, however old they are.
const VERIFIED: usize = 2;
/// How old a file without a manifest must be to be nobody's.
const ORPHAN: TimeDelta = TimeDelta::days(1);

/// How long backups are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Every one, for so many days.
    pub days: u32,
    /// The newest of each of so many weeks.
    pub weeks: u32,
    /// The newest of each of so many months.
    pub months: u32,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pruned {
    /// Backups that went.
    pub removed: Vec<Id>,
    /// Backups that stay, and why.
    pub kept: Vec<(Id, String)>,
    /// Files that belonged to no backup.
    pub orphans: Vec<String>,
    /// Bytes of all that went.
    pub bytes: u64,
}

/// The backups that no age removes, and why: the newest good one, and the last two that have been restored.
pub(super) fn floor(newest_first: &[Backup]) -> Vec<(Id, String)> {
    let good = newest_first.iter().filter(|backup| backup.is_good()).take(1);
    let verified = newest_first.iter().filter(|backup| backup.is_verified()).take(VERIFIED);
    let good = good.map(|backup| (backup.id.clone(), "the newest good one".to_owned()));
    good.chain(verified.map(|backup| (backup.id.clone(), "one of the last two verified".to_owned())))
        .collect()
}

/// Each backup, and why it stays; none for what goes.
fn decide(now: DateTime<Utc>, keep: Keep, newest_first: &[Backup]) -> Vec<(Id, Option<String>)> {
    let floor = floor(newest_first);
    let (mut weeks, mut months) = (BTreeSet::new(), BTreeSet::new());
    let mut decided = Vec::new();
    for backup in newest_first {
        let day = backup.id.time().date_naive();
        let (week, month) = ((day.iso_week().year(), day.iso_week().week()), (day.year(), day.month()));
        let expire_time = match &backup.manifest {
            Ok(manifest) => manifest.expire_time,
            Err(_) => backup.id.time() + TimeDelta::days(keep.days.into()),
        };
        let good = backup.is_good();
        let first_of_week = good && weeks.len() < keep.weeks as usize && weeks.insert(week);
        let first_of_month = good && months.len() < keep.months as usize && months.insert(month);
        let why = if let Some((_, why)) = floor.iter().find(|(id, _)| *id == backup.id) {
            Some(why.clone())
        } else if now < expire_time {
            Some(format!("kept until {}", expire_time.format("%F %R UTC")))
        } else if first_of_week {
            Some("the newest of its week".into())
        } else if first_of_month {
            Some("the newest of its month".into())
        } else {
            None
        };
        decided.push((backup.id.clone(), why));
    }
    decided
}

impl Backups {
    /// Removes backups that are past their time, and files that belong to none. With `dry`, only says which.
    pub async fn prune(&self, dry: bool) -> Result<Pruned> {
        let now = self.clock.now();
        let entries = self.entries().await?;
        let backups = self.describe_all(&entries, None, usize::MAX).await?;
        let mut pruned = Pruned::default();
        for (id, why) in decide(now, self.keep, &backups) {
            if let Some(why) = why {
                pruned.kept.push((id, why));
                continue;
            }
            if !dry {
                self.storage.remove(&id).await?;
            }
            let dump = entries.iter().find(|entry| entry.id == id).and_then(|entry| entry.dump.as_ref());
            pruned.bytes += dump.map_or(0, |dump| dump.size);
            pruned.removed.push(id);
        }
        let orphans = entries.iter().filter(|entry| !entry.has_manifest);
        let orphans: Vec<Stored> =
            orphans.flat_map(|entry| entry.dump.iter().chain(&entry.check)).cloned().collect();
        for file in orphans.into_iter().filter(|file| file.time < now - ORPHAN) {
            if !dry {
                self.storage.delete(&file.name).await?;
            }
            pruned.bytes += file.size;
            pruned.orphans.push(file.name);
        }
        for path in self.storage.torn(now - ORPHAN)? {
            pruned.bytes += path.metadata()?.len();
            if !dry {
                std::fs::remove_file(&path)?;
            }
            let name = path.file_name().unwrap_or_default();
            pruned.orphans.push(name.to_string_lossy().into_owned());
        }
        Ok(pruned)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::backup::{Check, Manifest};
    use crate::clock::system_rng;

    /// What a backup may be.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum State {
        Verified,
        NotVerified,
        FoundBroken,
        Unreadable,
    }

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_900_000_000 + hours * 3600, 0).unwrap()
    }

    fn backup(time: DateTime<Utc>, keep: Keep, state: State) -> Backup {
        let id = Id::new(time, &mut system_rng());
        let manifest = Manifest {
            id: id.clone(),
            create_time: time,
            end_time: time,
            expire_time: time + TimeDelta::days(keep.days.into()),
            actor: "test".into(),
            size: 1,
            sha256: String::new(),
            dump_size: 1,
            key_id: None,
            schema_version: 1,
            server_version: 180_000,
            tool_version: 18,
            program_version: "1".into(),
            wal_position: "0/1".into(),
            tables: Vec::new(),
            sequences: Vec::new(),
        };
        let check = |problems: &[&str]| -> Check {
            let form = json!({"depth": "full", "time": time, "problems": problems, "manifest_sha256": ""});
            serde_json::from_value(form).unwrap()
        };
        let check = match state {
            State::Verified => Some(check(&[])),
            State::FoundBroken => Some(check(&["it differs"])),
            State::NotVerified | State::Unreadable => None,
        };
        let manifest = if state == State::Unreadable { Err("torn".into()) } else { Ok(manifest) };
        Backup { id, manifest, check }
    }

    fn states() -> impl Strategy<Value = Vec<(i64, State)>> {
        let state = prop_oneof![
            Just(State::Verified),
            Just(State::NotVerified),
            Just(State::FoundBroken),
            Just(State::Unreadable)
        ];
        proptest::collection::vec((0..24 * 200_i64, state), 0..40)
    }

    proptest! {
        #[test]
        fn nothing_goes_that_must_stay_and_nothing_stays_without_a_reason(
            states in states(), days in 0_u32..40, weeks in 0_u32..6, months in 0_u32..5, now in 0..24 * 220_i64,
        ) {
            let keep = Keep { days, weeks, months };
            let now = at(now);
            let mut backups: Vec<Backup> =
                states.into_iter().map(|(hours, state)| backup(at(hours), keep, state)).collect();
            backups.sort_by(|a, b| b.id.cmp(&a.id));
            let decided = decide(now, keep, &backups);
            prop_assert!(decided.iter().map(|(id, _)| id).eq(backups.iter().map(|backup| &backup.id)));
            let stays = |backup: &&Backup| decided.iter().any(|(id, why)| *id == backup.id && why.is_some());

            // The floor.
            let good: Vec<&Backup> = backups.iter().filter(|backup| backup.is_good()).collect();
            prop_assert!(good.iter().take(1).all(stays), "the newest good one");
            let verified: Vec<&Backup> = backups.iter().filter(|backup| backup.is_verified()).collect();
            prop_assert!(verified.iter().take(2).all(stays), "the last two verified");
            prop_assert!(
                decide(at(1_000_000), Keep::default(), &backups).iter().filter(|(_, why)| why.is_some()).count() <= 3
            );

            // Days, weeks and months, counted in another way: how many newer good ones there are of each.
            let age = |backup: &Backup| backup.id.time() + TimeDelta::days(days.into());
            let newest_of = |of: &dyn Fn(&Backup) -> String, n: u32| -> Vec<Id> {
                let mut periods: Vec<String> = Vec::new();
                let mut newest = Vec::new();
                for backup in &good {
                    if periods.last() != Some(&of(backup)) {
                        periods.push(of(backup));
                        newest.push(backup.id.clone());
                    }
                }
                newest.truncate(n as usize);
                newest
            };
            let weekly = newest_of(&|backup| backup.id.time().format("%G-%V").to_string(), weeks);
            let monthly = newest_of(&|backup| backup.id.time().format("%Y-%m").to_string(), months);
            for backup in &backups {
                let wanted = now < age(backup)
                    || good.first().is_some_and(|newest| newest.id == backup.id)
                    || verified.iter().take(2).any(|kept| kept.id == backup.id)
                    || weekly.contains(&backup.id)
                    || monthly.contains(&backup.id);
                prop_assert_eq!(stays(&backup), wanted, "{:?} at {}", backup, now);
            }
        }
    }
}
