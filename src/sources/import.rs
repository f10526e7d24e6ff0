//! How an OPML document becomes sources: all that can be taken in one transaction, the rest named.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::admin::audit::audit;
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::sources::opml::{Document, Left, Outlet};
use crate::sources::service;
use crate::sources::store::{self, FeedDraft, Source};

/// What an import did.
#[derive(Debug, Default)]
pub struct Imported {
    /// Created.
    pub sources: Vec<Source>,
    /// Feeds that a source has already.
    pub skipped: Vec<Left>,
    /// What could not be taken.
    pub failed: Vec<Left>,
}

/// Takes the outlets of a document. `refused_feed` says what is wrong with a feed,
/// `refused_outlet` what with an outlet whose feeds are right.
pub async fn import(
    db: &PgPool,
    caller: &Caller,
    document: Document,
    validate_only: bool,
    refused_feed: fn(&FeedDraft) -> Option<String>,
    refused_outlet: fn(&Outlet) -> Option<String>,
    now: DateTime<Utc>,
) -> Result<Imported> {
    let mut imported = Imported { failed: document.failed, ..Imported::default() };
    let mut tx = db.begin().await?;
    let feeds = document.outlets.iter().flat_map(|outlet| &outlet.draft.feeds);
    let urls: Vec<String> = feeds.map(|feed| feed.url.clone()).collect();
    let known = store::known_feeds(&mut *tx, &urls).await?;
    let known: HashMap<String, String> = known.into_iter().map(|feed| (feed.url, feed.slug)).collect();
    let mut seen = HashSet::new();
    for mut outlet in document.outlets {
        let mut feeds = Vec::new();
        let mut titles = Vec::new();
        for (feed, title) in outlet.draft.feeds.into_iter().zip(outlet.titles) {
            let left = |reason: String| Left { title: title.clone(), url: feed.url.clone(), reason };
            if let Some(slug) = known.get(&feed.url) {
                imported.skipped.push(left(format!("is a feed of sources/{slug}")));
            } else if let Some(reason) = refused_feed(&feed) {
                imported.failed.push(left(reason));
            } else if !seen.insert(feed.url.clone()) {
                imported.failed.push(left("stands twice in the document".into()));
            } else {
                feeds.push(feed);
                titles.push(title);
            }
        }
        (outlet.draft.feeds, outlet.titles) = (feeds, titles);
        if outlet.draft.feeds.is_empty() {
            continue;
        }
        let refused = match refused_outlet(&outlet) {
            Some(reason) => Some(reason),
            None => match service::insert(&mut tx, &outlet.slug, &outlet.draft, now).await {
                Ok(()) => None,
                Err(Error::AlreadyExists(name)) => Some(format!("{name} exists already: add the feed there")),
                Err(error) => return Err(error),
            },
        };
        if let Some(reason) = refused {
            let feeds = outlet.draft.feeds.into_iter().zip(outlet.titles);
            imported.failed.extend(feeds.map(|(feed, title)| Left {
                title,
                url: feed.url,
                reason: reason.clone(),
            }));
            continue;
        }
        audit(&mut *tx, caller, "sources.create", &format!("sources/{}", outlet.slug), now).await?;
        imported.sources.push(service::get(&mut tx, &outlet.slug).await?);
    }
    if validate_only {
        tx.rollback().await?;
        audit(db, caller, "sources.validateOpml", "", now).await?;
    } else {
        audit(&mut *tx, caller, "sources.importOpml", "", now).await?;
        tx.commit().await?;
    }
    Ok(imported)
}
