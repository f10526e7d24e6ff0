//! The aggregates behind every shown number: kept with each change, they equal those made anew.

use euhub::clock::Clock;
use euhub::jobs;
use euhub::seed::analyze_stored;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::hub::Hub;

/// Aggregates, links and counts, as they stand.
async fn snapshot(hub: &Hub) -> (Vec<String>, Vec<String>, Vec<String>) {
    let aggregates = sqlx::query_scalar(
        "SELECT concat_ws('|', keyword_id, day, source_id, n, trim_scale(sum), trim_scale(sum_of_squares), positive,
             neutral, negative, abstained) FROM keyword_daily ORDER BY keyword_id, day, source_id",
    );
    let links = sqlx::query_scalar(
        "SELECT concat_ws('|', keyword_id, article_id, matched_language, matched_term, in_title, publish_time)
         FROM article_keywords ORDER BY keyword_id, article_id",
    );
    let counts = sqlx::query_scalar(
        "SELECT concat_ws('|', k.slug, k.article_count, (SELECT count(*) FROM article_keywords l WHERE l.keyword_id = k.id))
         FROM keywords k ORDER BY k.slug",
    );
    (
        aggregates.fetch_all(&hub.db).await.unwrap(),
        links.fetch_all(&hub.db).await.unwrap(),
        counts.fetch_all(&hub.db).await.unwrap(),
    )
}

const WORDS: [(&str, &str); 12] = [
    ("en", "harvest"),
    ("en", "railway"),
    ("en", "gas prices"),
    ("en", "wonderful"),
    ("en", "government"),
    ("en", "workers"),
    ("de", "Ernte"),
    ("de", "Regierung"),
    ("fr", "gouvernement"),
    ("sv", "regeringen"),
    ("pl", "rząd"),
    ("en", "flood"),
];

fn some_terms(rng: &mut StdRng) -> Value {
    let first = rng.random_range(0..WORDS.len());
    let number = rng.random_range(1..4);
    let terms = (0..number).map(|i| WORDS[(first + i * 5) % WORDS.len()]);
    terms.map(|(language, term)| json!({"language": language, "term": term})).collect()
}

/// A feed of some sentences that no sample has.
fn some_feed(rng: &mut StdRng, round: u32) -> String {
    let sentences = [
        "The government called the harvest a wonderful success, and farmers across the country were very happy.",
        "Railway workers say that the terrible flood destroyed the line and killed hopes of a quick repair.",
        "Gas prices fell again in the autumn, which was good news for households and for the government too.",
        "The council will meet on Tuesday to decide about the number of the buses that run at night.",
        "Die Regierung hat am Montag über die Ernte und die Preise beraten, und die Bauern warten auf Hilfe.",
    ];
    let now = Clock::system().now();
    let items: String = (0..rng.random_range(2..6))
        .map(|item| {
            let (a, b) = (rng.random_range(0..4), rng.random_range(0..5));
            let time = now - chrono::TimeDelta::minutes(rng.random_range(1..40_000));
            format!(
                "<item><title>Round {round} item {item} {}</title><guid>r{round}-{item}</guid><pubDate>{}</pubDate>
                 <link>https://random.example/{round}/{item}</link><description>{} {}</description></item>",
                rng.random::<u32>(), time.to_rfc2822(), sentences[a], sentences[b]
            )
        })
        .collect();
    format!("<rss version=\"2.0\"><channel><title>Random</title>{items}</channel></rss>")
}

#[tokio::test]
async fn aggregates_kept_with_each_change_equal_those_rebuilt() {
    let hub = Hub::seeded().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("feed.xml");
    std::fs::write(&file, "<rss version=\"2.0\"><channel><title>Random</title></channel></rss>").unwrap();
    let url = url::Url::from_file_path(&file).unwrap();
    let source = json!({"displayName": "Random", "country": "IE", "feeds": [{"url": url.as_str()}]});
    hub.admin("POST", "/api/v1/sources", source).await.ok();

    for seed in 0..3 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut own: Vec<String> = Vec::new();
        for round in 0..12 {
            match rng.random_range(0..5) {
                0 => {
                    let body =
                        json!({"displayName": format!("Made {seed} {round}"), "terms": some_terms(&mut rng)});
                    let made = hub.admin("POST", "/api/v1/keywords", body).await.ok();
                    own.push(made["name"].as_str().unwrap().to_owned());
                }
                1 if !own.is_empty() => {
                    let name = &own[rng.random_range(0..own.len())];
                    let body = json!({"terms": some_terms(&mut rng), "booleanQuery": "flood OR \"gas prices\" -buses"});
                    let mask = if rng.random() { "terms" } else { "terms,booleanQuery" };
                    hub.admin("PATCH", &format!("/api/v1/{name}?updateMask={mask}"), body).await.ok();
                }
                2 if own.len() > 1 => {
                    let name = own.swap_remove(rng.random_range(0..own.len()));
                    hub.admin("DELETE", &format!("/api/v1/{name}"), Value::Null).await.ok();
                }
                _ => {
                    let number = u32::try_from(seed).unwrap() * 100 + round;
                    std::fs::write(&file, some_feed(&mut rng, number)).unwrap();
                    let run = hub.admin("POST", "/api/v1/sources/random:ingest", json!({})).await.ok();
                    assert!(run["runs"][0]["newCount"].as_i64().unwrap() > 0, "{run}");
                    // A change of keywords and an analysis at once must not miss each other.
                    let body = json!({"displayName": format!("Meanwhile {seed} {round}"), "terms": some_terms(&mut rng)});
                    let (analysed, made) = tokio::join!(
                        analyze_stored(&hub.ingest),
                        hub.admin("POST", "/api/v1/keywords", body)
                    );
                    analysed.unwrap();
                    own.push(made.ok()["name"].as_str().unwrap().to_owned());
                }
            }
        }
        let (aggregates, links, counts) = snapshot(&hub).await;
        assert!(counts.iter().all(|row| row.split('|').nth(1) == row.split('|').nth(2)), "{counts:?}");
        jobs::rebuild_aggregates(&hub.db).await.unwrap();
        let rebuilt = snapshot(&hub).await;
        assert_eq!(aggregates, rebuilt.0, "seed {seed}");

        // Linking every keyword anew finds the same links: none was missed when articles and keywords came at once.
        let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM keywords").fetch_all(&hub.db).await.unwrap();
        let mut tx = hub.db.begin().await.unwrap();
        for id in ids {
            euhub::keywords::link::relink_keyword(&mut tx, id).await.unwrap();
        }
        tx.commit().await.unwrap();
        let relinked = snapshot(&hub).await;
        assert_eq!((aggregates, links, counts), relinked, "seed {seed}");
    }
    let random = hub.get("/api/v1/articles?source=random&pageSize=1&showTotal=true").await.ok();
    assert!(random["totalSize"].as_i64().unwrap() > 20, "{random}");
}
