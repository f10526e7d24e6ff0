//! `/articles:search`, `/articles/*:similar` and `/search:autocomplete`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::hub::{Hub, encode};
use crate::paging::{all, names};

async fn search(hub: &Hub, mode: &str, query: &str, more: &str) -> Value {
    let query = encode(query);
    hub.get(&format!("/api/v1/articles:search?mode={mode}&query={query}{more}")).await.ok()
}

fn results(answer: &Value) -> &Vec<Value> {
    answer["results"].as_array().unwrap()
}

/// A span of a text in code points.
fn cut(text: &str, span: &Value) -> String {
    let (start, end) = (span["start"].as_u64().unwrap() as usize, span["end"].as_u64().unwrap() as usize);
    assert!(start < end && end <= text.chars().count(), "{span} of {text:?}");
    text.chars().skip(start).take(end - start).collect()
}

async fn whole(hub: &Hub, result: &Value) -> Value {
    hub.get(&format!("/api/v1/{}", result["article"]["name"].as_str().unwrap())).await.ok()
}

#[tokio::test]
async fn words_are_found_in_any_form_and_marked_where_they_stand() {
    let hub = Hub::seeded().await;
    for (query, stems) in [
        ("energy prices", &["energ", "pric"][..]),
        ("hospital", &["hospital"]),
        ("énergie", &["énerg", "energ"]),
        ("Energie", &["energ", "énerg"]),
        ("järnväg", &["järnväg"]),
        ("\"night train\"", &["night", "train"]),
    ] {
        let answer = search(&hub, "LEXICAL", query, "&pageSize=100").await;
        assert_eq!(answer["mode"], "LEXICAL");
        assert!(!results(&answer).is_empty(), "{query}");
        let scores: Vec<f64> = results(&answer).iter().map(|r| r["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{query}: best first: {scores:?}");
        for result in results(&answer) {
            assert!(result["similarity"].is_null(), "{query}: by words only");
            let article = whole(&hub, result).await;
            let highlights = result["highlights"].as_array().unwrap();
            assert!(!highlights.is_empty(), "{query}: {}", article["title"]);
            for highlight in highlights {
                let text = highlight["text"].as_str().unwrap();
                let source = article[highlight["field"].as_str().unwrap()].as_str().unwrap();
                let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
                for fragment in text.split(" … ") {
                    assert!(
                        squeeze(source).contains(&squeeze(fragment)),
                        "{query}: {fragment:?} of {source:?}"
                    );
                }
                for span in highlight["matches"].as_array().unwrap() {
                    let word = cut(text, span).to_lowercase();
                    assert!(stems.iter().any(|stem| word.starts_with(stem)), "{query}: {word:?} in {text:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn web_search_syntax_is_understood() {
    let hub = Hub::seeded().await;
    let found = |answer: &Value| names(results(answer));
    let gas = found(&search(&hub, "LEXICAL", "gas", "&pageSize=100").await);
    let both = found(&search(&hub, "LEXICAL", "gas prices", "&pageSize=100").await);
    let phrase = found(&search(&hub, "LEXICAL", "\"gas prices\"", "&pageSize=100").await);
    let without = found(&search(&hub, "LEXICAL", "gas -prices", "&pageSize=100").await);
    let either = found(&search(&hub, "LEXICAL", "gas OR hospitals", "&pageSize=100").await);
    assert!(both.iter().all(|name| gas.contains(name)) && phrase.iter().all(|name| both.contains(name)));
    let wrong: Vec<&String> =
        without.iter().filter(|name| !gas.contains(name) || both.contains(name)).collect();
    assert!(wrong.is_empty(), "excluded by a minus, and still found: {wrong:?}");
    assert!(either.len() > gas.len());
    for odd in ["\"unbalanced", "((", "&|!:*", "the of and", "-", "''", "\\", "🦀", "a:b:c*"] {
        let answer = search(&hub, "LEXICAL", odd, "").await;
        assert!(answer["results"].is_array(), "{odd}");
    }
    assert!(results(&search(&hub, "LEXICAL", "the of and", "&language=en").await).is_empty());
}

#[tokio::test]
async fn meaning_is_found_without_the_words() {
    let hub = Hub::seeded().await;
    let answer = search(&hub, "SEMANTIC", "rising power bills", "").await;
    assert_eq!(answer["mode"], "SEMANTIC");
    assert_eq!(results(&answer).len(), 20);
    let top = &results(&answer)[0];
    let keywords = top["article"]["keywords"].as_array().unwrap();
    assert!(keywords.iter().any(|name| name == "keywords/energy-prices"), "{top}");
    let mut last = 1.0;
    for result in results(&answer) {
        let similarity = result["similarity"].as_f64().unwrap();
        assert_eq!(result["score"], result["similarity"]);
        assert!((-1.0..=last + 1e-9).contains(&similarity), "nearest first: {similarity} after {last}");
        last = similarity;
    }
}

#[tokio::test]
async fn both_ways_together_hold_what_either_finds() {
    let hub = Hub::seeded().await;
    let query = "hospital waiting lists";
    let hybrid = search(&hub, "HYBRID", query, "&pageSize=100").await;
    assert_eq!(hybrid["mode"], "HYBRID");
    let unsaid = hub.get(&format!("/api/v1/articles:search?query={}&pageSize=100", encode(query))).await.ok();
    assert_eq!(
        (&unsaid["results"], &unsaid["mode"]),
        (&hybrid["results"], &hybrid["mode"]),
        "the default where there is a model"
    );
    let ranks = |answer: &Value| -> BTreeMap<String, usize> {
        names(results(answer)).into_iter().enumerate().map(|(rank, name)| (name, rank + 1)).collect()
    };
    let hub_path = |mode: &str| format!("/api/v1/articles:search?mode={mode}&query={}", encode(query));
    let semantic = names(&all(&hub, &hub_path("SEMANTIC"), "results", 100).await);
    let lexical = ranks(&search(&hub, "LEXICAL", query, "&pageSize=100").await);
    for result in results(&hybrid) {
        let name = result["article"]["name"].as_str().unwrap();
        let by_meaning = semantic.iter().position(|other| other == name).map(|rank| rank + 1);
        let rank = |rank: Option<usize>| rank.map_or(0.0, |rank| 1.0 / (60.0 + rank as f64));
        let expected = rank(by_meaning) + rank(lexical.get(name).copied());
        assert!((result["score"].as_f64().unwrap() - expected).abs() < 1e-9, "{name}");
        assert_eq!(result["similarity"].is_null(), by_meaning.is_none(), "{name}");
    }
}

#[tokio::test]
async fn filters_hold_and_leave_full_pages() {
    let hub = Hub::seeded().await;
    for mode in ["LEXICAL", "SEMANTIC", "HYBRID"] {
        for (filter, field, values) in [
            ("&language=en", "language", &["en"][..]),
            ("&country=BE", "country", &["BE"]),
            ("&country=be&country=GB", "country", &["BE", "GB"]),
            ("&source=harwick-ledger", "source", &["sources/harwick-ledger"]),
            ("&source=sources/continental-post", "source", &["sources/continental-post"]),
        ] {
            let answer = search(&hub, mode, "energy", &format!("&pageSize=5{filter}")).await;
            assert_eq!(results(&answer).len(), 5, "{mode} {filter}: a full page");
            for result in results(&answer) {
                let value = result["article"][field].as_str().unwrap();
                assert!(values.contains(&value), "{mode} {filter}: {value}");
            }
        }
        let linked = search(&hub, mode, "energy", "&keyword=renewable-energy&pageSize=5").await;
        assert_eq!(results(&linked).len(), 5, "{mode}");
        let is_linked = |result: &Value| {
            result["article"]["keywords"].as_array().unwrap().iter().any(|k| k == "keywords/renewable-energy")
        };
        assert!(results(&linked).iter().all(is_linked), "{mode}");

        let toned = search(&hub, mode, "energy", "&minSentiment=0.1&maxSentiment=0.9&pageSize=5").await;
        let in_range =
            |result: &Value| (0.1..=0.9).contains(&result["article"]["sentiment"]["score"].as_f64().unwrap());
        assert!(results(&toned).len() == 5 && results(&toned).iter().all(in_range), "{mode}");
    }
    for language in ["sv", "pl", "nl", "it", "es", "fr", "de"] {
        let answer = search(&hub, "SEMANTIC", "energy", &format!("&language={language}&pageSize=11")).await;
        assert_eq!(results(&answer).len(), 11, "{language}: the filter is inside the search");
    }
}

#[tokio::test]
async fn dates_bound_a_search_and_order_it() {
    let hub = Hub::seeded().await;
    for mode in ["LEXICAL", "SEMANTIC", "HYBRID"] {
        let newest = search(&hub, mode, "energy", "&orderBy=publish_time%20desc&pageSize=50").await;
        let times: Vec<&str> =
            results(&newest).iter().map(|r| r["article"]["publishTime"].as_str().unwrap()).collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "{mode}");
        let (from, to) = (times[30], times[5]);
        let between = search(
            &hub,
            mode,
            "energy",
            &format!("&publishedAfter={from}&publishedBefore={to}&pageSize=100"),
        )
        .await;
        assert!(results(&between).len() > 10, "{mode}");
        for result in results(&between) {
            let time = result["article"]["publishTime"].as_str().unwrap();
            assert!(time >= from && time < to, "{mode}: {time} of {from}..{to}");
        }
    }
}

#[tokio::test]
async fn facets_add_up() {
    let hub = Hub::seeded().await;
    for mode in ["LEXICAL", "SEMANTIC", "HYBRID"] {
        for filter in ["", "&country=GB&country=DE"] {
            let more = format!("&showFacets=true&showTotal=true&pageSize=1{filter}");
            let answer = search(&hub, mode, "energy", &more).await;
            let path = format!("/api/v1/articles:search?query=energy&mode={mode}{filter}");
            let every = all(&hub, &path, "results", 100).await;
            assert_eq!(answer["totalSize"], every.len(), "{mode}{filter}");
            for (facet, field) in [("sources", "source"), ("countries", "country"), ("languages", "language")]
            {
                let mut expected: BTreeMap<String, i64> = BTreeMap::new();
                for result in &every {
                    *expected.entry(result["article"][field].as_str().unwrap().to_owned()).or_default() += 1;
                }
                let counted = answer["facets"][facet].as_array().unwrap();
                let counts: Vec<i64> = counted.iter().map(|facet| facet["count"].as_i64().unwrap()).collect();
                assert!(counts.is_sorted_by(|a, b| a >= b), "{mode} {facet}: most first");
                let found: BTreeMap<String, i64> = counted
                    .iter()
                    .map(|facet| {
                        (facet["value"].as_str().unwrap().to_owned(), facet["count"].as_i64().unwrap())
                    })
                    .collect();
                assert_eq!(found, expected, "{mode} {facet}{filter}");
            }
            let classes = answer["facets"]["sentimentClasses"].as_array().unwrap();
            let sum: i64 = classes.iter().map(|facet| facet["count"].as_i64().unwrap()).sum();
            assert_eq!(sum, every.len() as i64, "{mode}{filter}");
            let abstained = every.iter().filter(|r| r["article"]["sentiment"]["abstained"] == true).count();
            let told = classes.iter().find(|facet| facet["value"] == "abstained");
            assert_eq!(told.map_or(0, |facet| facet["count"].as_u64().unwrap()), abstained as u64, "{mode}");
        }
        let plain = search(&hub, mode, "energy", "").await;
        assert!(plain["facets"].is_null() && plain["totalSize"].is_null(), "{mode}: only when asked");
    }
}

#[tokio::test]
async fn similar_articles_leave_out_the_article_and_when_asked_its_copies() {
    let hub = Hub::seeded().await;
    let families: Vec<(i64, i64)> =
        sqlx::query_as("SELECT syndicated_of, id FROM articles WHERE syndicated_of IS NOT NULL")
            .fetch_all(&hub.db)
            .await
            .unwrap();
    assert!(families.len() >= 7);
    for (original, copy) in &families {
        for (one, other) in [(original, copy), (copy, original)] {
            let path = format!("/api/v1/articles/{one}:similar?pageSize=5");
            let near = hub.get(&path).await.ok();
            let near = names(results(&near));
            assert_eq!(near.len(), 5);
            assert!(!near.contains(&format!("articles/{one}")));
            assert!(
                near.contains(&format!("articles/{other}")),
                "{one}: its copy {other} is nearest: {near:?}"
            );
            let others = hub.get(&format!("{path}&excludeSyndicated=true")).await.ok();
            let others = names(results(&others));
            assert_eq!(others.len(), 5, "a full page without copies");
            for (a, b) in families.iter().filter(|(a, _)| a == original) {
                assert!(
                    !others.contains(&format!("articles/{a}")) && !others.contains(&format!("articles/{b}"))
                );
            }
        }
    }
    let (original, _) = families[0];
    let german = hub.get(&format!("/api/v1/articles/{original}:similar?language=de&pageSize=12")).await.ok();
    assert_eq!(results(&german).len(), 12);
    assert!(results(&german).iter().all(|result| result["article"]["language"] == "de"));
    let unknown = hub.get("/api/v1/articles/99999999:similar").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text.contains("articles/99999999"));
}

#[tokio::test]
async fn typing_is_completed_with_keywords_sources_and_titles() {
    let hub = Hub::seeded().await;
    let complete = async |typed: &str| -> Vec<Value> {
        let answer = hub.get(&format!("/api/v1/search:autocomplete?query={}", encode(typed))).await.ok();
        answer["completions"].as_array().unwrap().clone()
    };
    for typed in ["energ", "Énerg", "ENERG"] {
        let found = complete(typed).await;
        assert_eq!(found[0]["kind"], "COMPLETION_KIND_KEYWORD", "{typed}: {found:?}");
        assert!(found.iter().any(|completion| completion["name"] == "keywords/energy"), "{typed}");
        assert!(found.len() <= 10);
    }
    let source = complete("harwick").await;
    assert_eq!(source[0]["name"], "sources/harwick-ledger", "{source:?}");
    assert_eq!(source[0]["kind"], "COMPLETION_KIND_SOURCE");
    let title = complete("Enlargement is a promise").await;
    assert_eq!(title[0]["kind"], "COMPLETION_KIND_ARTICLE", "{title:?}");
    assert_eq!(title[0]["language"], "en");
    for nothing in ["%", "_", "zzzz", "\\", "%%%", "___", "' OR '1'='1"] {
        assert!(complete(nothing).await.is_empty(), "{nothing}");
    }
    let few = hub.get("/api/v1/search:autocomplete?query=e&pageSize=3").await.ok();
    assert_eq!(few["completions"].as_array().unwrap().len(), 3);
    assert_eq!(hub.get("/api/v1/search:autocomplete?query=+").await.violation(), "query");
}

#[tokio::test]
async fn without_a_model_words_are_searched_and_meaning_says_what_to_do() {
    let hub = Hub::without_model().await;
    for mode in ["SEMANTIC", "HYBRID"] {
        let answer = hub.get(&format!("/api/v1/articles:search?query=energy&mode={mode}")).await;
        assert_eq!(answer.status, 400, "{mode}: {}", answer.text);
        let error = &answer.json()["error"];
        assert_eq!(error["status"], "FAILED_PRECONDITION", "{mode}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(euhub::search::embedding::FETCH_COMMAND), "{mode}: {message}");
        assert_eq!(error["details"][0]["reason"], "MODEL_MISSING", "{error}");
    }
    let lexical = search(&hub, "LEXICAL", "energy", "").await;
    assert_eq!(results(&lexical).len(), 20);
    let unsaid = hub.get("/api/v1/articles:search?query=energy").await.ok();
    assert_eq!(
        (&unsaid["results"], &unsaid["mode"]),
        (&lexical["results"], &lexical["mode"]),
        "the default where there is no model"
    );
    let status = hub.get("/api/v1/status").await.ok();
    assert_eq!(status["semanticSearch"], false);
    assert_eq!(status["embeddingModel"], "");
}

#[tokio::test]
async fn unknown_filters_are_not_found_by_name() {
    let hub = Hub::seeded().await;
    for (filter, name) in [
        ("&keyword=no-such", "keywords/no-such"),
        ("&source=no-such", "sources/no-such"),
        ("&source=harwick-ledger&source=sources/nope", "sources/nope"),
    ] {
        let answer = hub.get(&format!("/api/v1/articles:search?query=energy{filter}")).await;
        assert_eq!(answer.status, 404, "{filter}");
        assert!(answer.text.contains(name), "{filter}: {}", answer.text);
    }
}
