//! Path matching on any input.

use std::sync::LazyLock;

use euhub_edge::http::{
    matcher::{Matcher, Outcome},
    template::Template,
};
use http::Method;
use proptest::prelude::*;

use crate::fuzz::{Grammar, Input, fuzz, peak, replace, under_watch};

/// Memory for each byte of a path, and beside that: the names of a template's variables, the methods of a path.
const FACTOR: usize = 10;
const CONSTANT: usize = 512;

static PATH: Grammar = Grammar {
    pieces: |bytes| {
        let (mut pieces, mut start) = (Vec::new(), 0);
        for (at, byte) in bytes.iter().chain(b"/").enumerate() {
            if matches!(byte, b'/' | b':') {
                pieces.push(start..at);
                start = at + 1;
            }
        }
        pieces
    },
    edit: replace,
    joint: b"/",
    words: &[
        b"", b"v1", b"files", b"plain", b"rows", b"a", b"b", b"x:cut", b":", b"%", b"%2F", b"%41", b"%ff",
        b"%C3%A9", b"..", b"*", b"{a}",
    ],
};

fn matcher(templates: impl IntoIterator<Item = String>) -> Matcher {
    let mut matcher = Matcher::default();
    for (id, template) in templates.into_iter().enumerate() {
        matcher.insert(Method::GET, Template::parse(&template).unwrap(), &template, id).unwrap();
    }
    matcher
}

static MATCHER: LazyLock<Matcher> = LazyLock::new(|| {
    let templates =
        ["/v1/plain/{name}", "/v1/{name=files/**}", "/v1/{name=**}/rows/{row}:cut", "/v1/{name=a/*/b/*}"];
    matcher(templates.map(str::to_owned))
});

/// Every mixture of words and wildcards in eight segments, alone and behind what may be any number of segments: the
/// choices to try in turn are as many as they can be.
static MIXTURES: LazyLock<Matcher> = LazyLock::new(|| {
    let mixture =
        |bits: u32| (0..8).map(|bit| if bits >> bit & 1 == 0 { "/a" } else { "/*" }).collect::<String>();
    let alone = (0..256).map(mixture);
    let behind = (0..256).map(|bits| format!("/x/**{}/c", mixture(bits)));
    matcher(alone.chain(behind))
});

fn check(input: &Input) {
    let Ok(path) = std::str::from_utf8(&input.bytes) else { return };
    for matcher in [&*MATCHER, &*MIXTURES] {
        for method in [Method::GET, Method::PUT] {
            let mut outcome = None;
            let peak = peak(|| outcome = Some(matcher.find(&method, path)));
            assert!(peak <= FACTOR * path.len() + CONSTANT, "{peak} bytes of memory for {}", path.len());
            if let Some(Outcome::Found(_, values)) = outcome {
                assert!(values.iter().map(|(_, value)| value.len()).sum::<usize>() <= path.len());
            }
        }
    }
    let _ = Template::parse(path);
}

#[test]
fn any_path_gets_an_outcome() {
    fuzz("path", &PATH, 20_000, check);
}

/// Steps are at most templates' segments times the path's; trying each choice with each would not end.
#[test]
fn long_paths_do_not_multiply_the_choices() {
    let paths = [
        "/a".repeat(1000),
        format!("/x{}/d", "/a".repeat(1000)),
        format!("/x{}", "/a/b".repeat(500)),
        "/".repeat(60_000),
    ];
    let inputs = paths.map(|path| Input { message: String::new(), bytes: path.into_bytes() });
    under_watch(inputs.into_iter(), check);
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn any_template_parses_or_is_refused(template in r"(/|\{|\}|\*|=|:|\.|%|[a-z]{1,3}){0,20}") {
        let _ = Template::parse(&template);
    }

    #[test]
    fn any_encoded_name_comes_back(name in r"\PC{1,20}") {
        let found = MATCHER.find(&Method::GET, &format!("/v1/plain/{}", encoded(&name)));
        prop_assert_eq!(found, Outcome::Found(0, vec![("name".to_owned(), name)]));
    }

    #[test]
    fn segments_of_a_name_come_back(segments in prop::collection::vec(r"[\PC&&[^/]]{1,9}", 1..9)) {
        let path: Vec<String> = segments.iter().map(|segment| encoded(segment)).collect();
        let found = MATCHER.find(&Method::GET, &format!("/v1/files/{}", path.join("/")));
        let name = format!("files/{}", segments.join("/"));
        prop_assert_eq!(found, Outcome::Found(1, vec![("name".to_owned(), name)]));
    }
}
