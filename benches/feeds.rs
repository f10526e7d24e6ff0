//! Feed parsing, near-duplicate bands and language detection, for one article's share of ingest.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use euhub::ingest::{feed, language, near_duplicate, normalise};
use url::Url;

const ENTRIES: u64 = 100;
const BODY: &str = "The city council voted on Tuesday to close its last coal-fired heating plant by the end of next \
    year, two years ahead of schedule. The plant supplies about 30,000 flats. The mayor said that heat pumps and a new \
    pipe from the paper mill would take over.";

fn rss() -> String {
    let mut document = String::from("<?xml version='1.0'?><rss version='2.0'><channel><title>Bench</title>");
    for n in 0..ENTRIES {
        let _ = write!(
            document,
            "<item><title>Council closes plant {n}</title><link>https://news.example/{n}?utm_source=rss</link>\
             <guid isPermaLink='false'>{n}</guid><pubDate>Sun, 01 Mar 2026 12:00:00 +0100</pubDate>\
             <description><![CDATA[<p>{BODY}</p><p>Residents &amp; shops had complained about <b>soot</b>.</p>]]></description></item>"
        );
    }
    document + "</channel></rss>"
}

fn benches(criterion: &mut Criterion) {
    let document = rss();
    let base = Url::parse("https://news.example/feed").expect("a URL");
    let mut group = criterion.benchmark_group("feeds");
    group.throughput(Throughput::Elements(ENTRIES));
    group.bench_function("parse 100 RSS entries", |b| {
        b.iter(|| feed::parse(black_box(document.as_bytes()), None, &base).expect("a feed"));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("near-duplicate bands", |b| b.iter(|| near_duplicate::bands(black_box(BODY))));
    group.bench_function("similarity", |b| {
        b.iter(|| near_duplicate::similarity(black_box(BODY), black_box(BODY)))
    });
    group.bench_function("language", |b| b.iter(|| language::detect(black_box(BODY), Some("en"))));
    group.bench_function("content hash", |b| {
        b.iter(|| normalise::content_hash("Council closes plant", black_box(BODY)))
    });
    group.finish();
}

criterion_group!(feeds, benches);
criterion_main!(feeds);
