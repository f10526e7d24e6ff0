//! What lies between `pg_dump` and storage: zstd, and AES-256-GCM where there is a key.
//!
//! An encrypted dump is a header (eight bytes that name the form, seven random ones) and segments of 64 KiB, each sealed under its
//! position and whether it is the last (STREAM of Hoang, Reyhanitabar, Rogaway and Vizár, <https://eprint.iacr.org/2015/189>), so that
//! no segment can be changed, moved, left out or added.

use std::fmt;
use std::io::Write;
use std::path::Path;

use aead_stream::{DecryptorBE32, EncryptorBE32, Nonce, StreamBE32};
use aes_gcm::Aes256Gcm;
use rand::{Rng, RngExt};
use zstd::stream::raw::Decoder;
use zstd::stream::write::Encoder;
use zstd::stream::zio::Writer;

use super::error::{BackupError, Result};
use super::manifest::hex;

/// How the header begins.
const MAGIC: &[u8; 8] = b"euhubE1\n";
/// Random bytes of the header.
const NONCE: usize = 7;
/// Bytes of a segment before it is sealed.
const SEGMENT: usize = 64 << 10;
/// Bytes that sealing adds.
const TAG: usize = 16;
/// Measured on text dumps: level 3 is as fast as the disk and halves what level 1 leaves over.
const LEVEL: i32 = 3;

/// A key of 32 bytes.
#[derive(Clone)]
pub(super) struct Key {
    bytes: [u8; 32],
    id: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.id).finish()
    }
}

impl Key {
    /// Reads a file of 64 hexadecimal digits.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let wrong = |why: &dyn fmt::Display| {
            BackupError::Setting(format!(
                "EUHUB_BACKUP_KEY_FILE {}: {why}; `openssl rand -hex 32` makes a key",
                path.display()
            ))
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let digits = text.trim();
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong(&"a key is 64 hexadecimal digits"));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = str::from_utf8(pair).map_err(|error| wrong(&error))?;
            *byte = u8::from_str_radix(pair, 16).map_err(|error| wrong(&error))?;
        }
        let mut named = b"euhub backup key ".to_vec();
        named.extend_from_slice(&bytes);
        Ok(Self { bytes, id: hex(named)[..16].to_owned() })
    }

    /// By what manifests name it; tells nothing of the key.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

/// Compresses, and encrypts where there is a key.
pub(super) struct Packer {
    encoder: Encoder<'static, Vec<u8>>,
    seal: Option<Seal>,
}

struct Seal {
    encryptor: EncryptorBE32<Aes256Gcm>,
    /// Less than a segment, or one that may be the last.
    waiting: Vec<u8>,
    header: Option<Vec<u8>>,
}

impl Packer {
    pub(super) fn new(key: Option<&Key>, rng: &mut impl Rng) -> Result<Self> {
        let mut encoder = Encoder::new(Vec::new(), LEVEL)?;
        encoder.include_checksum(true)?;
        let seal = key.map(|key| {
            let nonce: [u8; NONCE] = rng.random();
            let encryptor = EncryptorBE32::new(&key.bytes.into(), &nonce.into());
            let header = [MAGIC.as_slice(), nonce.as_slice()].concat();
            Seal { encryptor, waiting: Vec::new(), header: Some(header) }
        });
        Ok(Self { encoder, seal })
    }

    /// Takes bytes of the dump; gives what is ready to be stored.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.encoder.write_all(bytes)?;
        let packed = std::mem::take(self.encoder.get_mut());
        match &mut self.seal {
            None => Ok(packed),
            Some(seal) => seal.push(&packed),
        }
    }

    /// The rest.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        let packed = self.encoder.finish()?;
        match self.seal {
            None => Ok(packed),
            Some(mut seal) => {
                let mut out = seal.push(&packed)?;
                out.extend(seal.encryptor.encrypt_last(seal.waiting.as_slice()).map_err(|_| too_long())?);
                Ok(out)
            }
        }
    }
}

impl Seal {
    fn push(&mut self, packed: &[u8]) -> Result<Vec<u8>> {
        let mut out = self.header.take().unwrap_or_default();
        self.waiting.extend_from_slice(packed);
        let mut sealed = 0;
        while self.waiting.len() - sealed > SEGMENT {
            let segment = &self.waiting[sealed..sealed + SEGMENT];
            out.extend(self.encryptor.encrypt_next(segment).map_err(|_| too_long())?);
            sealed += SEGMENT;
        }
        self.waiting.drain(..sealed);
        Ok(out)
    }
}

fn too_long() -> BackupError {
    BackupError::Refused("the dump is too long to be encrypted: 256 TiB is the most".into())
}

/// The way back. An error says what is wrong with the bytes.
pub(super) struct Unpacker {
    decoder: Writer<Vec<u8>, Decoder<'static>>,
    open: Option<Open>,
}

struct Open {
    key: Key,
    decryptor: Option<DecryptorBE32<Aes256Gcm>>,
    waiting: Vec<u8>,
}

impl Unpacker {
    pub(super) fn new(key: Option<&Key>) -> Result<Self> {
        let open = key.map(|key| Open { key: key.clone(), decryptor: None, waiting: Vec::new() });
        Ok(Self { decoder: Writer::new(Vec::new(), Decoder::new()?), open })
    }

