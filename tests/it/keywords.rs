//! `/keywords`: what analysts follow, in any language, and the links behind it.

use std::collections::{BTreeMap, BTreeSet};

use euhub::proto::keyword_service_client::KeywordServiceClient;
use euhub::proto::{GetKeywordRequest, ListKeywordsRequest};
use serde_json::{Value, json};

use crate::hub::{Hub, encode, root};
use crate::paging::{all, names};

pub fn keyword(display_name: &str, terms: &[(&str, &str)]) -> Value {
    let terms: Vec<Value> =
        terms.iter().map(|(language, term)| json!({"language": language, "term": term})).collect();
    json!({"displayName": display_name, "terms": terms})
}

pub async fn create(hub: &Hub, body: Value) -> Value {
    hub.admin("POST", "/api/v1/keywords", body).await.ok()
}

pub async fn number(hub: &Hub, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&hub.db).await.unwrap()
}

/// The articles linked to a keyword, with why.
pub async fn linked(hub: &Hub, name: &str) -> Vec<Value> {
    all(hub, &format!("/api/v1/{name}/articles"), "articles", 100).await
}

#[tokio::test]
async fn keywords_are_listed_by_name_count_and_age() {
    let hub = Hub::seeded().await;
    let list = hub.get("/api/v1/keywords?showTotal=true").await.ok();
    assert_eq!(list["totalSize"], 13);
    let keywords = list["keywords"].as_array().unwrap();
    assert!(keywords.is_sorted_by_key(|keyword| keyword["displayName"].as_str().unwrap().to_owned()));
    assert!(keywords.iter().all(|keyword| keyword["matchedTerms"] == json!([])), "nothing was asked");

    let most = hub.get("/api/v1/keywords?orderBy=article_count+desc").await.ok();
    let counts: Vec<i64> =
        most["keywords"].as_array().unwrap().iter().map(|k| k["articleCount"].as_i64().unwrap()).collect();
    assert!(counts.is_sorted_by(|a, b| a >= b) && counts[0] >= 60, "{counts:?}");

    create(&hub, keyword("Zz newest", &[("en", "harvest")])).await;
    let newest = hub.get("/api/v1/keywords?order_by=create_time%20desc&page_size=1").await.ok();
    assert_eq!(newest["keywords"][0]["name"], "keywords/zz-newest");
}

#[tokio::test]
async fn category_filters() {
    let hub = Hub::seeded().await;
    let list = hub.get("/api/v1/keywords?category=energy").await.ok();
    let found = names(list["keywords"].as_array().unwrap());
    assert_eq!(found, ["keywords/energy", "keywords/energy-prices", "keywords/renewable-energy"]);
    assert_eq!(hub.get("/api/v1/keywords?category=none").await.ok()["keywords"], json!([]));
    let both = hub.get("/api/v1/keywords?category=energy&query=offshore%20wind&showTotal=true").await.ok();
    assert_eq!(names(both["keywords"].as_array().unwrap()), ["keywords/renewable-energy"]);
    assert_eq!(both["totalSize"], 1);
}

