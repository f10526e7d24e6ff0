//! Administration: keys, the audit log, and what the server says of itself.

pub mod audit;
pub mod cache;
pub mod export;
pub mod rpc;
pub mod search;
pub mod store;
