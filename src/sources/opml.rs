//! OPML 1.0 and 2.0 (<http://opml.org/spec2.opml>): sources as nested outlines. What outlines mean to the Hub: `docs/SOURCES.md`.

use std::collections::HashMap;
use std::fmt::Write;

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_predefined_entity, unescape_with};
use quick_xml::events::{BytesStart, Event};
use url::Url;

use crate::ingest::normalise;
use crate::resource;
use crate::sources::store::{Draft, FeedDraft, Source};

/// Most bytes of a document.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Most outlines that are no folders.
const MAX_OUTLINES: usize = 1_000;
/// Deepest nesting of elements.
const MAX_DEPTH: usize = 32;
/// Most attributes looked at in one element.
const MAX_ATTRIBUTES: usize = 32;

/// A document that is not read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpmlError {
    /// Broken, or cut off.
    #[error("is not well-formed XML.")]
    Malformed,
    /// Well-formed, but something else.
    #[error("is not OPML: the root must be `opml`.")]
    NotOpml,
    /// Entities are never expanded.
    #[error("must not hold a document type declaration.")]
    DocumentType,
    /// Nested too deep.
    #[error("must not be nested deeper than {MAX_DEPTH} elements.")]
    TooDeep,
    /// Too many outlines.
    #[error("must hold at most {MAX_OUTLINES} feeds.")]
    TooMany,
}

/// A source that a document describes.
#[derive(Debug)]
pub struct Outlet {
    /// Its slug.
    pub slug: String,
    /// The source; country empty where the document tells none.
    pub draft: Draft,
    /// The titles of its feeds.
    pub titles: Vec<String>,
}

/// An outline that made no feed.
#[derive(Debug)]
pub struct Left {
    /// Its title.
    pub title: String,
    /// Address of its feed.
    pub url: String,
    /// Why.
    pub reason: String,
}

/// What a document holds.
#[derive(Debug, Default)]
pub struct Document {
    /// In the order in which they begin.
    pub outlets: Vec<Outlet>,
    /// What could not be read.
    pub failed: Vec<Left>,
}

/// An outline that is open.
#[derive(Default)]
struct Outline {
    title: String,
    url: Option<String>,
    kind: String,
    homepage: String,
    language: String,
    section: Option<String>,
    country: String,
    slug: Option<String>,
    paused: bool,
    has_children: bool,
    is_outline: bool,
}

