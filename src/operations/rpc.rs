//! OperationsService.

use sqlx::PgPool;
use tonic::{Request, Response, Status};

use crate::admin::audit::audit;
use crate::clock::Clock;
use crate::error::Error;
use crate::operations::health::Health;
use crate::proto::operations_service_server::OperationsService;
use crate::proto::{DetailedHealth, GetDetailedHealthRequest, GetLogRequest, Log, SetLogRequest};
use crate::server::caller;
use crate::telemetry::log;
use crate::validation::check;

/// The service.
#[derive(Debug)]
pub struct OperationsRpc {
    /// The audit log.
    pub db: PgPool,
    /// The time.
    pub clock: Clock,
    /// How everything is.
    pub health: Health,
    /// Reading needs no key.
    pub public_read: bool,
}

#[tonic::async_trait]
impl OperationsService for OperationsRpc {
    async fn get_detailed_health(
        &self,
        request: Request<GetDetailedHealthRequest>,
    ) -> Result<Response<DetailedHealth>, Status> {
        let told_all = self.public_read || caller(&request)?.admin;
        let health = self.health.detailed().await;
        let status = DetailedHealth { status: health.status, ..DetailedHealth::default() };
        Ok(Response::new(if told_all { health } else { status }))
    }

    async fn get_log(&self, _: Request<GetLogRequest>) -> Result<Response<Log>, Status> {
        Ok(Response::new(shown()))
    }

    async fn set_log(&self, request: Request<SetLogRequest>) -> Result<Response<Log>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let filter = log::filter(&request.filter).map_err(|error| Error::invalid("filter", error))?;
        audit(&self.db, &caller, "log.set", "log", self.clock.now()).await?;
        log::set(filter).map_err(Error::Internal)?;
        Ok(Response::new(shown()))
    }
}

fn shown() -> Log {
    let (filter, configured_filter) = log::filters();
    Log { filter, configured_filter }
}
