//! An entry while it is being read, and its check and clean-up when complete.

use chrono::{DateTime, Utc};
use url::Url;

use super::text::html_to_text;
use super::{EntryProblemReason, MAX_BODY_CHARS, MAX_TITLE_CHARS, ParsedEntry};
use crate::ingest::fetch::MAX_URL_LENGTH;
use crate::ingest::normalise;

const MAX_GUID_LENGTH: usize = 2_048;
const MAX_NAMES: usize = 20;
const MAX_NAME_CHARS: usize = 200;
/// Length of a title made from a body.
const DERIVED_TITLE_CHARS: usize = 100;
/// Longest language tag by RFC 5646, section 4.4.1.
const MAX_LANGUAGE_LENGTH: usize = 35;

/// Text and the way to read it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Markup {
    Plain(String),
    Html(String),
}

impl Markup {
    /// Plain text in normal form, a line for each block.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Plain(text) => normalise::lines(&text),
            Self::Html(html) => html_to_text(&html),
        }
    }

    /// The same as one line.
    pub(super) fn into_line(self) -> String {
        normalise::text(&self.into_text())
    }
}

/// What has been read of an entry so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) guid: Option<String>,
    pub(super) url: Option<Url>,
    pub(super) title: Option<Markup>,
    pub(super) summary: Option<Markup>,
    pub(super) content: Option<Markup>,
    pub(super) authors: Vec<String>,
    pub(super) categories: Vec<String>,
    pub(super) published: Option<DateTime<Utc>>,
    pub(super) updated: Option<DateTime<Utc>>,
    pub(super) language: Option<String>,
}

impl Draft {
    pub(super) fn add_author(&mut self, raw: &str) {
        add_name(&mut self.authors, person_name(raw));
    }

    pub(super) fn add_category(&mut self, raw: &str) {
        add_name(&mut self.categories, raw);
    }

    /// The entry, or why it cannot be used.
    pub(super) fn finish(self) -> Result<ParsedEntry, EntryProblemReason> {
        let guid = self.guid.map(|guid| normalise::text(&guid));
        let guid = guid.filter(|guid| !guid.is_empty() && guid.len() <= MAX_GUID_LENGTH);
        if guid.is_none() && self.url.is_none() {
            return Err(EntryProblemReason::NoIdentity);
        }
        let content = self.content.map(Markup::into_text).unwrap_or_default();
        let summary = self.summary.map(Markup::into_text).unwrap_or_default();
        let mut body = if summary.len() > content.len() { summary } else { content };
        cut(&mut body, MAX_BODY_CHARS);
        let mut title = self.title.map(Markup::into_line).unwrap_or_default();
        cut(&mut title, MAX_TITLE_CHARS);
        if title.is_empty() {
            title = derived_title(&body);
        }
        if title.is_empty() {
            return Err(EntryProblemReason::NoText);
        }
        Ok(ParsedEntry {
            guid,
            url: self.url,
            title,
            body,
            authors: self.authors,
            categories: self.categories,
            published: self.published,
            updated: self.updated,
            language: self.language.as_deref().and_then(language_tag),
        })
    }
}

/// The article's address, if it is one to follow: `http` or `https`, no user information, not too long.
pub(super) fn link(raw: &str, base: &Url) -> Option<Url> {
    let raw = raw.trim();
    if raw.is_empty() || raw.len() > MAX_URL_LENGTH {
        return None;
    }
    let url = base.join(raw).ok()?;
    let usable = matches!(url.scheme(), "http" | "https")
        && url.as_str().len() <= MAX_URL_LENGTH
        && url.username().is_empty()
        && url.password().is_none();
    usable.then_some(url)
}

/// A language tag in lower case, if it looks like one.
pub(super) fn language_tag(raw: &str) -> Option<String> {
    let tag = raw.trim().replace('_', "-").to_ascii_lowercase();
    let plausible = (2..=MAX_LANGUAGE_LENGTH).contains(&tag.len())
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plausible.then_some(tag)
}

fn add_name(names: &mut Vec<String>, raw: &str) {
    let mut name = normalise::text(raw);
    cut(&mut name, MAX_NAME_CHARS);
    if !name.is_empty() && names.len() < MAX_NAMES && !names.contains(&name) {
        names.push(name);
    }
}

