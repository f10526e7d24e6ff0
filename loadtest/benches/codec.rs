//! One 16-field message, both ways: the edge, `prost-reflect`'s `DynamicMessage`, and prost structs with pbjson's serde
//! code. The bar of the edge is 1.3 us each way.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use euhub_edge::codec::{from_json, to_json};
use euhub_edge::plan::Plan;
use euhub_edge::testing::oracle_json;
use euhub_loadtest::codec::Article;
use euhub_loadtest::{ARTICLE, DESCRIPTOR_SET};
use prost_reflect::DynamicMessage;
use prost_reflect::prost::Message;

fn codec(criterion: &mut Criterion) {
    let plan = Plan::compile(DESCRIPTOR_SET).expect("a valid plan");
    let id = plan.message("codec.test.Article").expect("in the proto");
    let descriptor = plan.pool().get_message_by_name("codec.test.Article").expect("in the proto");

    let mut wire = Vec::new();
    from_json(&plan, id, ARTICLE.as_bytes(), &mut wire).expect("valid JSON");
    let mut json = Vec::new();
    to_json(&plan, id, &wire, &mut json).expect("valid bytes");
    let article: Article = serde_json::from_slice(&json).expect("valid JSON");
    assert_eq!(article.encode_to_vec(), wire, "all read the same message");

    let mut group = criterion.benchmark_group("to_json");
    group.bench_function("edge", |bencher| {
        let mut out = Vec::with_capacity(1024);
        bencher.iter(|| {
            out.clear();
            to_json(&plan, id, black_box(&wire), &mut out).expect("valid bytes");
        });
    });
    group.bench_function("prost-reflect", |bencher| {
        bencher.iter(|| {
            let message =
                DynamicMessage::decode(descriptor.clone(), black_box(&wire[..])).expect("valid bytes");
            oracle_json(&message)
        });
    });
    group.bench_function("pbjson", |bencher| {
        let mut out = Vec::with_capacity(1024);
        bencher.iter(|| {
            out.clear();
            let article = Article::decode(black_box(&wire[..])).expect("valid bytes");
            serde_json::to_writer(&mut out, &article).expect("a JSON form");
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("from_json");
    group.bench_function("edge", |bencher| {
        let mut out = Vec::with_capacity(1024);
        bencher.iter(|| {
            out.clear();
            from_json(&plan, id, black_box(&json), &mut out).expect("valid JSON");
        });
    });
    group.bench_function("prost-reflect", |bencher| {
        bencher.iter(|| {
            let mut json = serde_json::Deserializer::from_slice(black_box(&json));
            DynamicMessage::deserialize(descriptor.clone(), &mut json).expect("valid JSON").encode_to_vec()
        });
    });
    group.bench_function("pbjson", |bencher| {
        let mut out = Vec::with_capacity(1024);
        bencher.iter(|| {
            out.clear();
            let article: Article = serde_json::from_slice(black_box(&json)).expect("valid JSON");
            article.encode(&mut out).expect("room");
        });
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
