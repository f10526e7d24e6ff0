//! What the measurements in `benches` share: a small service, as any client or server in Rust would have it.

/// The messages and the service of `edge/tests/proto/codec.proto`, generated.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod codec {
    include!(concat!(env!("OUT_DIR"), "/codec.test.rs"));
    include!(concat!(env!("OUT_DIR"), "/codec.test.serde.rs"));
}

/// Their encoded `FileDescriptorSet`, imports included.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/codec.binpb"));

/// A message of sixteen fields, all of them set.
pub const ARTICLE: &str = r#"{
    "name": "articles/8123", "title": "Energy prices fall as wind output reaches a record across the North Sea",
    "summary": "Wholesale prices fell for the third week; \"a mild start\", says the grid operator.",
    "url": "https://news.example.eu/2026/03/energy-prices-fall", "source": "sources/example-news", "language": "en",
    "country": "IE", "publishTime": "2026-03-01T12:30:00Z", "wordCount": 812, "id": "8123", "sentiment": 0.3182,
    "confidence": 0.75, "label": "COLOUR_GREEN", "syndicated": true, "keywords": ["energy", "wind", "prices"],
    "author": "A. Writer"
}"#;
