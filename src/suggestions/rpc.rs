//! SuggestionService.

use tonic::{Request, Response, Status};

use crate::articles::convert::{count, timestamp};
use crate::error::{Error, Result};
use crate::keywords::store::Term;
use crate::page::{Cursor, Page};
use crate::proto::suggestion_service_server::SuggestionService;
use crate::proto::{
    ApproveSuggestionRequest, ApproveSuggestionResponse, CreateSuggestionRequest, CreateSuggestionResponse,
    EvaluateSuggestionRequest, GetSuggestionRequest, GetSuggestionStatsRequest, KeywordTerm,
    ListSuggestionEvaluationsRequest, ListSuggestionEvaluationsResponse, ListSuggestionsRequest,
    ListSuggestionsResponse, RejectSuggestionRequest, SimilarKeyword, Suggestion, SuggestionEvaluation,
    SuggestionLanguageCount, SuggestionStateCount, SuggestionStats, VoteSuggestionRequest,
};
use crate::resource;
use crate::server::caller;
use crate::suggestions::contact::Email;
use crate::suggestions::evidence::{self, Evaluation};
use crate::suggestions::service::{Proposed, Suggestions, Target};
use crate::suggestions::store::{self, Draft, Filter, Place, State};
use crate::validation::check;

/// The service over the database.
#[derive(Debug)]
pub struct SuggestionRpc {
    /// What there is to do.
    pub suggestions: Suggestions,
}

