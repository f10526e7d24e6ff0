//! Proof that a backup is what its manifest says: its bytes, its listing, or all of it restored and compared.

use std::process::Stdio;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;

use super::catalog::Backup;
use super::error::{BackupError, Result};
use super::manifest::{Id, Manifest, hex};
use super::pack::Unpacker;
use super::storage::Storage;
use super::tool::{Connected, Tools};
use super::{Backups, Progress, count, say};

/// How far a verification goes; each goes as far as those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Every stored byte is hashed.
    Checksum,
    /// The whole archive is decrypted and decompressed, and its table of contents names every table.
    Listing,
    /// It is restored into a database of its own, every table is compared, and the database dropped.
    Full,
}

impl Depth {
    /// Its name, as it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checksum => "checksum",
            Self::Listing => "listing",
            Self::Full => "full",
        }
    }
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// How far it went.
    pub depth: Depth,
    /// When it ended, UTC.
    pub time: DateTime<Utc>,
    /// What is wrong; nothing when all is well.
    pub problems: Vec<String>,
    /// SHA-256 of the manifest that it was made by.
    manifest_sha256: String,
}

impl Check {
    /// The backup was restored, and was what it promises.
    pub fn is_full_pass(&self) -> bool {
        self.depth == Depth::Full && self.problems.is_empty()
    }

    /// The stored one, if it can be read and is of this manifest.
    pub(super) async fn read(storage: &Storage, id: &Id, manifest: &[u8]) -> Result<Option<Self>> {
        let Some(bytes) = storage.read(&id.check()).await? else { return Ok(None) };
        let check = serde_json::from_slice::<Self>(&bytes).ok();
        Ok(check.filter(|check| check.manifest_sha256 == hex(manifest)))
    }
}

impl Backups {
    /// Verifies a backup. An error means that it could not be done; what is wrong with the backup is in the answer, which is kept beside
    /// the backup when it went all the way, or found something.
    pub async fn verify(&self, id: &Id, depth: Depth, progress: &Progress) -> Result<Check> {
        let manifest_name = id.manifest();
        let bytes = self.storage.read(&manifest_name).await?;
        let bytes = bytes.ok_or_else(|| BackupError::NotFound(format!("backup {id} does not exist")))?;
        let problems = match self.examine(id, &bytes, depth, progress).await {
            Ok(()) => Vec::new(),
            Err(BackupError::Differs { problems, .. }) => problems,
            Err(error @ (BackupError::Corrupt { .. } | BackupError::Manifest { .. })) => {
                vec![error.to_string()]
            }
            Err(error) => return Err(error),
        };
        let check = Check { depth, time: self.clock.now(), problems, manifest_sha256: hex(&bytes) };
        if depth == Depth::Full || !check.problems.is_empty() {
            let form = serde_json::to_vec(&check).map_err(std::io::Error::from)?;
            self.storage.replace(&id.check(), form).await?;
        }
        Ok(check)
    }

    async fn examine(&self, id: &Id, manifest: &[u8], depth: Depth, progress: &Progress) -> Result<()> {
        let manifest = Manifest::open(id, manifest)?;
        self.checksum(&manifest, progress).await?;
        match depth {
            Depth::Checksum => Ok(()),
            Depth::Listing => self.listing(&manifest, progress).await,
            Depth::Full => self.restore_and_drop(&manifest, progress).await,
        }
    }

    /// Refuses a dump whose bytes are not those that were stored.
    pub(super) async fn checksum(&self, manifest: &Manifest, progress: &Progress) -> Result<()> {
        say(progress, "checksum");
        let found = self.storage.digest(&manifest.id.dump(), |n| count(progress, n)).await?;
        let why = match found {
            None => "its dump is missing".to_owned(),
            Some((size, _)) if size != manifest.size => {
                format!("its dump has {size} bytes instead of {}", manifest.size)
            }
            Some((_, sha256)) if sha256 != manifest.sha256 => "its dump has another checksum".to_owned(),
            Some(_) => return Ok(()),
        };
        Err(BackupError::Corrupt { id: manifest.id.clone(), why })
    }

    async fn listing(&self, manifest: &Manifest, progress: &Progress) -> Result<()> {
        say(progress, "listing");
        let tools = Tools::find(&self.programs, manifest.tool_version).await?;
        let mut command = tools.alone("pg_restore");
        command.args(["--list"]);
        // A listing quotes no name, and has a space between schema and table.
        let plain = |text: &str| text.replace('"', "").replace('.', " ");
        let listed = self.feed(command, manifest, progress).await.map_err(|error| match error {
            // It needs no server: what it cannot read is no archive.
            BackupError::Program(why) => BackupError::Corrupt { id: manifest.id.clone(), why },
            error => error,
        })?;
        let listed = plain(&listed);
        let missing: Vec<String> = manifest
            .tables
            .iter()
            .filter(|table| {
                let data = plain(&format!(" TABLE DATA {} ", table.name));
                !listed.lines().any(|line| line.contains(&data))
            })
            .map(|table| format!("table {} is not in its dump", table.name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(BackupError::Differs { id: manifest.id.clone(), problems: missing })
    }

    /// Runs a program over the dump; what it wrote. A dump that cannot be unpacked, or that the program cannot read, is corrupt.
    pub(super) async fn feed(
        &self,
        command: Connected,
        manifest: &Manifest,
        progress: &Progress,
    ) -> Result<String> {
        let corrupt = |why: String| BackupError::Corrupt { id: manifest.id.clone(), why };
        let key = self.key_of(manifest)?;
        let found = self.storage.stream(&manifest.id.dump()).await?;
        let pieces = found.ok_or_else(|| corrupt("its dump is missing".into()))?;
        let (mut child, talk, _password) = command.start(Stdio::piped(), Stdio::piped())?;
        let (Some(stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BackupError::Program("pg_restore has no pipes".into()));
        };
        let mut written = String::new();
        let (fed, read, words) = tokio::join!(
            unpack(Unpacker::new(key)?, pieces, stdin, manifest, progress),
            stdout.read_to_string(&mut written),
            talk.listen(progress)
        );
        fed?;
        read?;
        words?.check(child.wait().await?)?;
        Ok(written)
    }
}

/// Writes the dump into a program. One that has seen enough, or has failed, is not written to any more; the dump is unpacked to its end
/// all the same.
async fn unpack(
    mut unpacker: Unpacker,
    mut pieces: BoxStream<'static, Result<Bytes>>,
    stdin: ChildStdin,
    manifest: &Manifest,
    progress: &Progress,
) -> Result<()> {
    let corrupt = |why: String| BackupError::Corrupt { id: manifest.id.clone(), why };
    let mut stdin = Some(stdin);
    let mut size = 0;
    let mut write = async |bytes: Vec<u8>| {
        size += bytes.len() as u64;
        count(progress, bytes.len());
        if let Some(pipe) = &mut stdin
            && pipe.write_all(&bytes).await.is_err()
        {
            stdin = None;
        }
    };
    while let Some(piece) = pieces.try_next().await? {
        write(unpacker.push(&piece).map_err(corrupt)?).await;
    }
    write(unpacker.finish().map_err(corrupt)?).await;
    if size != manifest.dump_size {
        return Err(corrupt(format!("it unpacks to {size} bytes instead of {}", manifest.dump_size)));
    }
    Ok(())
}

/// The manifest of a backup that has a good one.
pub(super) fn manifest_of(backup: &Backup) -> Result<&Manifest> {
    backup.manifest.as_ref().map_err(|why| BackupError::Corrupt { id: backup.id.clone(), why: why.clone() })
}