    /// Takes stored bytes; gives bytes of the dump.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        match &mut self.open {
            None => self.decoder.write_all(bytes),
            Some(open) => self.decoder.write_all(&open.push(bytes)?),
        }
        .map_err(not_zstd)?;
        Ok(std::mem::take(self.decoder.writer_mut()))
    }

    /// The rest. Refuses what ends before its end.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, String> {
        if let Some(open) = self.open {
            self.decoder.write_all(&open.finish()?).map_err(not_zstd)?;
        }
        self.decoder.finish().map_err(not_zstd)?;
        Ok(self.decoder.into_inner().0)
    }
}

impl Open {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        self.waiting.extend_from_slice(bytes);
        let mut taken = 0;
        if self.decryptor.is_none() {
            let Some((header, _)) = self.waiting.split_first_chunk::<{ MAGIC.len() + NONCE }>() else {
                return Ok(Vec::new());
            };
            let (magic, nonce) = header.split_at(MAGIC.len());
            if magic != MAGIC {
                return Err("it is not encrypted in a form that this program knows".into());
            }
            let nonce = Nonce::<Aes256Gcm, StreamBE32<Aes256Gcm>>::try_from(nonce)
                .map_err(|error| error.to_string())?;
            self.decryptor = Some(DecryptorBE32::new(&self.key.bytes.into(), &nonce));
            taken = header.len();
        }
        let mut out = Vec::new();
        if let Some(decryptor) = &mut self.decryptor {
            while self.waiting.len() - taken > SEGMENT + TAG {
                let segment = &self.waiting[taken..taken + SEGMENT + TAG];
                out.extend(decryptor.decrypt_next(segment).map_err(|_| not_sealed())?);
                taken += SEGMENT + TAG;
            }
        }
        self.waiting.drain(..taken);
        Ok(out)
    }

    fn finish(self) -> Result<Vec<u8>, String> {
        let decryptor = self.decryptor.ok_or_else(not_sealed)?;
        decryptor.decrypt_last(self.waiting.as_slice()).map_err(|_| not_sealed())
    }
}

fn not_sealed() -> String {
    "it cannot be decrypted: it was changed, or cut off".into()
}

fn not_zstd(error: std::io::Error) -> String {
    format!("it cannot be decompressed: {error}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::system_rng;

    fn key(byte: u8) -> Key {
        Key { bytes: [byte; 32], id: "test".into() }
    }

    fn pack(key: Option<&Key>, dump: &[u8], piece: usize) -> Vec<u8> {
        let mut packer = Packer::new(key, &mut system_rng()).unwrap();
        let mut stored = Vec::new();
        for bytes in dump.chunks(piece) {
            stored.extend(packer.push(bytes).unwrap());
        }
        stored.extend(packer.finish().unwrap());
        stored
    }

    fn unpack(key: Option<&Key>, stored: &[u8], piece: usize) -> Result<Vec<u8>, String> {
        let mut unpacker = Unpacker::new(key).unwrap();
        let mut dump = Vec::new();
        for bytes in stored.chunks(piece) {
            dump.extend(unpacker.push(bytes)?);
        }
        dump.extend(unpacker.finish()?);
        Ok(dump)
    }

    /// Bytes that do not compress, so that sizes around a segment are met.
    fn noise(n: usize) -> Vec<u8> {
        let mut rng = system_rng();
        (0..n).map(|_| rng.random()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn what_was_packed_is_unpacked(n in 0_usize..200_000, sealed: bool, piece in 1_usize..100_000) {
            let key = sealed.then(|| key(1));
            let dump = noise(n);
            let stored = pack(key.as_ref(), &dump, piece);
            prop_assert_eq!(unpack(key.as_ref(), &stored, piece), Ok(dump));
        }
    }

    #[test]
    fn what_is_sealed_cannot_be_cut_changed_or_opened_with_another_key() {
        let stored = pack(Some(&key(1)), &noise(150_000), 8192);
        assert!(unpack(Some(&key(2)), &stored, 8192).is_err(), "another key");
        for end in [0, 3, 15, 16, SEGMENT + TAG + 15, 2 * (SEGMENT + TAG) + 15, stored.len() - 1] {
            assert!(unpack(Some(&key(1)), &stored[..end], 8192).is_err(), "cut at {end}");
        }
        let mut swapped = stored[..15].to_vec();
        swapped.extend_from_slice(&stored[15 + SEGMENT + TAG..15 + 2 * (SEGMENT + TAG)]);
        swapped.extend_from_slice(&stored[15..15 + SEGMENT + TAG]);
        swapped.extend_from_slice(&stored[15 + 2 * (SEGMENT + TAG)..]);
        assert!(unpack(Some(&key(1)), &swapped, 8192).is_err(), "segments in another order");
    }

    #[test]
    fn a_plain_dump_that_is_cut_off_is_refused() {
        let stored = pack(None, &noise(150_000), 8192);
        for end in [0, 5, 1000, stored.len() - 1] {
            assert!(unpack(None, &stored[..end], 8192).is_err(), "cut at {end}");
        }
    }
}
