//! Reads the JSON files of a sentence-transformers model folder, and refuses what the encoder does not implement
//! rather than embed wrongly.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{DIMENSIONS, MAX_TOKENS, ModelError};

/// Longest JSON file read, in bytes; the tokenizer of a model of 250,000 words takes 17 MB.
const MAX_JSON: u64 = 64 << 20;

/// The encoder's sizes, from `config.json`.
#[derive(Debug, Deserialize)]
pub(super) struct EncoderConfig {
    model_type: String,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    pub(super) hidden_size: usize,
    #[serde(rename = "num_hidden_layers")]
    pub(super) layers: usize,
    #[serde(rename = "num_attention_heads")]
    pub(super) heads: usize,
    #[serde(rename = "intermediate_size")]
    pub(super) intermediate: usize,
    #[serde(rename = "max_position_embeddings")]
    pub(super) max_positions: usize,
    #[serde(rename = "vocab_size")]
    pub(super) vocabulary: usize,
    #[serde(rename = "layer_norm_eps")]
    pub(super) layer_norm_epsilon: f32,
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn absolute() -> String {
    "absolute".to_owned()
}

impl EncoderConfig {
    /// Reads and checks `config.json` in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let config: Self = read_json(&path)?;
        let invalid = |reason: String| Err(ModelError::invalid(&path, reason));
        if config.model_type != "bert" {
            return invalid(format!("model_type is {}; only bert is supported", config.model_type));
        }
        if config.hidden_act != "gelu" {
            return invalid(format!("hidden_act is {}; only gelu is supported", config.hidden_act));
        }
        if config.position_embedding_type != "absolute" {
            return invalid(format!(
                "position_embedding_type is {}; only absolute is supported",
                config.position_embedding_type
            ));
        }
        if config.hidden_size != DIMENSIONS {
            return invalid(format!("hidden_size is {}; vectors are of {DIMENSIONS}", config.hidden_size));
        }
        for (name, value, most) in [
            ("num_hidden_layers", config.layers, 100),
            ("num_attention_heads", config.heads, DIMENSIONS),
            ("intermediate_size", config.intermediate, 100_000),
            ("max_position_embeddings", config.max_positions, 100_000),
            ("vocab_size", config.vocabulary, 2_000_000),
        ] {
            if value == 0 || value > most {
                return invalid(format!("{name} is {value}; it must be 1 to {most}"));
            }
        }
        if !config.hidden_size.is_multiple_of(config.heads) {
            return invalid(format!("num_attention_heads is {}, no divisor of hidden_size", config.heads));
        }
        if !(config.layer_norm_epsilon > 0.0 && config.layer_norm_epsilon < 0.1) {
            return invalid(format!("layer_norm_eps is {}", config.layer_norm_epsilon));
        }
        Ok(config)
    }
}

/// How the vectors of a text's tokens become the text's vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    /// The mean over the tokens.
    Mean,
    /// The first token, `[CLS]`.
    Cls,
}

impl Pooling {
    /// Reads `modules.json` and `1_Pooling/config.json` in `folder`; a folder with neither pools by the mean.
    pub(super) fn read(folder: &Path) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Module {
            r#type: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Modes {
            pooling_mode_cls_token: bool,
            pooling_mode_mean_tokens: bool,
            pooling_mode_max_tokens: bool,
            pooling_mode_mean_sqrt_len_tokens: bool,
            pooling_mode_weightedmean_tokens: bool,
            pooling_mode_lasttoken: bool,
        }
        let path = folder.join("modules.json");
        let modules: Vec<Module> = if path.exists() { read_json(&path)? } else { Vec::new() };
        for Module { r#type } in &modules {
            let class = r#type.rsplit('.').next().unwrap_or_default();
            if !["Transformer", "Pooling", "Normalize"].contains(&class) {
                return Err(ModelError::invalid(&path, format!("module {class} is not supported")));
            }
        }

        let path = folder.join("1_Pooling/config.json");
        if !path.exists() {
            return Ok(Self::Mean);
        }
        let modes: Modes = read_json(&path)?;
        let others = modes.pooling_mode_max_tokens
            || modes.pooling_mode_mean_sqrt_len_tokens
            || modes.pooling_mode_weightedmean_tokens
            || modes.pooling_mode_lasttoken;
        match (modes.pooling_mode_mean_tokens, modes.pooling_mode_cls_token, others) {
            (true, false, false) => Ok(Self::Mean),
            (false, true, false) => Ok(Self::Cls),
            _ => Err(ModelError::invalid(
                &path,
                "pooling must be by mean_tokens or cls_token, one of them".into(),
            )),
        }
    }
}

/// How many tokens of a text the model reads: `sentence_bert_config.json` in `folder`, and [`MAX_TOKENS`] at most.
pub(super) fn max_tokens(folder: &Path, config: &EncoderConfig) -> Result<usize, ModelError> {
    #[derive(Deserialize)]
    struct Sentence {
        max_seq_length: Option<usize>,
    }
    let path = folder.join("sentence_bert_config.json");
    let own = if path.exists() { read_json::<Sentence>(&path)?.max_seq_length } else { None };
    let tokens = own.unwrap_or(MAX_TOKENS).min(MAX_TOKENS).min(config.max_positions);
    // The first and the last token are the markers.
    if tokens < 3 {
        return Err(ModelError::invalid(&path, format!("max_seq_length is {tokens}")));
    }
    Ok(tokens)
}

/// The bytes of a file of at most [`MAX_JSON`] bytes.
pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, ModelError> {
    let io = |source| ModelError::io(path, source);
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(MAX_JSON + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_JSON {
        return Err(ModelError::invalid(path, format!("it is longer than {MAX_JSON} bytes")));
    }
    Ok(bytes)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    serde_json::from_slice(&read_bounded(path)?).map_err(|error| ModelError::invalid(path, error.to_string()))
}
