//! What a backup promises: one JSON file beside its dump, written last and never changed.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Utc};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::error::{BackupError, Result};

/// Version of the manifest's form that this program writes and reads.
const FORMAT: u32 = 1;
/// How an id writes its time.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// Name of a backup: its time and three random bytes, as `20261124T010000Z-1a2b3c`. Ids sort by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// An id for a backup at `time`.
    pub fn new(time: DateTime<Utc>, rng: &mut impl Rng) -> Self {
        let [a, b, c]: [u8; 3] = rng.random();
        Self(format!("{}-{a:02x}{b:02x}{c:02x}", time.format(TIME)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The time in the id.
    pub fn time(&self) -> DateTime<Utc> {
        let (time, _) = self.0.split_once('-').unwrap_or_default();
        NaiveDateTime::parse_from_str(time, TIME).unwrap_or_default().and_utc()
    }

    /// Name of the stored dump.
    pub fn dump(&self) -> String {
        format!("{}{DUMP}", self.0)
    }

    /// Name of the manifest.
    pub fn manifest(&self) -> String {
        format!("{}{MANIFEST}", self.0)
    }

    /// Name of what the last full verification found.
    pub fn check(&self) -> String {
        format!("{}{CHECK}", self.0)
    }
}

/// How the name of a dump ends.
pub const DUMP: &str = ".dump";
/// How the name of a manifest ends.
pub const MANIFEST: &str = ".manifest.json";
/// How the name of a verification's outcome ends.
pub const CHECK: &str = ".check.json";

impl FromStr for Id {
    type Err = BackupError;

    fn from_str(text: &str) -> Result<Self> {
        let valid = text.split_once('-').is_some_and(|(time, random)| {
            // Reading is lenient with spaces and signs; writing is not.
            NaiveDateTime::parse_from_str(time, TIME)
                .is_ok_and(|parsed| parsed.format(TIME).to_string() == time)
                && random.len() == 6
                && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        if valid { Ok(Self(text.to_owned())) } else { Err(BackupError::Id(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for Id {
    type Error = BackupError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is in a backup, taken in the dump's own snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name.
    pub id: Id,
    /// When it was begun, UTC. Later than that of every backup before it, whatever the clock did.
    pub create_time: DateTime<Utc>,
    /// When the dump was stored and read back.
    pub end_time: DateTime<Utc>,
    /// Until when it is kept at least.
    pub expire_time: DateTime<Utc>,
    /// Who asked for it.
    pub actor: String,
    /// Bytes of the stored dump.
    pub size: u64,
    /// SHA-256 of the stored dump, in hexadecimal.
    pub sha256: String,
    /// Bytes of the dump before compression.
    pub dump_size: u64,
    /// Id of the key that the dump is encrypted with.
    pub key_id: Option<String>,
    /// Newest migration of the schema.
    pub schema_version: i64,
    /// `server_version_num` of the server.
    pub server_version: u32,
    /// Major version of `pg_dump`.
    pub tool_version: u32,
    /// Version of this program.
    pub program_version: String,
    /// Position in the server's log of changes when the snapshot was taken.
    pub wal_position: String,
    /// Every table, by name.
    pub tables: Vec<Table>,
    /// Every sequence, by name.
    pub sequences: Vec<Sequence>,
}

/// A table's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// `schema.table`.
    pub name: String,
    /// Its rows.
    pub rows: i64,
    /// Hash of the rows, whatever their order.
    pub content: String,
}

/// A sequence's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// `schema.sequence`.
    pub name: String,
    /// The last value it gave before the snapshot; none when it has given none.
    pub last: Option<i64>,
}

/// A manifest as it is stored: sealed with the SHA-256 of its own bytes.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    format: u32,
    sha256: String,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

impl Manifest {
    /// The stored form.
    pub fn seal(&self) -> Result<Vec<u8>> {
        let manifest = serde_json::value::to_raw_value(self).map_err(std::io::Error::from)?;
        let sealed = Sealed { format: FORMAT, sha256: hex(manifest.get()), manifest: &manifest };
        Ok(serde_json::to_vec(&sealed).map_err(std::io::Error::from)?)
    }

    /// Reads the stored form of the backup `id`; refuses one that is torn, edited, another's or of a later form.
    pub fn open(id: &Id, bytes: &[u8]) -> Result<Self> {
        let broken = |why: String| BackupError::Manifest { id: id.clone(), why };
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| broken(format!("cannot be read: {error}"));
        let Form { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if format != FORMAT {
            return Err(broken(format!(
                "has form {format}, and this program knows form {FORMAT}: use a newer `euhub`"
            )));
        }
        let sealed: Sealed<'_> = serde_json::from_slice(bytes).map_err(unreadable)?;
        if hex(sealed.manifest.get()) != sealed.sha256 {
            return Err(broken("was changed after it was written: its checksum does not fit".into()));
        }
        let manifest: Self = serde_json::from_str(sealed.manifest.get()).map_err(unreadable)?;
        if manifest.id != *id {
            return Err(broken(format!("is that of backup {}", manifest.id)));
        }
        Ok(manifest)
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn hex(bytes: impl AsRef<[u8]>) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is_one() {
        let time: DateTime<Utc> = "2026-11-24T01:00:00Z".parse().unwrap();
        let id = Id::new(time, &mut crate::clock::system_rng());
        assert_eq!(id.as_str().parse::<Id>().unwrap(), id);
        assert_eq!(id.time(), time);
        for odd in [
            "",
            "latest",
            "../20261124T010000Z-1a2b3c",
            "20261124T010000Z-1a2b3c/..",
            "20261124T010000Z-1A2B3C",
            "20261124T010000Z-1a2b3",
            "20261324T010000Z-1a2b3c",
            "20261124T010000Z-1a2b3c\0",
            "20261124T 1 0 0Z-1a2b3c",
            "2026\n1\t1T010000Z-1a2b3c",
            "+0261124T010000Z-1a2b3c",
            "٢٠٢٦1124T010000Z-1a2b3c",
        ] {
            assert!(odd.parse::<Id>().is_err(), "{odd:?}");
        }
    }
}
