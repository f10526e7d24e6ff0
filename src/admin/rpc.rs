//! AdminService.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use sqlx::PgPool;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::admin::audit::{self, Entry, Filter, audit};
use crate::admin::{cache, export, store};
use crate::articles::convert::timestamp;
use crate::articles::filter::time;
use crate::auth;
use crate::clock::{Clock, system_rng};
use crate::error::{Error, Result};
use crate::llm::{self, Llm};
use crate::page::{Cursor, Page};
use crate::proto::admin_service_server::AdminService;
use crate::proto::google::api::HttpBody;
use crate::proto::{
    self, ApiKey, AuditEntry, CacheStats, CreateApiKeyRequest, CreateApiKeyResponse, DeleteApiKeyRequest,
    ExportAuditEntriesRequest, GetCacheStatsRequest, GetStatusRequest, InvalidateCacheRequest,
    InvalidateCacheResponse, ListApiKeysRequest, ListApiKeysResponse, ListAuditEntriesRequest,
    ListAuditEntriesResponse,
};
use crate::resource;
use crate::search::service::Search;
use crate::sentiment::analyze;
use crate::server::caller;
use crate::validation::check;

/// The service.
#[derive(Debug)]
pub struct AdminRpc {
    /// Keys and the audit log.
    pub db: PgPool,
    /// The time.
    pub clock: Clock,
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
    type ExportAuditEntriesStream = ReceiverStream<Result<HttpBody, Status>>;

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
            cache: self.search.cache.store().into(),
            analyzers,
        }))
    }

    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let query = ListAuditEntriesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
        let page = Page::new(request.page_size, 50, &request.page_token, &query)?;
        let filter = Filter {
            actor: request.actor,
            action: request.action,
            resource: request.resource,
            outcome: request.outcome,
            after: time("created_after", request.created_after)?,
            before: time("created_before", request.created_before)?,
        };
        let below = page.after.as_ref().map(|cursor| cursor.id);
        let mut entries = audit::list(&self.db, &filter, below, page.limit()).await?;
        let next_page_token = page.finish(&mut entries, |entry| Cursor { id: entry.id, ..Cursor::default() });
        let audit_entries = entries.into_iter().map(Into::into).collect();
        Ok(Response::new(ListAuditEntriesResponse { audit_entries, next_page_token }))
    }

    async fn export_audit_entries(
        &self,
        request: Request<ExportAuditEntriesRequest>,
    ) -> Result<Response<Self::ExportAuditEntriesStream>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let filter = Filter {
            actor: request.actor,
            action: request.action,
            resource: request.resource,
            outcome: request.outcome,
            after: time("created_after", request.created_after)?,
            before: time("created_before", request.created_before)?,
        };
        Ok(Response::new(export::stream(self.db.clone(), filter)))
    }

    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let wanted = request.api_key.unwrap_or_default();
        let now = self.clock.now();
        let expire_time = time("api_key.expire_time", wanted.expire_time)?;
        if expire_time.is_some_and(|expire_time| expire_time <= now) {
            return Err(Error::invalid("api_key.expire_time", "must lie in the future.").into());
        }
        let (secret, hash) = auth::generate_key(&mut system_rng());
        let mut tx = self.db.begin().await.map_err(Error::from)?;
        let id =
            store::insert_api_key(&mut *tx, &wanted.display_name, &hash, &wanted.scopes, now, expire_time)
                .await?;
        audit(&mut *tx, &caller, "apikeys.create", &format!("apiKeys/{id}"), now).await?;
        tx.commit().await.map_err(Error::from)?;
        let api_key = ApiKey {
            name: format!("apiKeys/{id}"),
            create_time: Some(timestamp(now)),
            expire_time: expire_time.map(timestamp),
            revoke_time: None,
            last_use_time: None,
            ..wanted
        };
        Ok(Response::new(CreateApiKeyResponse { api_key: Some(api_key), secret }))
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let page = Page::new(request.page_size, 50, &request.page_token, &ListApiKeysRequest::default())?;
        let before = page.after.as_ref().map(|cursor| cursor.id);
        let mut keys = store::list_api_keys(&self.db, before, page.limit()).await?;
        let next_page_token = page.finish(&mut keys, |key| Cursor { id: key.id, ..Cursor::default() });
        let api_keys = keys.into_iter().map(Into::into).collect();
        Ok(Response::new(ListApiKeysResponse { api_keys, next_page_token }))
    }

    async fn delete_api_key(&self, request: Request<DeleteApiKeyRequest>) -> Result<Response<()>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = resource::number("apiKeys", &request.name)?;
        let now = self.clock.now();
        let mut tx = self.db.begin().await.map_err(Error::from)?;
        if !store::revoke_api_key(&mut *tx, id, now).await? {
            return Err(Error::NotFound(request.name).into());
        }
        audit(&mut *tx, &caller, "apikeys.revoke", &request.name, now).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(Response::new(()))
    }

    async fn get_cache_stats(
        &self,
        _: Request<GetCacheStatsRequest>,
    ) -> Result<Response<CacheStats>, Status> {
        Ok(Response::new(cache::stats(&self.search.cache)))
    }

    async fn invalidate_cache(
        &self,
        request: Request<InvalidateCacheRequest>,
    ) -> Result<Response<InvalidateCacheResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let (cache, now) = (&self.search.cache, self.clock.now());
        let kinds = cache::invalidate(&self.db, cache, &caller, &request.kinds, now).await?;
        Ok(Response::new(InvalidateCacheResponse { kinds }))
    }
}

impl From<Entry> for AuditEntry {
    fn from(entry: Entry) -> Self {
        Self {
            name: format!("auditEntries/{}", entry.id),
            create_time: Some(timestamp(entry.time)),
            actor: entry.actor,
            action: entry.action,
            resource: entry.resource,
            client: entry.client,
            outcome: entry.outcome,
            request_id: entry.request_id,
        }
    }
}

impl From<store::ApiKeyInfo> for ApiKey {
    fn from(key: store::ApiKeyInfo) -> Self {
        let time = |time: Option<DateTime<Utc>>| -> Option<Timestamp> { time.map(timestamp) };
        Self {
            name: format!("apiKeys/{}", key.id),
            display_name: key.name,
            scopes: key.scopes,
            expire_time: time(key.expire_time),
            create_time: Some(timestamp(key.create_time)),
            revoke_time: time(key.revoke_time),
            last_use_time: time(key.last_use_time),
        }
    }
}
