//! Proposals, votes, evidence and decisions. Each is one transaction: all of it, or nothing.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::TimeDelta;
use pgvector::Vector;
use rand::Rng;
use sha2::{Digest, Sha256};
use sqlx::{PgPool, PgTransaction};

use crate::admin::audit::audit;
use crate::admin::store as admin;
use crate::auth::Caller;
use crate::clock::{Clock, system_rng};
use crate::error::{Error, Result};
use crate::ingest::store as ingest;
use crate::jobs::kinds::ASKED;
use crate::keywords::store::{Draft as KeywordDraft, Keyword};
use crate::keywords::{link, service as keywords};
use crate::llm::Llm;
use crate::resource;
use crate::search::embedding::Embedder;
use crate::suggestions::evaluate::{Similar, Thresholds, evaluate};
use crate::suggestions::evidence::{self, Evaluation, Found};
use crate::suggestions::store::{self, Draft, State, Suggestion};
use crate::suggestions::words::Words;

const CREATE: &str = "suggestions.create";
/// Keywords that an evaluation names.
const NEAREST: i64 = 5;
/// Keywords that are embedded at once.
const EMBED_BATCH: i64 = 100;

/// Suggestions over the database. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Suggestions {
    /// The archive.
    pub db: PgPool,
    /// When things happened.
    pub clock: Clock,
    /// Makes vectors, where a model is loaded.
    pub embedder: Option<Arc<Embedder>>,
    /// Adds words to the evidence, where a model is configured.
    pub llm: Option<Llm>,
    /// What suggestions are judged by.
    pub thresholds: Thresholds,
}

/// What came of a proposal.
#[derive(Debug)]
pub enum Proposed {
    /// A new suggestion.
    Created(Suggestion),
    /// A vote for an open one.
    Voted(Suggestion),
    /// Nothing: a keyword has the term; its slug.
    Exists(String),
}

/// What a suggestion is to become.
#[derive(Debug)]
pub enum Target {
    /// A new keyword; empty texts are made from the term.
    New {
        /// Its slug.
        slug: String,
        /// Its name for people.
        display_name: String,
    },
    /// Terms of the keyword with this slug.
    Existing(String),
}

/// What came of an approval.
#[derive(Debug)]
pub struct Approved {
    /// The suggestion as it now stands.
    pub suggestion: Suggestion,
    /// The new or extended keyword.
    pub keyword: Keyword,
    /// Terms that were added.
    pub added_terms: usize,
    /// Feeds whose fetch was put in the queue.
    pub queued_feeds: i64,
}

