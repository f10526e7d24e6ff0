//! `/articles`: one, by filter, and as a file.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use euhub::proto::article_service_client::ArticleServiceClient;
use euhub::proto::{GetArticleRequest, ListArticlesRequest, SentimentClass};
use serde_json::Value;

use crate::hub::Hub;
use crate::paging::{all, names};

/// Names of the articles that a condition on `articles a JOIN sources s` selects, by another way than the service's.
async fn where_sql(hub: &Hub, condition: &str) -> BTreeSet<String> {
    let sql = format!(
        "SELECT 'articles/' || a.id FROM articles a JOIN sources s ON s.id = a.source_id WHERE {condition}"
    );
    let names: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&hub.db).await.unwrap();
    names.into_iter().collect()
}

async fn listed(hub: &Hub, filter: &str) -> BTreeSet<String> {
    names(&all(hub, &format!("/api/v1/articles?{filter}"), "articles", 100).await).into_iter().collect()
}

#[tokio::test]
async fn an_article_is_returned_whole_and_lists_cut_its_body() {
    let hub = Hub::seeded().await;
    let mut cut = 0;
    for listed in all(&hub, "/api/v1/articles", "articles", 100).await.iter().take(40) {
        let name = listed["name"].as_str().unwrap();
        let whole = hub.get(&format!("/api/v1/{name}")).await.ok();
        let (excerpt, body) = (listed["body"].as_str().unwrap(), whole["body"].as_str().unwrap());
        let length = excerpt.chars().count();
        assert!(length <= 301, "{name}: {length} characters");
        assert!(body.starts_with(excerpt.trim_end_matches('…').trim_end()), "{name}: {excerpt}");
        cut += usize::from(length < body.chars().count());
        for field in ["source", "country", "language", "title", "url", "publishTime", "sentiment", "keywords"]
        {
            assert_eq!(whole[field], listed[field], "{name}: {field}");
        }
        assert!(whole["url"].as_str().unwrap().starts_with("https://"), "{name}: {}", whole["url"]);
    }
    assert!(cut > 20, "{cut}");
}

