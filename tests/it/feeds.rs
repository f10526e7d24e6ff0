//! Fetching and reading feeds, from servers and documents that misbehave.

mod fetching;
mod parsing;
mod server;