impl Suggestions {
    /// Makes a suggestion, or counts the proposal as a vote. A repeated `request_id` answers with what the first call made.
    pub async fn propose(&self, caller: &Caller, draft: Draft, request_id: &str) -> Result<Proposed> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let draft = checked(&mut tx, draft).await?;
        store::lock_proposals(&mut tx).await?;
        let voter = voter(&mut tx, caller).await?;
        // The public is many callers, each with request ids of its own.
        let claimant = Caller { actor: voter.clone(), ..caller.clone() };
        let mut id = store::next_id(&mut *tx).await?;
        let name = format!("suggestions/{id}");
        if let Some(before) =
            admin::created_before(&mut tx, &claimant, CREATE, request_id, &name, now).await?
        {
            id = resource::number("suggestions", &before)?;
            if let Some(created) = find(&mut tx, id).await? {
                return Ok(Proposed::Created(created));
            }
        }
        let open = store::lock_open(&mut tx, &draft.term.term).await?;
        // After that wait: the suggestion may just have become a keyword.
        let keyword = store::keyword_of(&mut *tx, &draft.term.term).await?;
        let proposed = match (keyword, open) {
            (Some(slug), _) => Proposed::Exists(slug),
            (None, Some(open)) => {
                store::vote(&mut tx, open, &voter, now).await?;
                Proposed::Voted(get(&mut tx, open).await?)
            }
            (None, None) => {
                store::insert(&mut *tx, id, &draft, now).await?;
                store::vote(&mut tx, id, &voter, now).await?;
                Proposed::Created(get(&mut tx, id).await?)
            }
        };
        tx.commit().await?;
        Ok(proposed)
    }

    /// Counts a vote for an open suggestion; a second one of the same client changes nothing.
    pub async fn vote(&self, caller: &Caller, id: i64) -> Result<Suggestion> {
        let mut tx = self.db.begin().await?;
        let state = store::lock(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
        if !state.is_open() {
            return Err(wrong_state(id, state, false));
        }
        let voter = voter(&mut tx, caller).await?;
        store::vote(&mut tx, id, &voter, self.clock.now()).await?;
        let suggestion = get(&mut tx, id).await?;
        tx.commit().await?;
        Ok(suggestion)
    }

    /// Gathers the evidence for an open suggestion and keeps it; `caller` is none when the schedule asks.
    pub async fn evaluate(&self, caller: Option<&Caller>, id: i64) -> Result<Evaluation> {
        let suggestion = self.open(id).await?;
        let now = self.clock.now();
        let since = now - TimeDelta::days(i64::from(self.thresholds.window_days));
        let counts = evidence::coverage(&self.db, &suggestion.terms(), since).await?;
        let similar = self.similar(&suggestion).await?;
        let verdict = evaluate(&counts, similar.as_deref(), &self.thresholds);
        let similar = similar.unwrap_or_default();
        // Before the transaction, which would hold its locks as long as the model thinks.
        let words = match &self.llm {
            Some(llm) => Words::ask(llm, &suggestion, &verdict).await,
            None => Words::default(),
        };

        let mut tx = self.db.begin().await?;
        lock_open_still(&mut tx, id).await?;
        let window_days = i32::from(self.thresholds.window_days);
        let found =
            Found { window_days, counts: &counts, verdict: &verdict, similar: &similar, words: &words };
        evidence::insert(&mut tx, id, &found, now).await?;
        store::set_state(&mut tx, id, State::Evaluated, None, "", now).await?;
        if let Some(caller) = caller {
            audit(&mut *tx, caller, "suggestions.evaluate", &name(id), now).await?;
        }
        let kept = evidence::latest(&mut *tx, &[id]).await?.pop();
        tx.commit().await?;
        kept.ok_or_else(|| not_found(id))
    }

    /// Evaluates every pending suggestion. One that fails holds up no other; the first fault is the answer.
    pub async fn evaluate_pending(&self) -> Result<()> {
        let mut result = Ok(());
        for id in store::pending(&self.db).await? {
            match self.evaluate(None, id).await {
                // It was decided meanwhile.
                Ok(_) | Err(Error::WrongState { .. } | Error::NotFound(_)) => {}
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Makes a keyword of an open suggestion, or adds its terms to one, and links the whole archive.
    pub async fn approve(&self, caller: &Caller, id: i64, target: Target) -> Result<Approved> {
        let suggestion = self.open(id).await?;
        let target = match target {
            Target::New { slug, display_name } => {
                let display_name =
                    if display_name.is_empty() { suggestion.term.clone() } else { display_name };
                let slug = if slug.is_empty() { keywords::slug_of(&display_name)? } else { slug };
                Target::New { slug, display_name }
            }
            existing => existing,
        };
        // Outside the transaction, since it costs CPU.
        let vector = match (&target, &self.embedder) {
            (Target::New { display_name, .. }, Some(embedder)) => {
                let vectors = embed(embedder, vec![display_name.clone()]).await?;
                vectors.into_iter().next().map(|vector| (vector, embedder.name()))
            }
            _ => None,
        };
        let terms = suggestion.terms();
        let now = self.clock.now();

        let mut tx = self.db.begin().await?;
        // In the order in which analysis and changes of keywords take their locks.
        link::lock(&mut tx).await?;
        lock_open_still(&mut tx, id).await?;
        let (slug, state, added_terms) = match target {
            Target::New { slug, display_name } => {
                let (category, added) = (suggestion.category, terms.len());
                let draft = KeywordDraft { display_name, category, terms, ..KeywordDraft::default() };
                keywords::insert(&mut tx, &slug, &draft, now).await?;
                (slug, State::Approved, added)
            }
            Target::Existing(slug) => {
                let added = keywords::add_terms(&mut tx, &slug, terms, now).await?;
                (slug, State::Merged, added)
            }
        };
        let keyword = keywords::get(&mut tx, &slug).await?;
        if let Some((vector, model)) = &vector {
            evidence::set_embedding(&mut *tx, keyword.id, &keyword.display_name, vector, model).await?;
        }
        store::set_state(&mut tx, id, state, Some(keyword.id), "", now).await?;
        let queued_feeds = ingest::enqueue_due_feeds(&mut *tx, ASKED, now).await?;
        audit(&mut *tx, caller, "suggestions.approve", &name(id), now).await?;
        let suggestion = get(&mut tx, id).await?;
        tx.commit().await?;
        Ok(Approved { suggestion, keyword, added_terms, queued_feeds })
    }

    /// Rejects an open suggestion.
    pub async fn reject(&self, caller: &Caller, id: i64, reason: &str) -> Result<Suggestion> {
        self.open(id).await?;
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        lock_open_still(&mut tx, id).await?;
        store::set_state(&mut tx, id, State::Rejected, None, reason, now).await?;
        audit(&mut *tx, caller, "suggestions.reject", &name(id), now).await?;
        let suggestion = get(&mut tx, id).await?;
        tx.commit().await?;
        Ok(suggestion)
    }

    /// A suggestion as a call finds it; a closed one takes no decision.
    async fn open(&self, id: i64) -> Result<Suggestion> {
        let found = store::by_ids(&self.db, &[id]).await?.pop().ok_or_else(|| not_found(id))?;
        if found.state.is_open() { Ok(found) } else { Err(wrong_state(id, found.state, false)) }
    }

    /// The keywords nearest in meaning; none without a model. Keywords without a vector of the model get one.
    async fn similar(&self, suggestion: &Suggestion) -> Result<Option<Vec<Similar>>> {
        let Some(embedder) = &self.embedder else { return Ok(None) };
        let model = embedder.name();
        loop {
            let (ids, names): (Vec<i64>, Vec<String>) =
                evidence::unembedded(&self.db, model, EMBED_BATCH).await?.into_iter().unzip();
            if ids.is_empty() {
                break;
            }
            let vectors = embed(embedder, names.clone()).await?;
            for ((id, name), vector) in ids.into_iter().zip(&names).zip(&vectors) {
                evidence::set_embedding(&self.db, id, name, vector, model).await?;
            }
        }
        // Names of keywords are English, and so is the model.
        let terms = suggestion.terms();
        let term = terms.iter().find(|term| term.language == "en").or(terms.first());
        let term = term.map(|term| term.term.clone()).unwrap_or_default();
        match embed(embedder, vec![term]).await?.first() {
            Some(vector) => Ok(Some(evidence::nearest(&self.db, vector, model, NEAREST).await?)),
            None => Ok(None),
        }
    }
}

/// Refuses terms that could never match, and drops translations that stand twice.
async fn checked(tx: &mut PgTransaction<'_>, mut draft: Draft) -> Result<Draft> {
    if draft.term.term.chars().count() < 2 {
        return Err(Error::invalid(
            "suggestion.term",
            "must be at least 2 characters long, white space aside.",
        ));
    }
    let mut terms = vec![draft.term.clone()];
    terms.append(&mut draft.translations);
    let searchable = store::are_searchable(&mut **tx, &terms).await?;
    if let Some(at) = searchable.iter().position(|searchable| !searchable) {
        let field = match at {
            0 => "suggestion.term".to_owned(),
            at => format!("suggestion.translations[{}].term", at - 1),
        };
        let problem = "holds no word to search for: stop words and punctuation alone match nothing.";
        return Err(Error::invalid(field, problem));
    }
    for (at, term) in terms.iter().enumerate().skip(1) {
        if !terms[..at].contains(term) {
            draft.translations.push(term.clone());
        }
    }
    Ok(draft)
}

/// Who votes: a key by its number, the public by a salted hash of its address.
async fn voter(tx: &mut PgTransaction<'_>, caller: &Caller) -> Result<String> {
    if caller.actor != "public" {
        return Ok(caller.actor.clone());
    }
    let mut fresh = [0u8; 32];
    system_rng().fill_bytes(&mut fresh);
    let salt = store::voter_salt(tx, &fresh).await?;
    let mut digest = Sha256::new();
    digest.update(&salt);
    digest.update(network(&caller.client));
    Ok(format!("{:x}", digest.finalize()))
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 address, since one subscriber has all of it.
fn network(client: &str) -> String {
    match client.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Ok(address) => address.to_string(),
        Err(_) => client.to_owned(),
    }
}

/// Locks a suggestion that the call found open; told apart from one that was closed before, when another call came first.
async fn lock_open_still(tx: &mut PgTransaction<'_>, id: i64) -> Result<()> {
    let state = store::lock(tx, id).await?.ok_or_else(|| not_found(id))?;
    if state.is_open() { Ok(()) } else { Err(wrong_state(id, state, true)) }
}

async fn find(tx: &mut PgTransaction<'_>, id: i64) -> Result<Option<Suggestion>> {
    Ok(store::by_ids(&mut **tx, &[id]).await?.pop())
}

async fn get(tx: &mut PgTransaction<'_>, id: i64) -> Result<Suggestion> {
    find(tx, id).await?.ok_or_else(|| not_found(id))
}

fn name(id: i64) -> String {
    format!("suggestions/{id}")
}

fn not_found(id: i64) -> Error {
    Error::NotFound(name(id))
}

fn wrong_state(id: i64, state: State, overtaken: bool) -> Error {
    Error::WrongState { name: name(id), state: state.as_str(), overtaken }
}

async fn embed(embedder: &Arc<Embedder>, texts: Vec<String>) -> Result<Vec<Vector>> {
    let embedder = Arc::clone(embedder);
    let vectors = tokio::task::spawn_blocking(move || {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        embedder.embed(&texts)
    });
    let vectors = vectors.await.map_err(|error| Error::Internal(format!("embedding names: {error}")))??;
    Ok(vectors.into_iter().map(|vector| Vector::from(vector.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network(""), "");
    }
}
