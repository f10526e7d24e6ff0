//! AdminService.

use chrono::{DateTime, Utc};
use tonic::{Request, Response, Status};

use crate::articles::convert::timestamp;
use crate::llm::{self, Llm};
use crate::proto::admin_service_server::AdminService;
use crate::proto::{self, GetStatusRequest};
use crate::search::service::Search;
use crate::sentiment::analyze;

/// The service.
#[derive(Debug)]
pub struct AdminRpc {
    /// When this process started.
    pub start_time: DateTime<Utc>,
    /// What search can do.
    pub search: Search,
    /// The second layer of tone.
    pub llm: Option<Llm>,
    /// Reading needs no key.
    pub public_read: bool,
}

#[tonic::async_trait]
impl AdminService for AdminRpc {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<proto::Status>, Status> {
        let model = self.search.embedder.as_ref().map(|embedder| embedder.name().to_owned());
        let mut analyzers = vec![format!("{}/{}", analyze::ANALYZER, analyze::VERSION)];
        analyzers.extend(self.llm.as_ref().map(|model| format!("{}/{}", llm::ANALYZER, model.model())));
        Ok(Response::new(proto::Status {
            version: env!("CARGO_PKG_VERSION").into(),
            start_time: Some(timestamp(self.start_time)),
            semantic_search: model.is_some(),
            embedding_model: model.unwrap_or_default(),
            public_read: self.public_read,
            cache: self.search.cache.kind().into(),
            analyzers,
        }))
    }
}
