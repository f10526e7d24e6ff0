//! Feeds in local files, for samples and tests.

use std::io;
use std::time::UNIX_EPOCH;

use tokio::io::AsyncReadExt;
use url::Url;

use super::{Body, Conditional, FetchError, Fetched};

/// Reads a `file:` URL with the same bounds as a response; modification time and size stand for the ETag.
pub(super) async fn read(
    url: &Url,
    conditional: &Conditional,
    max_bytes: usize,
) -> Result<Fetched, FetchError> {
    let path = url.to_file_path().map_err(|()| FetchError::InvalidUrl("names no local file"))?;
    let path = tokio::fs::canonicalize(path).await.map_err(file_error)?;
    let metadata = tokio::fs::metadata(&path).await.map_err(file_error)?;
    if !metadata.is_file() {
        // Opening a pipe or a device could block for ever.
        return Err(FetchError::InvalidUrl("names no regular file"));
    }
    let modified = metadata.modified().map_err(file_error)?;
    let since_epoch = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let etag = format!("\"{:x}-{:x}\"", since_epoch.as_nanos(), metadata.len());
    if conditional.etag.as_deref() == Some(etag.as_str()) {
        return Ok(Fetched::NotModified);
    }

    let file = tokio::fs::File::open(&path).await.map_err(file_error)?;
    let mut bytes = Vec::new();
    file.take(max_bytes as u64 + 1).read_to_end(&mut bytes).await.map_err(file_error)?;
    if bytes.len() > max_bytes {
        return Err(FetchError::TooLarge(max_bytes));
    }
    Ok(Fetched::Body(Box::new(Body {
        bytes: bytes.into(),
        status: 200,
        content_type: None,
        etag: Some(etag),
        last_modified: None,
        final_url: url.clone(),
        moved_permanently_to: None,
    })))
}

fn file_error(error: io::Error) -> FetchError {
    FetchError::File(error.kind())
}
