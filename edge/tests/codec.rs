//! The codec against `prost-reflect`, on the messages of `tests/proto`.

#![allow(clippy::unwrap_used)]

#[path = "codec/from_json.rs"]
mod from_json;
#[path = "fuzz/mod.rs"]
mod fuzz;
#[path = "codec/fuzz.rs"]
mod fuzzing;
#[path = "codec/grammar.rs"]
mod grammar;
#[path = "codec/params.rs"]
mod params;
#[path = "codec/plan.rs"]
mod plan;
#[path = "codec/roundtrip.rs"]
mod roundtrip;
#[path = "codec/support.rs"]
mod support;
#[path = "codec/to_json.rs"]
mod to_json;
