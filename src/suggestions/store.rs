//! SQL of suggestions. None of it reads `contact_email`.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{PgExecutor, PgTransaction};

use crate::error::Result;
use crate::keywords::store::Term;
use crate::suggestions::contact::Email;

/// Key of the advisory lock under which proposals are made, so that of several for one term at once one makes a suggestion.
const LOCK: i64 = 0x6575_6875_6202;

/// Where a suggestion stands; numbered as stored and in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Open, not evaluated yet.
    Pending = 1,
    /// Open, with evidence.
    Evaluated = 2,
    /// Became a keyword.
    Approved = 3,
    /// Its terms were added to a keyword.
    Merged = 4,
    /// Rejected with a reason.
    Rejected = 5,
}

impl From<i16> for State {
    fn from(number: i16) -> Self {
        match number {
            1 => Self::Pending,
            2 => Self::Evaluated,
            3 => Self::Approved,
            4 => Self::Merged,
            _ => Self::Rejected,
        }
    }
}

impl State {
    /// Takes votes and decisions.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Evaluated)
    }

    /// Its name in errors: that of the message's enum, without the prefix.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Evaluated => "EVALUATED",
            Self::Approved => "APPROVED",
            Self::Merged => "MERGED",
            Self::Rejected => "REJECTED",
        }
    }
}

/// What people propose.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The proposed term.
    pub term: Term,
    /// The same topic in other languages.
    pub translations: Vec<Term>,
    /// Category slug.
    pub category: String,
    /// Why it should be followed.
    pub reason: String,
    /// Where the proposer can be reached.
    pub contact_email: Email,
}

/// A suggestion.
#[derive(Clone, Debug)]
pub struct Suggestion {
    /// Its number.
    pub id: i64,
    /// The proposed term.
    pub term: String,
    /// Its language.
    pub language: String,
    /// The same topic in other languages.
    pub translations: Json<Vec<Term>>,
    /// Category slug.
    pub category: String,
    /// Why it should be followed.
    pub reason: String,
    /// Where it stands.
    pub state: State,
    /// Number of votes.
    pub vote_count: i32,
    /// Slug of the keyword that it became or was merged into.
    pub keyword: Option<String>,
    /// Why it was rejected; empty otherwise.
    pub rejection_reason: String,
    /// When it was proposed.
    pub create_time: DateTime<Utc>,
    /// When it last changed.
    pub update_time: DateTime<Utc>,
}

impl Suggestion {
    /// The term, then its translations.
    pub fn terms(&self) -> Vec<Term> {
        let term = Term { language: self.language.clone(), term: self.term.clone() };
        std::iter::once(term).chain(self.translations.0.iter().cloned()).collect()
    }
}

/// Waits for its turn to propose; held until the transaction ends.
pub async fn lock_proposals(tx: &mut PgTransaction<'_>) -> Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", LOCK).execute(&mut **tx).await?;
    Ok(())
}

/// A number for a new suggestion.
pub async fn next_id(db: impl PgExecutor<'_>) -> Result<i64> {
    Ok(sqlx::query_scalar!(r#"SELECT nextval(pg_get_serial_sequence('suggestions', 'id')) AS "id!""#)
        .fetch_one(db)
        .await?)
}

/// Whether each term holds a word to search for, in order.
pub async fn are_searchable(db: impl PgExecutor<'_>, terms: &[Term]) -> Result<Vec<bool>> {
    let (languages, terms) = columns(terms);
    Ok(sqlx::query_scalar!(
        r#"SELECT numnode(phraseto_tsquery(search_config(language), term)) > 0 AS "searchable!"
           FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (language, term, position) ORDER BY position"#,
        &languages,
        &terms
    )
    .fetch_all(db)
    .await?)
}

/// Slug of the keyword that has a term, or that is named so; accents, case and white space aside.
pub async fn keyword_of(db: impl PgExecutor<'_>, term: &str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!(
        "SELECT k.slug FROM keywords k
         WHERE fold(k.display_name) = fold($1)
            OR EXISTS (SELECT 1 FROM keyword_terms t WHERE t.keyword_id = k.id AND t.folded = fold($1))
         ORDER BY k.article_count DESC, k.id LIMIT 1",
        term
    )
    .fetch_optional(db)
    .await?)
}

