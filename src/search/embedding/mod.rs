//! Turns texts into vectors with a BERT-family sentence model of 384 dimensions (by default all-MiniLM-L6-v2), in
//! the Hugging Face layout of sentence-transformers: `config.json`, `tokenizer.json` and `model.safetensors`.
//!
//! The weights are written once as an ONNX graph, which rten runs. Equal to sentence-transformers' own vectors to
//! a cosine of 0.9999 and better: see `tests/reference/embedding.py`.

mod batch;
mod config;
mod import;
mod onnx;
mod safetensors;
mod slots;

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use rten::{Model, ModelOptions, NodeId, RunOptions, Value};
use tokenizers::{PostProcessor, Tokenizer, TruncationParams};

use tokio::time::Instant;

use crate::telemetry;
use batch::Batch;
use config::{EncoderConfig, Pooling};
use slots::Slots;

/// Length of a vector.
pub const DIMENSIONS: usize = 384;

/// A text's vector, of length 1: the dot product of two is their cosine similarity.
pub type Embedding = [f32; DIMENSIONS];

/// Most tokens of a text that are read, the two markers among them; what follows is cut off. A model that says less
/// in `sentence_bert_config.json` gets less.
pub const MAX_TOKENS: usize = 256;

/// Most characters of a text that the tokenizer sees: 32 for each token, where written language has 1 to 6.
const MAX_CHARACTERS: usize = 32 * MAX_TOKENS;

/// The command that fetches the default model.
pub const FETCH_COMMAND: &str = "scripts/model";

/// Why a model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// There is no model in the folder.
    #[error(
        "no embedding model: {} is missing; `{FETCH_COMMAND}` fetches the default model, \
         EUHUB_MODEL_DIR names the folder of another",
        path.display()
    )]
    Missing {
        /// The first file that was looked for and not found.
        path: PathBuf,
    },
    /// A file of the model is damaged, or asks for what is not supported.
    #[error("the embedding model's {} cannot be used: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the model cannot be read or written.
    #[error("the embedding model's {} cannot be read or written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The tokenizer refused a text.
    #[error("a text cannot be tokenized")]
    Tokenize(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The graph failed, or gave what it should not.
    #[error("the embedding model failed: {0}")]
    Inference(String),
}

impl ModelError {
    fn invalid(path: &Path, reason: String) -> Self {
        Self::Invalid { path: path.to_owned(), reason }
    }

    fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

impl From<rten::RunError> for ModelError {
    fn from(error: rten::RunError) -> Self {
        Self::Inference(error.to_string())
    }
}

/// A loaded model. Shared by reference; calls from several threads run side by side, each on one core, as many at
/// once as there are threads configured; the others wait.
#[derive(Debug)]
pub struct Embedder {
    name: String,
    tokenizer: Tokenizer,
    model: Model,
    input_ids: NodeId,
    attention_mask: NodeId,
    last_hidden_state: NodeId,
    pooling: Pooling,
    slots: Slots,
}

impl Embedder {
    /// Loads the model in `folder` to run on every core. The first time, and whenever the model has changed, this
    /// writes its `model.onnx`, for which the folder must be writable.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::load_with_threads(folder, cores)
    }

    /// Like [`Embedder::load`], to run on `threads` cores at most.
    pub fn load_with_threads(folder: &Path, threads: NonZeroUsize) -> Result<Self, ModelError> {
        // The folder's name is the model's, so `.` and links are resolved first.
        let folder = folder.canonicalize().map_err(|source| ModelError::io(folder, source))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let config = EncoderConfig::read(&folder)?;
        let pooling = Pooling::read(&folder)?;
        let tokenizer = load_tokenizer(&folder, &config)?;

        import::import(&folder, &config)?;
        let path = folder.join(import::ONNX);
        // Weights kept in the order that the product reads them: 35 MB for less than half the time of a short text.
        let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(&path).map_err(|error| {
            ModelError::invalid(&path, format!("{error}; without it, it is written anew"))
        })?;
        Ok(Self {
            name,
            tokenizer,
            input_ids: model.node_id(onnx::INPUT_IDS)?,
            attention_mask: model.node_id(onnx::ATTENTION_MASK)?,
            last_hidden_state: model.node_id(onnx::LAST_HIDDEN_STATE)?,
            model,
            pooling,
            slots: Slots::new(threads),
        })
    }

