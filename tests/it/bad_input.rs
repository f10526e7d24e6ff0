//! What clients send that they should not: each limit at the limit and one past it, odd names, odd types, odd characters.

use euhub::proto::search_service_client::SearchServiceClient;
use euhub::proto::{AutocompleteRequest, SearchArticlesRequest};
use serde_json::{Value, json};
use tonic_types::StatusExt;

use crate::hub::{Answer, Hub, encode, send};

/// An error in the one form that all have.
fn check_error(answer: &Answer, code: u16, status: &str) {
    assert_eq!(answer.status, code, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/json", "{}", answer.text);
    let error = &answer.json()["error"];
    assert_eq!((&error["code"], &error["status"]), (&json!(code), &json!(status)), "{error}");
    assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
    let details = error["details"].as_array().unwrap();
    assert!(details.iter().any(|detail| detail["reason"].is_string()), "an ErrorInfo: {error}");
    for inside in ["SELECT", "sqlx", "postgres", "/work/", ".rs", "panicked"] {
        assert!(!answer.text.contains(inside), "nothing of the inside: {}", answer.text);
    }
}

fn keyword(terms: Value) -> Value {
    json!({"displayName": "Bad input", "terms": terms})
}

const HARVEST: &str = r#"[{"language": "en", "term": "harvest"}]"#;

fn harvest() -> Value {
    serde_json::from_str(HARVEST).unwrap()
}

#[tokio::test]
async fn numbers_have_bounds() {
    let hub = Hub::seeded().await;
    for (path, parameter, good, bad) in [
        ("/api/v1/keywords", "pageSize", &["0", "1", "100"][..], &["-1", "101", "2147483647"][..]),
        ("/api/v1/articles", "pageSize", &["0", "100"], &["-1", "101"]),
        ("/api/v1/keywords/energy/articles", "pageSize", &["0", "100"], &["-1", "101"]),
        ("/api/v1/keywords/energy/relations", "pageSize", &["0", "100"], &["-1", "101"]),
        ("/api/v1/articles:search?query=gas", "pageSize", &["0", "100"], &["-1", "101"]),
        ("/api/v1/articles/1:similar", "pageSize", &["0", "100"], &["-1", "101"]),
        ("/api/v1/search:autocomplete?query=gas", "pageSize", &["0", "20"], &["-1", "21"]),
        ("/api/v1/sources", "pageSize", &["0", "100"], &["-1", "101"]),
        ("/api/v1/sources/bbc-news/runs", "pageSize", &["0", "100"], &["-1", "101"]),
        ("/api/v1/keywords/energy/sentiment", "days", &["0", "1", "365"], &["-1", "366"]),
        ("/api/v1/keywords/energy/sentiment/timeline", "days", &["1", "365"], &["0", "-1", "366"]),
        ("/api/v1/sentiment:compare?keywords=energy&keywords=housing", "days", &["1", "365"], &["0", "366"]),
        (
            "/api/v1/articles",
            "minSentiment",
            &["-1", "0", "1", "-0.0"],
            &["-1.001", "1.001", "NaN", "Infinity"],
        ),
        ("/api/v1/articles:export", "maxSentiment", &["-1", "1"], &["-1.001", "1.001", "NaN", "-Infinity"]),
        ("/api/v1/keywords/energy/relations", "minStrength", &["0", "1"], &["-0.001", "1.001", "NaN"]),
    ] {
        let joint = if path.contains('?') { '&' } else { '?' };
        for value in good {
            let answer = hub.admin("GET", &format!("{path}{joint}{parameter}={value}"), Value::Null).await;
            assert_eq!(answer.status, 200, "{path} {parameter}={value}: {}", answer.text);
        }
        for value in bad {
            let answer = hub.admin("GET", &format!("{path}{joint}{parameter}={value}"), Value::Null).await;
            check_error(&answer, 400, "INVALID_ARGUMENT");
            let field = answer.violation().replace('_', "").to_lowercase();
            assert_eq!(field, parameter.to_lowercase(), "{path} {parameter}={value}");
        }
    }
}

#[tokio::test]
async fn texts_of_a_query_have_a_greatest_length() {
    let hub = Hub::seeded().await;
    for (path, parameter, most) in [
        ("/api/v1/articles:search?mode=LEXICAL", "query", 500),
        ("/api/v1/articles:search?mode=SEMANTIC", "query", 500),
        ("/api/v1/keywords", "query", 500),
        ("/api/v1/search:autocomplete", "query", 100),
        ("/api/v1/keywords", "category", 50),
    ] {
        let joint = if path.contains('?') { '&' } else { '?' };
        // Characters are counted, not bytes nor escapes.
        for letter in ["a", "é", "ข", "😀"] {
            let at = hub.get(&format!("{path}{joint}{parameter}={}", letter_of(letter, most))).await;
            assert_eq!(at.status, 200, "{path} {parameter} of {letter}: {}", at.text);
        }
        let past = hub.get(&format!("{path}{joint}{parameter}={}", "a".repeat(most + 1))).await;
        check_error(&past, 400, "INVALID_ARGUMENT");
        assert_eq!(past.violation(), parameter, "{path}");
        assert!(past.text.contains(&most.to_string()), "the limit is named: {}", past.text);
    }
    for path in ["/api/v1/articles:search", "/api/v1/articles:search?query=", "/api/v1/search:autocomplete"] {
        assert_eq!(hub.get(path).await.violation(), "query", "{path}");
    }
    assert_eq!(hub.get("/api/v1/articles:search?query=%20%20").await.violation(), "query");
}

fn letter_of(letter: &str, times: usize) -> String {
    encode(&letter.repeat(times))
}

#[tokio::test]
async fn the_core_counts_characters_without_the_edge() {
    let hub = Hub::seeded().await;
    let mut client = SearchServiceClient::new(hub.channel().await);
    for (length, good) in [(500, true), (501, false)] {
        let request =
            SearchArticlesRequest { query: "é".repeat(length), page_size: 100, ..Default::default() };
        let answer = client.search_articles(request).await;
        match answer {
            Ok(_) => assert!(good, "{length}"),
            Err(status) => {
                assert!(!good && status.code() == tonic::Code::InvalidArgument, "{length}: {status}");
                let details = status.get_error_details();
                assert_eq!(details.bad_request().unwrap().field_violations[0].field, "query");
                assert_eq!(details.error_info().unwrap().domain, "euhub");
            }
        }
    }
    let request = AutocompleteRequest { query: "a\u{7}".into(), ..Default::default() };
    assert_eq!(client.autocomplete(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn fields_of_a_body_have_a_greatest_length() {
    let hub = Hub::empty().await;
    let mut number = 0;
    for (field, most, text) in [
        ("displayName", 100, "é"),
        ("description", 500, "é"),
        ("category", 50, "c"),
        ("booleanQuery", 500, "b"),
    ] {
        for (length, status) in [(most, 200), (most + 1, 400)] {
            let mut body = keyword(harvest());
            body[field] = text.repeat(length).into();
            number += 1;
            let answer = hub.admin("POST", &format!("/api/v1/keywords?keywordId=k{number}"), body).await;
            assert_eq!(answer.status, status, "{field} of {length}: {}", answer.text);
            if status == 400 {
                let violation = answer.violation().replace('_', "").to_lowercase();
                assert_eq!(violation, format!("keyword.{}", field.to_lowercase()));
            }
        }
    }
    for (length, status) in [(100, 200), (101, 400)] {
        number += 1;
        let body = keyword(json!([{"language": "en", "term": "x".repeat(length)}]));
        let answer = hub.admin("POST", &format!("/api/v1/keywords?keywordId=k{number}"), body).await;
        assert_eq!(answer.status, status, "a term of {length}: {}", answer.text);
        if status == 400 {
            assert_eq!(answer.violation(), "keyword.terms[0].term");
        }
    }
    for (terms, status) in [(100, 200), (101, 400)] {
        number += 1;
        let terms: Vec<Value> =
            (0..terms).map(|n| json!({"language": "en", "term": format!("word{n}")})).collect();
        let answer =
            hub.admin("POST", &format!("/api/v1/keywords?keywordId=k{number}"), keyword(terms.into())).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    for (parameter, most) in [("keywordId", 63), ("requestId", 64)] {
        for (length, status) in [(most, 200), (most + 1, 400)] {
            let mut body = keyword(harvest());
            body["displayName"] = format!("Of {parameter} {length}").into();
            let path = format!("/api/v1/keywords?{parameter}={}", "a".repeat(length));
            let answer = hub.admin("POST", &path, body).await;
            assert_eq!(answer.status, status, "{parameter} of {length}: {}", answer.text);
        }
    }
    for (length, status) in [(2048, 200), (2049, 400)] {
        let url = format!("https://outlet.example/{}", "a".repeat(length - 23));
        assert_eq!(url.len(), length);
        let body = json!({"displayName": format!("Of {length}"), "country": "IE", "homepageUrl": url, "feeds": [{"url": url}]});
        let answer = hub.admin("POST", "/api/v1/sources", body).await;
        assert_eq!(answer.status, status, "a URL of {length}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_body_of_a_megabyte_is_taken_and_a_byte_more_is_not() {
    let hub = Hub::empty().await;
    let post = async |body: String| {
        let request = hub.request("POST", "/api/v1/keywords").bearer_auth(&hub.admin_key);
        send(request.header("content-type", "application/json").body(body)).await
    };
    let small = keyword(harvest()).to_string();
    let most = 1 << 20;
    let at = format!("{small}{}", " ".repeat(most - small.len()));
    assert_eq!(post(at.clone()).await.status, 200);
    check_error(&post(format!("{at} ")).await, 413, "OUT_OF_RANGE");
}

#[tokio::test]
async fn an_address_of_2048_characters_is_taken_and_one_more_is_not() {
    let hub = Hub::empty().await;
    let fill = |characters: usize| {
        let start = "/api/v1/articles:search?mode=LEXICAL&query=";
        // As the letter itself and as its escape, which counts once.
        let left = characters - start.len();
        format!("{start}{}{}", "%61".repeat(left / 2), "a".repeat(left - left / 2))
    };
    let at = hub.get(&fill(2048)).await;
    assert_eq!(at.violation(), "query", "too long a query, but no longer than an address may be");
    check_error(&hub.get(&fill(2049)).await, 414, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn unknown_parameters_and_fields_are_named() {
    let hub = Hub::seeded().await;
    for path in [
        "/api/v1/keywords?nosuch=1",
        "/api/v1/articles?nosuch=1",
        "/api/v1/articles:export?nosuch=1",
        "/api/v1/articles:search?query=gas&nosuch=1",
        "/api/v1/keywords/energy?nosuch=1",
        "/api/v1/keywords/energy/sentiment?nosuch=1",
        "/api/v1/status?nosuch=1",
    ] {
        let answer = hub.get(path).await;
        check_error(&answer, 400, "INVALID_ARGUMENT");
        assert_eq!(answer.violation(), "nosuch", "{path}");
    }
    for (path, body, field) in [
        ("/api/v1/keywords", json!({"nosuch": 1}), "nosuch"),
        (
            "/api/v1/keywords",
            json!({"displayName": "A", "terms": [{"language": "en", "nosuch": "x"}]}),
            "terms[0].nosuch",
        ),
        ("/api/v1/keywords:preview", json!({"keyword": {"nosuch": {}}}), "keyword.nosuch"),
        ("/api/v1/sentiment:analyze", json!({"text": "a", "nosuch": null}), "nosuch"),
    ] {
        let answer = hub.admin("POST", path, body.clone()).await;
        check_error(&answer, 400, "INVALID_ARGUMENT");
        assert!(answer.violation().ends_with(field), "{path} {body}: {}", answer.violation());
    }
}

#[tokio::test]
async fn values_of_the_wrong_type_are_refused() {
    let hub = Hub::seeded().await;
    for (path, field) in [
        ("/api/v1/keywords?pageSize=ten", "pageSize"),
        ("/api/v1/keywords?pageSize=1.5", "pageSize"),
        ("/api/v1/keywords?pageSize=99999999999", "pageSize"),
        ("/api/v1/keywords?pageSize=1&pageSize=2", "pageSize"),
        ("/api/v1/keywords?showTotal=maybe", "showTotal"),
        ("/api/v1/articles?publishedAfter=yesterday", "publishedAfter"),
        ("/api/v1/articles?publishedAfter=2026-13-01T00:00:00Z", "publishedAfter"),
        ("/api/v1/articles?publishedAfter=0000-01-01T00:00:00Z", "publishedAfter"),
        ("/api/v1/articles?minSentiment=good", "minSentiment"),
        ("/api/v1/articles?sentimentClass=GOOD", "sentimentClass"),
        ("/api/v1/articles?sentimentClass=99", "sentimentClass"),
        ("/api/v1/articles?country=DEU", "country[0]"),
        ("/api/v1/articles?country=DE&country=%F0", "country"),
        ("/api/v1/articles?orderBy=title", "orderBy"),
        ("/api/v1/keywords?orderBy=display_name;--", "orderBy"),
        ("/api/v1/articles:search?query=a&mode=MAGIC", "mode"),
        ("/api/v1/articles:export?format=XML", "format"),
    ] {
        let answer = hub.get(path).await;
        check_error(&answer, 400, "INVALID_ARGUMENT");
        assert_eq!(answer.violation(), field, "{path}: {}", answer.text);
    }
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"text\"",
        "{\"displayName\": 1}",
        "{\"displayName\": [\"a\"]}",
        "{\"terms\": {}}",
        "{\"terms\": [1]}",
        "{\"displayName\": \"a\", \"displayName\": \"b\"}",
        "{\"displayName\": \"\\ud800\"}",
        "{\"displayName\": \"a\"} x",
        "{displayName: 'a'}",
    ] {
        let request = hub.request("POST", "/api/v1/keywords").bearer_auth(&hub.admin_key);
        let answer = send(request.header("content-type", "application/json").body(body)).await;
        check_error(&answer, 400, "INVALID_ARGUMENT");
    }
    let request = hub.request("POST", "/api/v1/keywords").bearer_auth(&hub.admin_key);
    let answer = send(request.header("content-type", "text/xml").body("<a/>")).await;
    check_error(&answer, 415, "INVALID_ARGUMENT");
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let request = hub.request("POST", "/api/v1/keywords").bearer_auth(&hub.admin_key);
    let answer = send(request.header("content-type", "application/json").body(deep)).await;
    check_error(&answer, 400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn lists_of_a_filter_are_bounded() {
    let hub = Hub::seeded().await;
    let many = |parameter: &str, value: &str, times: usize| {
        let parameters: Vec<String> = (0..times).map(|_| format!("{parameter}={value}")).collect();
        format!("/api/v1/articles?{}", parameters.join("&"))
    };
    for (parameter, value) in [("country", "DE"), ("language", "en"), ("source", "bbc-news")] {
        assert_eq!(hub.get(&many(parameter, value, 20)).await.status, 200, "{parameter}");
        assert_eq!(hub.get(&many(parameter, value, 21)).await.violation(), parameter);
    }
}

#[tokio::test]
async fn unknown_names_are_not_found_and_named() {
    let hub = Hub::seeded().await;
    for (path, name) in [
        ("/api/v1/keywords/no-such", "keywords/no-such"),
        ("/api/v1/keywords/UPPER", "keywords/UPPER"),
        ("/api/v1/keywords/%27%3B%20DROP%20TABLE%20articles%3B%20--", "keywords/'; DROP TABLE articles; --"),
        ("/api/v1/keywords/%3Cscript%3E", "keywords/<script>"),
        ("/api/v1/keywords/no-such/articles", "keywords/no-such"),
        ("/api/v1/keywords/no-such/relations", "keywords/no-such"),
        ("/api/v1/articles/99999999", "articles/99999999"),
        ("/api/v1/articles/abc", "articles/abc"),
        ("/api/v1/articles/0", "articles/0"),
        ("/api/v1/articles/-1", "articles/-1"),
        ("/api/v1/articles/99999999999999999999999", "articles/99999999999999999999999"),
        ("/api/v1/articles/9223372036854775807", "articles/9223372036854775807"),
        ("/api/v1/articles/abc:similar", "articles/abc"),
        ("/api/v1/articles/abc/sentiment", "articles/abc"),
        ("/api/v1/articles?keyword=no-such", "keywords/no-such"),
        ("/api/v1/articles?source=no-such", "sources/no-such"),
        ("/api/v1/articles?keyword=sources/bbc-news", "sources/bbc-news"),
    ] {
        let answer = hub.get(path).await;
        check_error(&answer, 404, "NOT_FOUND");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(name), "{path}: {message}");
    }
    check_error(&hub.admin("GET", "/api/v1/sources/no-such", Value::Null).await, 404, "NOT_FOUND");
    check_error(&hub.get("/api/v1/nothing").await, 404, "NOT_FOUND");
    let long = hub.get(&format!("/api/v1/keywords/{}", "a".repeat(200))).await;
    assert!(matches!(long.status, 400 | 404), "{}", long.text);
}

#[tokio::test]
async fn control_characters_are_refused_in_every_text() {
    let hub = Hub::empty().await;
    for bad in ["a\0b", "a\u{1}b", "a\u{1b}[31m", "a\u{7f}b", "a\nb", "a\u{85}b"] {
        for (field, path) in [
            ("displayName", "keyword.displayName"),
            ("description", "keyword.description"),
            ("category", "keyword.category"),
            ("booleanQuery", "keyword.booleanQuery"),
        ] {
            let mut body = keyword(harvest());
            body[field] = bad.into();
            let answer = hub.admin("POST", "/api/v1/keywords", body).await;
            assert_eq!(answer.violation(), path, "{bad:?}");
        }
        let body = keyword(json!([{"language": "en", "term": bad}]));
        assert_eq!(hub.admin("POST", "/api/v1/keywords", body).await.violation(), "keyword.terms[0].term");
        let encoded = encode(bad);
        for path in ["/api/v1/articles:search", "/api/v1/keywords", "/api/v1/search:autocomplete"] {
            assert_eq!(hub.get(&format!("{path}?query={encoded}")).await.violation(), "query", "{bad:?}");
        }
        assert_eq!(hub.get(&format!("/api/v1/keywords?category={encoded}")).await.violation(), "category");
        for path in [
            format!("/api/v1/keywords/{}", encoded.replace('+', "%20")),
            format!("/api/v1/articles/{encoded}"),
            format!("/api/v1/articles?keyword={encoded}"),
            format!("/api/v1/articles?source={encoded}"),
        ] {
            let answer = hub.get(&path).await;
            assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.text);
        }
        let source = |name: &str, section: &str, homepage: &str, feed: &str| json!({"displayName": name, "country": "IE", "homepageUrl": homepage, "feeds": [{"url": feed, "section": section}]});
        let (home, feed) = ("https://outlet.example/", "https://outlet.example/feed");
        let url = format!("https://outlet.example/{bad}");
        for (body, field) in [
            (source(bad, "news", home, feed), "source.displayName"),
            (source("A", bad, home, feed), "source.feeds[0].section"),
            (source("A", "news", &url, feed), "source.homepageUrl"),
            (source("A", "news", home, &url), "source.feeds[0].url"),
        ] {
            let answer = hub.admin("POST", "/api/v1/sources", body.clone()).await;
            assert_eq!(answer.status, 400, "{body}: {}", answer.text);
            assert_eq!(answer.violation(), field, "{body}");
        }
    }
}

/// Texts that would do harm if they were ever run: they are kept and given back as they are.
const HOSTILE: [&str; 8] = [
    "'; DROP TABLE articles; --",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "$(rm -rf /) `id` ${jndi:ldap://x}",
    "{{7*7}} %s %n %00 \\0 \\u0000",
    "Robert\u{202e}elbaT pord",
    "👩‍👩‍👧 ﷽ İ ß ﬁ",
    "NULL",
];

#[tokio::test]
async fn sql_and_markup_are_stored_and_returned_as_given() {
    let hub = Hub::seeded().await;
    for (number, text) in HOSTILE.into_iter().enumerate() {
        let body = json!({
            "displayName": text, "description": text,
            "terms": [{"language": "en", "term": format!("{text} harvest")}],
            "booleanQuery": format!("harvest {text}"),
        });
        let path = format!("/api/v1/keywords?keywordId=hostile-{number}");
        let created = hub.admin("POST", &path, body.clone()).await.ok();
        let read = hub.get(&format!("/api/v1/keywords/hostile-{number}")).await.ok();
        assert_eq!(created, read);
        for field in ["displayName", "description", "booleanQuery"] {
            assert_eq!(read[field], body[field], "{field}");
        }
        assert_eq!(read["terms"], body["terms"]);
        let found = hub.get(&format!("/api/v1/keywords?query={}", encode(text))).await.ok();
        let found = found["keywords"].as_array().unwrap();
        assert!(found.iter().any(|k| k["name"] == read["name"]), "{text}: {found:?}");

        let source = json!({
            "displayName": text, "country": "IE",
            "feeds": [{"url": format!("https://outlet.example/{number}?q='%3B--<b>"), "section": text}],
        });
        let path = format!("/api/v1/sources?sourceId=hostile-{number}");
        let created = hub.admin("POST", &path, source.clone()).await.ok();
        assert_eq!(created["displayName"], text);
        assert_eq!(created["feeds"][0]["section"], text);
        assert_eq!(created["feeds"][0]["url"], source["feeds"][0]["url"]);

        for path in [
            format!("/api/v1/articles:search?mode=LEXICAL&query={}", encode(text)),
            format!("/api/v1/articles:search?mode=HYBRID&query={}", encode(text)),
            format!("/api/v1/search:autocomplete?query={}", encode(text)),
            format!("/api/v1/keywords?category={}", encode(text)),
        ] {
            let answer = hub.get(&path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            assert_eq!(answer.headers["content-type"], "application/json");
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        }
        let body = json!({"text": text, "language": "en"}).to_string();
        let request =
            hub.request("POST", "/api/v1/sentiment:analyze").header("content-type", "application/json");
        assert_eq!(send(request.body(body)).await.status, 200, "{text}");
    }
    let articles: i64 = sqlx::query_scalar("SELECT count(*) FROM articles").fetch_one(&hub.db).await.unwrap();
    assert!(articles > 100);
}

#[tokio::test]
async fn other_methods_and_paths_have_json_errors_too() {
    let hub = Hub::empty().await;
    let answer = send(hub.request("PUT", "/api/v1/keywords")).await;
    assert_eq!(answer.status, 405, "{}", answer.text);
    assert!(answer.headers["allow"].to_str().unwrap().contains("GET"));
    assert!(answer.json()["error"]["message"].is_string());
    for path in
        ["/api", "/api/v1", "/api/v1/keywords/", "/api/v1/keywords//articles", "/api/v1/..%2f..%2fetc"]
    {
        let answer = hub.get(path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {} {}", answer.status, answer.text);
        assert!(answer.json()["error"]["message"].is_string(), "{path}");
    }
}
