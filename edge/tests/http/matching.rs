//! Path matching on generated input.

use std::sync::LazyLock;

use euhub_edge::http::{
    matcher::{Matcher, Outcome},
    template::Template,
};
use http::Method;
use proptest::prelude::*;

static MATCHER: LazyLock<Matcher> = LazyLock::new(|| {
    let templates =
        ["/v1/plain/{name}", "/v1/{name=files/**}", "/v1/{name=**}/rows/{row}:cut", "/v1/{name=a/*/b/*}"];
    let mut matcher = Matcher::default();
    for (id, template) in templates.into_iter().enumerate() {
        matcher.insert(Method::GET, Template::parse(template).unwrap(), template, id).unwrap();
    }
    matcher
});

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn any_path_gets_an_outcome(path in r"(/(v1|files|plain|rows|a|b|%2F|%|[\PC&&[^/]]{0,4})){0,9}(:cut)?") {
        MATCHER.find(&Method::GET, &path);
        MATCHER.methods(&path);
    }

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
