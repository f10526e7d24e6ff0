//! ArticleService.

use std::sync::Arc;

use euhub_edge::plan::Plan;
use sqlx::PgPool;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::articles::convert::count;
use crate::articles::export::Articles;
use crate::articles::filter::{RawFilter, raw_filter};
use crate::articles::store::{self, EXCERPT, FULL, Order, Place};
use crate::articles::watch::{self, NewArticles};
use crate::error::{Error, Result};
use crate::export;
use crate::page::{Cursor, Page};
use crate::proto::article_service_server::ArticleService;
use crate::proto::google::api::HttpBody;
use crate::proto::{
    Article, ExportArticlesRequest, GetArticleRequest, ListArticlesRequest, ListArticlesResponse,
    WatchArticlesRequest, WatchArticlesResponse,
};
use crate::resource;
use crate::validation::check;

/// The service over the database.
#[derive(Debug)]
pub struct ArticleRpc {
    /// The archive.
    pub db: PgPool,
    /// Wakes watchers.
    pub new_articles: NewArticles,
    /// Writes exports as JSON.
    pub plan: Arc<Plan>,
}

#[tonic::async_trait]
impl ArticleService for ArticleRpc {
    type ExportArticlesStream = ReceiverStream<Result<HttpBody, Status>>;
    type WatchArticlesStream = ReceiverStream<Result<WatchArticlesResponse, Status>>;

    async fn get_article(&self, request: Request<GetArticleRequest>) -> Result<Response<Article>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = resource::number("articles", &request.name)?;
        let article = store::by_ids(&self.db, &[id], FULL).await?.pop();
        Ok(Response::new(Article::from(article.ok_or_else(|| Error::NotFound(request.name.clone()))?)))
    }

    async fn list_articles(
        &self,
        request: Request<ListArticlesRequest>,
    ) -> Result<Response<ListArticlesResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let page = Page::new(request.page_size, 50, &request.page_token, &query_of(&request))?;
        let order = match request.order_by.as_str() {
            "publish_time" => Order::PublishTime,
            "create_time desc" => Order::CreateTimeDesc,
            _ => Order::PublishTimeDesc,
        };
        let filter = RawFilter { sentiment_class: request.sentiment_class, ..raw_filter!(request) }
            .resolve(&self.db)
            .await?;
        let after = place_of(&page)?;
        let mut places = store::list(&self.db, &filter, order, after, page.limit()).await?;
        let next_page_token = page.finish(&mut places, |place| Cursor::at_time(place.id, place.time));
        let ids: Vec<i64> = places.iter().map(|place| place.id).collect();
        let articles = store::by_ids(&self.db, &ids, EXCERPT).await?.into_iter().map(Into::into).collect();
        let total_size =
            if request.show_total { Some(count(store::count(&self.db, &filter).await?)) } else { None };
        Ok(Response::new(ListArticlesResponse { articles, next_page_token, total_size }))
    }

    async fn export_articles(
        &self,
        request: Request<ExportArticlesRequest>,
    ) -> Result<Response<Self::ExportArticlesStream>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let filter = RawFilter { sentiment_class: request.sentiment_class, ..raw_filter!(request) }
            .resolve(&self.db)
            .await?;
        let articles = Articles::new(self.db.clone(), filter);
        Ok(Response::new(export::stream(Arc::clone(&self.plan), articles, request.format())))
    }

    async fn watch_articles(
        &self,
        request: Request<WatchArticlesRequest>,
    ) -> Result<Response<Self::WatchArticlesStream>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let query = WatchArticlesRequest { resume_token: String::new(), ..request.clone() };
        let page = Page::resume(watch::BATCH, &request.resume_token, &query)?;
        let filter = RawFilter {
            keyword: &request.keyword,
            source: &request.source,
            country: &request.country,
            language: &request.language,
            ..RawFilter::default()
        }
        .resolve(&self.db)
        .await?;
        Ok(Response::new(self.new_articles.stream(self.db.clone(), filter, page).await?))
    }
}

/// Where a page ended, in a list by time.
pub fn place_of(page: &Page) -> Result<Option<Place>> {
    page.after.as_ref().map(|cursor| Ok(Place { id: cursor.id, time: cursor.time()? })).transpose()
}

/// What a page token is bound to: everything but the paging itself.
fn query_of(request: &ListArticlesRequest) -> ListArticlesRequest {
    ListArticlesRequest { page_size: 0, page_token: String::new(), show_total: false, ..request.clone() }
}
