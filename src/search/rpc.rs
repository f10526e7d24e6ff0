//! SearchService.

use std::cmp::Reverse;

use tonic::{Request, Response, Status};

use crate::articles::convert::count;
use crate::articles::filter::{Filter, raw_filter};
use crate::articles::store::{self as articles, EXCERPT};
use crate::error::{Error, Result};
use crate::page::{Cursor, Page};
use crate::proto::search_service_server::SearchService;
use crate::proto::{
    AutocompleteRequest, AutocompleteResponse, Completion, Facet, FindSimilarArticlesRequest,
    FindSimilarArticlesResponse, Highlight, SearchArticlesRequest, SearchArticlesResponse, SearchFacets,
    SearchMode, SearchResult,
};
use crate::resource;
use crate::search::highlight;
use crate::search::service::{Ranked, Search};
use crate::search::store::{self, FacetRow};
use crate::telemetry;
use crate::validation::check;

/// The service over [`Search`].
#[derive(Debug)]
pub struct SearchRpc {
    /// The archive, the model and the cache.
    pub search: Search,
}

/// One page of ranked articles.
struct Found {
    ranked: Vec<Ranked>,
    next_page_token: String,
    total: Option<i64>,
    facets: Option<Vec<FacetRow>>,
}

#[tonic::async_trait]
impl SearchService for SearchRpc {
    async fn search_articles(
        &self,
        request: Request<SearchArticlesRequest>,
    ) -> Result<Response<SearchArticlesResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        if request.query.trim().is_empty() {
            return Err(Error::invalid("query", "must hold a word.").into());
        }
        let bound = SearchArticlesRequest {
            page_size: 0,
            page_token: String::new(),
            show_facets: false,
            show_total: false,
            ..request.clone()
        };
        let page = Page::new(request.page_size, 20, &request.page_token, &bound)?;
        let filter = raw_filter!(request).resolve(&self.search.db).await?;
        let mode = match request.mode() {
            SearchMode::Unspecified if self.search.embedder.is_some() => SearchMode::Hybrid,
            SearchMode::Unspecified => SearchMode::Lexical,
            mode => mode,
        };
        let found = match mode {
            SearchMode::Lexical | SearchMode::Unspecified => self.lexical(&request, &filter, &page).await?,
            SearchMode::Semantic => {
                self.candidates(self.search.semantic(&request.query, &filter).await?, &request, &page).await?
            }
            SearchMode::Hybrid => {
                self.candidates(self.search.hybrid(&request.query, &filter).await?, &request, &page).await?
            }
        };
        telemetry::searched(mode.as_str_name(), found.ranked.len());
        let marked = if mode == SearchMode::Semantic {
            Vec::new()
        } else {
            let ids: Vec<i64> = found.ranked.iter().map(|ranked| ranked.hit.id).collect();
            store::highlights(&self.search.db, &request.query, &filter, &ids).await?
        };
        let highlights = |id: i64| -> Vec<Highlight> {
            marked
                .iter()
                .filter(|marked| marked.id == id)
                .flat_map(|marked| {
                    [highlight::parse("title", &marked.title), highlight::parse("body", &marked.body)]
                })
                .flatten()
                .collect()
        };
        let results = self.results(found.ranked, highlights).await?;
        Ok(Response::new(SearchArticlesResponse {
            results,
            next_page_token: found.next_page_token,
            total_size: found.total.map(count),
            facets: found.facets.map(facets_of),
            mode: mode.into(),
        }))
    }

    async fn find_similar_articles(
        &self,
        request: Request<FindSimilarArticlesRequest>,
    ) -> Result<Response<FindSimilarArticlesResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = resource::number("articles", &request.name)?;
        let embedded = store::vector_of(&self.search.db, id).await?.ok_or(Error::NotFound(request.name))?;
        let (Some(vector), Some(model)) = (embedded.vector, embedded.model) else {
            self.search.embedder()?;
            return Err(Error::FailedPrecondition {
                reason: "NOT_EMBEDDED",
                message: "this article has no embedding yet; try again after its analysis".into(),
            }
            .into());
        };
        let languages: Option<Vec<String>> = (!request.language.is_empty())
            .then(|| request.language.iter().map(|language| language.to_ascii_lowercase()).collect());
        let limit = if request.page_size == 0 { 10 } else { i64::from(request.page_size) };
        let hits = store::similar(
            &self.search.db,
            id,
            &vector,
            &model,
            languages.as_deref(),
            request.exclude_syndicated,
            limit,
        )
        .await?;
        let ranked = hits.into_iter().map(|hit| Ranked { similarity: Some(hit.score), hit }).collect();
        Ok(Response::new(FindSimilarArticlesResponse {
            results: self.results(ranked, |_| Vec::new()).await?,
        }))
    }

    async fn autocomplete(
        &self,
        request: Request<AutocompleteRequest>,
    ) -> Result<Response<AutocompleteResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let typed = request.query.trim();
        if typed.is_empty() {
            return Err(Error::invalid("query", "must hold a letter or digit.").into());
        }
        let limit = if request.page_size == 0 { 10 } else { i64::from(request.page_size) };
        let completions = store::autocomplete(&self.search.db, typed, limit)
            .await?
            .into_iter()
            .map(|row| Completion { text: row.text, kind: row.kind, name: row.name, language: row.language })
            .collect();
        Ok(Response::new(AutocompleteResponse { completions }))
    }
}