/// Locks the open suggestion that has a term, as its own or as a translation; its number.
pub async fn lock_open(tx: &mut PgTransaction<'_>, term: &str) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!(
        "SELECT id FROM suggestions WHERE state <= 2 AND folded_terms @> ARRAY[fold($1)] ORDER BY id LIMIT 1 FOR UPDATE",
        term
    )
    .fetch_optional(&mut **tx)
    .await?)
}

/// Keeps a new suggestion, without votes.
pub async fn insert(db: impl PgExecutor<'_>, id: i64, draft: &Draft, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "INSERT INTO suggestions (id, term, language, translations, category, reason, contact_email, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        id,
        draft.term.term,
        draft.term.language,
        Json(&draft.translations) as _,
        draft.category,
        draft.reason,
        draft.contact_email.expose(),
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Locks a suggestion for a change; its state.
pub async fn lock(tx: &mut PgTransaction<'_>, id: i64) -> Result<Option<State>> {
    let state = sqlx::query_scalar!("SELECT state FROM suggestions WHERE id = $1 FOR UPDATE", id)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(state.map(State::from))
}

/// Counts a voter's vote, unless it is counted already. Needs the suggestion's lock.
pub async fn vote(tx: &mut PgTransaction<'_>, id: i64, voter: &str, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "WITH vote AS (
             INSERT INTO suggestion_votes (suggestion_id, voter, create_time) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING RETURNING suggestion_id
         )
         UPDATE suggestions SET vote_count = vote_count + 1, update_time = $3
         WHERE id IN (SELECT suggestion_id FROM vote)",
        id,
        voter,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The salt of voters' addresses; `fresh` becomes it when there is none yet.
pub async fn voter_salt(tx: &mut PgTransaction<'_>, fresh: &[u8]) -> Result<Vec<u8>> {
    sqlx::query!("INSERT INTO voter_salt (salt) VALUES ($1) ON CONFLICT DO NOTHING", fresh)
        .execute(&mut **tx)
        .await?;
    Ok(sqlx::query_scalar!("SELECT salt FROM voter_salt").fetch_one(&mut **tx).await?)
}

/// Which suggestions a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these states; in any when empty.
    pub states: Vec<i16>,
    /// With a term in this language; empty for any.
    pub language: String,
    /// With a term or translation that holds this; empty for any.
    pub query: String,
}

/// A suggestion's place in a list: its number, and its votes or the microseconds of its making.
#[derive(Debug)]
pub struct Place {
    /// The suggestion.
    pub id: i64,
    /// What the list is ordered by.
    pub number: i64,
}

/// A page of a list, most votes or newest first: the places after `after`, at most `limit`.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    by_votes: bool,
    after: Option<Place>,
    limit: i64,
) -> Result<Vec<Place>> {
    let (id, number) = after.map(|place| (place.id, place.number)).unzip();
    let places = if by_votes {
        sqlx::query_as!(
            Place,
            r#"SELECT s.id, s.vote_count::bigint AS "number!" FROM suggestions s
               WHERE (cardinality($1::smallint[]) = 0 OR s.state = ANY ($1)) AND ($2 = '' OR s.language = $2)
                 AND ($3 = '' OR EXISTS (SELECT 1 FROM unnest(s.folded_terms) AS t WHERE strpos(t, fold($3)) > 0))
                 AND ($4::bigint IS NULL OR (s.vote_count, s.id) < ($5::bigint, $4))
               ORDER BY s.vote_count DESC, s.id DESC LIMIT $6"#,
            &filter.states,
            filter.language,
            filter.query,
            id,
            number,
            limit
        )
        .fetch_all(db)
        .await?
    } else {
        sqlx::query_as!(
            Place,
            r#"SELECT s.id, (extract(epoch FROM s.create_time) * 1000000)::bigint AS "number!" FROM suggestions s
               WHERE (cardinality($1::smallint[]) = 0 OR s.state = ANY ($1)) AND ($2 = '' OR s.language = $2)
                 AND ($3 = '' OR EXISTS (SELECT 1 FROM unnest(s.folded_terms) AS t WHERE strpos(t, fold($3)) > 0))
                 AND ($4::bigint IS NULL OR ((extract(epoch FROM s.create_time) * 1000000)::bigint, s.id) < ($5::bigint, $4))
               ORDER BY s.create_time DESC, s.id DESC LIMIT $6"#,
            &filter.states,
            filter.language,
            filter.query,
            id,
            number,
            limit
        )
        .fetch_all(db)
        .await?
    };
    Ok(places)
}

