//! RSS, RDF and Atom, read as one stream of elements.
//!
//! The three formats differ in names more than in shape: a feed holds entries, an entry holds fields. Names
//! are compared with their namespace where it is declared, by the customary prefix where it is not.

use chrono::{DateTime, Utc};
use quick_xml::NsReader;
use quick_xml::escape::{resolve_predefined_entity, unescape_with};
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use url::Url;

use super::date::parse_date;
use super::draft::{Draft, Markup, language_tag, link};
use super::{EntryProblem, EntryProblemReason, FeedError, FeedFormat, MAX_DEPTH, MAX_ENTRIES, ParsedFeed};

/// Longest source text of one field, in bytes, markup included.
const MAX_FIELD_LENGTH: usize = 1_000_000;
/// Most attributes looked at in one element.
const MAX_ATTRIBUTES: usize = 32;

pub(super) fn parse(document: &str, base: &Url) -> Result<ParsedFeed, FeedError> {
    let mut reader = NsReader::from_str(document);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.allow_dangling_amp = true;
    let mut parser = Parser::new(base);
    // A syntax error ends the document there, as if it broke off.
    while let Ok((namespace, event)) = reader.read_resolved_event() {
        match event {
            Event::Start(start) => {
                let vocabulary = parser.vocabulary(&namespace);
                parser.start(vocabulary, &start)?;
            }
            Event::End(end) => parser.end(end.local_name().as_ref()),
            Event::Text(text) => parser.text(&text),
            Event::CData(text) => parser.text(&text),
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(c)) => parser.text(c.encode_utf8(&mut [0; 4])),
                _ => parser.entity(&reference),
            },
            Event::DocType(doctype) if doctype.contains("<!ENTITY") => {
                return Err(FeedError::EntityDeclaration);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    parser.finish()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// RSS 0.9x, 1.0 and 2.0: `item` in `channel` or beside it.
    Rss,
    Atom,
}

/// The vocabulary that a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vocabulary {
    /// The feed's own format.
    Core,
    Atom,
    Content,
    DublinCore,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    FeedTitle,
    FeedLanguage,
    Title,
    Link,
    Guid { is_link: bool },
    Summary,
    Content,
    Author,
    Category,
    Published,
    Updated,
    Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextType {
    Plain,
    /// Escaped markup: the text, once unescaped, is HTML.
    Html,
    /// Markup as child elements.
    Xhtml,
}

/// A field's text while it is read.
struct Capture {
    field: Field,
    depth: usize,
    text_type: TextType,
    text: String,
}

impl Capture {
    fn push(&mut self, text: &str) {
        if self.text.len() + text.len() <= MAX_FIELD_LENGTH {
            self.text.push_str(text);
        }
    }
}

struct Parser {
    feed: ParsedFeed,
    format: Option<Format>,
    /// The namespace of the root element: what it holds is the feed's own vocabulary, however it is called.
    root_namespace: Option<String>,
    depth: usize,
    /// `xml:base` with the depth of its element, innermost last; never empty.
    bases: Vec<(usize, Url)>,
    entry: Option<(usize, Draft)>,
    capture: Option<Capture>,
    /// Depth of an Atom `author`, whose name is a child.
    person: Option<usize>,
    entries_seen: usize,
}

impl Parser {
    fn new(base: &Url) -> Self {
        Self {
            feed: ParsedFeed::default(),
            format: None,
            root_namespace: None,
            depth: 0,
            bases: vec![(0, base.clone())],
            entry: None,
            capture: None,
            person: None,
            entries_seen: 0,
        }
    }

    fn vocabulary(&mut self, namespace: &ResolveResult<'_>) -> Vocabulary {
        match namespace {
            ResolveResult::Unbound => Vocabulary::Core,
            ResolveResult::Unknown(prefix) => match prefix.as_str() {
                "atom" => Vocabulary::Atom,
                "content" => Vocabulary::Content,
                "dc" | "dcterms" => Vocabulary::DublinCore,
                _ => Vocabulary::Other,
            },
            ResolveResult::Bound(namespace) => {
                let name = namespace.0;
                if self.depth == 0 {
                    self.root_namespace = Some(name.to_owned());
                }
                match name {
                    _ if self.root_namespace.as_deref() == Some(name) => Vocabulary::Core,
                    "http://purl.org/rss/1.0/"
                    | "http://my.netscape.com/rdf/simple/0.9/"
                    | "http://channel.netscape.com/rdf/simple/0.9/"
                    | "http://backend.userland.com/rss2" => Vocabulary::Core,
                    "http://www.w3.org/2005/Atom" | "http://purl.org/atom/ns#" => Vocabulary::Atom,
                    "http://purl.org/rss/1.0/modules/content/" => Vocabulary::Content,
                    "http://purl.org/dc/elements/1.1/" | "http://purl.org/dc/terms/" => {
                        Vocabulary::DublinCore
                    }
                    _ => Vocabulary::Other,
                }
            }
        }
    }

    fn start(&mut self, vocabulary: Vocabulary, start: &BytesStart<'_>) -> Result<(), FeedError> {
        if self.depth == MAX_DEPTH {
            return Err(FeedError::TooDeep);
        }
        self.depth += 1;
        let local = start.local_name();
        let name = local.as_ref();
        if let Some(capture) = &mut self.capture {
            // Markup where text was announced; attributes say nothing to a reader.
            if capture.text_type == TextType::Plain {
                capture.text_type = TextType::Html;
            }
            capture.push(&format!("<{name}>"));
            return Ok(());
        }
        let Some(format) = self.format else {
            let format = root_format(name)?;
            self.format = Some(format);
            self.feed.format = match format {
                Format::Rss if name == "RDF" => FeedFormat::Rdf,
                Format::Rss => FeedFormat::Rss,
                Format::Atom => FeedFormat::Atom,
            };
            self.feed.language = attribute(start, "xml:lang").as_deref().and_then(language_tag);
            self.enter_base(start);
            return Ok(());
        };
        self.enter_base(start);
        match self.entry.as_ref().map(|(depth, _)| *depth) {
            None => self.start_outside_entry(format, vocabulary, name, start),
            Some(entry_depth) if self.depth == entry_depth + 1 => {
                self.start_field(format, vocabulary, name, start)
            }
            Some(_) if self.person == Some(self.depth - 1) && name == "name" => {
                self.capture(Field::Author, TextType::Plain)
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn start_outside_entry(
        &mut self,
        format: Format,
        vocabulary: Vocabulary,
        name: &str,
        start: &BytesStart<'_>,
    ) {
        if !matches!(vocabulary, Vocabulary::Core | Vocabulary::DublinCore) {
            return;
        }
        let (entry_name, entry_depths, field_depth) = match format {
            Format::Rss => ("item", 2..=3, 3),
            Format::Atom => ("entry", 2..=2, 2),
        };
        if name == entry_name && entry_depths.contains(&self.depth) {
            if self.entries_seen == MAX_ENTRIES {
                self.feed.ignored += 1;
                return;
            }
            self.entries_seen += 1;
            let draft = Draft {
                guid: attribute(start, "rdf:about"),
                language: attribute(start, "xml:lang"),
                ..Draft::default()
            };
            self.entry = Some((self.depth, draft));
        } else if self.depth == field_depth && self.feed.entries.is_empty() {
            match name {
                "title" if self.feed.title.is_none() => {
                    self.capture(Field::FeedTitle, text_type(format, start));
                }
                "language" => self.capture(Field::FeedLanguage, TextType::Plain),
                _ => {}
            }
        }
    }

    fn start_field(&mut self, format: Format, vocabulary: Vocabulary, name: &str, start: &BytesStart<'_>) {
        let Some(field) = field(format, vocabulary, name, start) else { return };
        match field {
            // An Atom link and an Atom category are all attributes.
            Field::Link if format == Format::Atom || attribute(start, "href").is_some() => {
                let is_article = attribute(start, "rel").is_none_or(|rel| rel == "alternate");
                if let Some(href) = attribute(start, "href").filter(|_| is_article) {
                    self.set_link(&href);
                }
            }
            Field::Category if format == Format::Atom && vocabulary == Vocabulary::Core => {
                let label = attribute(start, "label").or_else(|| attribute(start, "term"));
                if let (Some(label), Some((_, draft))) = (label, &mut self.entry) {
                    draft.add_category(&label);
                }
            }
            Field::Author if format == Format::Atom && vocabulary == Vocabulary::Core => {
                self.person = Some(self.depth)
            }
            Field::Title | Field::Summary | Field::Content => self.capture(field, text_type(format, start)),
            _ => self.capture(field, TextType::Plain),
        }
    }

    fn capture(&mut self, field: Field, text_type: TextType) {
        self.capture = Some(Capture { field, depth: self.depth, text_type, text: String::new() });
    }

    fn text(&mut self, text: &str) {
        match &mut self.capture {
            Some(capture) if capture.text_type == TextType::Xhtml => {
                capture.push(&quick_xml::escape::partial_escape(text));
            }
            Some(capture) => capture.push(text),
            None => {}
        }
    }

    /// `&amp;` and its four companions are XML's own; any other is HTML's and left to the HTML reader.
    fn entity(&mut self, name: &str) {
        match resolve_predefined_entity(name) {
            Some(resolved) => self.text(resolved),
            None => {
                if let Some(capture) = &mut self.capture {
                    if capture.text_type == TextType::Plain {
                        capture.text_type = TextType::Html;
                    }
                    capture.push(&format!("&{name};"));
                }
            }
        }
    }

    fn end(&mut self, name: &str) {
        match self.capture.take_if(|capture| capture.depth == self.depth) {
            Some(capture) => self.set_field(capture),
            None => {
                if let Some(capture) = &mut self.capture {
                    capture.push(&format!("</{name}>"));
                }
            }
        }
        self.person.take_if(|depth| *depth == self.depth);
        if let Some((_, draft)) = self.entry.take_if(|(depth, _)| *depth == self.depth) {
            match draft.finish() {
                Ok(entry) => self.feed.entries.push(entry),
                Err(reason) => self.problem(reason),
            }
        }
        self.bases.pop_if(|(depth, _)| *depth == self.depth && self.depth > 0);
        self.depth = self.depth.saturating_sub(1);
    }

    fn set_field(&mut self, capture: Capture) {
        let Capture { field, text_type, text, .. } = capture;
        let markup = |text: String| match text_type {
            TextType::Plain => Markup::Plain(text),
            TextType::Html | TextType::Xhtml => Markup::Html(text),
        };
        match field {
            Field::FeedTitle => {
                let title = markup(text).into_line();
                self.feed.title = (!title.is_empty()).then_some(title);
                return;
            }
            Field::FeedLanguage => {
                self.feed.language = language_tag(&text).or(self.feed.language.take());
                return;
            }
            Field::Link => return self.set_link(&text),
            _ => {}
        }
        let base = self.base().clone();
        let Some((_, draft)) = &mut self.entry else { return };
        // Where a field comes twice, the first that says something holds.
        match field {
            Field::Guid { is_link } => {
                if is_link
                    && draft.url.is_none()
                    && (text.trim().starts_with("http:") || text.trim().starts_with("https:"))
                {
                    draft.url = link(&text, &base);
                }
                draft.guid.get_or_insert(text);
            }
            Field::Title => set_text(&mut draft.title, markup(text)),
            Field::Summary => set_text(&mut draft.summary, markup(text)),
            Field::Content => set_text(&mut draft.content, markup(text)),
            Field::Author => draft.add_author(&markup(text).into_line()),
            Field::Category => draft.add_category(&markup(text).into_line()),
            Field::Published => set_date(&mut draft.published, &text),
            Field::Updated => set_date(&mut draft.updated, &text),
            Field::Language => draft.language = Some(text),
            Field::FeedTitle | Field::FeedLanguage | Field::Link => {}
        }
    }

    /// A link proper beats the identifier that was taken for one.
    fn set_link(&mut self, raw: &str) {
        let url = link(raw, self.base());
        if let Some((_, draft)) = &mut self.entry {
            let from_guid =
                draft.url.is_some() && draft.guid.as_deref() == draft.url.as_ref().map(Url::as_str);
            if draft.url.is_none() || (from_guid && url.is_some()) {
                draft.url = url;
            }
        }
    }

    fn base(&self) -> &Url {
        &self.bases[self.bases.len() - 1].1
    }

    fn enter_base(&mut self, start: &BytesStart<'_>) {
        if let Some(base) = attribute(start, "xml:base").and_then(|raw| link(&raw, self.base())) {
            self.bases.push((self.depth, base));
        }
    }

    fn problem(&mut self, reason: EntryProblemReason) {
        self.feed.problems.push(EntryProblem { index: self.entries_seen - 1, reason });
    }

    fn finish(mut self) -> Result<ParsedFeed, FeedError> {
        if self.format.is_none() {
            return Err(FeedError::NotAFeed("no XML"));
        }
        if self.depth > 0 {
            if self.entry.is_some() {
                self.problem(EntryProblemReason::BrokenOff);
            }
            if self.feed.entries.is_empty() {
                return Err(FeedError::Malformed);
            }
            self.feed.broken_off = true;
        }
        Ok(self.feed)
    }
}

fn root_format(name: &str) -> Result<Format, FeedError> {
    match name {
        "rss" | "RDF" => Ok(Format::Rss),
        "feed" => Ok(Format::Atom),
        _ if name.eq_ignore_ascii_case("html") => Err(FeedError::NotAFeed("a web page")),
        "urlset" | "sitemapindex" => Err(FeedError::NotAFeed("a sitemap")),
        "opml" => Err(FeedError::NotAFeed("a list of feeds")),
        _ => Err(FeedError::NotAFeed("other markup")),
    }
}

fn field(format: Format, vocabulary: Vocabulary, name: &str, start: &BytesStart<'_>) -> Option<Field> {
    Some(match (vocabulary, format, name) {
        (Vocabulary::Core, _, "title") => Field::Title,
        (Vocabulary::Core, _, "link") => Field::Link,
        (Vocabulary::Core, _, "author") => Field::Author,
        (Vocabulary::Core, _, "category") => Field::Category,
        (Vocabulary::Core, Format::Rss, "guid") => {
            let is_link =
                attribute(start, "isPermaLink").is_none_or(|value| !value.eq_ignore_ascii_case("false"));
            Field::Guid { is_link }
        }
        (Vocabulary::Core, Format::Rss, "description") => Field::Summary,
        (Vocabulary::Core, Format::Rss, "pubDate") => Field::Published,
        (Vocabulary::Core, Format::Atom, "id") => Field::Guid { is_link: false },
        (Vocabulary::Core, Format::Atom, "summary") => Field::Summary,
        (Vocabulary::Core, Format::Atom, "content") => Field::Content,
        // `issued`, `modified` and `created` are Atom 0.3's.
        (Vocabulary::Core | Vocabulary::Atom, _, "published" | "issued" | "created") => Field::Published,
        (Vocabulary::Core | Vocabulary::Atom, _, "updated" | "modified") => Field::Updated,
        (Vocabulary::Content, _, "encoded") => Field::Content,
        (Vocabulary::DublinCore, _, "title") => Field::Title,
        (Vocabulary::DublinCore, _, "description") => Field::Summary,
        (Vocabulary::DublinCore, _, "creator") => Field::Author,
        (Vocabulary::DublinCore, _, "subject") => Field::Category,
        (Vocabulary::DublinCore, _, "date" | "created" | "issued") => Field::Published,
        (Vocabulary::DublinCore, _, "modified") => Field::Updated,
        (Vocabulary::DublinCore, _, "language") => Field::Language,
        _ => return None,
    })
}

/// RSS never says whether a text is HTML, so all of it may be; Atom says so.
fn text_type(format: Format, start: &BytesStart<'_>) -> TextType {
    match (format, attribute(start, "type")) {
        (Format::Rss, _) => TextType::Html,
        (Format::Atom, None) => TextType::Plain,
        (Format::Atom, Some(value)) => match value.to_ascii_lowercase().as_str() {
            "xhtml" | "application/xhtml+xml" => TextType::Xhtml,
            "html" | "text/html" => TextType::Html,
            _ => TextType::Plain,
        },
    }
}

fn set_text(field: &mut Option<Markup>, value: Markup) {
    let says_something = |markup: &Markup| match markup {
        Markup::Plain(text) | Markup::Html(text) => !text.trim().is_empty(),
    };
    if !field.as_ref().is_some_and(says_something) {
        *field = Some(value);
    }
}

fn set_date(field: &mut Option<DateTime<Utc>>, raw: &str) {
    if field.is_none() {
        *field = parse_date(raw);
    }
}

/// An attribute by its customary name; a value with broken escapes is taken as it stands.
fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    // Looking for doubles would cost the square of their number.
    let mut attributes = start.attributes();
    let found =
        attributes.with_checks(false).take(MAX_ATTRIBUTES).flatten().find(|a| a.key.as_ref() == name)?;
    Some(match unescape_with(&found.value, resolve_predefined_entity) {
        Ok(value) => value.into_owned(),
        Err(_) => found.value.into_owned(),
    })
}
