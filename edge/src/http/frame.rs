//! gRPC's length-prefixed messages over an HTTP body.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use tonic::{Status, body::Body};

/// One compression flag and four bytes of length.
pub const PREFIX: usize = 5;

/// Writes the prefix of a message whose `PREFIX` bytes were left free at the start of `framed`.
pub fn seal(framed: &mut [u8]) -> Option<()> {
    let length = u32::try_from(framed.len().checked_sub(PREFIX)?).ok()?;
    framed[0] = 0;
    framed[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// Why a stream of messages broke off.
#[derive(Debug)]
pub enum Broken {
    /// The connection failed.
    Transport(Status),
    /// The bytes are not gRPC, compressed though not asked for, or over the size limit.
    Malformed(&'static str),
}

/// The messages of a response body, one by one. Every method may be dropped while waiting, and called again.
pub struct Frames {
    body: Body,
    /// The last chunk, while messages lie in it whole: they are cut out without a copy.
    chunk: Bytes,
    /// A message that spans chunks.
    partial: BytesMut,
    trailers: Option<HeaderMap>,
    limit: usize,
}

impl Frames {
    /// Reads messages of at most `limit` bytes from `body`.
    pub fn new(body: Body, limit: usize) -> Self {
        Self { body, chunk: Bytes::new(), partial: BytesMut::new(), trailers: None, limit }
    }

    /// The next message, waiting for it; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                let whole = self.chunk.is_empty() && self.partial.is_empty();
                return if whole {
                    Ok(None)
                } else {
                    Err(Broken::Malformed("the stream ends inside a message"))
                };
            };
            match frame.map_err(Broken::Transport)?.into_data() {
                Ok(data) if self.partial.is_empty() => self.chunk = data,
                Ok(data) => self.partial.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    /// The next message if it has already arrived.
    pub fn buffered(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.partial.is_empty() {
            if let Some(length) = self.length(&self.chunk)?
                && self.chunk.len() >= PREFIX + length
            {
                self.chunk.advance(PREFIX);
                return Ok(Some(self.chunk.split_to(length)));
            }
            self.partial.extend_from_slice(&std::mem::take(&mut self.chunk));
            return Ok(None);
        }
        match self.length(&self.partial)? {
            Some(length) if self.partial.len() >= PREFIX + length => {
                self.partial.advance(PREFIX);
                let message = self.partial.split_to(length).freeze();
                // What follows goes back to the path without copies.
                self.chunk = std::mem::take(&mut self.partial).freeze();
                Ok(Some(message))
            }
            Some(length) => {
                self.partial.reserve((PREFIX + length).saturating_sub(self.partial.len()));
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Trailers, once [`Frames::next`] has answered `None`.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
        if prefix[0] != 0 {
            return Err(Broken::Malformed("a compressed message, though none was asked for"));
        }
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if length > self.limit {
            Err(Broken::Malformed("a message over the size limit"))
        } else {
            Ok(Some(length))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::StreamBody;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut framed = vec![0; PREFIX];
        framed.extend_from_slice(message);
        seal(&mut framed).unwrap();
        framed
    }

    fn frames(bytes: &[u8], chunk: usize) -> Frames {
        let chunks: Vec<_> = bytes
            .chunks(chunk)
            .map(|part| Ok::<_, Status>(http_body::Frame::data(Bytes::copy_from_slice(part))))
            .chain([Ok(http_body::Frame::trailers(HeaderMap::new()))])
            .collect();
        Frames::new(Body::new(StreamBody::new(stream::iter(chunks))), 1000)
    }

    #[tokio::test]
    async fn messages_survive_any_chunking() {
        let messages: [&[u8]; 4] = [b"one", b"", &[7; 300], b"last"];
        let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        for chunk in 1..=bytes.len() {
            let mut frames = frames(&bytes, chunk);
            for message in messages {
                assert_eq!(frames.next().await.unwrap().unwrap(), message, "chunks of {chunk}");
            }
            assert!(frames.next().await.unwrap().is_none());
            assert!(frames.trailers().is_some());
        }
    }

    #[tokio::test]
    async fn broken_streams_are_told_from_ended_ones() {
        for bad in [&[0, 0, 0][..], &[0, 0, 0, 0, 9, 1], &[1, 0, 0, 0, 0], &[0, 0xff, 0xff, 0xff, 0xff]] {
            assert!(matches!(frames(bad, 64).next().await, Err(Broken::Malformed(_))), "{bad:?}");
        }
    }
}