#[tonic::async_trait]
impl SuggestionService for SuggestionRpc {
    async fn create_suggestion(
        &self,
        request: Request<CreateSuggestionRequest>,
    ) -> Result<Response<CreateSuggestionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let draft = draft(request.suggestion.unwrap_or_default());
        let answer = match self.suggestions.propose(&caller, draft, &request.request_id).await? {
            Proposed::Created(new) => CreateSuggestionResponse {
                suggestion: Some(self.message(new).await?),
                created: true,
                ..Default::default()
            },
            Proposed::Voted(open) => {
                CreateSuggestionResponse { suggestion: Some(self.message(open).await?), ..Default::default() }
            }
            Proposed::Exists(slug) => CreateSuggestionResponse {
                existing_keyword: format!("keywords/{slug}"),
                ..Default::default()
            },
        };
        Ok(Response::new(answer))
    }

    async fn list_suggestions(
        &self,
        request: Request<ListSuggestionsRequest>,
    ) -> Result<Response<ListSuggestionsResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let bound = ListSuggestionsRequest {
            page_size: 0,
            page_token: String::new(),
            show_total: false,
            ..request.clone()
        };
        let page = Page::new(request.page_size, 50, &request.page_token, &bound)?;
        let db = &self.suggestions.db;
        let states = request.state.iter().filter_map(|state| i16::try_from(*state).ok());
        let filter = Filter {
            // Unspecified is no state.
            states: states.filter(|state| *state != 0).collect(),
            language: request.language,
            query: request.query.trim().to_owned(),
        };
        let by_votes = request.order_by != "create_time desc";
        let after = page.after.as_ref().map(|at| Place { id: at.id, number: at.number });
        let mut places = store::list(db, &filter, by_votes, after, page.limit()).await?;
        let next_page_token = page.finish(&mut places, |place| Cursor {
            id: place.id,
            number: place.number,
            ..Cursor::default()
        });
        let ids: Vec<i64> = places.iter().map(|place| place.id).collect();
        let suggestions = self.messages(store::by_ids(db, &ids).await?).await?;
        let total_size =
            if request.show_total { Some(count(store::count(db, &filter).await?)) } else { None };
        Ok(Response::new(ListSuggestionsResponse { suggestions, next_page_token, total_size }))
    }

    async fn get_suggestion(
        &self,
        request: Request<GetSuggestionRequest>,
    ) -> Result<Response<Suggestion>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        Ok(Response::new(self.message(self.find(&request.name).await?).await?))
    }

    async fn vote_suggestion(
        &self,
        request: Request<VoteSuggestionRequest>,
    ) -> Result<Response<Suggestion>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = resource::number("suggestions", &request.name)?;
        let voted = self.suggestions.vote(&caller, id).await?;
        Ok(Response::new(self.message(voted).await?))
    }

    async fn evaluate_suggestion(
        &self,
        request: Request<EvaluateSuggestionRequest>,
    ) -> Result<Response<SuggestionEvaluation>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = resource::number("suggestions", &request.name)?;
        Ok(Response::new(self.suggestions.evaluate(Some(&caller), id).await?.into()))
    }

    async fn list_suggestion_evaluations(
        &self,
        request: Request<ListSuggestionEvaluationsRequest>,
    ) -> Result<Response<ListSuggestionEvaluationsResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let bound = ListSuggestionEvaluationsRequest { parent: request.parent.clone(), ..Default::default() };
        let page = Page::new(request.page_size, 50, &request.page_token, &bound)?;
        let id = self.find(&request.parent).await?.id;
        let after = page.after.as_ref().map(|at| at.id);
        let mut found = evidence::list(&self.suggestions.db, id, after, page.limit()).await?;
        let next_page_token =
            page.finish(&mut found, |evaluation| Cursor { id: evaluation.id, ..Cursor::default() });
        let evaluations = found.into_iter().map(Into::into).collect();
        Ok(Response::new(ListSuggestionEvaluationsResponse { evaluations, next_page_token }))
    }

    async fn approve_suggestion(
        &self,
        request: Request<ApproveSuggestionRequest>,
    ) -> Result<Response<ApproveSuggestionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = resource::number("suggestions", &request.name)?;
        let display_name = request.display_name.trim();
        let target = if request.merge_into.is_empty() {
            Target::New { slug: request.keyword_id, display_name: display_name.to_owned() }
        } else if request.keyword_id.is_empty() && display_name.is_empty() {
            Target::Existing(resource::slug_or_name("keywords", &request.merge_into)?.to_owned())
        } else {
            let problem = "goes without keyword_id and display_name: a keyword is either made or extended.";
            return Err(Error::invalid("merge_into", problem).into());
        };
        let approved = self.suggestions.approve(&caller, id, target).await?;
        Ok(Response::new(ApproveSuggestionResponse {
            suggestion: Some(self.message(approved.suggestion).await?),
            linked_article_count: approved.keyword.article_count,
            keyword: Some(approved.keyword.into()),
            added_term_count: i32::try_from(approved.added_terms).unwrap_or(i32::MAX),
            queued_feed_count: count(approved.queued_feeds),
        }))
    }

    async fn reject_suggestion(
        &self,
        request: Request<RejectSuggestionRequest>,
    ) -> Result<Response<Suggestion>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = resource::number("suggestions", &request.name)?;
        let reason = request.reason.trim();
        if reason.is_empty() {
            return Err(Error::invalid("reason", "must not be blank.").into());
        }
        let rejected = self.suggestions.reject(&caller, id, reason).await?;
        Ok(Response::new(self.message(rejected).await?))
    }

    async fn get_suggestion_stats(
        &self,
        request: Request<GetSuggestionStatsRequest>,
    ) -> Result<Response<SuggestionStats>, Status> {
        check(&request.into_inner()).map_err(Error::from)?;
        let mut tx = self.suggestions.db.begin().await.map_err(Error::from)?;
        let stats = store::stats(&mut tx).await?;
        drop(tx);
        let all = [State::Pending, State::Evaluated, State::Approved, State::Merged, State::Rejected];
        let states = all.map(|state| {
            let found = stats.states.iter().find(|(other, _)| *other == state);
            SuggestionStateCount {
                state: state as i32,
                suggestion_count: found.map_or(0, |(_, n)| count(*n)),
            }
        });
        let languages = stats
            .languages
            .into_iter()
            .map(|(language, n)| SuggestionLanguageCount { language, suggestion_count: count(n) });
        Ok(Response::new(SuggestionStats {
            states: states.into(),
            languages: languages.collect(),
            vote_count: count(stats.votes),
            oldest_open_time: stats.oldest_open.map(timestamp),
        }))
    }
}

