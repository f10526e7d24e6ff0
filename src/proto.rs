//! Messages, client stubs and server traits of package `euhub.v1`, generated from `proto/` at build time.

/// Package `euhub.v1`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
mod euhub {
    pub mod v1 {
        tonic::include_proto!("euhub.v1");
    }
}

/// Package `google.api`: bodies that are not JSON, and the annotations.
#[allow(missing_docs, clippy::all)]
pub mod google {
    pub mod api {
        tonic::include_proto!("google.api");
    }
}

pub use euhub::v1::*;

/// The descriptor set of the whole API, with comments and imports (a serialised `FileDescriptorSet`).
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/euhub.binpb"));
