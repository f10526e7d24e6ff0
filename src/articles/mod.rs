//! Stored articles: one, many, as a file, or as they arrive.

pub mod convert;
mod export;
pub mod filter;
pub mod rpc;
pub mod store;
pub mod watch;
