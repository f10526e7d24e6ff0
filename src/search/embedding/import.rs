//! Keeps `model.onnx` beside a model's safetensors file: written once, and again when the model has changed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::ModelError;
use super::config::EncoderConfig;
use super::onnx::{self, WriteError};
use super::safetensors::SafeTensors;

/// The graph, in the model's folder.
pub(super) const ONNX: &str = "model.onnx";
/// Says what the graph was written from: one line, see [`stamp`].
const STAMP: &str = "model.onnx.stamp";
/// Locked while the graph is written, so that two processes that start at once write it once.
const LOCK: &str = "model.onnx.lock";
const TEMPORARY: &str = "model.onnx.tmp";
const SAFETENSORS: &str = "model.safetensors";

/// Changes with every change to what [`onnx::write_model`] writes.
const GRAPH_VERSION: u32 = 1;

/// Makes sure that `model.onnx` in `folder` is there and was written from the model that is there now.
pub(super) fn import(folder: &Path, config: &EncoderConfig) -> Result<(), ModelError> {
    let mut tensors = SafeTensors::open(&folder.join(SAFETENSORS))?;
    let stamp = stamp(config, &mut tensors)?;
    if is_current(folder, &stamp) {
        return Ok(());
    }

    let lock_path = folder.join(LOCK);
    let lock = File::create(&lock_path).map_err(|source| ModelError::io(&lock_path, source))?;
    lock.lock().map_err(|source| ModelError::io(&lock_path, source))?;
    // Whoever held the lock may have written it meanwhile.
    if is_current(folder, &stamp) {
        return Ok(());
    }
    let temporary = folder.join(TEMPORARY);
    let written = write_synced(&temporary, |out| onnx::write_model(config, &mut tensors, out));
    if let Err(error) = written {
        // Best effort: the next import overwrites it anyhow.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // In this order a crash between the two leaves a stamp that does not fit, never one that fits by mistake.
    rename(&temporary, &folder.join(ONNX))?;
    write_synced(&temporary, |out| Ok(out.write_all(stamp.as_bytes())?))?;
    rename(&temporary, &folder.join(STAMP))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| ModelError::io(folder, source))
}

fn is_current(folder: &Path, stamp: &str) -> bool {
    folder.join(ONNX).is_file() && fs::read(folder.join(STAMP)).is_ok_and(|found| found == stamp.as_bytes())
}

/// SHA-256 over the graph's version, the encoder's sizes, and the names, places and first 4 KiB of all tensors:
/// half a megabyte to read where the whole file has ninety, and no two trainings agree in it.
fn stamp(config: &EncoderConfig, tensors: &mut SafeTensors) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    hash.update(format!("{GRAPH_VERSION} {config:?}\n"));
    tensors.sample(|bytes| hash.update(bytes))?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect())
}

fn write_synced(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), WriteError>,
) -> Result<(), ModelError> {
    let io = |source| ModelError::io(path, source);
    let mut out = BufWriter::new(File::create(path).map_err(io)?);
    write(&mut out).map_err(|error| match error {
        WriteError::Model(error) => error,
        WriteError::Output(source) => io(source),
    })?;
    out.into_inner().map_err(|error| io(error.into_error()))?.sync_all().map_err(io)
}

fn rename(from: &Path, to: &Path) -> Result<(), ModelError> {
    fs::rename(from, to).map_err(|source| ModelError::io(to, source))
}
