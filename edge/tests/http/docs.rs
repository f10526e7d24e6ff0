//! The documentation page and its parts. `scripts/docs-check` tries it in a browser.

use http::{Method, StatusCode};

use crate::support::*;

#[tokio::test]
async fn the_page_is_strict_and_whole() {
    let app = app();
    let page = get(&app, "/docs").await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    let csp = page.header("content-security-policy");
    assert!(csp.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{csp}");
    assert!(!csp.contains("unsafe"), "{csp}");
    // Nothing inline, and every part is one that is served here.
    assert!(
        !page.text().contains("<style") && !page.text().contains(" style=") && !page.text().contains(" on")
    );
    let parts = page.text().split(['"']).filter(|text| text.starts_with('/')).map(str::to_owned);
    let parts: Vec<_> = parts.collect();
    assert_eq!(parts.len(), 4, "{parts:?}");
    for part in parts {
        let answer = get(&app, &part).await;
        assert_eq!(answer.status, StatusCode::OK, "{part}");
        assert!(!answer.body.is_empty());
        assert!(
            answer.header("content-security-policy").starts_with("default-src 'none'; base-uri"),
            "{part}"
        );
        let again = get_with(&app, &part, &[("if-none-match", answer.header("etag"))]).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{part}");
    }
    let script = get_with(&app, "/docs/swagger-ui-bundle.js", &[("accept-encoding", "br")]).await;
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(script.header("content-encoding"), "br");
}

#[tokio::test]
async fn the_package_s_own_page_and_other_methods_are_not_there() {
    let answer = get(&app(), "/docs/").await;
    assert_eq!((answer.status, answer.error().0.as_str()), (StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND"));
    let answer = send_json(&app(), Method::POST, "/docs", "{}").await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, OPTIONS")
    );
}
