//! The integration tests: one binary, one private Postgres a run, one database a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin_keys;
mod administration;
mod aggregates;
mod articles;
mod bad_input;
mod cache;
mod cache_answers;
mod crash;
mod documents;
mod embedded;
mod embedding;
mod feeds;
mod health;
mod hub;
mod jobs;
mod keyword_changes;
mod keywords;
mod llm;
mod llm_scores;
mod paging;
mod process;
mod program;
mod proto_lint;
mod rate_limit;
mod reflection;
mod search;
mod seed;
mod sentiment;
mod sources;
mod streams;
mod suggestion_decisions;
mod suggestion_states;
mod suggestions;
mod tls;
mod transcoding;
mod vader;
mod validation;
