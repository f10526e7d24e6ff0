//! What a descriptor set says, laid out for the transcoder: built once at start-up, immutable, shared by `Arc`.

mod binding;
mod message;
mod names;

use std::collections::HashMap;

use ::http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, MethodDescriptor};

pub use binding::{Body, FieldPath, HttpBinding};
pub(crate) use message::{EnumPlan, FieldPlan, Kind, Label, MessagePlan, WellKnown};
pub(crate) use names::NameTable;

/// A descriptor set that the edge cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The bytes are no `FileDescriptorSet`, or one whose imports are missing.
    #[error("descriptor set: {0}")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// A `google.api.http` rule that cannot be carried out.
    #[error("{method}: {reason}")]
    Rule {
        /// Full name of the annotated method.
        method: String,
        /// What is wrong with its rule.
        reason: String,
    },
}

/// A message type of one [`Plan`]; meaningless with another plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(u32);

/// An enum type of one [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EnumId(u32);

/// An RPC with the HTTP bindings that its `google.api.http` option declares.
#[derive(Debug, Clone)]
pub struct MethodPlan {
    /// Full name of the service, such as `pkg.v1.Library`.
    pub service: String,
    /// Name of the method in its service.
    pub name: String,
    /// `/pkg.v1.Library/GetBook`.
    pub grpc_path: PathAndQuery,
    /// Request message.
    pub input: MessageId,
    /// Response message (of each item, when the server streams).
    pub output: MessageId,
    /// Whether the client sends a stream.
    pub client_streaming: bool,
    /// Whether the server answers with a stream.
    pub server_streaming: bool,
    /// The rule and its `additional_bindings`, in order; empty for a method without a rule.
    pub bindings: Vec<HttpBinding>,
}

/// The compiled descriptor set.
#[derive(Debug)]
pub struct Plan {
    pool: DescriptorPool,
    messages: Vec<MessagePlan>,
    enums: Vec<EnumPlan>,
    by_name: HashMap<String, MessageId>,
    methods: Vec<MethodPlan>,
}

impl Plan {
    /// Compiles an encoded `google.protobuf.FileDescriptorSet` that includes all its imports.
    ///
    /// # Errors
    /// When the set cannot be decoded or linked, or holds a `google.api.http` rule that names no template, an
    /// unknown body field or nested `additional_bindings`.
    pub fn compile(descriptor_set: &[u8]) -> Result<Plan, PlanError> {
        Self::from_pool(DescriptorPool::decode(descriptor_set)?)
    }

    fn from_pool(pool: DescriptorPool) -> Result<Plan, PlanError> {
        let ids = message::Ids::of(&pool);
        let enums: Vec<_> = pool.all_enums().map(|e| EnumPlan::new(&e)).collect();
        let messages: Vec<_> = pool.all_messages().map(|m| MessagePlan::new(&m, &ids, &enums)).collect();
        let mut plan = Plan { pool, messages, enums, by_name: ids.into_messages(), methods: Vec::new() };
        plan.methods = plan
            .pool
            .services()
            .flat_map(|s| s.methods().collect::<Vec<_>>())
            .map(|m| plan.method(&m))
            .collect::<Result<_, _>>()?;
        Ok(plan)
    }

    /// Every method of every service in the set, in declaration order.
    pub fn methods(&self) -> &[MethodPlan] {
        &self.methods
    }

    /// The message of that full name (`pkg.v1.Book`), map entries included.
    pub fn message(&self, full_name: &str) -> Option<MessageId> {
        self.by_name.get(full_name).copied()
    }

    /// Full name of a message.
    pub fn message_name(&self, id: MessageId) -> &str {
        &self.get(id).full_name
    }

    /// The descriptors that the plan was compiled from.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The top-level field of a message under its proto or JSON name, as `body` and `response_body` name it.
    pub fn field(&self, message: MessageId, name: &str) -> Option<FieldPath> {
        let plan = self.get(message);
        let index = plan.names.get(name)?;
        Some(FieldPath { name: plan.fields[index].name.to_string(), index })
    }

    pub(crate) fn get(&self, id: MessageId) -> &MessagePlan {
        &self.messages[id.0 as usize]
    }

    pub(crate) fn get_enum(&self, id: EnumId) -> &EnumPlan {
        &self.enums[id.0 as usize]
    }

    fn method(&self, method: &MethodDescriptor) -> Result<MethodPlan, PlanError> {
        let service = method.parent_service().full_name().to_owned();
        let rule = |reason: String| PlanError::Rule { method: method.full_name().to_owned(), reason };
        let id = |name: &str| self.message(name).ok_or_else(|| rule(format!("no message {name}")));
        let (input, output) = (id(method.input().full_name())?, id(method.output().full_name())?);
        Ok(MethodPlan {
            grpc_path: format!("/{service}/{}", method.name())
                .parse()
                .map_err(|_| rule("its name makes no URI path".to_owned()))?,
            service,
            name: method.name().to_owned(),
            input,
            output,
            client_streaming: method.is_client_streaming(),
            server_streaming: method.is_server_streaming(),
            bindings: binding::bindings(self, method, input, output).map_err(rule)?,
        })
    }
}
