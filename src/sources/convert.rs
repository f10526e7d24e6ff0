//! Sources as messages.

use crate::articles::convert::timestamp;
use crate::ingest::feed::FeedFormat;
use crate::ingest::preview::{Preview, PreviewEntry};
use crate::proto::{self, CreateSourceRequest, Feed, Source};
use crate::sources::health::Judged;
use crate::sources::import::Imported;
use crate::sources::opml::{Left, Outlet};
use crate::sources::service::url_problem;
use crate::sources::store::{self, Draft, FeedDraft};
use crate::validation::{Violation, check};

/// A run of a source.
pub(super) fn run_message(slug: &str, run: store::Run) -> proto::Run {
    proto::Run {
        name: format!("sources/{slug}/runs/{}", run.id),
        feed_url: run.feed_url,
        outcome: i32::from(run.outcome),
        start_time: Some(timestamp(run.start_time)),
        end_time: run.end_time.map(timestamp),
        fetched_count: run.fetched,
        new_count: run.new,
        duplicate_count: run.duplicate,
        failed_count: run.failed,
        error: run.error,
        error_class: run.error_class,
        http_status: run.http_status,
    }
}

/// What a client sets of a source.
pub(super) fn draft(source: Source) -> Draft {
    Draft {
        display_name: source.display_name,
        homepage_url: source.homepage_url,
        country: source.country,
        paused: source.paused,
        feeds: source
            .feeds
            .into_iter()
            .map(|feed| FeedDraft { url: feed.url, language: feed.language, section: feed.section })
            .collect(),
    }
}

impl From<store::Source> for Source {
    fn from(source: store::Source) -> Self {
        Self {
            name: format!("sources/{}", source.slug),
            display_name: source.display_name,
            homepage_url: source.homepage_url,
            country: source.country,
            feeds: source
                .feeds
                .0
                .into_iter()
                .map(|feed| Feed {
                    url: feed.url,
                    language: feed.language,
                    section: feed.section,
                    next_fetch_time: Some(timestamp(feed.next_fetch_time)),
                    last_success_time: feed.last_success_time.map(timestamp),
                    consecutive_failures: feed.consecutive_failures,
                })
                .collect(),
            paused: source.paused,
            article_count: source.article_count,
            create_time: Some(timestamp(source.create_time)),
            update_time: Some(timestamp(source.update_time)),
        }
    }
}

impl From<Preview> for proto::PreviewSourceResponse {
    fn from(preview: Preview) -> Self {
        Self {
            format: preview.format.map_or(0, |format| {
                i32::from(match format {
                    FeedFormat::Rss => proto::FeedFormat::Rss,
                    FeedFormat::Rdf => proto::FeedFormat::Rdf,
                    FeedFormat::Atom => proto::FeedFormat::Atom,
                    FeedFormat::Json => proto::FeedFormat::Json,
                })
            }),
            title: preview.title,
            final_url: preview.final_url,
            http_status: i32::from(preview.http_status),
            source: preview.source.map(|slug| format!("sources/{slug}")).unwrap_or_default(),
            fetched_count: number(preview.fetched),
            new_count: number(preview.new),
            duplicate_count: number(preview.fetched - preview.failed - preview.new),
            failed_count: number(preview.failed),
            entries: preview.entries.into_iter().map(Into::into).collect(),
            skipped_entries: preview
                .skipped
                .into_iter()
                .map(|problem| proto::SkippedEntry {
                    position: number(problem.index + 1),
                    reason: problem.reason.to_string(),
                })
                .collect(),
            error: preview.error,
            error_class: preview.error_class,
        }
    }
}

impl From<PreviewEntry> for proto::PreviewEntry {
    fn from(entry: PreviewEntry) -> Self {
        Self {
            title: entry.title,
            url: entry.url,
            publish_time: Some(timestamp(entry.publish_time)),
            language: entry.language,
            language_confidence: entry.language_confidence,
            would_be_stored: entry.new,
            duplicate_of: entry.duplicate_of.map(|id| format!("articles/{id}")).unwrap_or_default(),
        }
    }
}

impl From<Imported> for proto::ImportOpmlResponse {
    fn from(imported: Imported) -> Self {
        let outlines = |left: Vec<Left>| {
            let outline =
                |left: Left| proto::OpmlOutline { title: left.title, url: left.url, reason: left.reason };
            left.into_iter().map(outline).collect()
        };
        Self {
            sources: imported.sources.into_iter().map(Into::into).collect(),
            skipped: outlines(imported.skipped),
            failed: outlines(imported.failed),
        }
    }
}

impl From<Judged> for proto::SourceHealth {
    fn from(judged: Judged) -> Self {
        let Judged { slug, display_name, counts, health } = judged;
        Self {
            name: format!("sources/{slug}/health"),
            display_name,
            state: health.state as i32,
            reason: health.reason,
            expected_count: health.expected,
            received_count: i32::try_from(counts.received).unwrap_or(i32::MAX),
            observed_day_count: number(counts.days.len()),
            last_article_time: counts.last_article.map(timestamp),
            last_success_time: counts.last_success.map(timestamp),
            consecutive_failures: counts.failures.iter().max().copied().unwrap_or_default(),
        }
    }
}

/// What the rules say against a feed.
pub(super) fn refused_feed(feed: &FeedDraft) -> Option<String> {
    let message = feed_message(feed);
    check(&message)
        .err()
        .map(|violations| reasons(&violations))
        .or_else(|| Some(format!("url: {}", url_problem(&feed.url)?)))
}

/// What the rules say against an outlet.
pub(super) fn refused_outlet(outlet: &Outlet) -> Option<String> {
    if outlet.draft.country.is_empty() {
        return Some("has no country: give it `euhub:country`, or the call the parameter `country`".into());
    }
    let source = Source {
        display_name: outlet.draft.display_name.clone(),
        homepage_url: outlet.draft.homepage_url.clone(),
        country: outlet.draft.country.clone(),
        paused: outlet.draft.paused,
        feeds: outlet.draft.feeds.iter().map(feed_message).collect(),
        ..Source::default()
    };
    let request = CreateSourceRequest {
        source: Some(source),
        source_id: outlet.slug.clone(),
        ..CreateSourceRequest::default()
    };
    let refused = check(&request).err().map(|violations| reasons(&violations));
    refused.or_else(|| outlet.slug.is_empty().then(|| "has no title that a name can be made of".into()))
}

fn feed_message(feed: &FeedDraft) -> Feed {
    let FeedDraft { url, language, section } = feed.clone();
    Feed { url, language, section, ..Feed::default() }
}

fn reasons(violations: &[Violation]) -> String {
    let reasons: Vec<String> = violations
        .iter()
        .map(|violation| {
            format!("{}: {}", violation.field.trim_start_matches("source."), violation.description)
        })
        .collect();
    reasons.join(" ")
}

fn number(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