/// Number of suggestions that a list would show in all.
pub async fn count(db: impl PgExecutor<'_>, filter: &Filter) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM suggestions s
           WHERE (cardinality($1::smallint[]) = 0 OR s.state = ANY ($1)) AND ($2 = '' OR s.language = $2)
             AND ($3 = '' OR EXISTS (SELECT 1 FROM unnest(s.folded_terms) AS t WHERE strpos(t, fold($3)) > 0))"#,
        &filter.states,
        filter.language,
        filter.query
    )
    .fetch_one(db)
    .await?)
}

/// The suggestions of `ids`, in their order.
pub async fn by_ids(db: impl PgExecutor<'_>, ids: &[i64]) -> Result<Vec<Suggestion>> {
    Ok(sqlx::query_as!(
        Suggestion,
        r#"SELECT s.id, s.term, s.language, s.translations AS "translations: Json<Vec<Term>>", s.category, s.reason, s.state,
               s.vote_count, (SELECT k.slug FROM keywords k WHERE k.id = s.keyword_id) AS keyword, s.rejection_reason,
               s.create_time, s.update_time
           FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position)
           JOIN suggestions s ON s.id = wanted.id
           ORDER BY wanted.position"#,
        ids
    )
    .fetch_all(db)
    .await?)
}

/// Sets where a suggestion stands; a keyword or a reason where the state has one.
pub async fn set_state(
    tx: &mut PgTransaction<'_>,
    id: i64,
    state: State,
    keyword_id: Option<i64>,
    rejection_reason: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "UPDATE suggestions SET state = $2, keyword_id = $3, rejection_reason = $4, update_time = $5 WHERE id = $1",
        id,
        state as i16,
        keyword_id,
        rejection_reason,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Pending suggestions, most votes first.
pub async fn pending(db: impl PgExecutor<'_>) -> Result<Vec<i64>> {
    Ok(sqlx::query_scalar!("SELECT id FROM suggestions WHERE state = 1 ORDER BY vote_count DESC, id")
        .fetch_all(db)
        .await?)
}

/// Suggestions in numbers.
#[derive(Debug)]
pub struct Stats {
    /// Number by state; those without any are left out.
    pub states: Vec<(State, i64)>,
    /// Number of open ones by language, most first.
    pub languages: Vec<(String, i64)>,
    /// Votes in all.
    pub votes: i64,
    /// When the oldest open one was made.
    pub oldest_open: Option<DateTime<Utc>>,
}

/// Counts suggestions.
pub async fn stats(tx: &mut PgTransaction<'_>) -> Result<Stats> {
    let states = sqlx::query!(r#"SELECT state, count(*) AS "n!" FROM suggestions GROUP BY state"#)
        .fetch_all(&mut **tx)
        .await?;
    let languages = sqlx::query!(
        r#"SELECT language, count(*) AS "n!" FROM suggestions WHERE state <= 2
           GROUP BY language ORDER BY count(*) DESC, language"#
    )
    .fetch_all(&mut **tx)
    .await?;
    let totals = sqlx::query!(
        r#"SELECT COALESCE(sum(vote_count), 0) AS "votes!", min(create_time) FILTER (WHERE state <= 2) AS oldest FROM suggestions"#
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Stats {
        states: states.into_iter().map(|row| (State::from(row.state), row.n)).collect(),
        languages: languages.into_iter().map(|row| (row.language, row.n)).collect(),
        votes: totals.votes,
        oldest_open: totals.oldest,
    })
}

/// Languages and phrases of terms, as statements take them.
pub fn columns(terms: &[Term]) -> (Vec<String>, Vec<String>) {
    terms.iter().map(|term| (term.language.clone(), term.term.clone())).unzip()
}
