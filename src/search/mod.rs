//! Search: by words, by meaning, or both.

pub mod embedding;
pub mod highlight;
pub mod rpc;
pub mod service;
pub mod store;