impl SearchRpc {
    async fn lexical(&self, request: &SearchArticlesRequest, filter: &Filter, page: &Page) -> Result<Found> {
        let (db, query) = (&self.search.db, request.query.as_str());
        let (mut hits, by_time) = if request.order_by == "publish_time desc" {
            let after = page.after.as_ref().map(|at| Ok::<_, Error>((at.time()?, at.id))).transpose()?;
            (store::lexical_by_time(db, query, filter, after, page.limit()).await?, true)
        } else {
            let after = page.after.as_ref().map(|at| (at.score, at.id));
            (store::lexical(db, query, filter, after, page.limit()).await?, false)
        };
        let next_page_token = page.finish(&mut hits, |hit| {
            if by_time {
                Cursor::at_time(hit.id, hit.publish_time)
            } else {
                Cursor { id: hit.id, score: hit.score, ..Cursor::default() }
            }
        });
        let total =
            if request.show_total { Some(store::lexical_count(db, query, filter).await?) } else { None };
        let facets =
            if request.show_facets { Some(store::lexical_facets(db, query, filter).await?) } else { None };
        let ranked = hits.into_iter().map(|hit| Ranked { hit, similarity: None }).collect();
        Ok(Found { ranked, next_page_token, total, facets })
    }

    /// A page of a bounded list of candidates: its token holds how many were shown.
    async fn candidates(
        &self,
        mut ranked: Vec<Ranked>,
        request: &SearchArticlesRequest,
        page: &Page,
    ) -> Result<Found> {
        let facets = if request.show_facets {
            let ids: Vec<i64> = ranked.iter().map(|ranked| ranked.hit.id).collect();
            Some(store::facets(&self.search.db, &ids).await?)
        } else {
            None
        };
        let total = request.show_total.then(|| i64::try_from(ranked.len()).unwrap_or(i64::MAX));
        if request.order_by == "publish_time desc" {
            ranked.sort_by_key(|ranked| Reverse((ranked.hit.publish_time, ranked.hit.id)));
        }
        let shown = page.after.as_ref().map_or(0, |at| at.number);
        let mut ranked: Vec<Ranked> =
            ranked.into_iter().skip(usize::try_from(shown).unwrap_or(usize::MAX)).collect();
        let next_page_token = page
            .finish(&mut ranked, |_| Cursor { number: shown.saturating_add(page.size), ..Cursor::default() });
        Ok(Found { ranked, next_page_token, total, facets })
    }

    async fn results(
        &self,
        ranked: Vec<Ranked>,
        highlights: impl Fn(i64) -> Vec<Highlight>,
    ) -> Result<Vec<SearchResult>> {
        let ids: Vec<i64> = ranked.iter().map(|ranked| ranked.hit.id).collect();
        let found = articles::by_ids(&self.search.db, &ids, EXCERPT).await?;
        Ok(found
            .into_iter()
            .filter_map(|article| {
                let ranked = ranked.iter().find(|ranked| ranked.hit.id == article.id)?;
                Some(SearchResult {
                    highlights: highlights(article.id),
                    article: Some(article.into()),
                    score: ranked.hit.score,
                    similarity: ranked.similarity,
                })
            })
            .collect())
    }
}

fn facets_of(rows: Vec<FacetRow>) -> SearchFacets {
    let mut facets = SearchFacets::default();
    for row in rows {
        let facet = Facet { value: row.value, count: count(row.count) };
        match row.property.as_str() {
            "source" => facets.sources.push(facet),
            "country" => facets.countries.push(facet),
            "language" => facets.languages.push(facet),
            _ => facets.sentiment_classes.push(facet),
        }
    }
    facets
}
