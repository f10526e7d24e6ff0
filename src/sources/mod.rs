//! Sources: the outlets, their feeds, and what each fetch brought.

pub mod rpc;
pub mod service;
pub mod store;
