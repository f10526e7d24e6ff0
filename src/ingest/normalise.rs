//! Normal forms by which two copies of an article are recognised: of text, of URLs, of content.

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use url::{Position, Url};

/// Query parameters that only tell where a reader came from.
const TRACKING_PARAMETERS: &[&str] = &[
    "_ga",
    "_gl",
    "cmp",
    "cmpid",
    "dclid",
    "fbclid",
    "gbraid",
    "gclid",
    "igshid",
    "maca",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "msclkid",
    "ns_campaign",
    "ns_fee",
    "ns_linkname",
    "ns_mchannel",
    "ns_source",
    "ocid",
    "smid",
    "traffic_source",
    "twclid",
    "wbraid",
    "wt.mc_id",
    "wt_mc",
    "xtor",
    "xtref",
    "yclid",
];

/// Families of such parameters: Google Analytics and its copies, AT Internet.
const TRACKING_PREFIXES: &[&str] = &["utm_", "at_", "pk_", "mtm_"];

/// One line of text in normal form: NFC, runs of whitespace as one space, no control or invisible
/// formatting characters.
pub fn text(raw: &str) -> String {
    let mut normal = String::with_capacity(raw.len());
    let mut gap = false;
    for c in raw.nfc() {
        // Tab and line feed are control characters, but separate words.
        if c.is_whitespace() {
            gap = true;
        } else if !is_invisible(c) {
            if gap && !normal.is_empty() {
                normal.push(' ');
            }
            gap = false;
            normal.push(c);
        }
    }
    normal
}

/// Text of several lines in normal form: each line as by [`text`], empty lines dropped.
pub fn lines(raw: &str) -> String {
    let mut normal = String::with_capacity(raw.len());
    for line in raw.split(['\n', '\r']).map(text).filter(|line| !line.is_empty()) {
        if !normal.is_empty() {
            normal.push('\n');
        }
        normal.push_str(&line);
    }
    normal
}

/// Control characters, and those that change how text looks or compares without being seen. The joiners
/// U+200C and U+200D stay: scripts and emoji need them.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
                | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// A URL's canonical form, equal for addresses that by common practice show the same article. `http` counts
/// as `https`; fragment, default port, tracking parameters and a trailing slash go; parameters are sorted.
/// It is a key to compare by, not an address to fetch.
pub fn canonical_url(url: &Url) -> String {
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return url[..Position::AfterQuery].to_owned();
    };
    // The parser has already lower-cased the host and dropped the scheme's default port.
    let mut canonical = format!("https://{}", host.strip_suffix('.').unwrap_or(host));
    if let Some(port) = url.port() {
        canonical.push_str(&format!(":{port}"));
    }
    match url.path().trim_end_matches('/') {
        "" => canonical.push('/'),
        path => canonical.push_str(path),
    }
    let mut parameters: Vec<&str> =
        url.query().unwrap_or_default().split('&').filter(|p| !p.is_empty() && !is_tracking(p)).collect();
    parameters.sort_unstable();
    for (n, parameter) in parameters.into_iter().enumerate() {
        canonical.push(if n == 0 { '?' } else { '&' });
        canonical.push_str(parameter);
    }
    canonical
}

fn is_tracking(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default().to_ascii_lowercase();
    TRACKING_PARAMETERS.contains(&name.as_str())
        || TRACKING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// SHA-256 of title and body in normal form and lower case: equal for the same text set differently.
pub fn content_hash(title: &str, body: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(text(title).to_lowercase());
    // A character that normal text cannot contain, so that no title runs into its body.
    hash.update([0]);
    hash.update(text(body).to_lowercase());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(url: &str) -> String {
        canonical_url(&Url::parse(url).expect("a URL"))
    }

    #[test]
    fn text_is_composed_collapsed_and_visible() {
        assert_eq!(text("  Cafe\u{301}\t\n au\u{a0}lait \u{0}\u{7}"), "Café au lait");
        assert_eq!(
            text("soft\u{ad}hyphen zero\u{200b}width \u{202e}evil\u{202c}"),
            "softhyphen zerowidth evil"
        );
        assert_eq!(text("👩\u{200d}🚒"), "👩\u{200d}🚒");
        assert_eq!(text("a\u{0} \u{7}b"), "a b");
        assert_eq!(text(" \n "), "");
    }

    #[test]
    fn lines_keep_only_full_lines() {
        assert_eq!(lines("one \r\n\r\n  two\u{a0}\u{a0}words\n"), "one\ntwo words");
    }

    #[test]
    fn canonical_urls_agree_for_the_same_article() {
        let expected = "https://www.example.eu/news/a-1";
        for variant in [
            "https://www.example.eu/news/a-1",
            "http://www.example.eu/news/a-1",
            "HTTPS://WWW.Example.EU:443/news/a-1/",
            "http://www.example.eu:80/news/a-1#comments",
            "https://www.example.eu./news/a-1?",
            "https://www.example.eu/news/a-1?utm_source=rss&UTM_medium=feed&at_medium=RSS&xtor=RSS-1&fbclid=x",
            "https://www.example.eu/news/a-1?CMP=rss&maca=en-rss",
        ] {
            assert_eq!(canonical(variant), expected, "{variant}");
        }
    }

    #[test]
    fn canonical_urls_keep_what_identifies() {
        assert_eq!(canonical("https://e.eu/a?id=2&b=1&utm_x=3"), "https://e.eu/a?b=1&id=2");
        assert_ne!(canonical("https://e.eu/a?id=1"), canonical("https://e.eu/a?id=2"));
        assert_ne!(canonical("https://e.eu/a"), canonical("https://www.e.eu/a"));
        assert_ne!(canonical("https://e.eu/A"), canonical("https://e.eu/a"));
        assert_ne!(canonical("https://e.eu:8443/a"), canonical("https://e.eu/a"));
        assert_eq!(canonical("https://e.eu/index.html"), "https://e.eu/index.html");
        assert_eq!(canonical("https://e.eu"), "https://e.eu/");
        assert_eq!(canonical("https://e.eu/?q=%C3%A9&q=a%26b"), "https://e.eu/?q=%C3%A9&q=a%26b");
        assert_eq!(canonical("urn:uuid:1#x"), "urn:uuid:1");
    }

    #[test]
    fn canonical_url_is_a_fixed_point() {
        for url in
            ["http://e.eu//a//?b&a=1#f", "https://[2001:db8::1]:8080/x/", "http://münchen.example/ä?ö=ü"]
        {
            let once = canonical(url);
            assert_eq!(canonical(&once), once, "{url}");
        }
    }

    #[test]
    fn content_hash_ignores_setting_but_not_words() {
        let hash = content_hash("Énergie: prices rise", "Bills went up.");
        assert_eq!(hash, content_hash("  E\u{301}NERGIE:  prices\u{a0}rise", "bills\nwent UP."));
        assert_ne!(hash, content_hash("Énergie: prices rise", "Bills went down."));
        assert_ne!(content_hash("a b", "c"), content_hash("a", "b c"));
    }
}