impl SuggestionRpc {
    async fn find(&self, name: &str) -> Result<store::Suggestion> {
        let id = resource::number("suggestions", name)?;
        let found = store::by_ids(&self.suggestions.db, &[id]).await?.pop();
        found.ok_or_else(|| Error::NotFound(name.to_owned()))
    }

    async fn message(&self, suggestion: store::Suggestion) -> Result<Suggestion> {
        let name = format!("suggestions/{}", suggestion.id);
        self.messages(vec![suggestion]).await?.pop().ok_or(Error::NotFound(name))
    }

    /// Suggestions with their newest evidence.
    async fn messages(&self, suggestions: Vec<store::Suggestion>) -> Result<Vec<Suggestion>> {
        let ids: Vec<i64> = suggestions.iter().map(|suggestion| suggestion.id).collect();
        let mut latest = evidence::latest(&self.suggestions.db, &ids).await?;
        Ok(suggestions
            .into_iter()
            .map(|suggestion| {
                let at = latest.iter().position(|evaluation| evaluation.suggestion_id == suggestion.id);
                let latest_evaluation = at.map(|at| latest.swap_remove(at).into());
                Suggestion { latest_evaluation, ..suggestion.into() }
            })
            .collect())
    }
}

fn draft(suggestion: Suggestion) -> Draft {
    let term = |language: String, term: String| Term { language, term: term.trim().to_owned() };
    let translations = suggestion.translations.into_iter();
    Draft {
        term: term(suggestion.language, suggestion.term),
        translations: translations.map(|translation| term(translation.language, translation.term)).collect(),
        category: suggestion.category,
        reason: suggestion.reason.trim().to_owned(),
        contact_email: Email::new(suggestion.contact_email),
    }
}

fn terms(terms: Vec<Term>) -> Vec<KeywordTerm> {
    terms.into_iter().map(|Term { language, term }| KeywordTerm { language, term }).collect()
}

impl From<store::Suggestion> for Suggestion {
    fn from(suggestion: store::Suggestion) -> Self {
        Self {
            name: format!("suggestions/{}", suggestion.id),
            term: suggestion.term,
            language: suggestion.language,
            translations: terms(suggestion.translations.0),
            category: suggestion.category,
            reason: suggestion.reason,
            contact_email: String::new(),
            state: suggestion.state as i32,
            vote_count: suggestion.vote_count,
            create_time: Some(timestamp(suggestion.create_time)),
            update_time: Some(timestamp(suggestion.update_time)),
            keyword: suggestion.keyword.map(|slug| format!("keywords/{slug}")).unwrap_or_default(),
            rejection_reason: suggestion.rejection_reason,
            latest_evaluation: None,
        }
    }
}

impl From<Evaluation> for SuggestionEvaluation {
    fn from(evaluation: Evaluation) -> Self {
        let similar = evaluation.similar_keywords.0.into_iter().map(|similar| SimilarKeyword {
            keyword: format!("keywords/{}", similar.slug),
            display_name: similar.display_name,
            similarity: similar.similarity,
        });
        Self {
            name: format!("suggestions/{}/evaluations/{}", evaluation.suggestion_id, evaluation.id),
            create_time: Some(timestamp(evaluation.create_time)),
            window_days: evaluation.window_days,
            archive_count: evaluation.archive_count,
            article_count: evaluation.article_count,
            source_count: evaluation.source_count,
            country_count: evaluation.country_count,
            active_source_count: evaluation.active_source_count,
            active_country_count: evaluation.active_country_count,
            searchability: evaluation.searchability,
            significance: evaluation.significance,
            share: evaluation.share,
            breadth: i32::from(evaluation.breadth),
            similar_keywords: similar.collect(),
            decision: i32::from(evaluation.decision),
            reasons: evaluation.reasons,
            proposed_translations: terms(evaluation.proposed_translations.0),
            note: evaluation.note,
        }
    }
}
