//! The integration tests: one binary, one private Postgres a run, one database a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin_keys;
mod articles;
mod bad_input;
mod embedded;
mod embedding;
mod feeds;
mod hub;
mod keywords;
mod paging;
mod proto_lint;
mod search;
mod sentiment;
mod sources;
mod transcoding;
mod vader;
mod validation;
