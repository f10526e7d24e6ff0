//! EU Intelligence Hub: reads Europe's news feeds and shows how the press covers a topic, over gRPC and REST.
//!
//! With feature `client` alone this crate is messages and stubs ([`proto`]); feature `server` is the whole Hub.

pub mod proto;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod articles;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod cache;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod database;
#[cfg(feature = "server")]
pub mod embedded;
#[cfg(feature = "server")]
pub mod error;
#[cfg(feature = "server")]
pub mod ingest;
#[cfg(feature = "server")]
pub mod jobs;
#[cfg(feature = "server")]
pub mod keywords;
#[cfg(feature = "server")]
pub mod lifecycle;
#[cfg(feature = "server")]
pub mod llm;
#[cfg(feature = "server")]
pub mod page;
#[cfg(feature = "server")]
pub mod rate_limit;
#[cfg(feature = "server")]
pub mod redis;
#[cfg(feature = "server")]
pub mod resource;
#[cfg(feature = "server")]
pub mod search;
#[cfg(feature = "server")]
pub mod seed;
#[cfg(feature = "server")]
pub mod sentiment;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod sources;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod validation;
