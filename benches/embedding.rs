//! One core's time to embed a query, a passage and a batch. Bar (DESIGN, section 7): 10 ms for the query of 8 words.
//! Needs the model of `scripts/model`.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use euhub::search::embedding::Embedder;

const QUERY: &str = "rising energy prices in southern Europe this winter";
const SENTENCE: &str = "The council of the port town met again, heard the harbour master on the new berths and put off \
                        the vote on the ferry tariff because nine of its members were away. ";

fn embedding(criterion: &mut Criterion) {
    let data = std::env::var_os("EUHUB_DATA_DIR").unwrap_or_else(|| ".euhub".into());
    let folder = std::env::var_os("EUHUB_MODEL_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(data).join("model/all-MiniLM-L6-v2"),
        PathBuf::from,
    );
    let embedder =
        Embedder::load_with_threads(&folder, NonZeroUsize::MIN).expect("scripts/model fetches the model");
    let passage = SENTENCE.repeat(10);
    let texts: Vec<String> =
        (0..16).map(|index| format!("Item {index}. {}", SENTENCE.repeat(1 + index % 3))).collect();
    let batch: Vec<&str> = texts.iter().map(String::as_str).collect();

    let mut group = criterion.benchmark_group("embedding");
    group.sample_size(30);
    let mut run = |name: &str, texts: &[&str]| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| embedder.embed(black_box(texts)).expect("the texts can be embedded"));
        });
    };
    run("query of 8 words", &[QUERY]);
    run("passage of 256 tokens", &[&passage]);
    run("batch of 16 texts of 40 to 120 tokens", &batch);
    group.finish();
}

criterion_group!(benches, embedding);
criterion_main!(benches);