/// The name of an RSS author, who is written `name@example.eu (Name)` by the book and `Name` in practice.
fn person_name(raw: &str) -> &str {
    let raw = raw.trim();
    if !raw.contains('@') {
        return raw;
    }
    let in_brackets = raw.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(name, _)| name);
    let before_address = raw.split_once('<').map(|(name, _)| name.trim_matches(['"', ' ']));
    in_brackets.or(before_address).unwrap_or_default()
}

fn derived_title(body: &str) -> String {
    let first_line = body.lines().next().unwrap_or_default();
    match first_line.char_indices().nth(DERIVED_TITLE_CHARS) {
        None => first_line.to_owned(),
        Some((end, _)) => {
            let start = &first_line[..end];
            format!("{}…", start.rsplit_once(' ').map_or(start, |(words, _)| words))
        }
    }
}

fn cut(text: &mut String, max_chars: usize) {
    if let Some((end, _)) = text.char_indices().nth(max_chars) {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn author_names_without_addresses() {
        assert_eq!(person_name("jo@example.eu (Jo Ek)"), "Jo Ek");
        assert_eq!(person_name("\"Jo Ek\" <jo@example.eu>"), "Jo Ek");
        assert_eq!(person_name("jo@example.eu"), "");
        assert_eq!(person_name("Renée –jo@example.eu"), "");
        assert_eq!(person_name(" Jo Ek "), "Jo Ek");
    }

    #[test]
    fn links_are_resolved_and_checked() {
        let base = Url::parse("https://example.eu/feeds/all.xml").expect("a URL");
        let resolved = |raw: &str| link(raw, &base).map(String::from);
        assert_eq!(resolved(" /a?b=c ").as_deref(), Some("https://example.eu/a?b=c"));
        assert_eq!(resolved("//cdn.example.eu/a").as_deref(), Some("https://cdn.example.eu/a"));
        for refused in
            ["", "javascript:alert(1)", "file:///etc/passwd", "data:,x", "https://a:b@example.eu/", "http://"]
        {
            assert_eq!(resolved(refused), None, "{refused}");
        }
        let path = "https://example.eu/";
        let longest = format!("{path}{}", "a".repeat(MAX_URL_LENGTH - path.len()));
        assert!(link(&longest, &base).is_some());
        assert!(link(&format!("{longest}a"), &base).is_none());
    }

    #[test]
    fn titles_and_bodies_are_cut_between_characters() {
        let draft = |title: String, body: String| Draft {
            guid: Some("1".into()),
            title: Some(Markup::Plain(title)),
            content: Some(Markup::Plain(body)),
            ..Draft::default()
        };
        let exact = draft("é".repeat(MAX_TITLE_CHARS), "ł".repeat(MAX_BODY_CHARS)).finish().expect("usable");
        assert_eq!(
            (exact.title.chars().count(), exact.body.chars().count()),
            (MAX_TITLE_CHARS, MAX_BODY_CHARS)
        );
        let over =
            draft("é".repeat(MAX_TITLE_CHARS + 1), "ł".repeat(MAX_BODY_CHARS + 1)).finish().expect("usable");
        assert_eq!((over.title, over.body), (exact.title, exact.body));
    }

    #[test]
    fn the_longer_of_content_and_summary_is_the_body() {
        let draft = |summary: &str, content: &str| Draft {
            guid: Some("1".into()),
            title: Some(Markup::Plain("t".into())),
            summary: Some(Markup::Html(summary.into())),
            content: Some(Markup::Html(content.into())),
            ..Draft::default()
        };
        assert_eq!(draft("short", "<p>longer text</p>").finish().expect("usable").body, "longer text");
        assert_eq!(
            draft("longer text", "<p class='very long markup'>x</p>").finish().expect("usable").body,
            "longer text"
        );
    }

    #[test]
    fn an_entry_without_title_takes_the_start_of_its_body() {
        let draft = |body: &str| Draft {
            guid: Some("1".into()),
            content: Some(Markup::Plain(body.into())),
            ..Draft::default()
        };
        assert_eq!(draft("One line.\nTwo lines.").finish().expect("usable").title, "One line.");
        let long = draft(&"word ".repeat(50)).finish().expect("usable").title;
        assert!(long.ends_with("word…") && long.chars().count() <= DERIVED_TITLE_CHARS + 1, "{long}");
        assert_eq!(draft("").finish(), Err(EntryProblemReason::NoText));
    }

    #[test]
    fn language_tags() {
        assert_eq!(language_tag(" en_GB ").as_deref(), Some("en-gb"));
        assert_eq!(language_tag("français"), None);
        assert_eq!(language_tag("x"), None);
    }
}
