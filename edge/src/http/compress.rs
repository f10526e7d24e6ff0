//! Compressed bodies of answers that anybody may get, kept so that the next client costs no compression.

use std::{
    hash::{Hash, Hasher},
    io::Write,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY},
};
use xxhash_rust::xxh3::xxh3_64;

use super::negotiate::{self, Coding};

/// Shorter bodies are left to the layer that compresses what is not kept.
const MIN_BYTES: usize = 256;
/// Longer bodies are compressed off the threads that serve.
const LONG_BYTES: usize = 64 * 1024;
/// Brotli quality: a fifth smaller than gzip, at about its cost.
const BROTLI_QUALITY: i32 = 5;
/// Brotli window, in bits.
const BROTLI_WINDOW: i32 = 22;

/// Bodies by their content and coding.
pub(crate) struct Compressed(moka::future::Cache<Key, Bytes>);

#[derive(Clone)]
struct Key {
    digest: u64,
    coding: Coding,
    body: Bytes,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest);
        state.write_u8(self.coding as u8);
    }
}

// Bodies are compared whole: nobody gets another's answer by a digest that collides.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.coding == other.coding && self.digest == other.digest && self.body == other.body
    }
}

impl Eq for Key {}

impl Compressed {
    /// Keeps at most about `capacity` bytes, of compressed bodies and of those that they stand for.
    pub(crate) fn new(capacity: u64) -> Self {
        let weigh =
            |key: &Key, value: &Bytes| u32::try_from(key.body.len() + value.len()).unwrap_or(u32::MAX);
        Self(moka::future::Cache::builder().max_capacity(capacity).weigher(weigh).build())
    }

    /// Compresses the answer whose body is `body` as the request likes best, if at all.
    pub(crate) async fn apply(&self, request: &HeaderMap, body: &Bytes, mut response: Response) -> Response {
        let coding = if body.len() < MIN_BYTES { None } else { negotiate::coding(request) };
        let Some(coding) = coding else { return response };
        let key = Key { digest: xxh3_64(body), coding, body: body.clone() };
        // Clients that come at once wait for one compression.
        let Ok(compressed) = self.0.try_get_with(key, compress(coding, body.clone())).await else {
            return response;
        };
        *response.body_mut() = Body::from(compressed);
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        headers.append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
        response
    }

    #[cfg(test)]
    async fn weight(&self) -> (u64, u64) {
        self.0.run_pending_tasks().await;
        (self.0.entry_count(), self.0.weighted_size())
    }
}

async fn compress(coding: Coding, body: Bytes) -> std::io::Result<Bytes> {
    if body.len() < LONG_BYTES {
        return compress_now(coding, &body);
    }
    tokio::task::spawn_blocking(move || compress_now(coding, &body)).await?
}

fn compress_now(coding: Coding, body: &[u8]) -> std::io::Result<Bytes> {
    let mut out = Vec::with_capacity(body.len() / 4);
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(out, flate2::Compression::default());
            encoder.write_all(body)?;
            out = encoder.finish()?;
        }
        Coding::Brotli => {
            let params = brotli::enc::BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: BROTLI_WINDOW,
                size_hint: body.len(),
                ..Default::default()
            };
            brotli::BrotliCompress(&mut &*body, &mut out, &params)?;
        }
        Coding::Zstd => out = zstd::bulk::compress(body, 0)?,
    }
    out.shrink_to_fit();
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(coding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(coding))])
    }

    #[tokio::test]
    async fn a_body_is_compressed_once_for_each_coding() {
        let kept = Compressed::new(1 << 20);
        let body = Bytes::from("a body, ".repeat(100));
        for _ in 0..3 {
            for coding in ["gzip", "br", "zstd"] {
                // Equal bodies share an entry, whichever answer they came in.
                let body = Bytes::copy_from_slice(&body);
                let answer = kept.apply(&accept(coding), &body, Response::default()).await;
                assert_eq!(answer.headers()[CONTENT_ENCODING], coding);
                assert_eq!(answer.headers()[VARY], "accept-encoding");
            }
        }
        assert_eq!(kept.weight().await.0, 3);
        let plain = kept.apply(&accept("identity"), &body, Response::default()).await;
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let kept = Compressed::new(50_000);
        for number in 0..500 {
            let body = Bytes::from(format!("{number:>1000}"));
            kept.apply(&accept("zstd"), &body, Response::default()).await;
        }
        let (entries, weight) = kept.weight().await;
        assert!(entries > 0 && weight <= 50_000, "{entries} entries of {weight} bytes");
    }
}