#[tokio::test]
async fn rest_and_grpc_say_the_same() {
    let hub = Hub::seeded().await;
    let mut client = ArticleServiceClient::new(hub.channel().await);
    let request = ListArticlesRequest { page_size: 3, show_total: true, ..Default::default() };
    let answer = client.list_articles(request).await.unwrap().into_inner();
    let rest = hub.get("/api/v1/articles?pageSize=3&showTotal=true").await.ok();
    let list: Vec<&str> = answer.articles.iter().map(|article| article.name.as_str()).collect();
    assert_eq!(names(rest["articles"].as_array().unwrap()), list);
    assert_eq!(rest["nextPageToken"], answer.next_page_token);
    assert_eq!(rest["totalSize"], answer.total_size.unwrap());
    let one = client.get_article(GetArticleRequest { name: list[0].into() }).await.unwrap().into_inner();
    assert_eq!(hub.get(&format!("/api/v1/{}", one.name)).await.ok()["body"], one.body);
    let unknown =
        client.get_article(GetArticleRequest { name: "articles/99999999".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn each_filter_selects_what_it_says() {
    let hub = Hub::seeded().await;
    let time: DateTime<Utc> =
        sqlx::query_scalar("SELECT publish_time FROM articles ORDER BY publish_time OFFSET 88 LIMIT 1")
            .fetch_one(&hub.db)
            .await
            .unwrap();
    let time = time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    let linked = "EXISTS (SELECT 1 FROM article_keywords l JOIN keywords k ON k.id = l.keyword_id WHERE l.article_id = a.id AND k.slug = 'energy')";
    let scored = "a.sentiment_label IS NOT NULL AND a.sentiment_label";
    let cases = [
        ("country=DE".to_owned(), "s.country = 'DE'".to_owned()),
        ("country=de".into(), "s.country = 'DE'".into()),
        ("country=DE&country=FR".into(), "s.country IN ('DE', 'FR')".into()),
        ("language=sv".into(), "a.language = 'sv'".into()),
        ("language=sv&language=NL".into(), "a.language IN ('sv', 'nl')".into()),
        ("source=harwick-ledger".into(), "s.slug = 'harwick-ledger'".into()),
        (
            "source=sources/harwick-ledger&source=fanal-des-alpes".into(),
            "s.slug IN ('harwick-ledger', 'fanal-des-alpes')".into(),
        ),
        (format!("publishedAfter={time}"), format!("a.publish_time >= '{time}'")),
        (format!("publishedBefore={time}"), format!("a.publish_time < '{time}'")),
        (format!("publishedAfter={time}&publishedBefore={time}"), "false".into()),
        ("minSentiment=0.2".into(), "a.sentiment_score >= 0.2".into()),
        ("maxSentiment=-0.1".into(), "a.sentiment_score <= -0.1".into()),
        ("minSentiment=-0.2&maxSentiment=0.2".into(), "a.sentiment_score BETWEEN -0.2 AND 0.2".into()),
        ("minSentiment=-1".into(), "a.sentiment_score IS NOT NULL".into()),
        ("sentimentClass=SENTIMENT_CLASS_POSITIVE".into(), format!("{scored} >= 4")),
        ("sentimentClass=SENTIMENT_CLASS_NEUTRAL".into(), format!("{scored} = 3")),
        ("sentimentClass=1".into(), format!("{scored} <= 2")),
        ("sentimentClass=SENTIMENT_CLASS_ABSTAINED".into(), "a.sentiment_label IS NULL".into()),
        ("keyword=energy".into(), linked.into()),
        ("keyword=keywords/energy".into(), linked.into()),
        (
            "keyword=energy&country=GB&language=en&minSentiment=0".into(),
            format!("{linked} AND s.country = 'GB' AND a.language = 'en' AND a.sentiment_score >= 0"),
        ),
        ("language=th".into(), "false".into()),
    ];
    let mut empty = 0;
    for (filter, condition) in cases {
        let expected = where_sql(&hub, &condition).await;
        assert_eq!(listed(&hub, &filter).await, expected, "{filter}");
        empty += usize::from(expected.is_empty());
    }
    assert_eq!(empty, 2, "the samples hold something for each filter");
}

#[tokio::test]
async fn a_range_of_tone_the_wrong_way_round_is_refused() {
    let hub = Hub::seeded().await;
    assert_eq!(
        hub.get("/api/v1/articles?minSentiment=0.5&maxSentiment=0.4").await.violation(),
        "minSentiment"
    );
}

#[tokio::test]
async fn orders_are_what_they_say() {
    let hub = Hub::seeded().await;
    let times = |items: &[Value], field: &str| -> Vec<DateTime<Utc>> {
        items.iter().map(|item| item[field].as_str().unwrap().parse().unwrap()).collect()
    };
    let newest = all(&hub, "/api/v1/articles", "articles", 100).await;
    assert!(times(&newest, "publishTime").is_sorted_by(|a, b| a >= b));
    let mut oldest = all(&hub, "/api/v1/articles?orderBy=publish_time", "articles", 100).await;
    assert!(times(&oldest, "publishTime").is_sorted());
    oldest.reverse();
    assert_eq!(names(&oldest), names(&newest));
    let stored = all(&hub, "/api/v1/articles?orderBy=create_time%20desc", "articles", 100).await;
    assert!(times(&stored, "createTime").is_sorted_by(|a, b| a >= b));
}

#[tokio::test]
async fn csv_and_json_lines_exports_hold_what_the_list_holds() {
    let hub = Hub::seeded().await;
    for filter in ["", "language=en&country=GB", "keyword=energy&minSentiment=0", "language=th"] {
        let listed = names(&all(&hub, &format!("/api/v1/articles?{filter}"), "articles", 100).await);

        let answer = hub.get(&format!("/api/v1/articles:export?format=EXPORT_FORMAT_CSV&{filter}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/csv"));
        let mut reader = csv::Reader::from_reader(answer.text.as_bytes());
        let header = reader.headers().unwrap().clone();
        let rows: Vec<HashMap<String, String>> = reader
            .records()
            .map(|row| {
                let row = row.unwrap();
                header.iter().map(str::to_owned).zip(row.iter().map(str::to_owned)).collect()
            })
            .collect();
        let exported: Vec<&str> = rows.iter().map(|row| row["name"].as_str()).collect();
        assert_eq!(exported, listed, "{filter}: CSV");

        for format in ["&format=EXPORT_FORMAT_JSON_LINES", ""] {
            let answer = hub.get(&format!("/api/v1/articles:export?{filter}{format}")).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/x-ndjson"));
            let lines: Vec<Value> =
                answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(names(&lines), listed, "{filter}: JSON Lines");
            for (line, row) in lines.iter().zip(&rows).step_by(10) {
                let whole = hub.get(&format!("/api/v1/{}", line["name"].as_str().unwrap())).await.ok();
                assert_eq!(*line, whole);
                assert_eq!(row["body"], whole["body"].as_str().unwrap());
                assert_eq!(row["title"], whole["title"].as_str().unwrap());
                let score = row["sentiment_score"].parse::<f64>().ok();
                assert_eq!(score, whole["sentiment"]["score"].as_f64());
            }
        }
    }
    assert_eq!(hub.get("/api/v1/articles:export?keyword=nothing").await.status, 404);
}

#[tokio::test]
async fn only_english_is_scored_and_other_languages_say_why_not() {
    let hub = Hub::seeded().await;
    let mut by_language: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for article in all(&hub, "/api/v1/articles", "articles", 100).await {
        let (language, sentiment) = (article["language"].as_str().unwrap(), &article["sentiment"]);
        let counts = by_language.entry(language.to_owned()).or_default();
        if sentiment["abstained"] == true {
            counts.1 += 1;
            assert!(sentiment["score"].is_null(), "{article}");
            assert_eq!(sentiment["label"], "SENTIMENT_LABEL_UNSPECIFIED", "{article}");
            assert!(!sentiment["abstainReason"].as_str().unwrap().is_empty(), "{article}");
        } else {
            counts.0 += 1;
            let score = sentiment["score"].as_f64().unwrap();
            assert!((-1.0..=1.0).contains(&score), "{article}");
            assert_ne!(sentiment["label"], "SENTIMENT_LABEL_UNSPECIFIED", "{article}");
            assert_eq!(sentiment["abstainReason"], "", "{article}");
            assert_eq!(sentiment["analyzer"], "vader/3.3.2", "{article}");
        }
    }
    // What samples/README.md says of the feeds, and the two whole items of the broken one.
    let expected = [
        ("de", (0, 12)),
        ("en", (95, 0)),
        ("es", (0, 12)),
        ("fr", (0, 12)),
        ("it", (0, 14)),
        ("nl", (0, 11)),
        ("pl", (0, 11)),
        ("sv", (0, 12)),
    ];
    assert_eq!(by_language, expected.map(|(language, counts)| (language.to_owned(), counts)).into());
}

/// samples/README.md: seven stories of a news agency, 17 times in all.
#[tokio::test]
async fn wire_copies_name_the_article_that_came_first() {
    let hub = Hub::seeded().await;
    let articles: HashMap<String, Value> = all(&hub, "/api/v1/articles", "articles", 100)
        .await
        .into_iter()
        .map(|article| (article["name"].as_str().unwrap().to_owned(), article))
        .collect();
    let copies: Vec<&Value> = articles.values().filter(|article| article["syndicatedOf"] != "").collect();
    let originals: BTreeSet<&str> =
        copies.iter().map(|article| article["syndicatedOf"].as_str().unwrap()).collect();
    assert_eq!((originals.len(), originals.len() + copies.len()), (7, 17));
    let time =
        |article: &Value| -> DateTime<Utc> { article["publishTime"].as_str().unwrap().parse().unwrap() };
    for copy in copies {
        let original = &articles[copy["syndicatedOf"].as_str().unwrap()];
        assert_eq!(original["syndicatedOf"], "", "a chain: {copy}");
        assert_ne!(original["source"], copy["source"], "{copy}");
        let later = time(copy) - time(original);
        assert!(later.num_hours().abs() < 22, "{copy}");
    }
}

#[tokio::test]
async fn opinion_pieces_carry_their_category() {
    let hub = Hub::seeded().await;
    let opinion: Vec<Value> = all(&hub, "/api/v1/articles?source=harwick-ledger", "articles", 100)
        .await
        .into_iter()
        .filter(|article| {
            article["categories"].as_array().unwrap().iter().any(|category| category == "Opinion")
        })
        .collect();
    assert_eq!(opinion.len(), 6);
    assert!(opinion.iter().all(|article| !article["authors"].as_array().unwrap().is_empty()));
}

#[tokio::test]
async fn class_and_label_agree() {
    let hub = Hub::seeded().await;
    let mut client = ArticleServiceClient::new(hub.channel().await);
    for (class, labels) in [
        (SentimentClass::Negative, &[1, 2][..]),
        (SentimentClass::Neutral, &[3]),
        (SentimentClass::Positive, &[4, 5]),
        (SentimentClass::Abstained, &[0]),
    ] {
        let request =
            ListArticlesRequest { sentiment_class: class.into(), page_size: 100, ..Default::default() };
        let articles = client.list_articles(request).await.unwrap().into_inner().articles;
        assert!(!articles.is_empty(), "{class:?}");
        for article in articles {
            assert!(labels.contains(&article.sentiment.unwrap().label), "{class:?}: {}", article.name);
        }
    }
}
