//! What happens when a source is created, changed or retired: all of it in one transaction, or nothing.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};
use url::Url;

use crate::admin::audit::audit;
use crate::admin::store as admin;
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::resource;
use crate::sources::store::{self, Draft, FeedDraft, Source};

const CREATE: &str = "sources.create";

/// Which fields of a source a change sets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mask {
    /// Its name.
    pub display_name: bool,
    /// Its home page.
    pub homepage_url: bool,
    /// Its country.
    pub country: bool,
    /// Its feeds.
    pub feeds: bool,
    /// Whether it is paused.
    pub paused: bool,
}

/// Creates a source. A repeated `request_id` answers with what the first call made.
pub async fn create(
    db: &PgPool,
    caller: &Caller,
    slug: &str,
    draft: &Draft,
    request_id: &str,
    now: DateTime<Utc>,
) -> Result<Source> {
    let slug = match slug {
        "" => resource::slugify(&draft.display_name),
        slug => slug.to_owned(),
    };
    if slug.is_empty() {
        return Err(Error::invalid(
            "source_id",
            "must be given: the display name has no letter that a slug can hold.",
        ));
    }
    let mut tx = db.begin().await?;
    if let Some(before) = admin::created_before(&mut tx, caller, CREATE, request_id, &slug, now).await? {
        return get(&mut tx, &before).await;
    }
    insert(&mut tx, &slug, draft, now).await?;
    audit(&mut *tx, caller, CREATE, &format!("sources/{slug}"), now).await?;
    let source = get(&mut tx, &slug).await?;
    tx.commit().await?;
    Ok(source)
}

/// Keeps a new source with its feeds.
pub async fn insert(tx: &mut PgTransaction<'_>, slug: &str, draft: &Draft, now: DateTime<Utc>) -> Result<()> {
    check_feeds(&draft.feeds)?;
    let id = store::insert(&mut **tx, slug, draft, now).await?;
    let id = id.ok_or_else(|| Error::AlreadyExists(format!("sources/{slug}")))?;
    store::replace_feeds(tx, id, &draft.feeds, now).await
}

/// Changes the fields of `mask`.
pub async fn update(
    db: &PgPool,
    caller: &Caller,
    slug: &str,
    draft: &Draft,
    mask: Mask,
    now: DateTime<Utc>,
) -> Result<Source> {
    let mut tx = db.begin().await?;
    let id = store::lock(&mut tx, slug).await?.ok_or_else(|| Error::NotFound(format!("sources/{slug}")))?;
    let old = get(&mut tx, slug).await?;
    let pick = |set: bool, new: &String, old: String| if set { new.clone() } else { old };
    let next = Draft {
        display_name: pick(mask.display_name, &draft.display_name, old.display_name),
        homepage_url: pick(mask.homepage_url, &draft.homepage_url, old.homepage_url),
        country: pick(mask.country, &draft.country, old.country),
        paused: if mask.paused { draft.paused } else { old.paused },
        feeds: Vec::new(),
    };
    store::update(&mut tx, id, &next, now).await?;
    if mask.feeds {
        check_feeds(&draft.feeds)?;
        store::replace_feeds(&mut tx, id, &draft.feeds, now).await?;
    }
    audit(&mut *tx, caller, "sources.update", &format!("sources/{slug}"), now).await?;
    let source = get(&mut tx, slug).await?;
    tx.commit().await?;
    Ok(source)
}

/// Retires a source; its articles stay.
pub async fn retire(db: &PgPool, caller: &Caller, slug: &str, now: DateTime<Utc>) -> Result<()> {
    let mut tx = db.begin().await?;
    let id = store::lock(&mut tx, slug).await?.ok_or_else(|| Error::NotFound(format!("sources/{slug}")))?;
    store::retire(&mut tx, id, now).await?;
    audit(&mut *tx, caller, "sources.delete", &format!("sources/{slug}"), now).await?;
    tx.commit().await?;
    Ok(())
}

/// Refuses addresses that could never be fetched, and one that stands twice.
fn check_feeds(feeds: &[FeedDraft]) -> Result<()> {
    for (position, feed) in feeds.iter().enumerate() {
        let twice = feeds.iter().take(position).any(|other| other.url == feed.url);
        if let Some(problem) = url_problem(&feed.url).or(twice.then_some("stands twice.")) {
            return Err(Error::invalid(format!("source.feeds[{position}].url"), problem));
        }
    }
    Ok(())
}

/// Why an address could never be fetched.
pub fn url_problem(url: &str) -> Option<&'static str> {
    match Url::parse(url) {
        Err(_) => Some("is not a URL."),
        Ok(url) if url.username() != "" || url.password().is_some() => {
            Some("must not hold a user name or password.")
        }
        Ok(_) => None,
    }
}

/// A source by its slug.
pub(super) async fn get(tx: &mut PgTransaction<'_>, slug: &str) -> Result<Source> {
    let source = store::by_slug(&mut **tx, slug).await?;
    source.ok_or_else(|| Error::NotFound(format!("sources/{slug}")))
}
