//! The integration tests: one binary, one private Postgres a run, one database a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod embedded;
mod embedding;
mod feeds;
mod hub;
mod proto_lint;
mod transcoding;
mod vader;
mod validation;
