//! KeywordService.

use chrono::{DateTime, Utc};
use prost_types::FieldMask;
use sqlx::PgPool;
use sqlx::types::Json;
use tonic::{Request, Response, Status};

use crate::articles::convert::{count, timestamp};
use crate::articles::filter::RawFilter;
use crate::articles::rpc::place_of;
use crate::articles::store::{self as articles, EXCERPT};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::keywords::service::{self, Mask};
use crate::keywords::store::{self, Draft, Link, Order, Place, Term};
use crate::keywords::{link, relations};
use crate::page::{Cursor, Page};
use crate::proto::keyword_service_server::KeywordService;
use crate::proto::{
    self, CreateKeywordRequest, DeleteKeywordRequest, GetKeywordRequest, Keyword, KeywordEdge, KeywordNode,
    KeywordReview, KeywordTerm, LinkedArticle, ListKeywordArticlesRequest, ListKeywordArticlesResponse,
    ListKeywordRelationsRequest, ListKeywordRelationsResponse, ListKeywordsRequest, ListKeywordsResponse,
    PreviewKeywordRequest, PreviewKeywordResponse, TermMatch, UpdateKeywordRequest,
};
use crate::resource;
use crate::server::caller;
use crate::validation::check;

/// Articles that a preview shows.
const PREVIEW_ARTICLES: i64 = 10;

/// The service over the database.
#[derive(Debug)]
pub struct KeywordRpc {
    /// The archive.
    pub db: PgPool,
    /// Times of what is created.
    pub clock: Clock,
}

