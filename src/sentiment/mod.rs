//! Tone: of a text, of an article, and of a keyword over time, by source and by country.

pub mod aggregate;
pub mod analyze;
pub mod rpc;
pub mod stats;
pub mod store;
pub mod vader;