/// Reads a document.
pub fn parse(document: &str) -> Result<Document, OpmlError> {
    let mut reader = Reader::from_str(document);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.allow_dangling_amp = true;
    let mut open: Vec<Outline> = Vec::new();
    let mut found = Found::default();
    let mut seen_root = false;
    loop {
        match reader.read_event().map_err(|_| OpmlError::Malformed)? {
            Event::Start(start) => {
                let name = start.local_name();
                if open.is_empty() && (seen_root || name.as_ref() != "opml") {
                    return Err(OpmlError::NotOpml);
                }
                seen_root = true;
                if open.len() == MAX_DEPTH {
                    return Err(OpmlError::TooDeep);
                }
                if let (Some(parent), "outline") = (open.last_mut(), name.as_ref()) {
                    parent.has_children = true;
                    open.push(outline(&start));
                } else {
                    open.push(Outline::default());
                }
            }
            Event::End(_) => {
                let outline = open.pop().ok_or(OpmlError::Malformed)?;
                if outline.is_outline {
                    found.add(outline, &open)?;
                }
            }
            Event::DocType(_) => return Err(OpmlError::DocumentType),
            Event::Eof if !open.is_empty() => return Err(OpmlError::Malformed),
            Event::Eof if !seen_root => return Err(OpmlError::NotOpml),
            Event::Eof => return Ok(found.document),
            _ => {}
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct Found {
    document: Document,
    /// Where the outlet of a slug, or of a host, stands.
    places: HashMap<String, usize>,
    outlines: usize,
}

impl Found {
    /// Takes an outline that ended, with those around it.
    fn add(&mut self, outline: Outline, around: &[Outline]) -> Result<(), OpmlError> {
        let Some(url) = outline.url else {
            if !outline.has_children {
                self.count()?;
                self.failed(outline.title, String::new(), "has no xmlUrl");
            }
            return Ok(());
        };
        self.count()?;
        if !matches!(outline.kind.as_str(), "" | "rss" | "atom" | "feed") {
            self.failed(outline.title, url, "is of a type that is no feed");
            return Ok(());
        }
        let folder = around.iter().rev().find(|outer| outer.slug.is_some());
        let enclosing = around.iter().rev().find(|outer| !outer.title.is_empty());
        let country = if outline.country.is_empty() {
            around.iter().rev().map(|outer| outer.country.as_str()).find(|country| !country.is_empty())
        } else {
            Some(outline.country.as_str())
        };
        let country = country.unwrap_or_default().to_owned();
        let (key, fresh) = if let Some((folder, slug)) =
            folder.and_then(|folder| Some((folder, folder.slug.clone()?)))
        {
            let draft = Draft {
                display_name: folder.title.clone(),
                homepage_url: folder.homepage.clone(),
                country,
                paused: folder.paused,
                feeds: Vec::new(),
            };
            (format!("source {slug}"), Outlet { slug, draft, titles: Vec::new() })
        } else {
            let Some(host) = host(&outline.homepage).or_else(|| host(&url)) else {
                self.failed(outline.title, url, "has an address without a host");
                return Ok(());
            };
            let display_name = if outline.title.is_empty() { host.clone() } else { outline.title.clone() };
            let homepage_url = outline.homepage.clone();
            let slug = resource::slugify(&display_name);
            let slug = if slug.is_empty() { resource::slugify(&host) } else { slug };
            let draft = Draft { display_name, homepage_url, country, paused: false, feeds: Vec::new() };
            (format!("host {host}"), Outlet { slug, draft, titles: Vec::new() })
        };
        let place = *self.places.entry(key).or_insert(self.document.outlets.len());
        if place == self.document.outlets.len() {
            self.document.outlets.push(fresh);
        }
        let section = outline.section.or_else(|| {
            // A source's own folder is no section of it.
            enclosing.filter(|outer| outer.slug.is_none()).map(|outer| outer.title.clone())
        });
        let outlet = &mut self.document.outlets[place];
        outlet.titles.push(outline.title);
        outlet.draft.feeds.push(FeedDraft {
            url,
            language: outline.language,
            section: section.unwrap_or_default(),
        });
        Ok(())
    }

    fn count(&mut self) -> Result<(), OpmlError> {
        self.outlines += 1;
        if self.outlines > MAX_OUTLINES { Err(OpmlError::TooMany) } else { Ok(()) }
    }

    fn failed(&mut self, title: String, url: String, reason: &str) {
        self.document.failed.push(Left { title, url, reason: reason.into() });
    }
}

fn outline(start: &BytesStart<'_>) -> Outline {
    let mut outline = Outline { is_outline: true, ..Outline::default() };
    let (mut text, mut title) = (String::new(), String::new());
    for attribute in start.attributes().with_checks(false).take(MAX_ATTRIBUTES).flatten() {
        let value = match unescape_with(&attribute.value, resolve_predefined_entity) {
            Ok(value) => value.into_owned(),
            // As addresses often are: an ampersand that nobody escaped.
            Err(_) => attribute.value.clone().into_owned(),
        };
        match attribute.key.as_ref() {
            "text" => text = value,
            "title" => title = value,
            "type" => outline.kind = value.to_ascii_lowercase(),
            "xmlUrl" => outline.url = Some(value.trim().to_owned()).filter(|url| !url.is_empty()),
            "htmlUrl" => outline.homepage = value.trim().to_owned(),
            "language" => outline.language = language(&value),
            "euhub:section" => outline.section = Some(value),
            "euhub:country" => outline.country = value.to_ascii_uppercase(),
            "euhub:source" => outline.slug = Some(value),
            "euhub:paused" => outline.paused = value == "true",
            _ => {}
        }
    }
    let text = if text.trim().is_empty() { title } else { text };
    // Our own are taken to the letter, so that they come back as they went.
    outline.title = if outline.slug.is_some() { text } else { normalise::text(&text) };
    outline
}

/// `en` of `en-GB`; empty for what is no language.
fn language(tag: &str) -> String {
    let primary = tag.trim().split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let known = matches!(primary.len(), 2..=3) && primary.bytes().all(|byte| byte.is_ascii_lowercase());
    if known { primary } else { String::new() }
}

fn host(url: &str) -> Option<String> {
    let host = Url::parse(url).ok()?.host_str()?.to_owned();
    Some(host.strip_prefix("www.").map(ToOwned::to_owned).unwrap_or(host))
}

/// Writes sources so that [`parse`] reads the same.
pub fn write(sources: &[Source]) -> String {
    let mut opml = String::from(concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
        "<opml version=\"2.0\" xmlns:euhub=\"urn:euhub:opml:1\">\n",
        "  <head><title>EU Intelligence Hub: sources</title></head>\n  <body>\n",
    ));
    for source in sources {
        let homepage = optional("htmlUrl", &source.homepage_url);
        let _ = writeln!(
            opml,
            "    <outline text=\"{}\"{homepage} euhub:source=\"{}\" euhub:country=\"{}\"{}>",
            escape(&source.display_name),
            source.slug,
            source.country,
            if source.paused { " euhub:paused=\"true\"" } else { "" },
        );
        for feed in &source.feeds.0 {
            let name = match feed.section.as_str() {
                "" => source.display_name.clone(),
                section => format!("{}: {section}", source.display_name),
            };
            let _ = writeln!(
                opml,
                "      <outline type=\"rss\" text=\"{}\" xmlUrl=\"{}\"{homepage}{}{}/>",
                escape(&name),
                escape(&feed.url),
                optional("language", &feed.language),
                optional("euhub:section", &feed.section),
            );
        }
        opml.push_str("    </outline>\n");
    }
    opml.push_str("  </body>\n</opml>\n");
    opml
}

fn optional(name: &str, value: &str) -> String {
    if value.is_empty() { String::new() } else { format!(" {name}=\"{}\"", escape(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(outlines: &str) -> String {
        format!("<opml version=\"1.0\"><head><title>t</title></head><body>{outlines}</body></opml>")
    }

    #[test]
    fn feeds_of_one_host_are_one_source() {
        let document = parse(&body(
            r#"<outline text="News"><outline text="A  &amp; B" type="RSS" xmlUrl="https://feeds.a.example/1?x=1&y=2" htmlUrl="https://www.a.example/" language="de-AT"/>
               <outline text="Sport"><outline title="A sport" xmlUrl="https://feeds.a.example/2" htmlUrl="https://a.example/sport"/></outline></outline>
               <outline xmlUrl="https://www.c.example/feed"/><outline text="Empty"/><outline text="Page" type="link" xmlUrl="https://d.example/"/>"#,
        ))
        .unwrap();
        let names: Vec<(&str, &str)> = document
            .outlets
            .iter()
            .map(|outlet| (outlet.slug.as_str(), outlet.draft.display_name.as_str()))
            .collect();
        assert_eq!(names, [("a-b", "A & B"), ("c-example", "c.example")]);
        let feeds = &document.outlets[0].draft.feeds;
        let feeds: Vec<[&str; 3]> = feeds
            .iter()
            .map(|feed| [feed.url.as_str(), feed.language.as_str(), feed.section.as_str()])
            .collect();
        let expected =
            [["https://feeds.a.example/1?x=1&y=2", "de", "News"], ["https://feeds.a.example/2", "", "Sport"]];
        assert_eq!(feeds, expected);
        let failed: Vec<&str> = document.failed.iter().map(|left| left.title.as_str()).collect();
        assert_eq!(failed, ["Empty", "Page"]);
    }

    #[test]
    fn documents_that_are_not_read() {
        let deep = |n: usize| body(&format!("{}{}", "<outline text='x'>".repeat(n), "</outline>".repeat(n)));
        let many = |n: usize| body(&"<outline xmlUrl='https://a.example/'/>".repeat(n));
        let table = [
            ("", OpmlError::NotOpml),
            ("plain", OpmlError::NotOpml),
            ("<rss/>", OpmlError::NotOpml),
            ("<opml/><opml/>", OpmlError::NotOpml),
            ("<opml><body>", OpmlError::Malformed),
            ("<opml><body></opml>", OpmlError::Malformed),
            ("<!DOCTYPE x [<!ENTITY a 'b'>]><opml/>", OpmlError::DocumentType),
            (&deep(31), OpmlError::TooDeep),
            (&many(1001), OpmlError::TooMany),
        ];
        for (document, error) in table {
            assert_eq!(parse(document).err(), Some(error), "{}", document.get(..40).unwrap_or(document));
        }
        assert!(parse(&deep(30)).is_ok());
        assert!(parse(&many(1000)).is_ok());
    }
}
