//! Sources: the outlets, their feeds, and what each fetch brought.

pub mod convert;
pub mod health;
pub mod import;
pub mod opml;
pub mod rpc;
pub mod service;
pub mod store;