#[tokio::test]
async fn one_keyword_over_rest_and_grpc() {
    let hub = Hub::seeded().await;
    let rest = hub.get("/api/v1/keywords/energy").await.ok();
    let mut client = KeywordServiceClient::new(hub.channel().await);
    let grpc =
        client.get_keyword(GetKeywordRequest { name: "keywords/energy".into() }).await.unwrap().into_inner();
    assert_eq!(rest["name"], grpc.name);
    assert_eq!(rest["articleCount"], grpc.article_count);
    assert_eq!(rest["terms"].as_array().unwrap().len(), grpc.terms.len());
    let articles = linked(&hub, "keywords/energy").await;
    assert_eq!(articles.len() as i64, rest["articleCount"].as_i64().unwrap());
    assert_eq!(rest["latestArticleTime"], articles[0]["article"]["publishTime"]);

    let unknown = hub.get("/api/v1/keywords/no-such").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["error"]["message"].as_str().unwrap().contains("keywords/no-such"));
    let unknown =
        client.get_keyword(GetKeywordRequest { name: "keywords/no-such".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn accents_case_and_space_do_not_matter_and_the_languages_are_told() {
    let hub = Hub::seeded().await;
    for (query, first) in [
        ("Énergie", Some("fr")),
        ("énergie", Some("fr")),
        ("energie", None),
        ("ENERGIE", None),
        ("  energie ", None),
        ("energía", Some("es")),
        ("Energia", None),
        ("energiförsörjning", Some("sv")),
        ("energiforsorjning", Some("sv")),
    ] {
        let list = hub.get(&format!("/api/v1/keywords?query={}", encode(query))).await.ok();
        let energy = list["keywords"].as_array().unwrap().iter().find(|k| k["name"] == "keywords/energy");
        let energy = energy.unwrap_or_else(|| panic!("{query}: {list}"));
        let matched = energy["matchedTerms"].as_array().unwrap();
        let languages: BTreeSet<&str> =
            matched.iter().map(|term| term["language"].as_str().unwrap()).collect();
        if let Some(first) = first {
            assert_eq!(matched[0]["language"], first, "{query}: {matched:?}");
        }
        if query.trim().to_lowercase().trim_start_matches('é').ends_with("nergie") {
            assert!(
                ["de", "fr", "nl"].iter().all(|language| languages.contains(language)),
                "{query}: {matched:?}"
            );
        }
    }
}

/// Each of the 441 terms, in ten languages, finds its keyword and is told as what matched.
#[tokio::test]
async fn every_term_finds_its_keyword() {
    let hub = Hub::seeded().await;
    let text = std::fs::read_to_string(root().join("samples/keywords.json")).unwrap();
    let samples: Value = serde_json::from_str(&text).unwrap();
    let mut client = KeywordServiceClient::new(hub.channel().await);
    let (mut asked, mut languages) = (0, BTreeSet::new());
    for keyword in samples["keywords"].as_array().unwrap() {
        let name = format!("keywords/{}", keyword["slug"].as_str().unwrap());
        for term in keyword["terms"].as_array().unwrap() {
            let (language, term) = (term["language"].as_str().unwrap(), term["term"].as_str().unwrap());
            let request =
                ListKeywordsRequest { query: term.to_uppercase(), page_size: 100, ..Default::default() };
            let found = client.list_keywords(request).await.unwrap().into_inner().keywords;
            let found = found.iter().find(|found| found.name == name);
            let matched = &found.unwrap_or_else(|| panic!("{term} does not find {name}")).matched_terms;
            assert!(matched.iter().any(|m| m.language == language && m.term == term), "{term}: {matched:?}");
            assert_eq!(matched[0].term.to_lowercase(), term.to_lowercase(), "the closest first");
            asked += 1;
            languages.insert(language.to_owned());
        }
    }
    assert_eq!((asked, languages.len()), (441, 10));
}

#[tokio::test]
async fn wildcards_of_sql_are_letters_like_any_other() {
    let hub = Hub::seeded().await;
    for query in ["%", "_", "energ%", "\\", "' OR 1=1 --", "zzzz"] {
        let list = hub.get(&format!("/api/v1/keywords?query={}", encode(query))).await.ok();
        assert_eq!(list["keywords"], json!([]), "{query}");
    }
}

/// The table of samples/README.md: links by terms alone.
#[tokio::test]
async fn samples_link_as_their_table_says() {
    let hub = Hub::seeded().await;
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT k.slug, a.language, count(DISTINCT a.id) FROM keywords k JOIN keyword_terms t ON t.keyword_id = k.id
         JOIN articles a ON a.language = t.language AND a.search @@ t.query GROUP BY 1, 2",
    )
    .fetch_all(&hub.db)
    .await
    .unwrap();
    let mut found: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for (slug, language, n) in rows {
        found.entry(slug).or_default().insert(language, n);
    }
    let readme = std::fs::read_to_string(root().join("samples/README.md")).unwrap();
    let languages = ["en", "de", "fr", "es", "it", "pl", "nl", "sv"];
    let (mut compared, mut wrong) = (0, Vec::new());
    for line in readme.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 11) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let slug = cells[1].trim_matches('`');
        let counts = languages.map(|language| found[slug].get(language).copied().unwrap_or_default());
        let expected: Vec<i64> = cells[3..11].iter().map(|cell| cell.parse().unwrap()).collect();
        if counts[..] != expected || counts.iter().sum::<i64>().to_string() != cells[2] {
            wrong.push(format!("{slug}: {counts:?}, not {expected:?} and {} in all", cells[2]));
        }
        let keyword = hub.get(&format!("/api/v1/keywords/{slug}")).await.ok();
        if keyword["booleanQuery"] == "" {
            assert_eq!(keyword["articleCount"], counts.iter().sum::<i64>(), "{slug}");
        }
        compared += 1;
    }
    assert_eq!(compared, 13);
    assert!(wrong.is_empty(), "{languages:?}\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn links_tell_the_term_of_the_article_s_own_language() {
    let hub = Hub::seeded().await;
    for name in ["keywords/energy", "keywords/energy-prices", "keywords/cyber-security"] {
        let terms = hub.get(&format!("/api/v1/{name}")).await.ok()["terms"].clone();
        for link in linked(&hub, name).await {
            let article = &link["article"];
            assert!(article["keywords"].as_array().unwrap().iter().any(|k| k == name), "{link}");
            if link["matchedLanguage"] == "" {
                continue;
            }
            assert_eq!(link["matchedLanguage"], article["language"], "{link}");
            let term = json!({"language": link["matchedLanguage"], "term": link["matchedTerm"]});
            assert!(terms.as_array().unwrap().contains(&term), "{link}");
        }
    }
}

