//! `ingest::feed` on feeds of every format, and on what only claims to be one.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use euhub::ingest::feed::{
    EntryProblem, EntryProblemReason, FeedError, MAX_DEPTH, MAX_ENTRIES, ParsedEntry, ParsedFeed, parse,
};
use url::Url;

fn base() -> Url {
    Url::parse("https://news.example/feeds/all.xml").expect("a URL")
}

fn read(document: impl AsRef<[u8]>) -> Result<ParsedFeed, FeedError> {
    parse(document.as_ref(), None, &base())
}

fn entries(document: impl AsRef<[u8]>) -> Vec<ParsedEntry> {
    read(document).expect("a feed").entries
}

/// The one entry of an RSS feed that holds this item.
fn item(fields: &str) -> ParsedEntry {
    let mut entries = entries(rss(&format!("<item>{fields}</item>")));
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn rss(items: &str) -> String {
    format!(
        "<?xml version='1.0'?><rss version='2.0' xmlns:dc='http://purl.org/dc/elements/1.1/' \
         xmlns:content='http://purl.org/rss/1.0/modules/content/' xmlns:media='http://search.yahoo.com/mrss/'>\
         <channel><title>The Test</title><link>https://news.example/</link><language>en-GB</language>\
         <image><title>Logo</title></image>{items}</channel></rss>"
    )
}

fn atom(entries: &str) -> String {
    format!(
        "<feed xmlns='http://www.w3.org/2005/Atom' xml:lang='fr'><title>Le Test</title><id>urn:f</id>{entries}</feed>"
    )
}

fn at(rfc3339: &str) -> Option<DateTime<Utc>> {
    Some(rfc3339.parse().expect("an instant"))
}

fn problems(feed: &ParsedFeed) -> Vec<(usize, EntryProblemReason)> {
    feed.problems.iter().map(|EntryProblem { index, reason }| (*index, *reason)).collect()
}

#[test]
fn rss_2_in_full() {
    let feed = read(rss(
        "<item><title>Bridge &amp; <![CDATA[tunnel <em>open</em>]]></title><link> /2026/bridge </link>\
         <guid isPermaLink='false'>b-1</guid><description>&lt;p&gt;Short.&lt;/p&gt;</description>\
         <content:encoded><![CDATA[<p>The bridge is open.</p><script>track()</script><p>At&nbsp;last.</p>]]></content:encoded>\
         <media:title>Photo</media:title><media:content url='x'><media:description>A bridge</media:description></media:content>\
         <dc:creator>Ada Berg</dc:creator><author>jo@news.example (Jo Ek)</author><category>Transport</category>\
         <category>Transport</category><dc:subject>Cities</dc:subject><dc:language>en</dc:language>\
         <pubDate>Sun, 01 Mar 2026 12:00:00 +0100</pubDate></item>",
    ))
    .expect("a feed");
    assert_eq!(feed.title.as_deref(), Some("The Test"));
    assert_eq!(feed.language.as_deref(), Some("en-gb"));
    assert!(feed.problems.is_empty() && !feed.broken_off && feed.ignored == 0);
    assert_eq!(
        feed.entries,
        [ParsedEntry {
            guid: Some("b-1".into()),
            url: Url::parse("https://news.example/2026/bridge").ok(),
            title: "Bridge & tunnel open".into(),
            body: "The bridge is open.\nAt last.".into(),
            authors: vec!["Ada Berg".into(), "Jo Ek".into()],
            categories: vec!["Transport".into(), "Cities".into()],
            published: at("2026-03-01T11:00:00Z"),
            updated: None,
            language: Some("en".into()),
        }]
    );
}

#[test]
fn rss_of_every_version_and_namespace() {
    let item = "<item><title>a</title><link>https://news.example/1</link></item>";
    for open in [
        "<rss>",
        "<rss version='0.91'>",
        "<rss version='0.94'>",
        "<rss version='2.0.1'>",
        "<rss version='2.0' xmlns='http://backend.userland.com/rss2'>",
        "<rss version='2.0' xmlns='urn:our-own'>",
    ] {
        assert_eq!(entries(format!("{open}<channel>{item}</channel></rss>")).len(), 1, "{open}");
        assert_eq!(entries(format!("{open}<channel></channel>{item}</rss>")).len(), 1, "{open}");
    }
}

#[test]
fn prefixes_that_were_never_declared() {
    let document = "<rss version='2.0'><channel><item><title>a</title><guid>1</guid><dc:date>2026-03-01</dc:date>\
         <content:encoded>Body</content:encoded><x:title>no</x:title></item></channel></rss>";
    let entry = entries(document).remove(0);
    assert_eq!((entry.title.as_str(), entry.body.as_str()), ("a", "Body"));
    assert_eq!(entry.published, at("2026-03-01T00:00:00Z"));
}

#[test]
fn netscape_doctype_is_harmless() {
    let document = "<?xml version='1.0'?><!DOCTYPE rss PUBLIC '-//Netscape Communications//DTD RSS 0.91//EN' \
         'http://my.netscape.com/publish/formats/rss-0.91.dtd'><rss version='0.91'><channel><title>T</title>\
         <item><title>a</title><link>https://news.example/1</link></item></channel></rss>";
    assert_eq!(entries(document).len(), 1);
}

#[test]
fn rdf() {
    let feed = read(
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns='http://purl.org/rss/1.0/' \
         xmlns:dc='http://purl.org/dc/elements/1.1/'><channel rdf:about='https://news.example/'><title>RDF Test</title>\
         <dc:language>pl</dc:language></channel><item rdf:about='https://news.example/1'><title>Flota wraca</title>\
         <link>https://news.example/1</link><description>Do portu.</description><dc:creator>Ewa</dc:creator>\
         <dc:date>2026-03-01T12:00:00+01:00</dc:date></item></rdf:RDF>",
    )
    .expect("a feed");
    assert_eq!((feed.title.as_deref(), feed.language.as_deref()), (Some("RDF Test"), Some("pl")));
    let entry = &feed.entries[0];
    assert_eq!(entry.guid.as_deref(), Some("https://news.example/1"));
    assert_eq!((entry.title.as_str(), entry.body.as_str()), ("Flota wraca", "Do portu."));
    assert_eq!((&entry.authors[..], entry.published), (&["Ewa".to_owned()][..], at("2026-03-01T11:00:00Z")));
}

#[test]
fn atom_with_xhtml_content() {
    let feed = read(atom(
        "<entry xml:lang='de'><id>urn:1</id><title type='html'>Strom &amp;amp; Gas</title>\
         <link rel='self' href='/self'/><link rel='enclosure' href='/a.mp3'/><link href='artikel/1'/>\
         <author><name>Ada</name><email>ada@news.example</email></author><category term='e' label='Energie'/>\
         <summary>Kurz.</summary><content type='xhtml'><div xmlns='http://www.w3.org/1999/xhtml'><p>Preise &lt; 5 &amp; mehr</p>\
         <script>if (a &lt; b) {}</script><ul><li>eins<br/>zwei</li></ul></div></content>\
         <published>2026-03-01T12:00:00Z</published><updated>2026-03-02T12:00:00Z</updated>\
         <source><title>Other feed</title><id>urn:other</id></source></entry>",
    ))
    .expect("a feed");
    assert_eq!((feed.title.as_deref(), feed.language.as_deref()), (Some("Le Test"), Some("fr")));
    let entry = &feed.entries[0];
    assert_eq!(entry.guid.as_deref(), Some("urn:1"));
    assert_eq!(entry.url.as_ref().map(Url::as_str), Some("https://news.example/feeds/artikel/1"));
    assert_eq!(entry.title, "Strom & Gas");
    assert_eq!(entry.body, "Preise < 5 & mehr\neins\nzwei");
    assert_eq!(
        (&entry.authors[..], &entry.categories[..]),
        (&["Ada".to_owned()][..], &["Energie".to_owned()][..])
    );
    assert_eq!((entry.published, entry.updated), (at("2026-03-01T12:00:00Z"), at("2026-03-02T12:00:00Z")));
    assert_eq!(entry.language.as_deref(), Some("de"));
}

#[test]
fn atom_under_a_prefix_and_with_bases() {
    let document = "<a:feed xmlns:a='http://www.w3.org/2005/Atom' xml:base='https://b.example/x/'><a:title>T</a:title>\
         <a:entry xml:base='y/'><a:id>1</a:id><a:title>one</a:title><a:link href='z'/></a:entry>\
         <a:entry xml:base='http://['><a:id>2</a:id><a:title>two</a:title><a:link href='z'/>\
         <a:content type='strange'>kept</a:content></a:entry></a:feed>";
    let entries = entries(document);
    let urls: Vec<_> = entries.iter().map(|e| e.url.as_ref().map(Url::as_str)).collect();
    assert_eq!(urls, [Some("https://b.example/x/y/z"), Some("https://b.example/x/z")]);
    assert_eq!(entries[1].body, "kept");
}

#[test]
fn atom_plain_text_is_not_html() {
    let entry = entries(atom("<entry><id>1</id><title>a &lt;b&gt; &amp;amp; c</title></entry>")).remove(0);
    assert_eq!(entry.title, "a <b> &amp; c");
}

#[test]
fn json_feed() {
    let feed = read(
        r#"{"version":"https://jsonfeed.org/version/1.1","title":"JSON Test","language":"sv","items":[
            {"id":"1","url":"/1","title":"Flottan","content_html":"<p>I hamn.</p>","content_text":"x","summary":"s",
             "date_published":"2026-03-01T12:00:00+01:00","date_modified":"2026-03-02T00:00:00Z","authors":[{"name":"Bo"},{}],
             "author":{"name":"Al"},"tags":["hav"],"language":"sv-SE","attachments":[{"url":"a"}]},
            {"id":7,"external_url":"https://other.example/","content_text":"Bara <text> &amp; inget mer."},
            {"id":"3","title":["wrong"]}, "wrong", {"title":"nothing to know it by"}, {"id":"6"}]}"#,
    )
    .expect("a feed");
    assert_eq!((feed.title.as_deref(), feed.language.as_deref()), (Some("JSON Test"), Some("sv")));
    let [first, second] = &feed.entries[..] else { panic!("{:?}", feed.entries) };
    assert_eq!((first.title.as_str(), first.body.as_str()), ("Flottan", "I hamn."));
    assert_eq!(first.url.as_ref().map(Url::as_str), Some("https://news.example/1"));
    assert_eq!((first.published, first.updated), (at("2026-03-01T11:00:00Z"), at("2026-03-02T00:00:00Z")));
    assert_eq!(
        (&first.authors[..], first.language.as_deref()),
        (&["Al".to_owned(), "Bo".into()][..], Some("sv-se"))
    );
    assert_eq!((second.guid.as_deref(), second.title.as_str()), (Some("7"), "Bara <text> &amp; inget mer."));
    use EntryProblemReason::{NoIdentity, NoText, NotAnEntry};
    assert_eq!(problems(&feed), [(2, NotAnEntry), (3, NotAnEntry), (4, NoIdentity), (5, NoText)]);
}

