//! What is in storage, and what is known of it.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};

use super::error::{BackupError, Result};
use super::manifest::{CHECK, DUMP, Id, MANIFEST, Manifest};
use super::storage::Stored;
use super::verify::Check;
use super::{Backups, Storage};

/// The files of one backup.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    /// Bytes of the dump and when it was stored.
    pub(super) dump: Option<Stored>,
    pub(super) has_manifest: bool,
    pub(super) check: Option<Stored>,
}

/// A backup as it is shown.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Its name.
    pub id: Id,
    /// What it promises; an error when that cannot be read, or its dump is missing or of another size.
    pub manifest: Result<Manifest, String>,
    /// What the last full verification found, or one that failed.
    pub check: Option<Check>,
}

impl Backup {
    /// It can be restored as far as is known.
    pub fn is_good(&self) -> bool {
        self.manifest.is_ok() && self.check.as_ref().is_none_or(|check| check.problems.is_empty())
    }

    /// It has been restored and compared.
    pub fn is_verified(&self) -> bool {
        self.manifest.is_ok() && self.check.as_ref().is_some_and(Check::is_full_pass)
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Option<String> {
        match (&self.manifest, &self.check) {
            (Err(problem), _) => Some(problem.clone()),
            (_, Some(check)) if !check.problems.is_empty() => Some(check.problems.join("; ")),
            _ => None,
        }
    }
}

impl Backups {
    /// Every id that a stored file names, oldest first.
    pub(super) async fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries: BTreeMap<Id, Entry> = BTreeMap::new();
        for stored in self.storage.list().await? {
            for kind in [DUMP, MANIFEST, CHECK] {
                let Some(id) = stored.name.strip_suffix(kind).and_then(|id| id.parse::<Id>().ok()) else {
                    continue;
                };
                let entry = entries.entry(id.clone()).or_insert(Entry {
                    id,
                    dump: None,
                    has_manifest: false,
                    check: None,
                });
                match kind {
                    DUMP => entry.dump = Some(stored.clone()),
                    MANIFEST => entry.has_manifest = true,
                    _ => entry.check = Some(stored.clone()),
                }
            }
        }
        Ok(entries.into_values().collect())
    }

    /// The backups before `before`, newest first, `limit` at most. A dump without a manifest is none.
    pub async fn list(&self, before: Option<&Id>, limit: usize) -> Result<Vec<Backup>> {
        self.describe_all(&self.entries().await?, before, limit).await
    }

    /// [`Backups::list`] of entries that were read already.
    pub(super) async fn describe_all(
        &self,
        entries: &[Entry],
        before: Option<&Id>,
        limit: usize,
    ) -> Result<Vec<Backup>> {
        let wanted = entries.iter().rev();
        let wanted =
            wanted.filter(|entry| entry.has_manifest && before.is_none_or(|before| entry.id < *before));
        let mut backups = Vec::new();
        for entry in wanted.take(limit) {
            if let Some(backup) = self.describe(entry).await? {
                backups.push(backup);
            }
        }
        Ok(backups)
    }

    /// One backup.
    pub async fn get(&self, id: &Id) -> Result<Backup> {
        let missing = || BackupError::NotFound(format!("backup {id} does not exist"));
        let entry = self.entries().await?.into_iter().find(|entry| entry.id == *id).ok_or_else(missing)?;
        self.describe(&entry).await?.ok_or_else(missing)
    }

    /// The backup that `text` names: an id, or `latest`, the newest that is good.
    pub async fn find(&self, text: &str) -> Result<Backup> {
        if text != "latest" {
            return self.get(&text.parse()?).await;
        }
        for entry in self.entries().await?.iter().rev().filter(|entry| entry.has_manifest) {
            if let Some(backup) = self.describe(entry).await?.filter(Backup::is_good) {
                return Ok(backup);
            }
        }
        Err(BackupError::NotFound(format!("{} holds no good backup", self.storage.place())))
    }

    /// What is known of an entry; none when it has no manifest, or just lost it.
    async fn describe(&self, entry: &Entry) -> Result<Option<Backup>> {
        let id = entry.id.clone();
        let bytes = match self.storage.read(&id.manifest()).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            // What is wrong with one keeps the others from nothing.
            Err(BackupError::Refused(why)) => {
                return Ok(Some(Backup { id, manifest: Err(why), check: None }));
            }
            Err(error) => return Err(error),
        };
        let manifest = Manifest::open(&id, &bytes).map_err(|error| error.to_string());
        let manifest = manifest.and_then(|manifest| match &entry.dump {
            None => Err("its dump is missing".into()),
            Some(dump) if dump.size != manifest.size => {
                Err(format!("its dump has {} bytes instead of {}", dump.size, manifest.size))
            }
            Some(_) => Ok(manifest),
        });
        let check = match &entry.check {
            Some(_) => Check::read(&self.storage, &id, &bytes).await?,
            None => None,
        };
        Ok(Some(Backup { id, manifest, check }))
    }

    /// Removes a backup; the manifest first, so that it is never offered without its dump.
    pub async fn delete(&self, id: &Id) -> Result<()> {
        let backups = self.list(None, usize::MAX).await?;
        let floor = super::prune::floor(&backups);
        if let Some((_, why)) = floor.into_iter().find(|(kept, _)| kept == id) {
            return Err(BackupError::Refused(format!("backup {id} is {why} and is kept")));
        }
        if !backups.iter().any(|backup| backup.id == *id) {
            return Err(BackupError::NotFound(format!("backup {id} does not exist")));
        }
        self.storage.remove(id).await
    }
}

impl Storage {
    /// Removes the files of a backup, manifest first.
    pub(super) async fn remove(&self, id: &Id) -> Result<()> {
        for name in [id.manifest(), id.dump(), id.check()] {
            self.delete(&name).await?;
        }
        Ok(())
    }

    /// Size and SHA-256 of a file, read to its end; none when there is none of that name.
    pub(super) async fn digest(
        &self,
        name: &str,
        mut read: impl FnMut(usize),
    ) -> Result<Option<(u64, String)>> {
        let Some(mut pieces) = self.stream(name).await? else { return Ok(None) };
        let (mut size, mut hash) = (0, Sha256::new());
        while let Some(piece) = pieces.try_next().await? {
            size += piece.len() as u64;
            hash.update(&piece);
            read(piece.len());
        }
        Ok(Some((size, format!("{:x}", hash.finalize()))))
    }
}