#[tokio::test]
async fn links_are_filtered_like_articles() {
    let hub = Hub::seeded().await;
    let every = linked(&hub, "keywords/energy").await;
    for (filter, field, value) in [
        ("language=fr", "language", "fr"),
        ("country=GB", "country", "GB"),
        ("source=fanal-des-alpes", "source", "sources/fanal-des-alpes"),
    ] {
        let path = format!("/api/v1/keywords/energy/articles?{filter}");
        let expected: Vec<Value> =
            every.iter().filter(|link| link["article"][field] == value).cloned().collect();
        assert!(!expected.is_empty(), "{filter}");
        assert_eq!(all(&hub, &path, "articles", 100).await, expected, "{filter}");
    }
    let path = "/api/v1/keywords/energy/articles?sentimentClass=SENTIMENT_CLASS_ABSTAINED";
    let abstained = every.iter().filter(|link| link["article"]["sentiment"]["abstained"] == true).count();
    assert_eq!(all(&hub, path, "articles", 100).await.len(), abstained);
}

#[tokio::test]
async fn a_preview_is_what_the_keyword_then_links() {
    let hub = Hub::seeded().await;
    let drafts = [
        keyword(
            "Preview",
            &[("en", "hospitals"), ("de", "Krankenhaus"), ("en", "harvest"), ("fr", "récolte")],
        ),
        json!({"displayName": "Preview", "booleanQuery": "railway OR \"night train\" -football"}),
        json!({
            "displayName": "Preview", "booleanQuery": "phishing",
            "terms": [{"language": "en", "term": "farmers"}, {"language": "sv", "term": "nattåg"}],
        }),
        keyword("Preview", &[("th", "ข่าว")]),
    ];
    for draft in drafts {
        let mut unnamed = draft.clone();
        unnamed.as_object_mut().unwrap().remove("displayName");
        let request =
            hub.request("POST", "/api/v1/keywords:preview").header("content-type", "application/json");
        let preview = crate::hub::send(request.body(json!({"keyword": unnamed}).to_string())).await.ok();
        assert_eq!(hub.get("/api/v1/keywords/preview").await.status, 404, "a dry run");

        let created = create(&hub, draft.clone()).await;
        let links = linked(&hub, "keywords/preview").await;
        assert_eq!(preview["articleCount"], created["articleCount"], "{draft}");
        assert_eq!(preview["articleCount"], links.len(), "{draft}");
        // What is linked names its keyword by now; the rest must be equal.
        let plain = |links: &[Value]| -> Vec<Value> {
            let mut links = links.to_vec();
            for link in &mut links {
                link["article"]["keywords"] = Value::Null;
            }
            links
        };
        let newest = &links[..links.len().min(10)];
        assert_eq!(plain(preview["articles"].as_array().unwrap()), plain(newest), "{draft}");
        let set = |field: &str| {
            links.iter().map(|link| link["article"][field].to_string()).collect::<BTreeSet<_>>()
        };
        assert_eq!(preview["sourceCount"], set("source").len(), "{draft}");
        assert_eq!(preview["countryCount"], set("country").len(), "{draft}");
        let archive = number(&hub, "SELECT count(*) FROM articles").await;
        let share = preview["archiveShare"].as_f64().unwrap();
        assert!((share - links.len() as f64 / archive as f64).abs() < 1e-12, "{draft}");

        let terms = draft["terms"].as_array().cloned().unwrap_or_default();
        let counted = preview["terms"].as_array().unwrap();
        assert_eq!(counted.len(), terms.len() + usize::from(draft["booleanQuery"].is_string()));
        for (term, counted) in terms.iter().zip(counted) {
            assert_eq!((&counted["language"], &counted["term"]), (&term["language"], &term["term"]));
            let first = links.iter().filter(|link| link["matchedTerm"] == term["term"]).count();
            assert!(counted["articleCount"].as_i64().unwrap() >= first as i64, "{draft}");
        }
        hub.admin("DELETE", "/api/v1/keywords/preview", Value::Null).await.ok();
    }
    assert_eq!(number(&hub, "SELECT count(*) FROM keywords").await, 13);
}

#[tokio::test]
async fn a_boolean_query_alone_links_articles_of_any_language() {
    let hub = Hub::seeded().await;
    let body = json!({"displayName": "Crime online", "booleanQuery": "ransomware OR Ernte -football"});
    let created = create(&hub, body).await;
    let links = linked(&hub, "keywords/crime-online").await;
    assert!(!links.is_empty());
    assert_eq!(created["articleCount"], links.len());
    let languages: BTreeSet<String> =
        links.iter().map(|link| link["article"]["language"].as_str().unwrap().to_owned()).collect();
    assert!(languages.len() > 1, "{languages:?}");
    for link in links {
        assert_eq!(link["matchedLanguage"], "");
        assert_eq!(link["matchedTerm"], "ransomware OR Ernte -football");
        let article = hub.get(&format!("/api/v1/{}", link["article"]["name"].as_str().unwrap())).await.ok();
        let text = format!("{} {}", article["title"], article["body"]).to_lowercase();
        assert!(text.contains("ransomware") || text.contains("ernte"), "{article}");
    }
}
