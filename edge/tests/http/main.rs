//! The edge over HTTP, one test for each feature, before a service that uses them all.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test as tests do")]

mod bodies;
mod docs;
mod errors;
mod fixed;
#[path = "../fuzz/mod.rs"]
mod fuzz;
mod grpc_web;
mod json_schema;
mod listen;
mod matching;
mod openapi;
mod openapi_rules;
mod protection;
mod routing;
mod streams;
mod support;
mod table;
mod upstream;
