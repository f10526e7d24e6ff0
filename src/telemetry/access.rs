//! The access line: one a request, over REST by the edge and over gRPC by the core.

use std::time::Duration;

use opentelemetry::Context;

use super::trace;

/// A request that is over.
pub(super) struct Access<'a> {
    /// `http` or `grpc`.
    pub protocol: &'static str,
    pub method: &'a str,
    /// Its template, never what a client made up.
    pub route: &'a str,
    /// Status of HTTP, or code of gRPC.
    pub status: i64,
    pub duration: Duration,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub client: &'a str,
    pub request_id: &'a str,
    /// Who it is by its key.
    pub actor: Option<&'a str>,
}

impl Access<'_> {
    pub(super) fn log(&self, context: &Context) {
        tracing::info!(
            target: "euhub::access",
            protocol = self.protocol,
            method = self.method,
            route = self.route,
            status = self.status,
            duration_ms = super::milliseconds(self.duration),
            request_bytes = self.request_bytes,
            bytes = self.response_bytes,
            client = self.client,
            request_id = self.request_id,
            trace_id = trace::id(context),
            actor = self.actor,
            "request"
        );
    }
}
