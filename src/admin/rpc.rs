//! AdminService.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use euhub_edge::plan::Plan;
use prost_types::Timestamp;
use sqlx::PgPool;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::admin::audit::{self, Entry, Filter, audit};
use crate::admin::export::AuditLog;
use crate::admin::{cache, search, store};
use crate::articles::convert::{count, timestamp};
use crate::articles::filter::time;
use crate::auth;
use crate::clock::{Clock, system_rng};
use crate::error::{Error, Result};
use crate::export;
use crate::jobs::convert::job;
use crate::jobs::kinds::{self, Kind};
use crate::jobs::{service as jobs, store as job_store};
use crate::llm::{self, BreakerState, Llm, LlmProvider, LlmStats};
use crate::page::{Cursor, Page};
use crate::proto::admin_service_server::AdminService;
use crate::proto::google::api::HttpBody;
use crate::proto::{
    self, ApiKey, AuditEntry, CacheStats, CreateApiKeyRequest, CreateApiKeyResponse, DeleteApiKeyRequest,
    ExportAuditEntriesRequest, FoundArticles, FoundKeywords, FoundSources, FoundSuggestions,
    GetCacheStatsRequest, GetLlmStatsRequest, GetStatusRequest, InvalidateCacheRequest,
    InvalidateCacheResponse, Job, ListApiKeysRequest, ListApiKeysResponse, ListAuditEntriesRequest,
    ListAuditEntriesResponse, ListJobsRequest, ListJobsResponse, LlmBreakerState, RunJobRequest,
    SearchAdminRequest, SearchAdminResponse,
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
    /// Writes exports as JSON.
    pub plan: Arc<Plan>,
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

    async fn search_admin(
        &self,
        request: Request<SearchAdminRequest>,
    ) -> Result<Response<SearchAdminResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let limit = if request.page_size == 0 { 5 } else { request.page_size };
        let found = search::search(&self.db, request.query.trim(), limit.into()).await?;
        Ok(Response::new(SearchAdminResponse {
            keywords: Some(FoundKeywords {
                total_size: count(found.keywords.total),
                results: found.keywords.results.into_iter().map(Into::into).collect(),
            }),
            articles: Some(FoundArticles {
                total_size: count(found.articles.total),
                results: found.articles.results.into_iter().map(Into::into).collect(),
            }),
            suggestions: Some(FoundSuggestions {
                total_size: count(found.suggestions.total),
                results: found.suggestions.results.into_iter().map(Into::into).collect(),
            }),
            sources: Some(FoundSources {
                total_size: count(found.sources.total),
                results: found.sources.results.into_iter().map(Into::into).collect(),
            }),
        }))
    }

    async fn get_llm_stats(
        &self,
        _: Request<GetLlmStatsRequest>,
    ) -> Result<Response<proto::LlmStats>, Status> {
        let stats = self.llm.as_ref().map(|llm| llm.stats().into());
        Ok(Response::new(stats.unwrap_or_default()))
    }

    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let query = ListAuditEntriesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
        let page = Page::new(request.page_size, 50, &request.page_token, &query)?;
        let filter = filter(ExportAuditEntriesRequest {
            actor: request.actor,
            action: request.action,
            resource: request.resource,
            outcome: request.outcome,
            created_after: request.created_after,
            created_before: request.created_before,
            format: 0,
        })?;
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
        let format = request.format();
        let log = AuditLog::new(self.db.clone(), filter(request)?);
        Ok(Response::new(export::stream(Arc::clone(&self.plan), log, format)))
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

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let page = Page::new(request.page_size, 50, &request.page_token, &ListJobsRequest::default())?;
        let after = page.after.as_ref().map(|cursor| cursor.text.as_str());
        let mut kinds = kinds::after(after);
        let next_page_token =
            page.finish(&mut kinds, |kind| Cursor { text: kind.task.into(), ..Cursor::default() });
        let status = job_store::status(&self.db, &kinds).await?;
        let now = self.clock.now();
        let jobs = kinds.into_iter().zip(status).map(|(kind, status)| job(kind, status, now)).collect();
        Ok(Response::new(ListJobsResponse { jobs, next_page_token }))
    }

    async fn run_job(&self, request: Request<RunJobRequest>) -> Result<Response<Job>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let kind = Kind::of_slug(resource::slug("jobs", &request.name)?);
        let kind = kind.ok_or_else(|| Error::NotFound(request.name.clone()))?;
        let status = jobs::run(&self.db, &caller, kind, self.clock.now()).await?;
        Ok(Response::new(job(kind, status, self.clock.now())))
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

/// Which entries a list or an export has.
fn filter(request: ExportAuditEntriesRequest) -> Result<Filter> {
    Ok(Filter {
        actor: request.actor,
        action: request.action,
        resource: request.resource,
        outcome: request.outcome,
        after: time("created_after", request.created_after)?,
        before: time("created_before", request.created_before)?,
    })
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

impl From<LlmStats> for proto::LlmStats {
    fn from(stats: LlmStats) -> Self {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let provider = match stats.provider {
            LlmProvider::Gemini => "gemini",
            LlmProvider::OpenAi => "openai",
        };
        let breaker_state = match stats.breaker {
            BreakerState::Closed => LlmBreakerState::Closed,
            BreakerState::HalfOpen => LlmBreakerState::HalfOpen,
            BreakerState::Open => LlmBreakerState::Open,
        };
        Self {
            provider: provider.into(),
            model: stats.model,
            breaker_state: breaker_state.into(),
            call_count: number(stats.calls),
            answered_count: number(stats.answered),
            invalid_count: number(stats.invalid),
            refused_count: number(stats.refused),
            limited_count: number(stats.limited),
            not_tried_count: number(stats.not_tried),
            failed_count: number(stats.failed),
            request_count: number(stats.requests),
            input_token_count: number(stats.tokens_in),
            output_token_count: number(stats.tokens_out),
            cost: stats.cost,
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
