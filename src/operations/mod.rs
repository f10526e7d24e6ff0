//! What operators look at and turn: health, and what is logged.

pub mod health;
pub mod rpc;
mod store;
