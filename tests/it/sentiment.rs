//! `/keywords/*/sentiment`, its timeline and comparison, and the evidence of an article.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use euhub::clock::Clock;
use euhub::sentiment::vader::Vader;
use serde_json::{Value, json};
use sqlx::FromRow;

use crate::hub::Hub;
use crate::paging::all;

/// What a tone is made of, read from the articles themselves.
#[derive(Clone, Debug, FromRow)]
struct Linked {
    slug: String,
    country: String,
    day: NaiveDate,
    score: Option<f64>,
    label: Option<i16>,
}

async fn articles_of(hub: &Hub, keyword: &str) -> Vec<Linked> {
    sqlx::query_as(
        "SELECT s.slug, s.country, (a.publish_time AT TIME ZONE 'UTC')::date AS day, a.sentiment_score AS score,
             a.sentiment_label AS label
         FROM article_keywords l JOIN articles a ON a.id = l.article_id JOIN sources s ON s.id = a.source_id
         JOIN keywords k ON k.id = l.keyword_id WHERE k.slug = $1",
    )
    .bind(keyword)
    .fetch_all(&hub.db)
    .await
    .unwrap()
}

/// The 97.5th percentile of Student's t, by integration of its density and bisection.
fn student_t(degrees: f64) -> f64 {
    let integral = |to: f64| -> f64 {
        // With x = sqrt(v) tan(a) the density becomes cos(a)^(v - 1); Simpson's rule from 0.
        let steps = 2_000;
        let h = to / f64::from(steps);
        let f = |a: f64| a.cos().powf(degrees - 1.0);
        let inner: f64 = (1..steps).map(|i| f(f64::from(i) * h) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
        (f(0.0) + inner + f(to)) * h / 3.0
    };
    let half = integral(std::f64::consts::FRAC_PI_2 - 1e-12);
    let (mut low, mut high) = (0.0, 100.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if integral((middle / degrees.sqrt()).atan()) / half < 0.95 { low = middle } else { high = middle }
    }
    low
}

#[test]
fn the_test_s_own_t_is_students() {
    for (degrees, expected) in [(1.0, 12.7062), (4.0, 2.7764), (30.0, 2.0423), (120.0, 1.9799)] {
        assert!((student_t(degrees) - expected).abs() < 2e-4, "{degrees}: {}", student_t(degrees));
    }
}

/// Compares shown numbers with the articles that they must come from.
fn check(stats: &Value, articles: &[Linked], what: &str) {
    let scores: Vec<f64> = articles.iter().filter_map(|article| article.score).collect();
    let labelled = |from: i16, to: i16| {
        articles
            .iter()
            .filter(|article| article.label.is_some_and(|label| (from..=to).contains(&label)))
            .count()
    };
    assert_eq!(stats["articleCount"], articles.len(), "{what}: {stats}");
    assert_eq!(stats["scoredCount"], scores.len(), "{what}: {stats}");
    assert_eq!(stats["abstainedCount"], articles.len() - scores.len(), "{what}: {stats}");
    assert_eq!(stats["positiveCount"], labelled(4, 5), "{what}: {stats}");
    assert_eq!(stats["neutralCount"], labelled(3, 3), "{what}: {stats}");
    assert_eq!(stats["negativeCount"], labelled(1, 2), "{what}: {stats}");
    if scores.is_empty() {
        assert!(stats["average"].is_null(), "{what}: {stats}");
        return;
    }
    let n = scores.len() as f64;
    let average = scores.iter().sum::<f64>() / n;
    let near = |value: &Value, expected: f64, tolerance: f64| {
        let value = value.as_f64().unwrap_or_else(|| panic!("{what}: {stats}"));
        assert!((value - expected).abs() < tolerance, "{what}: {value} is not {expected}: {stats}");
    };
    near(&stats["average"], average, 1e-9);
    if scores.len() < 2 {
        assert!(stats["averageLow"].is_null() && stats["averageHigh"].is_null(), "{what}: {stats}");
        return;
    }
    let variance = scores.iter().map(|score| (score - average).powi(2)).sum::<f64>() / (n - 1.0);
    let margin = student_t(n - 1.0) * (variance / n).sqrt();
    near(&stats["averageLow"], (average - margin).max(-1.0), 3e-4 * margin.max(1e-3));
    near(&stats["averageHigh"], (average + margin).min(1.0), 3e-4 * margin.max(1e-3));
}

#[tokio::test]
async fn overall_source_and_country_numbers_come_from_the_articles() {
    let hub = Hub::seeded().await;
    for keyword in ["energy-prices", "energy", "housing", "migration"] {
        let articles = articles_of(&hub, keyword).await;
        let tone = hub.get(&format!("/api/v1/keywords/{keyword}/sentiment")).await.ok();
        assert_eq!(tone["keyword"], format!("keywords/{keyword}"));
        check(&tone["overall"], &articles, keyword);

        let mut sources: BTreeMap<String, Vec<Linked>> = BTreeMap::new();
        let mut countries: BTreeMap<String, Vec<Linked>> = BTreeMap::new();
        for article in &articles {
            sources.entry(format!("sources/{}", article.slug)).or_default().push(article.clone());
            countries.entry(article.country.clone()).or_default().push(article.clone());
        }
        for (list, field, expected) in [("sources", "source", sources), ("countries", "country", countries)] {
            let shown = tone[list].as_array().unwrap();
            assert_eq!(shown.len(), expected.len(), "{keyword} {list}");
            let counts: Vec<i64> =
                shown.iter().map(|row| row["stats"]["articleCount"].as_i64().unwrap()).collect();
            assert!(counts.is_sorted_by(|a, b| a >= b), "{keyword} {list}: most first");
            for row in shown {
                let name = row[field].as_str().unwrap();
                check(&row["stats"], &expected[name], &format!("{keyword} {name}"));
            }
        }
        let days: Vec<String> = articles.iter().map(|article| article.day.to_string()).collect();
        assert_eq!(tone["firstDate"], *days.iter().min().unwrap(), "{keyword}");
        assert_eq!(tone["lastDate"], *days.iter().max().unwrap(), "{keyword}");
    }
}

#[tokio::test]
async fn days_bound_the_overall_numbers() {
    let hub = Hub::seeded().await;
    let articles = articles_of(&hub, "energy").await;
    for days in [1, 7, 30, 365] {
        let tone = hub.get(&format!("/api/v1/keywords/energy/sentiment?days={days}")).await.ok();
        let first = Clock::system().now().date_naive() - Days::new(days - 1);
        let within: Vec<Linked> = articles.iter().filter(|article| article.day >= first).cloned().collect();
        check(&tone["overall"], &within, &format!("{days} days"));
    }
}

#[tokio::test]
async fn a_keyword_without_articles_has_no_average() {
    let hub = Hub::seeded().await;
    let body = json!({"displayName": "Nothing", "terms": [{"language": "th", "term": "ข่าว"}]});
    hub.admin("POST", "/api/v1/keywords", body).await.ok();
    let tone = hub.get("/api/v1/keywords/nothing/sentiment").await.ok();
    check(&tone["overall"], &[], "nothing");
    assert_eq!((&tone["sources"], &tone["countries"]), (&json!([]), &json!([])));
    assert_eq!((&tone["firstDate"], &tone["lastDate"]), (&json!(""), &json!("")));
    let timeline = hub.get("/api/v1/keywords/nothing/sentiment/timeline?days=5").await.ok();
    assert!(timeline["points"].as_array().unwrap().iter().all(|point| point["gap"] == true));
    assert!(timeline["trend"].is_null());
}

/// Slope of daily averages by least squares, weighted by scored articles.
fn slope(points: &[Value]) -> Option<f64> {
    let scored: Vec<(f64, f64, f64)> = points
        .iter()
        .enumerate()
        .filter_map(|(day, point)| {
            let stats = &point["stats"];
            Some((day as f64, stats["average"].as_f64()?, stats["scoredCount"].as_f64()?))
        })
        .collect();
    let sum = |f: fn(&(f64, f64, f64)) -> f64| scored.iter().map(f).sum::<f64>();
    let (w, wx, wy) = (sum(|p| p.2), sum(|p| p.2 * p.0), sum(|p| p.2 * p.1));
    let (wxx, wxy) = (sum(|p| p.2 * p.0 * p.0), sum(|p| p.2 * p.0 * p.1));
    let divisor = w * wxx - wx * wx;
    (scored.len() > 1).then(|| (w * wxy - wx * wy) / divisor)
}

#[tokio::test]
async fn a_timeline_has_a_point_a_day_and_marks_gaps() {
    let hub = Hub::seeded().await;
    let every = articles_of(&hub, "energy-prices").await;
    for (filter, keep) in [
        ("", (|_| true) as fn(&Linked) -> bool),
        ("&source=harwick-ledger", |article| article.slug == "harwick-ledger"),
        ("&source=sources/fanal-des-alpes", |article| article.slug == "fanal-des-alpes"),
        ("&country=de", |article| article.country == "DE"),
        ("&country=BE&source=continental-post", |article| article.country == "BE"),
        ("&country=BE&source=harwick-ledger", |_| false),
    ] {
        for days in [1, 2, 60, 365] {
            let what = format!("{days} days{filter}");
            let path = format!("/api/v1/keywords/energy-prices/sentiment/timeline?days={days}{filter}");
            let timeline = hub.get(&path).await.ok();
            let points = timeline["points"].as_array().unwrap();
            assert_eq!(points.len(), days, "{what}");
            let dates: Vec<NaiveDate> =
                points.iter().map(|point| point["date"].as_str().unwrap().parse().unwrap()).collect();
            assert!(dates.windows(2).all(|pair| pair[0] + Days::new(1) == pair[1]), "{what}: none left out");
            let age = Clock::system().now().date_naive() - *dates.last().unwrap();
            assert!((0..=1).contains(&age.num_days()), "{what}: up to today");

            let within: Vec<Linked> =
                every.iter().filter(|article| keep(article) && article.day >= dates[0]).cloned().collect();
            check(&timeline["overall"], &within, &what);
            let mut sum = 0;
            for (point, date) in points.iter().zip(&dates) {
                let on_day: Vec<Linked> =
                    within.iter().filter(|article| article.day == *date).cloned().collect();
                check(&point["stats"], &on_day, &format!("{what} {date}"));
                assert_eq!(point["gap"], on_day.is_empty(), "{what} {date}");
                sum += point["stats"]["articleCount"].as_i64().unwrap();
            }
            assert_eq!(timeline["overall"]["articleCount"], sum, "{what}");
            match slope(points) {
                Some(expected) => {
                    let trend = timeline["trend"].as_f64().unwrap();
                    assert!((trend - expected).abs() < 1e-9, "{what}: {trend} is not {expected}");
                }
                None => assert!(timeline["trend"].is_null(), "{what}"),
            }
        }
    }
    let usual = hub.get("/api/v1/keywords/energy-prices/sentiment/timeline").await.ok();
    assert_eq!(usual["points"].as_array().unwrap().len(), 30);
    let whole = hub.get("/api/v1/keywords/energy-prices/sentiment/timeline?days=60").await.ok();
    assert!(whole["points"].as_array().unwrap().iter().any(|point| point["gap"] == true));
    assert!(whole["trend"].as_f64().unwrap() > 0.0, "samples/README.md: the tone rises");
}

#[tokio::test]
async fn unknown_names_of_a_timeline_are_not_found() {
    let hub = Hub::seeded().await;
    for (path, name) in [
        ("/api/v1/keywords/no-such/sentiment", "keywords/no-such"),
        ("/api/v1/keywords/no-such/sentiment/timeline", "keywords/no-such"),
        ("/api/v1/keywords/energy/sentiment/timeline?source=no-such", "sources/no-such"),
        ("/api/v1/sentiment:compare?keywords=energy&keywords=no-such", "keywords/no-such"),
        ("/api/v1/articles/99999999/sentiment", "articles/99999999"),
    ] {
        let answer = hub.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
        assert!(answer.text.contains(name), "{path}: {}", answer.text);
    }
}

fn compare(keywords: &[&str], more: &str) -> String {
    let keywords: Vec<String> = keywords.iter().map(|keyword| format!("keywords={keyword}")).collect();
    format!("/api/v1/sentiment:compare?{}{more}", keywords.join("&"))
}

#[tokio::test]
async fn two_to_five_different_keywords_are_compared() {
    let hub = Hub::seeded().await;
    let five = ["housing", "energy", "keywords/migration", "inflation", "energy-prices"];
    for number in 2..=5 {
        let answer = hub.get(&compare(&five[..number], "&days=14")).await.ok();
        let timelines = answer["timelines"].as_array().unwrap();
        assert_eq!(timelines.len(), number);
        for (timeline, keyword) in timelines.iter().zip(&five) {
            let slug = keyword.trim_start_matches("keywords/");
            let alone = hub.get(&format!("/api/v1/keywords/{slug}/sentiment/timeline?days=14")).await.ok();
            assert_eq!(*timeline, alone, "{keyword}: in the order of the request, as by itself");
        }
    }
    let usual = hub.get(&compare(&five[..2], "")).await.ok();
    assert_eq!(usual["timelines"][1]["points"].as_array().unwrap().len(), 30);
    for wrong in [
        &["energy"][..],
        &["housing", "energy", "migration", "inflation", "energy-prices", "public-health"],
        &["energy", "energy"],
        &["energy", "keywords/energy"],
    ] {
        assert_eq!(hub.get(&compare(wrong, "")).await.violation(), "keywords", "{wrong:?}");
    }
    assert_eq!(hub.get("/api/v1/sentiment:compare").await.violation(), "keywords");
    assert_eq!(hub.get(&compare(&five[..2], "&days=0")).await.violation(), "days");
    assert_eq!(hub.get(&compare(&five[..2], "&days=366")).await.violation(), "days");
}

fn cut(text: &str, phrase: &Value) -> String {
    let (start, end) = (phrase["start"].as_u64().unwrap() as usize, phrase["end"].as_u64().unwrap() as usize);
    text.chars().skip(start).take(end - start).collect()
}

#[tokio::test]
async fn the_evidence_of_an_article_stands_where_it_says() {
    let hub = Hub::seeded().await;
    let mut phrases = 0;
    for listed in all(&hub, "/api/v1/articles?language=en", "articles", 100).await {
        let name = listed["name"].as_str().unwrap();
        let article = hub.get(&format!("/api/v1/{name}")).await.ok();
        let evidence = hub.get(&format!("/api/v1/{name}/sentiment")).await.ok();
        assert_eq!(evidence["article"], name);
        let analysis = &evidence["analyses"][0];
        assert_eq!(analysis["analyzer"], "vader");
        assert_eq!(analysis["analyzerVersion"], "3.3.2");
        assert_eq!(analysis["score"], article["sentiment"]["score"], "{name}");
        assert_eq!(analysis["label"], article["sentiment"]["label"], "{name}");
        let shares: f64 =
            ["positive", "neutral", "negative"].iter().map(|share| analysis[share].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 0.01, "{name}: {shares}");
        for field in ["confidence", "subjectivity"] {
            assert!((0.0..=1.0).contains(&analysis[field].as_f64().unwrap()), "{name}: {analysis}");
        }
        let mut last = f64::INFINITY;
        for phrase in analysis["phrases"].as_array().unwrap() {
            let text = article[phrase["field"].as_str().unwrap()].as_str().unwrap();
            assert_eq!(cut(text, phrase), phrase["text"].as_str().unwrap(), "{name}");
            let strength = phrase["valence"].as_f64().unwrap().abs();
            assert!(strength > 0.0 && strength <= last + 1e-9, "{name}: strongest first");
            last = strength;
            phrases += 1;
        }
    }
    assert!(phrases > 200, "{phrases}");

    for language in ["de", "fr", "es", "it", "pl", "nl", "sv"] {
        let path = format!("/api/v1/articles?pageSize=1&language={language}");
        let name = hub.get(&path).await.ok()["articles"][0]["name"].as_str().unwrap().to_owned();
        let evidence = hub.get(&format!("/api/v1/{name}/sentiment")).await.ok();
        let analysis = &evidence["analyses"][0];
        assert_eq!((&analysis["abstained"], &analysis["language"]), (&json!(true), &json!(language)));
        assert!(analysis["score"].is_null() && analysis["confidence"].is_null(), "{analysis}");
        assert!(!analysis["abstainReason"].as_str().unwrap().is_empty(), "{analysis}");
        assert_eq!(analysis["phrases"], json!([]));
    }
}

async fn analyze(hub: &Hub, body: Value) -> crate::hub::Answer {
    let request = hub.request("POST", "/api/v1/sentiment:analyze").header("content-type", "application/json");
    crate::hub::send(request.body(body.to_string())).await
}

#[tokio::test]
async fn a_sentence_is_scored_as_vader_does() {
    let hub = Hub::empty().await;
    for text in [
        "The new night train is a GREAT success, and passengers are really happy about it!!!",
        "The ministers were not happy with the horrible, dangerous delays at the old border.",
        "The plan is good, but the people of the town say that it was a terrible mistake.",
    ] {
        let answer = analyze(&hub, json!({"text": text, "language": "en"})).await.ok();
        let analysis = &answer["analysis"];
        let expected = Vader::shared().score(text);
        assert!((analysis["score"].as_f64().unwrap() - expected.compound).abs() < 1e-4, "{analysis}");
        for (share, value) in
            [("positive", expected.positive), ("neutral", expected.neutral), ("negative", expected.negative)]
        {
            assert!((analysis[share].as_f64().unwrap() - value).abs() < 1e-3, "{share}: {analysis}");
        }
        assert_eq!(answer["languageConfidence"], 1.0);
        let phrases = analysis["phrases"].as_array().unwrap();
        assert!(!phrases.is_empty());
        assert!(phrases.iter().all(|phrase| cut(text, phrase) == phrase["text"].as_str().unwrap()));
        let detected = analyze(&hub, json!({"text": text})).await.ok();
        assert_eq!(detected["analysis"]["language"], "en", "{text}");
        assert_eq!(detected["analysis"]["score"], analysis["score"], "{text}");
    }
}

#[tokio::test]
async fn other_languages_abstain() {
    let hub = Hub::empty().await;
    let german = "Die Strompreise sind im Herbst gestiegen, und die Verbraucher müssen mehr für ihre Rechnungen zahlen.";
    for body in [
        json!({"text": german}),
        json!({"text": german, "language": "de"}),
        json!({"text": "This is a wonderful success.", "language": "DE"}),
        json!({"text": "1234 5678 !!!"}),
    ] {
        let analysis = analyze(&hub, body.clone()).await.ok()["analysis"].clone();
        assert_eq!(analysis["abstained"], true, "{body}");
        assert!(analysis["score"].is_null(), "{body}");
        assert!(!analysis["abstainReason"].as_str().unwrap().is_empty(), "{body}");
        assert_eq!(analysis["label"], "SENTIMENT_LABEL_UNSPECIFIED", "{body}");
    }
}

#[tokio::test]
async fn a_text_has_a_greatest_length_and_no_control_characters() {
    let hub = Hub::empty().await;
    assert_eq!(analyze(&hub, json!({"text": "é".repeat(10_000)})).await.status, 200);
    for text in [String::new(), "é".repeat(10_001), "a\0b".into(), "a\u{1b}b".into()] {
        assert_eq!(analyze(&hub, json!({"text": text})).await.violation(), "text");
    }
    analyze(&hub, json!({"text": "A good day.\n\tA bad night.\r\n", "language": "en"})).await.ok();
    assert_eq!(analyze(&hub, json!({"text": "a", "language": "english"})).await.violation(), "language");
}
