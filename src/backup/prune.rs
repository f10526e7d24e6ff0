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
        let backups = self.list(None, usize::MAX).await?;
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
