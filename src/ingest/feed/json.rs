//! JSON Feed 1.0 and 1.1 (<https://www.jsonfeed.org/version/1.1/>).

use std::fmt;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use url::Url;

use super::date::parse_date;
use super::draft::{Draft, Markup, language_tag, link};
use super::{EntryProblem, EntryProblemReason, FeedError, FeedFormat, MAX_ENTRIES, ParsedFeed};
use crate::ingest::normalise;

#[derive(Deserialize)]
struct Document<'a> {
    version: Option<String>,
    title: Option<String>,
    language: Option<String>,
    #[serde(borrow)]
    items: Option<Items<'a>>,
}

/// Items unread, so that one of the wrong shape costs no other, and none beyond the limit costs memory.
struct Items<'a> {
    items: Vec<&'a RawValue>,
    ignored: usize,
}

#[derive(Deserialize)]
struct Item {
    id: Option<Id>,
    url: Option<String>,
    external_url: Option<String>,
    title: Option<String>,
    content_html: Option<String>,
    content_text: Option<String>,
    summary: Option<String>,
    date_published: Option<String>,
    date_modified: Option<String>,
    author: Option<Author>,
    #[serde(default)]
    authors: Vec<Author>,
    #[serde(default)]
    tags: Vec<String>,
    language: Option<String>,
}

/// The specification asks for a string, and tells readers to take a number as one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Deserialize)]
struct Author {
    name: Option<String>,
}

pub(super) fn parse(document: &str, base: &Url) -> Result<ParsedFeed, FeedError> {
    let document: Document<'_> = match serde_json::from_str(document) {
        Ok(document) => document,
        Err(error) if error.is_data() => return Err(FeedError::NotAFeed("other JSON")),
        Err(_) => return Err(FeedError::Malformed),
    };
    if !document.version.is_some_and(|version| version.contains("jsonfeed.org/version/")) {
        return Err(FeedError::NotAFeed("other JSON"));
    }
    let Items { items, ignored } = document.items.ok_or(FeedError::NotAFeed("JSON without items"))?;
    let mut feed = ParsedFeed {
        format: FeedFormat::Json,
        title: document.title.map(|title| normalise::text(&title)).filter(|title| !title.is_empty()),
        language: document.language.as_deref().and_then(language_tag),
        ignored,
        ..ParsedFeed::default()
    };
    for (index, raw) in items.into_iter().enumerate() {
        let entry = serde_json::from_str::<Item>(raw.get())
            .map_err(|_| EntryProblemReason::NotAnEntry)
            .and_then(|item| item.into_draft(base).finish());
        match entry {
            Ok(entry) => feed.entries.push(entry),
            Err(reason) => feed.problems.push(EntryProblem { index, reason }),
        }
    }
    Ok(feed)
}

impl Item {
    fn into_draft(self, base: &Url) -> Draft {
        let mut draft = Draft {
            guid: self.id.map(|id| match id {
                Id::Text(text) => text,
                Id::Number(number) => number.to_string(),
            }),
            // `external_url` is the page a link blog writes about, not the entry's own.
            url: self.url.or(self.external_url).and_then(|url| link(&url, base)),
            title: self.title.map(Markup::Plain),
            summary: self.summary.map(Markup::Plain),
            content: self.content_html.map(Markup::Html).or(self.content_text.map(Markup::Plain)),
            published: self.date_published.as_deref().and_then(parse_date),
            updated: self.date_modified.as_deref().and_then(parse_date),
            language: self.language,
            ..Draft::default()
        };
        for author in self.author.into_iter().chain(self.authors) {
            draft.add_author(author.name.as_deref().unwrap_or_default());
        }
        for tag in &self.tags {
            draft.add_category(tag);
        }
        draft
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;

        impl<'de> Visitor<'de> for Bounded {
            type Value = Items<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items<'de>, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX_ENTRIES {
                    match list.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(Items { items, ignored: 0 }),
                    }
                }
                let mut ignored = 0_usize;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    ignored = ignored.checked_add(1).ok_or_else(|| A::Error::custom("too many items"))?;
                }
                Ok(Items { items, ignored })
            }
        }

        deserializer.deserialize_seq(Bounded)
    }
}
