//! The embedding model against the vectors of the reference pipeline (`tests/reference/embedding.py`), and with
//! model folders that are missing, damaged, or of another kind.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use euhub::search::embedding::{DIMENSIONS, Embedder, Embedding, FETCH_COMMAND, ModelError};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn model_dir() -> PathBuf {
    let dir = std::env::var_os("EUHUB_MODEL_DIR").map_or_else(
        || {
            let data = std::env::var_os("EUHUB_DATA_DIR").unwrap_or_else(|| ".euhub".into());
            root().join(data).join("model/all-MiniLM-L6-v2")
        },
        PathBuf::from,
    );
    assert!(
        dir.is_dir(),
        "no embedding model in {}: run `make test`, or `scripts/model` alone",
        dir.display()
    );
    dir
}

fn embedder() -> Arc<Embedder> {
    static EMBEDDER: OnceLock<Arc<Embedder>> = OnceLock::new();
    Arc::clone(EMBEDDER.get_or_init(|| Arc::new(Embedder::load(&model_dir()).unwrap())))
}

fn data<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(root().join("tests/data").join(name)).unwrap()).unwrap()
}

fn texts() -> Vec<String> {
    data("embedding_texts.json")
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

fn embed_all(embedder: &Embedder, texts: &[String]) -> Vec<Embedding> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    embedder.embed(&texts).unwrap()
}

/// A folder of its own that goes when the test ends, with links to the model's files but those named in `without`.
struct Folder(PathBuf);

impl Folder {
    fn without(test: &str, without: &[&str]) -> Self {
        let path = std::env::temp_dir().join(format!("euhub-embedding-{}-{test}", std::process::id()));
        fs::create_dir(&path).unwrap();
        for name in ["config.json", "tokenizer.json", "sentence_bert_config.json", "model.safetensors"] {
            if !without.contains(&name) {
                std::os::unix::fs::symlink(model_dir().canonicalize().unwrap().join(name), path.join(name))
                    .unwrap();
            }
        }
        Self(path)
    }

    fn error(&self) -> ModelError {
        Embedder::load(&self.0).unwrap_err()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn equals_the_reference() {
    let expected: Vec<Vec<f32>> = data("embedding_expected.json");
    let texts = texts();
    assert_eq!((texts.len(), expected.len()), (40, 40));
    for (text, expected) in texts.iter().zip(&expected) {
        let [embedding] = embedder().embed(&[text]).unwrap().try_into().unwrap();
        assert_eq!(expected.len(), DIMENSIONS);
        let cosine = cosine(&embedding, expected);
        assert!(cosine >= 0.9999, "{text:?}: cosine {cosine}");
        let length: f32 = embedding.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5, "{text:?}: length {length}");
        let furthest = embedding.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 1e-4, "{text:?}: {furthest} apart");
    }
}

#[test]
fn a_batch_equals_its_texts_one_by_one() {
    let texts = texts();
    let together = embed_all(&embedder(), &texts);
    assert_eq!(together.len(), texts.len());
    for (text, batched) in texts.iter().zip(&together) {
        let single = embedder().embed(&[text]).unwrap()[0];
        let furthest = single.iter().zip(batched).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest <= 1e-5, "{text:?}: {furthest} apart");
    }
    assert!(embedder().embed(&[]).unwrap().is_empty());
}

#[test]
fn what_exceeds_256_tokens_is_cut_off() {
    let passage = "word ".repeat(254);
    let longer = "word ".repeat(255) + "and something else altogether";
    let huge = "word ".repeat(1 << 20);
    let [short, long, huge] = embedder().embed(&[&passage, &longer, &huge]).unwrap().try_into().unwrap();
    assert!(cosine(&short, &long) > 0.999_999);
    assert!(cosine(&short, &huge) > 0.999_999);
    let fewer = embedder().embed(&["word ".repeat(253).as_str()]).unwrap()[0];
    assert_ne!(short, fewer);
}

#[test]
fn texts_of_like_meaning_are_near() {
    let [query, near, far] = embedder()
        .embed(&[
            "rising electricity bills",
            "energy prices rise again",
            "the striker scored twice in the cup final",
        ])
        .unwrap()
        .try_into()
        .unwrap();
    assert!(cosine(&query, &near) > cosine(&query, &far) + 0.2);
}

