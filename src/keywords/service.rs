//! What happens when a keyword is created, changed or deleted: all of it in one transaction, or nothing.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::admin::audit::audit;
use crate::admin::store as admin;
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::keywords::link;
use crate::keywords::store::{self, Draft, Keyword, Term};
use crate::resource;

const CREATE: &str = "keywords.create";
/// Terms that a keyword holds at most; the rule of the message.
const MAX_TERMS: usize = 100;

/// Which fields of a keyword a change sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Its name.
    pub display_name: bool,
    /// Its description.
    pub description: bool,
    /// Its category.
    pub category: bool,
    /// Its terms.
    pub terms: bool,
    /// Its boolean query.
    pub boolean_query: bool,
}

/// Creates a keyword with its links and aggregates. A repeated `request_id` answers with what the first call made.
pub async fn create(
    db: &PgPool,
    caller: &Caller,
    slug: &str,
    draft: &Draft,
    request_id: &str,
    now: DateTime<Utc>,
) -> Result<Keyword> {
    let slug = match slug {
        "" => slug_of(&draft.display_name)?,
        slug => slug.to_owned(),
    };
    let mut tx = db.begin().await?;
    if let Some(before) = admin::created_before(&mut tx, caller, CREATE, request_id, &slug, now).await? {
        return get(&mut tx, &before).await;
    }
    insert(&mut tx, &slug, draft, now).await?;
    audit(&mut *tx, caller, CREATE, &format!("keywords/{slug}"), now).await?;
    let keyword = get(&mut tx, &slug).await?;
    tx.commit().await?;
    Ok(keyword)
}

/// Keeps a new keyword, and links the archive to it.
pub async fn insert(tx: &mut PgTransaction<'_>, slug: &str, draft: &Draft, now: DateTime<Utc>) -> Result<()> {
    check(tx, draft).await?;
    let id = store::insert(&mut **tx, slug, draft, now).await?;
    let id = id.ok_or_else(|| Error::AlreadyExists(format!("keywords/{slug}")))?;
    store::replace_terms(tx, id, &draft.terms).await?;
    link::relink_keyword(tx, id).await
}

/// Changes the fields of `mask`; changed terms or a changed query link the archive anew.
pub async fn update(
    db: &PgPool,
    caller: &Caller,
    slug: &str,
    draft: &Draft,
    mask: Mask,
    now: DateTime<Utc>,
) -> Result<Keyword> {
    let mut tx = db.begin().await?;
    // In the order in which analysis takes its locks.
    link::lock(&mut tx).await?;
    let id = store::lock(&mut tx, slug).await?.ok_or_else(|| Error::NotFound(format!("keywords/{slug}")))?;
    let old = get(&mut tx, slug).await?;
    let pick = |set: bool, new: &String, old: String| if set { new.clone() } else { old };
    let old_terms = old.terms.0;
    let old_query = old.boolean_query.clone();
    let next = Draft {
        display_name: pick(mask.display_name, &draft.display_name, old.display_name),
        description: pick(mask.description, &draft.description, old.description),
        category: pick(mask.category, &draft.category, old.category),
        boolean_query: pick(mask.boolean_query, &draft.boolean_query, old.boolean_query),
        terms: if mask.terms { draft.terms.clone() } else { old_terms.clone() },
    };
    check(&mut tx, &next).await?;
    store::update(&mut *tx, id, &next, now).await?;
    if next.terms != old_terms {
        store::replace_terms(&mut tx, id, &next.terms).await?;
    }
    if next.terms != old_terms || next.boolean_query != old_query {
        link::relink_keyword(&mut tx, id).await?;
    }
    audit(&mut *tx, caller, "keywords.update", &format!("keywords/{slug}"), now).await?;
    let keyword = get(&mut tx, slug).await?;
    tx.commit().await?;
    Ok(keyword)
}

/// Adds the terms that a keyword lacks, case aside, and links the archive to them; their number.
pub async fn add_terms(
    tx: &mut PgTransaction<'_>,
    slug: &str,
    terms: Vec<Term>,
    now: DateTime<Utc>,
) -> Result<usize> {
    link::lock(tx).await?;
    let id = store::lock(tx, slug).await?.ok_or_else(|| Error::NotFound(format!("keywords/{slug}")))?;
    let keyword = get(tx, slug).await?;
    let mut all = keyword.terms.0;
    let before = all.len();
    for term in terms {
        let same = |other: &Term| {
            other.language == term.language && other.term.to_lowercase() == term.term.to_lowercase()
        };
        if !all.iter().any(same) {
            all.push(term);
        }
    }
    let added = all.len() - before;
    if all.len() > MAX_TERMS {
        return Err(Error::FailedPrecondition {
            reason: "TOO_MANY_TERMS",
            message: format!("keywords/{slug} would hold {} terms; {MAX_TERMS} is the most", all.len()),
        });
    }
    if added > 0 {
        let draft = Draft {
            display_name: keyword.display_name,
            description: keyword.description,
            category: keyword.category,
            boolean_query: keyword.boolean_query,
            terms: all,
        };
        store::update(&mut **tx, id, &draft, now).await?;
        store::replace_terms(tx, id, &draft.terms).await?;
        link::relink_keyword(tx, id).await?;
    }
    Ok(added)
}

/// Deletes a keyword; its articles stay.
pub async fn delete(db: &PgPool, caller: &Caller, slug: &str, now: DateTime<Utc>) -> Result<()> {
    let mut tx = db.begin().await?;
    link::lock(&mut tx).await?;
    if !store::delete(&mut *tx, slug).await? {
        return Err(Error::NotFound(format!("keywords/{slug}")));
    }
    audit(&mut *tx, caller, "keywords.delete", &format!("keywords/{slug}"), now).await?;
    tx.commit().await?;
    Ok(())
}

/// Refuses a keyword that could never match, or would match everything.
pub async fn check(tx: &mut PgTransaction<'_>, draft: &Draft) -> Result<()> {
    if draft.terms.is_empty() && draft.boolean_query.is_empty() {
        return Err(Error::invalid("keyword.terms", "must hold a term, unless there is a boolean_query."));
    }
    if !draft.boolean_query.is_empty()
        && !store::boolean_query_searches(&mut **tx, &draft.boolean_query).await?
    {
        return Err(Error::invalid(
            "keyword.boolean_query",
            "must ask for at least one word that is no stop word, not only exclude some.",
        ));
    }
    Ok(())
}

/// A keyword that must exist.
pub async fn get(tx: &mut PgTransaction<'_>, slug: &str) -> Result<Keyword> {
    let keyword = store::by_slug(&mut **tx, slug).await?;
    keyword.ok_or_else(|| Error::NotFound(format!("keywords/{slug}")))
}

/// The slug that a name gives.
pub fn slug_of(display_name: &str) -> Result<String> {
    match resource::slugify(display_name) {
        slug if slug.is_empty() => Err(Error::invalid(
            "keyword_id",
            "must be given: the display name has no letter that a slug can hold.",
        )),
        slug => Ok(slug),
    }
}
