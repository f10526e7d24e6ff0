//! Keywords that people propose: votes, evidence, and the decision of an administrator.

pub mod contact;
pub mod evaluate;
pub mod evidence;
pub mod rpc;
pub mod service;
pub mod store;
pub mod words;