#[test]
fn many_threads_share_one_model() {
    let embedder =
        Arc::new(Embedder::load_with_threads(&model_dir(), NonZeroUsize::new(2).unwrap()).unwrap());
    let texts = texts();
    let expected = embed_all(&embedder, &texts[..5]);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (embedder, texts) = (Arc::clone(&embedder), texts[..5].to_vec());
            std::thread::spawn(move || embed_all(&embedder, &texts))
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn the_name_is_that_of_the_folder() {
    let name = model_dir().canonicalize().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(embedder().name(), name);
}

#[test]
fn a_missing_model_names_the_command_that_fetches_one() {
    let error = Embedder::load(Path::new("/nowhere/all-MiniLM-L6-v2")).unwrap_err();
    assert!(matches!(error, ModelError::Missing { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(FETCH_COMMAND) && text.contains("/nowhere/all-MiniLM-L6-v2"), "{text}");
    assert!(root().join(FETCH_COMMAND).is_file());
}

#[test]
fn a_missing_file_is_named() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let error = Folder::without(&format!("missing-{name}"), &[name]).error();
        assert!(matches!(&error, ModelError::Missing { path } if path.ends_with(name)), "{error:?}");
    }
}

#[test]
fn a_short_safetensors_is_refused() {
    let whole = fs::read(model_dir().join("model.safetensors")).unwrap();
    for (length, reason) in [
        (0, "too short"),
        (7, "too short"),
        (8, "no safetensors file"),
        (4000, "no safetensors file"),
        (whole.len() / 2, "cut short"),
        (whole.len() - 1, "cut short"),
    ] {
        let folder = Folder::without(&format!("short-{length}"), &["model.safetensors"]);
        fs::write(folder.0.join("model.safetensors"), &whole[..length]).unwrap();
        let error = folder.error().to_string();
        assert!(error.contains(reason) && error.contains("model.safetensors"), "{length} bytes: {error}");
        assert!(!folder.0.join("model.onnx").exists());
    }
}

/// What is said to the real safetensors file with its header changed by `edit`.
fn error_with_header(test: &str, edit: impl FnOnce(&mut serde_json::Value)) -> ModelError {
    let mut whole = fs::read(model_dir().join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut header = serde_json::from_slice(&whole[8..8 + length]).unwrap();
    edit(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    whole.splice(..8 + length, (header.len() as u64).to_le_bytes().into_iter().chain(header));
    let folder = Folder::without(test, &["model.safetensors"]);
    fs::write(folder.0.join("model.safetensors"), whole).unwrap();
    folder.error()
}

#[test]
fn a_damaged_safetensors_is_refused() {
    const TENSOR: &str = "encoder.layer.3.attention.self.key.weight";
    let reason = |test, edit: fn(&mut serde_json::Value)| error_with_header(test, edit).to_string();

    let missing = reason("no-tensor", |header| {
        header.as_object_mut().unwrap().remove(TENSOR);
    });
    assert!(missing.contains(&format!("it has no tensor {TENSOR}")), "{missing}");
    let typed = reason("type", |header| header[TENSOR]["dtype"] = "F16".into());
    assert!(typed.contains(&format!("tensor {TENSOR} is of type F16")), "{typed}");
    let size = reason("size", |header| header[TENSOR]["shape"] = [384, 383].as_slice().into());
    assert!(size.contains(&format!("tensor {TENSOR} of shape [384, 383] takes")), "{size}");
    let huge = reason("overflow", |header| header[TENSOR]["shape"] = [u64::MAX, 8].as_slice().into());
    assert!(huge.contains(TENSOR), "{huge}");
    let shape = reason("shape", |header| header[TENSOR]["shape"] = [192, 768].as_slice().into());
    assert!(shape.contains("config.json makes it [384, 384]"), "{shape}");
    let order = reason("order", |header| header[TENSOR]["data_offsets"] = [8, 4].as_slice().into());
    assert!(order.contains("ends before it starts"), "{order}");
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let folder = Folder::without("nan", &["model.safetensors"]);
    let mut whole = fs::read(model_dir().join("model.safetensors")).unwrap();
    let middle = whole.len() / 8 * 4;
    whole[middle..middle + 8].fill(0xff);
    fs::write(folder.0.join("model.safetensors"), whole).unwrap();
    let error = folder.error().to_string();
    assert!(error.contains("no numbers"), "{error}");
    assert!(!folder.0.join("model.onnx").exists() && !folder.0.join("model.onnx.tmp").exists());
}

#[test]
fn a_damaged_graph_or_tokenizer_is_refused_by_name() {
    let folder = Folder::without("graph", &["tokenizer.json"]);
    let tokenizer = folder.0.join("tokenizer.json");
    fs::write(&tokenizer, "{").unwrap();
    assert!(folder.error().to_string().contains("tokenizer.json"));

    let json = fs::read_to_string(model_dir().join("tokenizer.json")).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
    value["post_processor"] = serde_json::Value::Null;
    fs::write(&tokenizer, value.to_string()).unwrap();
    assert!(folder.error().to_string().contains("adds 0 markers"));

    fs::write(&tokenizer, json).unwrap();
    Embedder::load(&folder.0).unwrap();
    let graph = folder.0.join("model.onnx");
    fs::File::options().write(true).open(&graph).unwrap().set_len(50_000_000).unwrap();
    assert!(folder.error().to_string().contains("model.onnx"));
    fs::remove_file(&graph).unwrap();
    Embedder::load(&folder.0).unwrap();
}

#[test]
fn another_kind_of_model_is_refused() {
    for (key, value) in [
        ("model_type", serde_json::json!("roberta")),
        ("hidden_size", 768.into()),
        ("hidden_act", "gelu_new".into()),
        ("num_attention_heads", 7.into()),
        ("num_hidden_layers", 0.into()),
        ("layer_norm_eps", (-1.0).into()),
        ("vocab_size", 100.into()),
    ] {
        let folder = Folder::without(&format!("kind-{key}"), &["config.json"]);
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs::read(model_dir().join("config.json")).unwrap()).unwrap();
        config[key] = value;
        fs::write(folder.0.join("config.json"), config.to_string()).unwrap();
        let error = folder.error();
        assert!(matches!(error, ModelError::Invalid { .. }), "{key}: {error:?}");
    }
}

#[test]
fn another_pooling_is_honoured_or_refused() {
    let folder = Folder::without("pooling", &[]);
    fs::create_dir(folder.0.join("1_Pooling")).unwrap();
    let file = folder.0.join("1_Pooling/config.json");
    fs::write(&file, r#"{"pooling_mode_cls_token": true}"#).unwrap();
    let text = "energy prices rise again";
    let first_token = Embedder::load(&folder.0).unwrap().embed(&[text]).unwrap()[0];
    assert!(cosine(&first_token, &embedder().embed(&[text]).unwrap()[0]) < 0.99);
    fs::write(&file, r#"{"pooling_mode_max_tokens": true}"#).unwrap();
    assert!(folder.error().to_string().contains("pooling must be"));
}

#[test]
fn a_changed_model_is_imported_again() {
    let folder = Folder::without("changed", &["model.safetensors"]);
    let path = folder.0.join("model.safetensors");
    let mut whole = fs::read(model_dir().join("model.safetensors")).unwrap();
    fs::write(&path, &whole).unwrap();
    let embed = || Embedder::load(&folder.0).unwrap().embed(&["energy prices"]).unwrap()[0];
    let before = embed();
    let written = || fs::metadata(folder.0.join("model.onnx")).unwrap().modified().unwrap();
    let first = written();
    assert_eq!(before, embed());
    assert_eq!(first, written(), "an unchanged model was imported again");

    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
    let offset = header["encoder.layer.5.output.dense.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
    let start = 8 + length + offset;
    whole[start..start + 4].copy_from_slice(&1.5_f32.to_le_bytes());
    fs::write(&path, &whole).unwrap();
    assert_ne!(before, embed());
    assert_ne!(first, written());
}
