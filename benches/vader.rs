//! Throughput of VADER on 1,000 texts; `tests/reference/vader_speed.py` compares it with the Python package on the
//! same texts.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use euhub::sentiment::vader::Vader;

const TEXTS: usize = 1_000;
/// From this length in bytes on a text of the test data is a paragraph.
const PARAGRAPH: usize = 200;

fn score(c: &mut Criterion) {
    let vader = Vader::shared();
    let all: Vec<String> = include_str!("../tests/data/vader_expected.jsonl").lines().map(text).collect();
    let paragraphs = all.iter().filter(|text| text.len() >= PARAGRAPH).cloned().collect();
    let mut group = c.benchmark_group("vader");
    for (name, texts) in [("sentences", all), ("paragraphs", paragraphs)] {
        let texts: Vec<String> = texts.into_iter().cycle().take(TEXTS).collect();
        group.throughput(Throughput::Elements(TEXTS as u64));
        group.bench_function(name, |b| {
            b.iter(|| texts.iter().map(|text| vader.score(black_box(text)).compound).sum::<f64>());
        });
    }
    group.finish();
}

fn text(line: &str) -> String {
    let row: serde_json::Value = serde_json::from_str(line).expect("the test data is JSON");
    row["text"].as_str().expect("every row has a text").to_owned()
}

criterion_group!(benches, score);
criterion_main!(benches);
