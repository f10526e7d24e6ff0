//! The sources, keywords and sample feeds that a new Hub starts with. What is there already stays as it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use chrono::{DateTime, Days, NaiveDateTime, Utc};
use regex::bytes::{Captures, Regex};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::error::Error;
use crate::ingest::fetch::{FetchPolicy, Fetcher};
use crate::ingest::{Ingest, store as ingest_store};
use crate::keywords::store::{Draft as KeywordDraft, Term};
use crate::keywords::{relations, service as keywords};
use crate::sources::service as sources;
use crate::sources::store::{self as source_store, Draft as SourceDraft, FeedDraft, Run};

/// Articles analysed at once.
const BATCH: usize = 50;

#[derive(Deserialize)]
struct Outlets {
    sources: Vec<Outlet>,
}

#[derive(Deserialize)]
struct Outlet {
    slug: String,
    name: String,
    homepage: String,
    country: String,
    feeds: Vec<OutletFeed>,
}

#[derive(Deserialize)]
struct OutletFeed {
    url: String,
    language: String,
    section: String,
}

#[derive(Deserialize)]
struct Samples {
    /// When the newest sample was written; all dates move by whole days so that it is today.
    anchor: DateTime<Utc>,
    sources: Vec<SampleSource>,
}

#[derive(Deserialize)]
struct SampleSource {
    slug: String,
    name: String,
    homepage: String,
    country: String,
    feeds: Vec<SampleFeed>,
}

#[derive(Deserialize)]
struct SampleFeed {
    file: PathBuf,
    language: String,
    section: String,
}

#[derive(Deserialize)]
struct Keywords {
    keywords: Vec<SampleKeyword>,
}

#[derive(Deserialize)]
struct SampleKeyword {
    slug: String,
    name: String,
    description: String,
    category: String,
    terms: Vec<Term>,
    #[serde(default)]
    boolean_query: String,
}

/// What a seeding added.
#[derive(Debug, Default, serde::Serialize)]
pub struct Seeded {
    /// Sources.
    pub sources: usize,
    /// Keywords.
    pub keywords: usize,
    /// Articles.
    pub articles: usize,
}

/// Adds what is missing of the samples in `folder`; their feeds are written to `data_dir`, dated to end today. `progress` hears of each step.
pub async fn seed(
    ingest: &Ingest,
    folder: &Path,
    data_dir: &Path,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Seeded> {
    let now = ingest.clock.now();
    let mut seeded = Seeded::default();

    progress("keywords");
    let Keywords { keywords } = read(folder, "keywords.json")?;
    for keyword in keywords {
        let draft = KeywordDraft {
            display_name: keyword.name,
            description: keyword.description,
            category: keyword.category,
            boolean_query: keyword.boolean_query,
            terms: keyword.terms,
        };
        let mut tx = ingest.db.begin().await?;
        match keywords::insert(&mut tx, &keyword.slug, &draft, now).await {
            Ok(()) => {
                tx.commit().await?;
                seeded.keywords += 1;
            }
            Err(Error::AlreadyExists(_)) => {}
            Err(error) => return Err(error).with_context(|| format!("keyword {}", keyword.slug)),
        }
    }

    progress("sources");
    let Outlets { sources } = read(folder, "outlets.json")?;
    for outlet in sources {
        let feeds = outlet
            .feeds
            .into_iter()
            .map(|feed| FeedDraft { url: feed.url, language: feed.language, section: feed.section })
            .collect();
        let draft = source(outlet.name, outlet.homepage, outlet.country, false, feeds);
        seeded.sources += usize::from(add_source(ingest, &outlet.slug, &draft).await?);
    }

    let samples: Samples = read(folder, "sources.json")?;
    let days = (now - samples.anchor).num_seconds().div_euclid(86_400);
    let target = data_dir.join("samples");
    for sample in samples.sources {
        let feeds = sample
            .feeds
            .iter()
            .map(|feed| {
                let url = write_feed(folder, &target, &feed.file, days)?;
                Ok(FeedDraft {
                    url: url.into(),
                    language: feed.language.clone(),
                    section: feed.section.clone(),
                })
            })
            .collect::<anyhow::Result<_>>()?;
        // Paused, because files do not change: the schedule leaves them alone.
        let draft = source(sample.name, sample.homepage, sample.country, true, feeds);
        seeded.sources += usize::from(add_source(ingest, &sample.slug, &draft).await?);
        progress(&sample.slug);
        seeded.articles += ingest_samples(ingest, &sample.slug, &draft.feeds).await?;
    }
    if seeded.keywords + seeded.articles > 0 {
        progress("relations");
        relations::rebuild(&ingest.db, now).await?;
    }
    Ok(seeded)
}

fn source(
    display_name: String,
    homepage_url: String,
    country: String,
    paused: bool,
    feeds: Vec<FeedDraft>,
) -> SourceDraft {
    SourceDraft { display_name, homepage_url, country, paused, feeds }
}

async fn add_source(ingest: &Ingest, slug: &str, draft: &SourceDraft) -> anyhow::Result<bool> {
    let mut tx = ingest.db.begin().await?;
    match sources::insert(&mut tx, slug, draft, ingest.clock.now()).await {
        Ok(()) => {
            tx.commit().await?;
            Ok(true)
        }
        Err(Error::AlreadyExists(_)) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("source {slug}")),
    }
}

