//! REST/JSON in front of any gRPC service annotated with `google.api.http`.
//!
//! [`plan::Plan`] is compiled once from a descriptor set; [`codec`] then moves messages between ProtoJSON and
//! protobuf wire bytes by that plan, with no message object in between.

pub mod codec;
pub mod http;
pub mod listen;
mod openapi;
pub mod plan;
mod protect;
#[cfg(feature = "testing")]
pub mod testing;
pub mod upstream;
