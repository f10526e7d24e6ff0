//! `google.rpc` error details of an upstream's status, as ProtoJSON `Any`s.

use prost::Message as _;
use prost_types::Any;
use serde_json::Value;
use tonic::Status;
use tonic_types::pb;

use super::{failure::Failure, spelling::Spelling};
use crate::{codec, plan::Plan};

/// More details than any service sends; the rest is dropped.
const MAX_DETAILS: usize = 64;

/// The standard error messages, compiled like any other descriptor set.
pub struct Details {
    standard: Plan,
}

impl Details {
    /// Compiles the descriptors of `google/rpc/error_details.proto`.
    pub fn new() -> Result<Self, crate::plan::PlanError> {
        Ok(Self { standard: Plan::compile(pb::FILE_DESCRIPTOR_SET)? })
    }

    /// The error for a gRPC status. Details of unknown types are dropped, and so is `DebugInfo`, which is not for clients.
    /// Fields at fault are named as the caller spelt them, in the message too where it says `field: description`.
    pub fn failure(&self, plan: &Plan, status: &Status, spelling: Option<&Spelling<'_>>) -> Failure {
        let mut message = status.message().to_owned();
        let mut carried =
            pb::Status::decode(status.details()).map(|status| status.details).unwrap_or_default();
        let retry_after = carried
            .iter()
            .filter(|detail| name(detail) == "google.rpc.RetryInfo")
            .find_map(|detail| pb::RetryInfo::decode(detail.value.as_slice()).ok()?.retry_delay)
            .map(|delay| delay.seconds.max(0).unsigned_abs() + u64::from(delay.nanos > 0));
        if let Some(spelling) = spelling {
            for detail in carried.iter_mut().filter(|detail| name(detail) == "google.rpc.BadRequest") {
                respell(detail, spelling, &mut message);
            }
        }
        let details = carried
            .iter()
            .take(MAX_DETAILS)
            .filter(|detail| name(detail) != "google.rpc.DebugInfo")
            .filter_map(|detail| to_json(&self.standard, detail).or_else(|| to_json(plan, detail)))
            .collect();
        Failure::upstream(status.code(), message, details, retry_after)
    }
}

fn respell(detail: &mut Any, spelling: &Spelling<'_>, message: &mut String) {
    let Ok(mut bad) = pb::BadRequest::decode(detail.value.as_slice()) else { return };
    for violation in &mut bad.field_violations {
        let spelt = spelling.path(&violation.field);
        let sentence = |field: &str| format!("{field}: {}", violation.description);
        *message = message.replacen(&sentence(&violation.field), &sentence(&spelt), 1);
        violation.field = spelt;
    }
    detail.value = bad.encode_to_vec();
}

fn name(detail: &Any) -> &str {
    detail.type_url.rsplit('/').next().unwrap_or_default()
}

fn to_json(plan: &Plan, detail: &Any) -> Option<Value> {
    let mut json = Vec::new();
    codec::to_json(plan, plan.message(name(detail))?, &detail.value, &mut json).ok()?;
    let fields = match serde_json::from_slice(&json).ok()? {
        Value::Object(fields) => fields,
        // A well-known type with a JSON form of its own.
        value => [("value".to_owned(), value)].into_iter().collect(),
    };
    let tag = ("@type".to_owned(), Value::from(detail.type_url.as_str()));
    Some(Value::Object([tag].into_iter().chain(fields).collect()))
}