#[tonic::async_trait]
impl KeywordService for KeywordRpc {
    async fn list_keywords(
        &self,
        request: Request<ListKeywordsRequest>,
    ) -> Result<Response<ListKeywordsResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let bound = ListKeywordsRequest {
            page_size: 0,
            page_token: String::new(),
            show_total: false,
            ..request.clone()
        };
        let page = Page::new(request.page_size, 50, &request.page_token, &bound)?;
        let order = match request.order_by.as_str() {
            "article_count desc" => Order::ArticleCountDesc,
            "create_time desc" => Order::CreateTimeDesc,
            _ => Order::DisplayName,
        };
        let after =
            page.after.as_ref().map(|at| Place { id: at.id, text: at.text.clone(), number: at.number });
        let (query, category) = (request.query.trim(), request.category.as_str());
        let mut places =
            store::list(&self.db, query, category, request.flagged, order, after, page.limit()).await?;
        let next_page_token = page.finish(&mut places, |place| Cursor {
            id: place.id,
            text: place.text.clone(),
            number: place.number,
            ..Cursor::default()
        });
        let ids: Vec<i64> = places.iter().map(|place| place.id).collect();
        let keywords = store::by_ids(&self.db, &ids, query).await?.into_iter().map(Into::into).collect();
        let total_size = if request.show_total {
            Some(count(store::count(&self.db, query, category, request.flagged).await?))
        } else {
            None
        };
        Ok(Response::new(ListKeywordsResponse { keywords, next_page_token, total_size }))
    }

    async fn get_keyword(&self, request: Request<GetKeywordRequest>) -> Result<Response<Keyword>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let slug = resource::slug("keywords", &request.name)?;
        let keyword = store::by_slug(&self.db, slug).await?;
        Ok(Response::new(Keyword::from(keyword.ok_or_else(|| Error::NotFound(request.name.clone()))?)))
    }

    async fn create_keyword(
        &self,
        request: Request<CreateKeywordRequest>,
    ) -> Result<Response<Keyword>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let draft = draft(request.keyword.unwrap_or_default());
        let now = self.clock.now();
        let keyword =
            service::create(&self.db, &caller, &request.keyword_id, &draft, &request.request_id, now).await?;
        Ok(Response::new(keyword.into()))
    }

    async fn update_keyword(
        &self,
        request: Request<UpdateKeywordRequest>,
    ) -> Result<Response<Keyword>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let keyword = request.keyword.clone().unwrap_or_default();
        let mask = mask(request.update_mask.as_ref())?;
        check(&request).map_err(Error::from)?;
        let slug = resource::slug("keywords", &keyword.name)?.to_owned();
        let changed =
            service::update(&self.db, &caller, &slug, &draft(keyword), mask, self.clock.now()).await?;
        Ok(Response::new(changed.into()))
    }

    async fn delete_keyword(&self, request: Request<DeleteKeywordRequest>) -> Result<Response<()>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let slug = resource::slug("keywords", &request.name)?;
        service::delete(&self.db, &caller, slug, self.clock.now()).await?;
        Ok(Response::new(()))
    }

    async fn list_keyword_articles(
        &self,
        request: Request<ListKeywordArticlesRequest>,
    ) -> Result<Response<ListKeywordArticlesResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        resource::slug("keywords", &request.parent)?;
        let bound = ListKeywordArticlesRequest {
            page_size: 0,
            page_token: String::new(),
            show_total: false,
            ..request.clone()
        };
        let page = Page::new(request.page_size, 50, &request.page_token, &bound)?;
        let order = match request.order_by.as_str() {
            "publish_time" => articles::Order::PublishTime,
            _ => articles::Order::PublishTimeDesc,
        };
        let filter = RawFilter {
            keyword: &request.parent,
            source: &request.source,
            country: &request.country,
            language: &request.language,
            published_after: request.published_after,
            published_before: request.published_before,
            sentiment_class: request.sentiment_class,
            ..RawFilter::default()
        }
        .resolve(&self.db)
        .await?;
        let mut places = articles::list(&self.db, &filter, order, place_of(&page)?, page.limit()).await?;
        let next_page_token = page.finish(&mut places, |place| Cursor::at_time(place.id, place.time));
        let ids: Vec<i64> = places.iter().map(|place| place.id).collect();
        let links = store::links(&self.db, filter.keyword.unwrap_or_default(), &ids).await?;
        let linked = self.linked(&ids, links).await?;
        let total_size =
            if request.show_total { Some(count(articles::count(&self.db, &filter).await?)) } else { None };
        Ok(Response::new(ListKeywordArticlesResponse { articles: linked, next_page_token, total_size }))
    }

    async fn list_keyword_relations(
        &self,
        request: Request<ListKeywordRelationsRequest>,
    ) -> Result<Response<ListKeywordRelationsResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let slug = resource::slug("keywords", &request.parent)?;
        let id = articles::keyword_id(&self.db, slug)
            .await?
            .ok_or_else(|| Error::NotFound(request.parent.clone()))?;
        let limit = if request.page_size == 0 { 20 } else { i64::from(request.page_size) };
        let compute_time = relations::compute_time(&self.db).await?.map(timestamp);
        let nodes = relations::nodes(&self.db, id, request.min_strength, limit).await?;
        let ids: Vec<i64> = nodes.iter().map(|node| node.id).collect();
        let edges = relations::edges(&self.db, id, &ids, request.min_strength).await?;
        let nodes = nodes
            .into_iter()
            .map(|node| KeywordNode {
                keyword: format!("keywords/{}", node.slug),
                display_name: node.display_name,
                article_count: node.article_count,
            })
            .collect();
        let edges = edges
            .into_iter()
            .map(|edge| KeywordEdge {
                source: format!("keywords/{}", edge.source),
                target: format!("keywords/{}", edge.target),
                strength: edge.strength,
                article_count: edge.article_count,
            })
            .collect();
        Ok(Response::new(ListKeywordRelationsResponse { nodes, edges, compute_time }))
    }

    async fn preview_keyword(
        &self,
        request: Request<PreviewKeywordRequest>,
    ) -> Result<Response<PreviewKeywordResponse>, Status> {
        let mut request = request.into_inner();
        if let Some(keyword) = &mut request.keyword
            && keyword.display_name.is_empty()
        {
            // A preview comes before the name.
            keyword.display_name.push('-');
        }
        check(&request).map_err(Error::from)?;
        let draft = draft(request.keyword.unwrap_or_default());
        let mut tx = self.db.begin().await.map_err(Error::from)?;
        service::check(&mut tx, &draft).await?;
        let (terms, query) = (&draft.terms, draft.boolean_query.as_str());
        let totals = link::preview(&mut *tx, terms, query).await?;
        let counts = link::preview_terms(&mut *tx, terms, query).await?;
        let links = link::preview_links(&mut *tx, terms, query, PREVIEW_ARTICLES).await?;
        drop(tx);
        let ids: Vec<i64> = links.iter().map(|link| link.article_id).collect();
        let mut labels: Vec<(String, String)> =
            draft.terms.into_iter().map(|term| (term.language, term.term)).collect();
        if !draft.boolean_query.is_empty() {
            labels.push((String::new(), draft.boolean_query));
        }
        let terms = labels
            .into_iter()
            .zip(counts)
            .map(|((language, term), n)| TermMatch { language, term, article_count: count(n) })
            .collect();
        #[allow(clippy::cast_precision_loss, reason = "counts of articles stay far below 2^52")]
        let archive_share =
            if totals.archive == 0 { 0.0 } else { totals.articles as f64 / totals.archive as f64 };
        Ok(Response::new(PreviewKeywordResponse {
            article_count: count(totals.articles),
            source_count: count(totals.sources),
            country_count: count(totals.countries),
            archive_share,
            terms,
            articles: self.linked(&ids, links).await?,
        }))
    }
}

