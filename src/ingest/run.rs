//! One run: a feed is fetched, read, and what is new of it stored. However it ends, it leaves a row that says so.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::RngExt;
use url::Url;

use crate::clock::system_rng;
use crate::error::{Error, Result};
use crate::ingest::feed::{self, FeedError, ParsedEntry, ParsedFeed};
use crate::ingest::fetch::{Body, Conditional, FetchError, Fetched, RetryAfter};
use crate::ingest::store::{self, DueFeed, FeedState, NewArticle};
use crate::ingest::{Ingest, language, near_duplicate, normalise, schedule};
use crate::sources::store::Run;
use crate::telemetry;

/// Articles stored, and analysed, in one transaction.
const BATCH: usize = 50;

const OK: i16 = 1;
const NOT_MODIFIED: i16 = 2;
const FAILED: i16 = 3;

/// Why a run failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) class: String,
    pub(super) message: String,
    pub(super) http_status: u16,
    retry_after: Option<RetryAfter>,
}

/// What a run read.
struct Content {
    body: Box<Body>,
    entries: Vec<ParsedEntry>,
    repeated: usize,
    failed: usize,
    problem: Option<Failure>,
}

impl Ingest {
    /// Fetches a feed now. A failure of the feed is a run that failed, not an error.
    pub async fn run_feed(&self, feed_id: i64) -> Result<Run> {
        let feed = store::feed(&self.db, feed_id).await?;
        let feed = feed.ok_or_else(|| Error::NotFound(format!("feed {feed_id}")))?;
        let start_time = self.clock.now();
        store::close_cut_off_runs(&self.db, &feed, start_time).await?;
        let id = store::start_run(&self.db, &feed, start_time).await?;
        let mut run = Run {
            id,
            feed_url: feed.url.clone(),
            outcome: OK,
            start_time,
            end_time: None,
            fetched: 0,
            new: 0,
            duplicate: 0,
            failed: 0,
            error: String::new(),
            error_class: String::new(),
            http_status: 0,
        };
        let read = self.read(&feed).await;
        let state = match read {
            Ok(None) => {
                run.outcome = NOT_MODIFIED;
                run.http_status = 304;
                self.after_success(&feed, None, 0, 0)
            }
            Ok(Some(content)) => {
                let total = content.entries.len();
                let new = self.store(&feed, content.entries).await?;
                run.fetched = number(total + content.repeated + content.failed);
                run.new = number(new);
                run.duplicate = number(total - new + content.repeated);
                run.failed = number(content.failed);
                run.http_status = i32::from(content.body.status);
                if let Some(problem) = content.problem {
                    run.error = problem.message;
                    run.error_class = problem.class;
                }
                self.after_success(&feed, Some(&content.body), total, new)
            }
            Err(failure) => {
                run.outcome = FAILED;
                run.http_status = i32::from(failure.http_status);
                let state = self.after_failure(&feed, &failure);
                run.error = failure.message;
                run.error_class = failure.class;
                state
            }
        };
        let now = self.clock.now();
        run.end_time = Some(now);
        let mut tx = self.db.begin().await?;
        store::finish_run(&mut *tx, &run).await?;
        store::update_feed(&mut *tx, feed.id, &state, now).await?;
        tx.commit().await?;
        telemetry::run(&feed.source, &run);
        Ok(run)
    }

    /// What of a feed is to be stored; none when nothing changed.
    async fn read(&self, feed: &DueFeed) -> Result<Option<Content>, Failure> {
        let conditional = if schedule::conditional_allowed(feed.last_full_fetch_time, self.clock.now()) {
            Conditional { etag: feed.etag.clone(), last_modified: feed.last_modified.clone() }
        } else {
            Conditional::default()
        };
        let Some((mut body, parsed)) = self.fetch(&feed.url, &feed.language, &conditional).await? else {
            return Ok(None);
        };
        if parsed.broken_off {
            // What is missing must not hide behind an unchanged validator.
            (body.etag, body.last_modified) = (None, None);
        }
        let problem = Failure::of_parts(&parsed);
        let failed = parsed.problems.len() + parsed.ignored;
        Ok(Some(Content { body, entries: parsed.entries, repeated: parsed.repeated, failed, problem }))
    }

    /// Fetches and parses; none when nothing changed. Entries without a language of their own get `language`, or else the feed's.
    pub(super) async fn fetch(
        &self,
        url: &str,
        language: &str,
        conditional: &Conditional,
    ) -> Result<Option<(Box<Body>, ParsedFeed)>, Failure> {
        let url = Url::parse(url).map_err(|_| Failure::of(&FetchError::InvalidUrl("is not a URL")))?;
        let body = match self.fetcher.fetch(&url, conditional).await {
            Ok(Fetched::NotModified) => return Ok(None),
            Ok(Fetched::Body(body)) => body,
            Err(error) => return Err(Failure::of(&error)),
        };
        // Parsing is bounded by the size of the body, but takes long enough to stand in others' way.
        let parsed = tokio::task::spawn_blocking(move || {
            let parsed = feed::parse(&body.bytes, body.content_type.as_deref(), &body.final_url);
            (body, parsed)
        });
        let (body, parsed) = parsed.await.map_err(|error| {
            Failure {
                class: "internal".into(),
                message: "the feed could not be parsed".into(),
                http_status: 0,
                retry_after: None,
            }
            .logged(&error)
        })?;
        let mut parsed = parsed.map_err(|error| Failure::of_feed(&error, body.status))?;
        let declared = if language.is_empty() { parsed.language.clone() } else { Some(language.to_owned()) };
        for entry in &mut parsed.entries {
            entry.language = entry.language.take().or_else(|| declared.clone());
        }
        Ok(Some((body, parsed)))
    }

