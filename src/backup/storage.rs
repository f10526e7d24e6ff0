//! Where backups are kept: a folder, or a bucket of anything that speaks S3.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientOptions, Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, RetryConfig,
    WriteMultipart,
};

use super::error::{BackupError, Result};

/// Bytes of a part of an upload.
const PART: usize = 8 << 20;
/// Parts on their way at once.
const PARTS: usize = 4;
/// Longest manifest that is read.
const MAX_SMALL: u64 = 16 << 20;
/// How often a request to a bucket is tried again. Requests that hang count as well, and reading a whole dump is one request: only
/// the number of tries ends them, not the time.
const RETRIES: RetryConfig = RetryConfig {
    backoff: BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        base: 2.0,
    },
    max_retries: 5,
    retry_timeout: Duration::from_secs(24 * 60 * 60),
};
/// How long a bucket may take to accept a connection, and then to take a part or to give more bytes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A place for files with names. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    /// Of a folder, where it is.
    folder: Option<PathBuf>,
    place: String,
}

/// A stored file.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// When it was last written.
    pub time: DateTime<Utc>,
}

impl Storage {
    /// The storage at `url`: `s3://bucket/prefix`, with keys and endpoint from the usual `AWS_*` variables, or a folder.
    pub fn open(url: &str) -> Result<Self> {
        let Some(place) = url.strip_prefix("s3://") else {
            return Self::folder(Path::new(url.strip_prefix("file://").unwrap_or(url)));
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let plain = std::env::var("AWS_ENDPOINT_URL").is_ok_and(|url| url.starts_with("http://"));
        let options = ClientOptions::new()
            .with_allow_http(plain)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout_disabled()
            .with_read_timeout(ANSWER_TIMEOUT);
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(options)
            .with_retry(RETRIES)
            .build()
            .map_err(|error| BackupError::Setting(format!("EUHUB_BACKUP_URL {url}: {error}")))?;
        let store = PrefixStore::new(store, prefix.trim_matches('/'));
        Ok(Self { store: Arc::new(store), folder: None, place: url.to_owned() })
    }

    /// The storage in a folder, which is made, for its owner alone, where it is missing.
    pub fn folder(path: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;

        let unusable = |error: &dyn std::fmt::Display| {
            BackupError::Setting(format!("backup folder {}: {error}", path.display()))
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| unusable(&error))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| unusable(&error))?;
        let folder = path.canonicalize().map_err(|error| unusable(&error))?;
        let place = folder.display().to_string();
        Ok(Self { store: Arc::new(store.with_fsync(true)), folder: Some(folder), place })
    }

    /// Where it is, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Every stored file.
    pub async fn list(&self) -> Result<Vec<Stored>> {
        let stored = self.store.list(None).map_ok(|meta| Stored {
            name: meta.location.to_string(),
            size: meta.size,
            time: meta.last_modified,
        });
        stored.try_collect().await.map_err(BackupError::storage("listing"))
    }

    /// A small file; none when there is none of that name.
    pub async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        let answer = async {
            let found = self.store.get(&name.into()).await?;
            let size = found.meta.size;
            Ok(if size > MAX_SMALL { Err(size) } else { Ok(found.bytes().await?) })
        };
        match answer.await {
            Ok(Ok(bytes)) => Ok(Some(bytes)),
            Ok(Err(size)) => Err(BackupError::Refused(format!("{name} has {size} bytes, more than is read"))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(BackupError::storage(format!("reading {name}"))(error)),
        }
    }

    /// A file in pieces; none when there is none of that name.
    pub async fn stream(&self, name: &str) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let name = name.to_owned();
        match self.store.get(&name.as_str().into()).await {
            Ok(found) => {
                let pieces = found.into_stream();
                let pieces =
                    pieces.map_err(move |error| BackupError::storage(format!("reading {name}"))(error));
                Ok(Some(pieces.boxed()))
            }
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(BackupError::storage(format!("reading {name}"))(error)),
        }
    }

    /// Writes a file that must not exist yet, at once or not at all.
    pub async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let done = self.store.put_opts(&name.into(), bytes.into(), PutMode::Create.into()).await;
        done.map(|_| ()).map_err(BackupError::storage(format!("writing {name}")))
    }

    /// Writes a file, at once or not at all, over what was there.
    pub async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let done = self.store.put(&name.into(), bytes.into()).await;
        done.map(|_| ()).map_err(BackupError::storage(format!("writing {name}")))
    }

    /// Begins a file that is there only when it is whole.
    pub async fn upload(&self, name: &str) -> Result<Upload> {
        let doing = format!("writing {name}");
        let upload = self.store.put_multipart(&name.into()).await.map_err(BackupError::storage(&doing))?;
        Ok(Upload { upload: WriteMultipart::new_with_chunk_size(upload, PART), doing })
    }

    /// Removes a file, whether it is there or not.
    pub async fn delete(&self, name: &str) -> Result<()> {
        match self.store.delete(&name.into()).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(BackupError::storage(format!("removing {name}"))(error)),
        }
    }

    /// Files of uploads that were cut off before `time`, which no listing shows. A bucket keeps them to itself: its own rules for
    /// incomplete uploads remove them.
    pub fn torn(&self, before: DateTime<Utc>) -> Result<Vec<PathBuf>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let mut torn = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_part = name
                .to_str()
                .and_then(|name| name.rsplit_once('#'))
                .is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
            if !is_part {
                continue;
            }
            match entry.metadata() {
                Ok(file) if DateTime::<Utc>::from(file.modified()?) < before => torn.push(entry.path()),
                // It became whole, or was given up.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(torn)
    }
}

/// A file on its way into storage.
#[derive(Debug)]
pub struct Upload {
    upload: WriteMultipart,
    doing: String,
}

impl Upload {
    /// Adds bytes; waits while too many are on their way.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.upload.wait_for_capacity(PARTS).await.map_err(BackupError::storage(&self.doing))?;
        self.upload.write(bytes);
        Ok(())
    }

    /// Makes the file appear.
    pub async fn finish(self) -> Result<()> {
        self.upload.finish().await.map(|_| ()).map_err(BackupError::storage(self.doing))
    }

    /// Gives the space back.
    pub async fn abort(self) -> Result<()> {
        self.upload.abort().await.map_err(BackupError::storage(format!("{}: giving up", self.doing)))
    }
}
