//! Files that people upload: their text, and the same analysis as an article's; kept apart from the press.

pub mod extract;
pub mod link;
pub mod rpc;
pub mod service;
pub mod store;