    /// Stores what is new, a bounded number in each transaction; the number of new articles.
    async fn store(&self, feed: &DueFeed, entries: Vec<ParsedEntry>) -> Result<usize> {
        let now = self.clock.now();
        let mut new = 0;
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let batch: Vec<NewArticle> =
                entries.by_ref().take(BATCH).map(|entry| new_article(&feed.source, entry, now)).collect();
            let mut tx = self.db.begin().await?;
            new += store::insert_articles(&mut tx, feed, &batch, now).await?.len();
            tx.commit().await?;
        }
        Ok(new)
    }

    fn after_success(&self, feed: &DueFeed, body: Option<&Body>, total: usize, new: usize) -> FeedState {
        let now = self.clock.now();
        let previous = feed
            .last_full_fetch_time
            .map(|_| Duration::from_secs(u64::try_from(feed.fetch_interval_seconds).unwrap_or_default()));
        let interval = schedule::next_interval(previous, unsigned(total), unsigned(new));
        FeedState {
            etag: body.map_or_else(|| feed.etag.clone(), |body| body.etag.clone()),
            last_modified: body.map_or_else(|| feed.last_modified.clone(), |body| body.last_modified.clone()),
            last_full_fetch_time: if body.is_some() { Some(now) } else { feed.last_full_fetch_time },
            moved_to: body.and_then(|body| body.moved_permanently_to.as_ref()).map(ToString::to_string),
            next_fetch_time: now + interval,
            fetch_interval_seconds: i32::try_from(interval.as_secs()).unwrap_or(i32::MAX),
            consecutive_failures: 0,
        }
    }

    fn after_failure(&self, feed: &DueFeed, failure: &Failure) -> FeedState {
        let now = self.clock.now();
        let failures = feed.consecutive_failures.saturating_add(1);
        let jitter = system_rng().random::<f64>();
        let delay =
            schedule::failure_delay(u32::try_from(failures).unwrap_or(1), failure.retry_after, now, jitter);
        FeedState {
            etag: feed.etag.clone(),
            last_modified: feed.last_modified.clone(),
            last_full_fetch_time: feed.last_full_fetch_time,
            moved_to: None,
            next_fetch_time: now + delay,
            fetch_interval_seconds: feed.fetch_interval_seconds,
            consecutive_failures: failures,
        }
    }
}

/// What an entry is known by: an article that shares one of them is the same.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) canonical_url: String,
    pub(super) guid: String,
    pub(super) content_hash: [u8; 32],
}

impl Identity {
    pub(super) fn of(source: &str, entry: &ParsedEntry) -> Self {
        // An entry without an address is known by its identifier alone; one without an identifier by its address.
        let canonical_url = entry.url.as_ref().map(normalise::canonical_url);
        let guid = entry.guid.clone().or_else(|| canonical_url.clone()).unwrap_or_default();
        Self {
            canonical_url: canonical_url.unwrap_or_else(|| format!("guid:{source}:{guid}")),
            guid,
            content_hash: normalise::content_hash(&entry.title, &entry.body),
        }
    }
}

/// The language that an entry turns out to be written in.
pub(super) fn detected(entry: &ParsedEntry) -> language::Detected {
    language::detect(&format!("{}\n{}", entry.title, entry.body), entry.language.as_deref())
}

/// A date that is missing, or lies in the future, is not believed: the article is as old as the fetch that brought it.
pub(super) fn publish_time(entry: &ParsedEntry, now: DateTime<Utc>) -> DateTime<Utc> {
    entry.published.or(entry.updated).filter(|time| *time <= now).unwrap_or(now)
}

fn new_article(source: &str, entry: ParsedEntry, now: DateTime<Utc>) -> NewArticle {
    let Identity { canonical_url, guid, content_hash } = Identity::of(source, &entry);
    let detected = detected(&entry);
    NewArticle {
        canonical_url,
        guid,
        content_hash,
        publish_time: publish_time(&entry, now),
        url: entry.url.map(String::from).unwrap_or_default(),
        bands: near_duplicate::bands(&entry.body),
        title: entry.title,
        body: entry.body,
        authors: entry.authors,
        categories: entry.categories,
        language: detected.language,
        language_confidence: detected.confidence,
    }
}

impl Failure {
    fn of(error: &FetchError) -> Self {
        Self {
            class: error.class().into_owned(),
            message: error.to_string(),
            http_status: match error {
                FetchError::HttpStatus { status, .. } => *status,
                _ => 0,
            },
            retry_after: error.retry_after(),
        }
    }

    fn of_feed(error: &FeedError, http_status: u16) -> Self {
        Self { class: error.class().into(), message: error.to_string(), http_status, retry_after: None }
    }

    /// Why some of a feed that could be read could not; none when all could.
    pub(super) fn of_parts(parsed: &ParsedFeed) -> Option<Self> {
        if parsed.broken_off {
            return Some(Self::partial("broken_off", "the document breaks off or turns malformed".into()));
        }
        if parsed.ignored > 0 {
            let message = format!("{} entries too many were left out", parsed.ignored);
            return Some(Self::partial("too_many_entries", message));
        }
        let problem = parsed.problems.first()?;
        Some(Self::partial("entry", format!("entry {}: {}", problem.index + 1, problem.reason)))
    }

    fn partial(class: &str, message: String) -> Self {
        Self { class: class.into(), message, http_status: 0, retry_after: None }
    }

    fn logged(self, cause: &tokio::task::JoinError) -> Self {
        telemetry::fault("ingest", cause);
        self
    }
}

fn number(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn unsigned(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