/// Ingests the feeds of a sample source that were not read before; the number of new articles.
async fn ingest_samples(ingest: &Ingest, slug: &str, feeds: &[FeedDraft]) -> anyhow::Result<usize> {
    let Some(source) = source_store::by_slug(&ingest.db, slug).await? else { return Ok(0) };
    // The samples are our own files: reading them needs no leave for private sources in general.
    let fetcher = Fetcher::new(FetchPolicy { allow_private: true, ..FetchPolicy::default() })?;
    let ingest = Ingest { fetcher, ..ingest.clone() };
    let mut new = 0;
    let ours = |url: &str| feeds.iter().any(|feed| feed.url == url);
    for feed in source.feeds.0.iter().filter(|feed| feed.last_success_time.is_none() && ours(&feed.url)) {
        new += usize::try_from(ingest.run_feed(feed.id).await?.new).unwrap_or_default();
    }
    analyze_stored(&ingest).await?;
    Ok(new)
}

/// Analyses whatever is stored and waits for it.
pub async fn analyze_stored(ingest: &Ingest) -> anyhow::Result<()> {
    loop {
        let ids = ingest_store::all_unanalyzed(&ingest.db, i64::try_from(BATCH)?).await?;
        if ids.is_empty() {
            return Ok(());
        }
        ingest.analyze(&ids).await?;
    }
}

/// Fetches every feed of a source now and analyses what came; `ended` hears of each run.
pub async fn ingest_source(ingest: &Ingest, slug: &str, mut ended: impl FnMut(&Run)) -> anyhow::Result<()> {
    let source = source_store::by_slug(&ingest.db, slug).await?;
    let source = source.ok_or_else(|| anyhow!("there is no source `{slug}`"))?;
    for feed in &source.feeds.0 {
        ended(&ingest.run_feed(feed.id).await?);
    }
    analyze_stored(ingest).await
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> anyhow::Result<T> {
    let path = folder.join(name);
    let bytes = std::fs::read(&path).with_context(|| {
        format!("cannot read {}; EUHUB_SAMPLES_DIR names the project's folder `samples`", path.display())
    })?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

/// Writes a sample feed with its dates moved by `days`, unless it is written already; its address.
fn write_feed(folder: &Path, target: &Path, file: &Path, days: i64) -> anyhow::Result<Url> {
    let name = file.file_name().ok_or_else(|| anyhow!("{} is no file name", file.display()))?;
    std::fs::create_dir_all(target).with_context(|| target.display().to_string())?;
    let path = target.canonicalize()?.join(name);
    if !path.exists() {
        let source = folder.join(file);
        let bytes = std::fs::read(&source).with_context(|| source.display().to_string())?;
        // Whole or not at all, whenever the process ends.
        let half = path.with_extension("part");
        std::fs::write(&half, shift_dates(&bytes, days)?)
            .and_then(|()| std::fs::rename(&half, &path))
            .with_context(|| path.display().to_string())?;
    }
    Url::from_file_path(&path).map_err(|()| anyhow!("{} is no absolute path", path.display()))
}

/// Moves every RFC 3339 and RFC 822 date in a feed by whole days; everything else stays byte for byte, whatever its charset.
fn shift_dates(feed: &[u8], days: i64) -> anyhow::Result<Vec<u8>> {
    let rfc3339 = Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")?;
    let rfc822 = Regex::new(r"(?-u)[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d")?;
    let shift = |format: &'static str| {
        move |found: &Captures<'_>| -> Vec<u8> {
            let text = String::from_utf8_lossy(&found[0]);
            let moved = NaiveDateTime::parse_from_str(&text, format).ok().and_then(|time| {
                let distance = Days::new(days.unsigned_abs());
                if days < 0 { time.checked_sub_days(distance) } else { time.checked_add_days(distance) }
            });
            moved.map_or_else(|| found[0].to_vec(), |time| time.format(format).to_string().into_bytes())
        }
    };
    let once = rfc3339.replace_all(feed, shift("%Y-%m-%dT%H:%M:%S"));
    Ok(rfc822.replace_all(&once, shift("%a, %d %b %Y %H:%M:%S")).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_move_and_nothing_else_does() {
        let feed = b"<a>2026-02-27T10:00:00Z</a><b>Fri, 27 Feb 2026 10:00:00 +0000</b> caf\xe9 2026-02-27";
        let moved = shift_dates(feed, 3).unwrap();
        assert_eq!(
            moved,
            b"<a>2026-03-02T10:00:00Z</a><b>Mon, 02 Mar 2026 10:00:00 +0000</b> caf\xe9 2026-02-27"
        );
        assert_eq!(shift_dates(&moved, -3).unwrap(), feed);
    }
}