impl KeywordRpc {
    /// Articles in the order of `ids`, each with why it is linked.
    async fn linked(&self, ids: &[i64], mut links: Vec<Link>) -> Result<Vec<LinkedArticle>> {
        let found = articles::by_ids(&self.db, ids, EXCERPT).await?;
        Ok(found
            .into_iter()
            .filter_map(|article| {
                let at = links.iter().position(|link| link.article_id == article.id)?;
                let link = links.swap_remove(at);
                Some(LinkedArticle {
                    article: Some(article.into()),
                    matched_language: link.matched_language,
                    matched_term: link.matched_term,
                    in_title: link.in_title,
                })
            })
            .collect())
    }
}

fn draft(keyword: Keyword) -> Draft {
    Draft {
        display_name: keyword.display_name,
        description: keyword.description,
        category: keyword.category,
        boolean_query: keyword.boolean_query,
        terms: keyword
            .terms
            .into_iter()
            .map(|KeywordTerm { language, term }| Term { language, term })
            .collect(),
    }
}

fn mask(mask: Option<&FieldMask>) -> Result<Mask> {
    let Some(paths) = mask.map(|mask| &mask.paths).filter(|paths| !paths.is_empty() && paths[..] != ["*"])
    else {
        return Ok(Mask {
            display_name: true,
            description: true,
            category: true,
            terms: true,
            boolean_query: true,
        });
    };
    let mut set = Mask::default();
    for path in paths {
        match path.as_str() {
            "display_name" => set.display_name = true,
            "description" => set.description = true,
            "category" => set.category = true,
            "terms" => set.terms = true,
            "boolean_query" => set.boolean_query = true,
            // A client may send back what it read: what only the server sets is passed over (AIP-203).
            "name"
            | "article_count"
            | "latest_article_time"
            | "create_time"
            | "update_time"
            | "matched_terms"
            | "review" => {}
            _ => {
                return Err(Error::invalid(
                    "update_mask",
                    "may name display_name, description, category, terms and boolean_query only.",
                ));
            }
        }
    }
    Ok(set)
}

impl From<store::Keyword> for proto::Keyword {
    fn from(keyword: store::Keyword) -> Self {
        let terms = |terms: Vec<Term>| {
            terms.into_iter().map(|Term { language, term }| KeywordTerm { language, term }).collect()
        };
        let time = |time: DateTime<Utc>| Some(timestamp(time));
        Self {
            name: format!("keywords/{}", keyword.slug),
            display_name: keyword.display_name,
            description: keyword.description,
            category: keyword.category,
            terms: terms(keyword.terms.0),
            boolean_query: keyword.boolean_query,
            article_count: keyword.article_count,
            latest_article_time: keyword.latest_article_time.and_then(time),
            create_time: time(keyword.create_time),
            update_time: time(keyword.update_time),
            matched_terms: terms(keyword.matched_terms.0),
            review: keyword.review.map(|Json(review)| KeywordReview {
                review_time: time(review.review_time),
                flagged: review.flagged,
                reason: review.reason(),
            }),
        }
    }
}
