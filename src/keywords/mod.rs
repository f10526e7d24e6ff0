//! Tracked keywords: what people follow, which articles it is linked to, and what is covered together.

pub mod link;
pub mod relations;
pub mod review;
pub mod rpc;
pub mod service;
pub mod store;
