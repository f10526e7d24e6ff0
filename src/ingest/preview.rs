//! What a feed would bring: a run that stores nothing.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::error::Result;
use crate::ingest::Ingest;
use crate::ingest::feed::{EntryProblem, FeedFormat, ParsedEntry, ParsedFeed};
use crate::ingest::fetch::Conditional;
use crate::ingest::run::{Failure, Identity, detected, publish_time};
use crate::ingest::store::{self, Stored};
use crate::sources::store as sources;

/// Entries that are shown of each kind.
const SHOWN: usize = 10;

/// What a fetch would bring.
#[derive(Debug, Default)]
pub struct Preview {
    /// None when nothing could be read.
    pub format: Option<FeedFormat>,
    /// The feed's own; empty when it has none.
    pub title: String,
    /// Where it was found; empty when it could not be fetched.
    pub final_url: String,
    /// 0 when there was none.
    pub http_status: u16,
    /// Slug of the source that has this feed already.
    pub source: Option<String>,
    /// Entries in the feed.
    pub fetched: usize,
    /// Articles that would be stored.
    pub new: usize,
    /// Entries that could not be read.
    pub failed: usize,
    /// The first entries.
    pub entries: Vec<PreviewEntry>,
    /// The first entries that could not be read.
    pub skipped: Vec<EntryProblem>,
    /// Why the feed, or some of it, could not be read; empty when all could.
    pub error: String,
    /// Its class.
    pub error_class: String,
}

/// An entry that could be read.
#[derive(Debug)]
pub struct PreviewEntry {
    /// Plain text.
    pub title: String,
    /// Empty for an entry without a link.
    pub url: String,
    /// As it would be stored.
    pub publish_time: DateTime<Utc>,
    /// ISO 639-1, or `und`.
    pub language: String,
    /// 0 to 1.
    pub language_confidence: f64,
    /// Whether it is a new article.
    pub new: bool,
    /// The stored article that it is.
    pub duplicate_of: Option<i64>,
}

impl Ingest {
    /// Fetches a feed as a run does, and tells what it would bring. A failure of the feed is an answer, not an error.
    pub async fn preview(&self, url: &str, language: &str) -> Result<Preview> {
        let source = sources::source_of_feed(&self.db, url).await?;
        let slug = source.as_ref().map(|source| source.slug.clone());
        let (body, parsed) = match self.fetch(url, language, &Conditional::default()).await {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(Preview { source: slug, ..Preview::default() }),
            Err(Failure { class, message, http_status, .. }) => {
                let (error, error_class) = (message, class);
                return Ok(Preview { source: slug, http_status, error, error_class, ..Preview::default() });
            }
        };
        let problem = Failure::of_parts(&parsed);
        let (error, error_class) =
            problem.map(|problem| (problem.message, problem.class)).unwrap_or_default();
        let ParsedFeed { format, title, entries, problems, repeated, ignored, .. } = parsed;
        let identities: Vec<Identity> =
            entries.iter().map(|entry| Identity::of(slug.as_deref().unwrap_or_default(), entry)).collect();
        let stored = store::stored(&self.db, source.map(|source| source.id), &identities).await?;
        let fates = fates(&identities, &stored);
        let failed = problems.len() + ignored;
        let now = self.clock.now();
        Ok(Preview {
            format: Some(format),
            title: title.unwrap_or_default(),
            final_url: body.final_url.into(),
            http_status: body.status,
            source: slug,
            fetched: entries.len() + repeated + failed,
            new: fates.iter().filter(|fate| **fate == Fate::New).count(),
            failed,
            entries: entries
                .iter()
                .zip(&fates)
                .take(SHOWN)
                .map(|(entry, fate)| shown(entry, *fate, now))
                .collect(),
            skipped: problems.into_iter().take(SHOWN).collect(),
            error,
            error_class,
        })
    }
}

/// What would become of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    New,
    Stored(i64),
    Repeated,
}

fn fates(identities: &[Identity], stored: &[Stored]) -> Vec<Fate> {
    let (mut urls, mut guids, mut hashes) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut fates = Vec::with_capacity(identities.len());
    for (position, identity) in (1_i64..).zip(identities) {
        let known = stored.iter().find(|stored| stored.position == position);
        fates.push(match known {
            Some(stored) => Fate::Stored(stored.article),
            None if urls.contains(&identity.canonical_url)
                || guids.contains(&identity.guid)
                || hashes.contains(&identity.content_hash) =>
            {
                Fate::Repeated
            }
            None => {
                urls.insert(&identity.canonical_url);
                guids.insert(&identity.guid);
                hashes.insert(&identity.content_hash);
                Fate::New
            }
        });
    }
    fates
}

fn shown(entry: &ParsedEntry, fate: Fate, now: DateTime<Utc>) -> PreviewEntry {
    let detected = detected(entry);
    PreviewEntry {
        title: entry.title.clone(),
        url: entry.url.as_ref().map(ToString::to_string).unwrap_or_default(),
        publish_time: publish_time(entry, now),
        language: detected.language,
        language_confidence: detected.confidence,
        new: fate == Fate::New,
        duplicate_of: match fate {
            Fate::Stored(article) => Some(article),
            Fate::New | Fate::Repeated => None,
        },
    }
}
