//! Reads tensors from a safetensors file: a length (u64, little-endian), a JSON header of that length with each
//! tensor's type, shape and byte range, then the data. Every size is checked against the file before it is used.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ModelError;

/// Longest header read; that of a model of 48 layers takes about 100 KB.
const MAX_HEADER: u64 = 16 << 20;

/// One tensor's entry in the header.
#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    /// First byte and first byte after, counted from the end of the header.
    data_offsets: [u64; 2],
}

/// An open safetensors file whose header has been read and checked.
#[derive(Debug)]
pub(super) struct SafeTensors {
    path: PathBuf,
    file: File,
    /// Where the data starts in the file.
    data_start: u64,
    entries: BTreeMap<String, Entry>,
}

impl SafeTensors {
    /// Opens `path` and reads its header.
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let invalid = |reason: String| ModelError::invalid(path, reason);
        let io = |source| ModelError::io(path, source);
        let mut file = File::open(path).map_err(io)?;
        let file_length = file.metadata().map_err(io)?.len();

        if file_length < 8 {
            return Err(invalid(format!("it is {file_length} bytes long, too short for a safetensors file")));
        }
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(io)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > MAX_HEADER || header_length > file_length - 8 {
            return Err(invalid(format!("it is no safetensors file (a header of {header_length} bytes)")));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let mut values: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&header)
            .map_err(|error| invalid(format!("its header cannot be read ({error})")))?;
        values.remove("__metadata__");

        let data_start = 8 + header_length;
        let data_length = file_length - data_start;
        let mut entries = BTreeMap::new();
        for (name, value) in values {
            let entry: Entry = serde_json::from_value(value)
                .map_err(|error| invalid(format!("its header entry {name} cannot be read ({error})")))?;
            let [start, end] = entry.data_offsets;
            if start > end {
                return Err(invalid(format!("tensor {name} ends before it starts")));
            }
            if end > data_length {
                return Err(invalid(format!(
                    "it is cut short: tensor {name} ends {} bytes past the end of the file",
                    end - data_length
                )));
            }
            entries.insert(name, entry);
        }
        Ok(Self { path: path.to_owned(), file, data_start, entries })
    }

    /// Whether the file holds a tensor of this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The shape of tensor `name`, which must be there, of 32-bit floats, and as long as its shape says.
    pub(super) fn shape(&self, name: &str) -> Result<&[usize], ModelError> {
        Ok(&self.entry(name)?.shape)
    }

    /// Reads tensor `name`, row by row. NaN and infinity are errors: no model has them, a damaged file may.
    pub(super) fn read(&mut self, name: &str) -> Result<Vec<f32>, ModelError> {
        let [start, end] = self.entry(name)?.data_offsets;
        let mut bytes = vec![0; (end - start) as usize];
        self.read_at(self.data_start + start, &mut bytes)?;
        let (words, _) = bytes.as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(self.invalid(format!("tensor {name} holds values that are no numbers")));
        }
        Ok(values)
    }

    /// Hands `visit` a sample of the file: each tensor's name and place, and its first 4 KiB.
    pub(super) fn sample(&mut self, mut visit: impl FnMut(&[u8])) -> Result<(), ModelError> {
        let places: Vec<_> =
            self.entries.iter().map(|(name, entry)| (name.clone(), entry.data_offsets)).collect();
        let mut block = [0; 4096];
        for (name, [start, end]) in places {
            visit(format!("{name} {start} {end}\n").as_bytes());
            let length = (end - start).min(block.len() as u64) as usize;
            self.read_at(self.data_start + start, &mut block[..length])?;
            visit(&block[..length]);
        }
        Ok(())
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), ModelError> {
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(bytes))
            .map_err(|source| ModelError::io(&self.path, source))
    }

    fn entry(&self, name: &str) -> Result<&Entry, ModelError> {
        let entry = self.entries.get(name).ok_or_else(|| self.invalid(format!("it has no tensor {name}")))?;
        if entry.dtype != "F32" {
            return Err(self.invalid(format!("tensor {name} is of type {}, not F32", entry.dtype)));
        }
        let [start, end] = entry.data_offsets;
        let bytes = entry.shape.iter().try_fold(4_u64, |product, size| product.checked_mul(*size as u64));
        if bytes != Some(end - start) {
            let shape = &entry.shape;
            return Err(self.invalid(format!("tensor {name} of shape {shape:?} takes {} bytes", end - start)));
        }
        Ok(entry)
    }

    pub(super) fn invalid(&self, reason: String) -> ModelError {
        ModelError::invalid(&self.path, reason)
    }
}