    /// The model's name, that of its folder: `all-MiniLM-L6-v2`. Stored beside every vector, since vectors of two
    /// models must not be compared.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The vectors of `texts`, in their order. Takes milliseconds of CPU time a text (tens for a long one), so
    /// async callers use `spawn_blocking`. An empty text has a vector too, that of the two markers alone.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, ModelError> {
        let started = Instant::now();
        let tokens = texts.iter().map(|text| self.tokenize(text)).collect::<Result<Vec<_>, _>>()?;
        let mut embeddings = vec![[0.0; DIMENSIONS]; texts.len()];
        for batch in batch::plan(&tokens) {
            self.run(&batch, &tokens, &mut embeddings)?;
        }
        telemetry::embedded(started.elapsed());
        Ok(embeddings)
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let end = text.char_indices().nth(MAX_CHARACTERS).map_or(text.len(), |(index, _)| index);
        let encoding = self.tokenizer.encode_fast(&text[..end], true).map_err(ModelError::Tokenize)?;
        Ok(encoding.get_ids().to_vec())
    }

    fn run(&self, batch: &Batch, tokens: &[Vec<u32>], out: &mut [Embedding]) -> Result<(), ModelError> {
        let shape = [batch.rows.len(), batch.width];
        let (ids, mask) = batch.inputs(tokens);
        let input = |values| {
            Value::from_shape(shape, values).map_err(|error| ModelError::Inference(error.to_string()))
        };
        let inputs = vec![(self.input_ids, input(ids)?.into()), (self.attention_mask, input(mask)?.into())];
        let slot = self.slots.acquire();
        let options = RunOptions::default().with_thread_pool(Some(slot.pool()));
        let [states] = self.model.run_n(inputs, [self.last_hidden_state], Some(options))?;
        drop(slot);

        let (found, states) =
            states.into_shape_vec::<f32, 3>().map_err(|error| ModelError::Inference(error.to_string()))?;
        if found != [shape[0], shape[1], DIMENSIONS] {
            return Err(ModelError::Inference(format!("its output is of shape {found:?}")));
        }
        let (states, _) = states.as_chunks::<DIMENSIONS>();
        for (row, states) in batch.rows.iter().zip(states.chunks_exact(batch.width)) {
            let embedding = pool(&states[..tokens[*row].len()], self.pooling);
            if !embedding.iter().all(|value| value.is_finite()) {
                return Err(ModelError::Inference("its output is no number".to_owned()));
            }
            out[*row] = embedding;
        }
        Ok(())
    }
}

fn load_tokenizer(folder: &Path, config: &EncoderConfig) -> Result<Tokenizer, ModelError> {
    let path = folder.join("tokenizer.json");
    let mut tokenizer = Tokenizer::from_bytes(config::read_bounded(&path)?)
        .map_err(|error| ModelError::invalid(&path, error.to_string()))?;
    let size = tokenizer.get_vocab_size(true);
    if size > config.vocabulary {
        let reason = format!("it has {size} tokens; config.json says {}", config.vocabulary);
        return Err(ModelError::invalid(&path, reason));
    }
    let max_length = config::max_tokens(folder, config)?;
    // With no marker an empty text would have no vector; with too many, a text would have no room.
    let markers = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
    if markers == 0 || markers >= max_length {
        return Err(ModelError::invalid(&path, format!("it adds {markers} markers to a text")));
    }
    tokenizer
        .with_truncation(Some(TruncationParams { max_length, ..TruncationParams::default() }))
        .map_err(|error| ModelError::invalid(&path, error.to_string()))?;
    // The file may ask for a fixed length; batches pad only as far as they must.
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// The vector of a text from those of its tokens, scaled to length 1.
fn pool(states: &[Embedding], pooling: Pooling) -> Embedding {
    let states = match pooling {
        Pooling::Mean => states,
        Pooling::Cls => &states[..states.len().min(1)],
    };
    let mut sum = [0.0; DIMENSIONS];
    for state in states {
        for (total, value) in sum.iter_mut().zip(state) {
            *total += value;
        }
    }
    // The mean and the sum point the same way.
    let norm = sum.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    sum.map(|value| value / norm)
}
