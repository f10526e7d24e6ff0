//! A value as it is kept: version, generation, checksum, message. What is not exactly so is no value.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

/// Of this layout and of the messages in it; another release's values are read as none.
const VERSION: u8 = 3;
/// Bytes of the checksum (XXH3): damaged protobuf may still decode, and so may another key's.
const CHECKSUM: usize = 8;
const HEAD: usize = 1 + 8 + CHECKSUM;

/// A message as the value of `key`.
pub fn seal(key: &str, generation: u64, body: &[u8]) -> Bytes {
    let generation = generation.to_le_bytes();
    let mut value = Vec::with_capacity(HEAD + body.len());
    value.push(VERSION);
    value.extend_from_slice(&generation);
    value.extend_from_slice(&checksum(key, &generation, body));
    value.extend_from_slice(body);
    value.into()
}

/// The generation and the message of a value of `key`.
pub fn open(key: &str, value: &Bytes) -> Option<(u64, Bytes)> {
    let (generation, rest) = value.strip_prefix(&[VERSION])?.split_first_chunk::<8>()?;
    let (sum, body) = rest.split_first_chunk::<CHECKSUM>()?;
    (*sum == checksum(key, generation, body))
        .then(|| (u64::from_le_bytes(*generation), value.slice_ref(body)))
}

fn checksum(key: &str, generation: &[u8; 8], body: &[u8]) -> [u8; CHECKSUM] {
    let mut hash = Xxh3::new();
    hash.update(key.as_bytes());
    hash.update(generation);
    hash.update(body);
    hash.digest().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_every_damage_is_seen() {
        let value = seal("key", 7, b"body");
        assert_eq!(open("key", &value), Some((7, Bytes::from_static(b"body"))));
        assert_eq!(open("another key", &value), None);
        for end in 0..value.len() {
            assert_eq!(open("key", &value.slice(..end)), None, "cut at {end}");
            let mut damaged = value.to_vec();
            damaged[end] ^= 0x10;
            assert_eq!(open("key", &damaged.into()), None, "byte {end}");
        }
    }
}
