//! One 16-field message, both ways, against `prost-reflect`'s `DynamicMessage`. The bar is 1.3 us each way.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use euhub_edge::codec::{from_json, to_json};
use euhub_edge::plan::Plan;
use euhub_edge::testing::oracle_json;
use prost_reflect::DynamicMessage;
use prost_reflect::prost::Message;

const ARTICLE: &str = r#"{
    "name": "articles/8123", "title": "Energy prices fall as wind output reaches a record across the North Sea",
    "summary": "Wholesale prices fell for the third week; \"a mild start\", says the grid operator.",
    "url": "https://news.example.eu/2026/03/energy-prices-fall", "source": "sources/example-news", "language": "en",
    "country": "IE", "publishTime": "2026-03-01T12:30:00Z", "wordCount": 812, "id": "8123", "sentiment": 0.3182,
    "confidence": 0.75, "label": "COLOUR_GREEN", "syndicated": true, "keywords": ["energy", "wind", "prices"],
    "author": "A. Writer"
}"#;

fn codec(criterion: &mut Criterion) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler =
        protox::Compiler::new([root.join("tests/proto"), root.join("../proto")]).expect("folders");
    compiler.include_imports(true);
    compiler.open_files(["codec.proto"]).expect("valid protos");
    let plan = Plan::compile(&compiler.encode_file_descriptor_set()).expect("a valid plan");
    let id = plan.message("codec.test.Article").expect("in the proto");
    let descriptor = plan.pool().get_message_by_name("codec.test.Article").expect("in the proto");

    let mut wire = Vec::new();
    from_json(&plan, id, ARTICLE.as_bytes(), &mut wire).expect("valid JSON");
    let mut json = Vec::new();
    to_json(&plan, id, &wire, &mut json).expect("valid bytes");

    criterion.bench_function("to_json/edge", |bencher| {
        let mut out = Vec::with_capacity(1024);
        bencher.iter(|| {
            out.clear();
            to_json(&plan, id, black_box(&wire), &mut out).expect("valid bytes");
        });
    });
    criterion.bench_function("to_json/prost-reflect", |bencher| {
        bencher.iter(|| {
            let message =
                DynamicMessage::decode(descriptor.clone(), black_box(&wire[..])).expect("valid bytes");
            oracle_json(&message)
        });
    });
    criterion.bench_function("from_json/edge", |bencher| {
        let mut out = Vec::with_capacity(1024);
        bencher.iter(|| {
            out.clear();
            from_json(&plan, id, black_box(&json), &mut out).expect("valid JSON");
        });
    });
    criterion.bench_function("from_json/prost-reflect", |bencher| {
        bencher.iter(|| {
            let mut json = serde_json::Deserializer::from_slice(black_box(&json));
            DynamicMessage::deserialize(descriptor.clone(), &mut json).expect("valid JSON").encode_to_vec()
        });
    });
}

criterion_group!(benches, codec);
criterion_main!(benches);
