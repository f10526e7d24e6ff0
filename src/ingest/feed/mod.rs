//! Reads feeds: RSS 0.9x and 2.0, RSS 1.0 (RDF), Atom and JSON Feed, as they are found rather than as they are
//! specified.
//!
//! Everything outside is bounded: entries, depth, text. Entities are never expanded and a document that
//! declares any is refused. An entry that cannot be used is counted with its reason and costs no other
//! entry; of a document that breaks off, the entries before the break are kept.

pub(crate) mod charset;
mod date;
mod draft;
mod json;
mod text;
mod xml;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use url::Url;

pub use charset::charset_of;
pub use date::parse_date;
pub use text::html_to_text;

/// Most entries read from one feed.
pub const MAX_ENTRIES: usize = 1_000;
/// Longest title, in characters.
pub const MAX_TITLE_CHARS: usize = 500;
/// Longest body, in characters of plain text.
pub const MAX_BODY_CHARS: usize = 100_000;
/// Deepest nesting of elements.
pub const MAX_DEPTH: usize = 128;

/// How far into a document its first markup may begin.
const MAX_LEADING_JUNK: usize = 4_096;

/// What a feed is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FeedFormat {
    /// RSS 0.9x and 2.0.
    #[default]
    Rss,
    /// RSS 1.0.
    Rdf,
    /// Atom.
    Atom,
    /// JSON Feed.
    Json,
}

/// A feed that could be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParsedFeed {
    /// What it is written in.
    pub format: FeedFormat,
    /// The feed's own name.
    pub title: Option<String>,
    /// The language the feed declares, as written, in lower case: `en-gb`.
    pub language: Option<String>,
    /// The usable entries, in the feed's order.
    pub entries: Vec<ParsedEntry>,
    /// The entries that could not be used.
    pub problems: Vec<EntryProblem>,
    /// Entries with the identifier and URL of another in the feed, of which the newer is given here.
    pub repeated: usize,
    /// Entries beyond [`MAX_ENTRIES`], not read.
    pub ignored: usize,
    /// Whether the document broke off or turned malformed after the entries given here.
    pub broken_off: bool,
}

/// One entry of a feed. All text is plain and in normal form.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedEntry {
    /// The entry's own identifier, unique at most within its feed.
    pub guid: Option<String>,
    /// The article's address, absolute, `http` or `https`.
    pub url: Option<Url>,
    /// One line, never empty: the start of the body where the entry has no title.
    pub title: String,
    /// The longer of content and summary; a line for each paragraph; may be empty.
    pub body: String,
    /// Names, without e-mail addresses.
    pub authors: Vec<String>,
    /// Categories or tags.
    pub categories: Vec<String>,
    /// When the entry says it was published; may lie in the future.
    pub published: Option<DateTime<Utc>>,
    /// When the entry says it was last changed.
    pub updated: Option<DateTime<Utc>>,
    /// The language the entry itself declares, as written, in lower case.
    pub language: Option<String>,
}

/// An entry that could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryProblem {
    /// The entry's place in the document, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: EntryProblemReason,
}

/// Why an entry cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblemReason {
    /// Neither title nor body.
    #[error("neither title nor body")]
    NoText,
    /// Neither URL nor identifier.
    #[error("neither URL nor identifier")]
    NoIdentity,
    /// A JSON value of another shape than an entry's.
    #[error("not an entry")]
    NotAnEntry,
    /// The document ends within the entry.
    #[error("the document breaks off here")]
    BrokenOff,
}

/// A document that is no readable feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// No content at all.
    #[error("the document is empty")]
    Empty,
    /// Something else than a feed, such as a web page.
    #[error("the document is {0}, not a feed")]
    NotAFeed(&'static str),
    /// Broken before its first entry was complete.
    #[error("the document is malformed before its first complete entry")]
    Malformed,
    /// The document declares entities.
    #[error("the document declares entities")]
    EntityDeclaration,
    /// Elements nested deeper than [`MAX_DEPTH`].
    #[error("elements nested deeper than {MAX_DEPTH}")]
    TooDeep,
}

impl FeedError {
    /// A stable name for the kind of failure, kept with the run.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotAFeed(_) => "not_a_feed",
            Self::Malformed => "malformed",
            Self::EntityDeclaration => "entity_declaration",
            Self::TooDeep => "too_deep",
        }
    }
}

/// Reads a feed. `content_type` is the HTTP header with its parameters; `base` is where the document was
/// found, and resolves relative links.
pub fn parse(bytes: &[u8], content_type: Option<&str>, base: &Url) -> Result<ParsedFeed, FeedError> {
    let decoded = charset::decode(bytes, content_type);
    let head = &decoded[..decoded.floor_char_boundary(MAX_LEADING_JUNK)];
    if head.chars().all(|c| c.is_whitespace() || c.is_control() || c == '\u{feff}') {
        return Err(if decoded.len() > MAX_LEADING_JUNK {
            FeedError::NotAFeed("blank")
        } else {
            FeedError::Empty
        });
    }
    let start = head.find(['<', '{']).ok_or(FeedError::NotAFeed("plain text"))?;
    let document = &decoded[start..];
    let mut feed =
        if document.starts_with('{') { json::parse(document, base)? } else { xml::parse(document, base)? };
    drop_repeated(&mut feed);
    Ok(feed)
}

/// Keeps the newest of entries that occur twice, and takes away identifiers that several different articles
/// share, since they identify nothing.
fn drop_repeated(feed: &mut ParsedFeed) {
    let mut urls_of_guid: HashMap<&str, HashSet<Option<&Url>>> = HashMap::new();
    for entry in &feed.entries {
        if let Some(guid) = &entry.guid {
            urls_of_guid.entry(guid).or_default().insert(entry.url.as_ref());
        }
    }
    let shared: HashSet<String> = urls_of_guid
        .into_iter()
        .filter(|(_, urls)| urls.len() > 1)
        .map(|(guid, _)| guid.to_owned())
        .collect();

    let mut place_of = HashMap::new();
    let mut kept: Vec<ParsedEntry> = Vec::with_capacity(feed.entries.len());
    for mut entry in std::mem::take(&mut feed.entries) {
        // An entry without a URL keeps even a shared identifier: it has nothing else.
        if entry.url.is_some() && entry.guid.as_ref().is_some_and(|guid| shared.contains(guid)) {
            entry.guid = None;
        }
        match place_of.entry((entry.guid.clone(), entry.url.clone())) {
            Entry::Vacant(vacant) => {
                vacant.insert(kept.len());
                kept.push(entry);
            }
            Entry::Occupied(occupied) => {
                feed.repeated += 1;
                let earlier = &mut kept[*occupied.get()];
                // Feeds put the newest first, so the first stays unless the dates say otherwise.
                if entry.updated.max(entry.published) > earlier.updated.max(earlier.published) {
                    *earlier = entry;
                }
            }
        }
    }
    feed.entries = kept;
}