#[test]
fn json_of_another_kind() {
    for document in [
        r#"{"a":1}"#,
        r#"{"version":"2","items":[]}"#,
        r#"{"version":"https://jsonfeed.org/version/1"}"#,
        r#"{"version":1}"#,
    ] {
        assert_eq!(read(document).expect_err("no feed").class(), "not_a_feed", "{document}");
    }
    assert_eq!(
        read(r#"{"version":"https://jsonfeed.org/version/1","items":[{"id"#).expect_err("cut"),
        FeedError::Malformed
    );
    let deep = format!(r#"{{"version":"https://jsonfeed.org/version/1","items":[{}"#, "[".repeat(100_000));
    assert_eq!(read(deep).expect_err("deep"), FeedError::Malformed);
}

#[test]
fn bad_dates_are_none_and_cost_nothing_else() {
    for (raw, expected) in [
        ("Sun, 1 Mar 2026 12:00 GMT", at("2026-03-01T12:00:00Z")),
        ("2026-03-01 12:00:00", at("2026-03-01T12:00:00Z")),
        ("lundi 2 mars 2026", None),
        ("Sun, 31 Feb 2026 12:00:00 GMT", None),
        ("0000-00-00 00:00:00", None),
        ("", None),
        ("soon", None),
    ] {
        let entry = item(&format!("<guid>1</guid><title>a</title><pubDate>{raw}</pubDate>"));
        assert_eq!(entry.published, expected, "{raw}");
    }
}

#[test]
fn repeated_and_shared_identifiers() {
    let entry = |guid: &str, path: &str| {
        format!("<item><title>a</title><guid isPermaLink='false'>{guid}</guid><link>/{path}</link></item>")
    };
    let document =
        rss(&[entry("same", "1"), entry("same", "2"), entry("own", "3"), entry("own", "3")].concat());
    let feed = read(document).expect("a feed");
    let guids: Vec<_> = feed.entries.iter().map(|e| e.guid.as_deref()).collect();
    assert_eq!((&guids[..], feed.repeated), (&[None, None, Some("own")][..], 1));
}

#[test]
fn of_a_repeated_entry_the_newest_is_kept() {
    let entry = |title: &str, date: &str| {
        format!("<item><title>{title}</title><guid>1</guid><pubDate>{date}</pubDate></item>")
    };
    let (old, new) = (entry("old", "2026-03-01"), entry("corrected", "2026-03-02"));
    for document in [rss(&format!("{old}{new}")), rss(&format!("{new}{old}"))] {
        let feed = read(document).expect("a feed");
        assert_eq!((feed.entries.len(), feed.entries[0].title.as_str(), feed.repeated), (1, "corrected", 1));
    }
}

#[test]
fn guid_as_the_only_link() {
    assert!(item("<title>a</title><guid>https://news.example/1</guid>").url.is_some());
    assert!(item("<title>a</title><guid isPermaLink='false'>https://news.example/1</guid>").url.is_none());
    assert!(item("<title>a</title><guid>1</guid>").url.is_none());
    let both =
        item("<title>a</title><guid>https://news.example/?p=1</guid><link>https://news.example/story</link>");
    assert_eq!(both.url.as_ref().map(Url::path), Some("/story"));
}

#[test]
fn unusable_entries_are_counted_with_their_reason() {
    let feed = read(rss(
        "<item><title>no identity</title></item><item><guid>1</guid></item><item/><item><guid>2</guid><title>good</title></item>",
    ))
    .expect("a feed");
    assert_eq!(feed.entries.len(), 1);
    use EntryProblemReason::{NoIdentity, NoText};
    assert_eq!(problems(&feed), [(0, NoIdentity), (1, NoText), (2, NoIdentity)]);
}

#[test]
fn entity_bomb_is_refused() {
    let mut bomb = String::from("<?xml version='1.0'?><!DOCTYPE rss [<!ENTITY lol0 'lol'>");
    for n in 1..10 {
        let _ = write!(bomb, "<!ENTITY lol{n} '{}'>", format!("&lol{};", n - 1).repeat(10));
    }
    bomb += "]><rss version='2.0'><channel><item><guid>1</guid><title>&lol9;</title></item></channel></rss>";
    assert_eq!(read(bomb).expect_err("a bomb"), FeedError::EntityDeclaration);
}

#[test]
fn external_entity_is_refused() {
    let document = "<!DOCTYPE rss [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><rss><channel><item><guid>1</guid><title>&x;</title></item></channel></rss>";
    assert_eq!(read(document).expect_err("an external entity"), FeedError::EntityDeclaration);
}

#[test]
fn html_entities_and_bare_ampersands_are_understood() {
    let entry = item("<guid>1</guid><title>Caf&eacute; &amp; bar&nbsp;&#8211; R&D & more &unknown;</title>");
    assert_eq!(entry.title, "Café & bar – R&D & more &unknown;");
}

#[test]
fn truncated_document_keeps_what_came_before() {
    let whole =
        rss("<item><guid>1</guid><title>one</title></item><item><guid>2</guid><title>two</title></item>");
    let feed = read(&whole[..whole.find("two").expect("there")]).expect("a feed");
    assert_eq!(feed.entries.len(), 1);
    assert!(feed.broken_off);
    assert_eq!(problems(&feed), [(1, EntryProblemReason::BrokenOff)]);
    assert_eq!(read(&whole[..whole.find("one").expect("there")]).expect_err("nothing"), FeedError::Malformed);
}

#[test]
fn every_truncation_is_an_answer() {
    let whole = rss(
        "<item><guid>1</guid><title>é &amp; <![CDATA[x]]></title><description>&lt;p&gt;</description></item><!-- c -->",
    );
    for end in 0..whole.len() {
        let _answer = read(&whole.as_bytes()[..end]);
    }
}

#[test]
fn mismatched_tags_end_the_document_there() {
    let feed = read(rss("<item><guid>1</guid><title>one</title></item><item><title>two</item></title>"))
        .expect("a feed");
    assert_eq!((feed.entries.len(), feed.broken_off), (1, true));
}

#[test]
fn html_page_is_not_a_feed() {
    for page in [
        "<!DOCTYPE html><html><head><title>Hi</title></head><body><p>no feed</body></html>",
        "<!doctype html>\n<HTML><br><p>",
        "<html/>",
        "<div>Please enable JavaScript</div>",
        "<br><br>",
        "just text",
        "<urlset/>",
        "<!-- only a comment -->",
        "<",
        "<?xml version='1.0'?>",
    ] {
        assert_eq!(read(page).expect_err("no feed").class(), "not_a_feed", "{page}");
    }
}

#[test]
fn empty_body() {
    for document in ["", "  \r\n\t ", "\u{feff}", "\u{feff}\n\0"] {
        assert_eq!(read(document).expect_err("empty"), FeedError::Empty);
    }
}

#[test]
fn junk_before_the_document() {
    let document =
        format!("\u{feff}\n\n  Warning: something \n{}", rss("<item><guid>1</guid><title>a</title></item>"));
    assert_eq!(entries(document).len(), 1);
}

#[test]
fn no_more_than_a_thousand_entries() {
    let item = |n: usize| format!("<item><guid>{n}</guid><title>t</title></item>");
    let exact: String = (0..MAX_ENTRIES).map(item).collect();
    let feed = read(rss(&exact)).expect("a feed");
    assert_eq!((feed.entries.len(), feed.ignored), (MAX_ENTRIES, 0));
    let over: String = (0..MAX_ENTRIES + 500).map(item).collect();
    let feed = read(rss(&over)).expect("a feed");
    assert_eq!((feed.entries.len(), feed.ignored), (MAX_ENTRIES, 500));
    let json: Vec<String> = (0..MAX_ENTRIES + 1).map(|n| format!(r#"{{"id":"{n}","title":"t"}}"#)).collect();
    let json = format!(r#"{{"version":"https://jsonfeed.org/version/1.1","items":[{}]}}"#, json.join(","));
    let feed = read(json).expect("a feed");
    assert_eq!((feed.entries.len(), feed.ignored), (MAX_ENTRIES, 1));
}

#[test]
fn nesting_has_a_limit() {
    // rss, channel and item are three levels themselves.
    let nested = |levels: usize| {
        rss(&format!(
            "<item><guid>1</guid><title>t</title>{}{}</item>",
            "<x>".repeat(levels),
            "</x>".repeat(levels)
        ))
    };
    assert_eq!(entries(nested(MAX_DEPTH - 3)).len(), 1);
    assert_eq!(read(nested(MAX_DEPTH - 2)).expect_err("deep"), FeedError::TooDeep);
    assert_eq!(read(nested(100_000)).expect_err("deep"), FeedError::TooDeep);
    let html = "<div>".repeat(100_000);
    assert_eq!(
        item(&format!("<guid>1</guid><title>t</title><description><![CDATA[{html}text]]></description>"))
            .body,
        "text"
    );
}

#[test]
fn bytes_that_are_no_utf8() {
    let document = [&b"<?xml version='1.0' encoding='utf-8'?><rss><channel><item><guid>1</guid><title>caf\xe9 \xc3\xa9t\xc3\xa9 \x80</title></item></channel></rss>"[..]].concat();
    assert_eq!(entries(document)[0].title, "café été €");
    let noise: Vec<u8> = (0..=255).cycle().take(4_096).collect();
    assert!(read(&noise).is_err());
    assert!(read([b"<rss>", &noise[..]].concat()).is_err());
}

#[test]
fn utf16_document() {
    let text = rss("<item><guid>1</guid><title>łódź</title></item>");
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(entries(utf16)[0].title, "łódź");
}

#[test]
fn huge_fields_are_cut() {
    let entry = item(&format!(
        "<guid>1</guid><title>{}</title><description>{}</description>",
        "é".repeat(10_000),
        "wörd ".repeat(100_000)
    ));
    assert_eq!(entry.title.chars().count(), 500);
    assert_eq!(entry.body.chars().count(), 100_000);
}

#[test]
fn markup_in_rss_text_without_escapes() {
    let entry =
        item("<guid>1</guid><title>a</title><description>One <b>bold</b><br/>step &amp; two</description>");
    assert_eq!(entry.body, "One bold\nstep & two");
}

#[test]
fn author_that_other_readers_choke_on() {
    assert!(
        item("<guid>1</guid><title>a</title><author>Renée Marie –jo@x.example</author>").authors.is_empty()
    );
}

#[test]
fn sample_feeds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/feeds");
    let mut files = 0;
    for file in std::fs::read_dir(folder).expect("the sample feeds") {
        let path = file.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !["rss", "atom", "rdf", "json", "xml"]
            .iter()
            .any(|extension| path.extension().is_some_and(|e| e == *extension))
        {
            continue;
        }
        files += 1;
        let answer = read(std::fs::read(&path).expect("readable"));
        if name.contains("broken") {
            assert!(
                answer.is_err() || answer.is_ok_and(|feed| !feed.problems.is_empty()),
                "{name} should be broken"
            );
            continue;
        }
        let feed = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            feed.problems.is_empty() && !feed.broken_off && !feed.entries.is_empty(),
            "{name}: {:?}",
            feed.problems
        );
        for entry in &feed.entries {
            assert!(entry.url.is_some() && !entry.body.is_empty(), "{name}: {entry:?}");
            assert!(
                !entry.body.contains(['<', '\u{fffd}', '\u{a0}']) && !entry.body.contains("&amp;"),
                "{name}: {entry:?}"
            );
        }
        let undated = feed.entries.iter().filter(|entry| entry.published.is_none()).count();
        assert!(undated <= 1, "{name}: {undated} entries without a date");
    }
    assert!(files > 0, "no sample feeds");
}
