//! `euhub seed`: what the samples say is what the Hub holds, and a second time changes nothing.

use sqlx::PgPool;

use crate::embedded::scratch;
use crate::hub::{Hub, ingest, root};

/// Whole tables as one hash each, in a fixed order of rows. Runs are left out: each fetch leaves one.
async fn fingerprint(db: &PgPool) -> Vec<(String, i64, Option<String>)> {
    let mut tables = Vec::new();
    for table in [
        "sources",
        "feeds",
        "articles",
        "article_sentiments",
        "keywords",
        "keyword_terms",
        "article_keywords",
        "keyword_daily",
        "api_keys",
        "audit_log",
        "created_requests",
        "graphile_worker.jobs",
        "runs",
    ] {
        let sql =
            format!("SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {table} t");
        let (n, hash) = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(db).await.expect(table);
        tables.push((table.to_owned(), n, hash));
    }
    tables
}

async fn counts(db: &PgPool, sql: &'static str) -> Vec<(String, i64)> {
    sqlx::query_as(sql).fetch_all(db).await.expect(sql)
}

fn owned(counts: &[(&str, i64)]) -> Vec<(String, i64)> {
    counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

#[tokio::test]
async fn seeding_twice_changes_nothing() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let ingest = ingest(hub.db.clone());
    let seed =
        async || euhub::seed::seed(&ingest, &root().join("samples"), folder.path(), |_| ()).await.unwrap();

    let first = seed().await;
    assert_eq!((first.sources, first.keywords), (18, 13));
    let before = fingerprint(&hub.db).await;
    let second = seed().await;
    assert_eq!((second.sources, second.keywords, second.articles), (0, 0, 0));
    let after = fingerprint(&hub.db).await;
    let changed: Vec<&str> =
        before.iter().zip(&after).filter(|(a, b)| a != b).map(|(table, _)| table.0.as_str()).collect();
    assert_eq!(changed, Vec::<&str>::new());
}

#[tokio::test]
async fn a_change_of_the_operators_survives_a_second_seeding() {
    let (hub, folder) = (Hub::seeded().await, scratch());
    for sql in [
        "UPDATE keywords SET display_name = 'Mine' WHERE slug = 'energy-prices'",
        "UPDATE sources SET paused = true WHERE slug = 'bbc-news'",
        "DELETE FROM keyword_terms WHERE language = 'th'",
    ] {
        sqlx::query(sql).execute(&hub.db).await.unwrap();
    }
    let before = fingerprint(&hub.db).await;
    let ingest = ingest(hub.db.clone());
    euhub::seed::seed(&ingest, &root().join("samples"), folder.path(), |_| ()).await.unwrap();
    let after = fingerprint(&hub.db).await;
    for table in ["keywords", "keyword_terms", "articles", "article_keywords", "keyword_daily", "sources"] {
        let of = |tables: &[(String, i64, Option<String>)]| {
            tables.iter().find(|(name, ..)| name == table).cloned()
        };
        assert_eq!(of(&after), of(&before), "{table}");
    }
}

#[tokio::test]
async fn the_samples_are_what_their_readme_says() {
    let hub = Hub::seeded().await;
    let by_language = counts(
        &hub.db,
        "SELECT language, count(*) FROM articles GROUP BY language ORDER BY count(*) DESC, language",
    )
    .await;
    // The README counts the fifteen whole feeds; the two whole items of the broken one, in Italian, come besides.
    let readme =
        [("en", 95), ("it", 12 + 2), ("de", 12), ("es", 12), ("fr", 12), ("sv", 12), ("nl", 11), ("pl", 11)];
    assert_eq!(by_language, owned(&readme));

    let keywords = counts(
        &hub.db,
        "SELECT k.slug, count(DISTINCT a.id) FROM keywords k JOIN keyword_terms t ON t.keyword_id = k.id
         JOIN articles a ON a.language = t.language AND a.search @@ t.query
         GROUP BY k.slug ORDER BY count(DISTINCT a.id) DESC, k.slug",
    )
    .await;
    let readme = [
        ("energy-prices", 60),
        ("energy", 48),
        ("food-farming", 19),
        ("renewable-energy", 17),
        ("housing", 14),
        ("inflation", 14),
        ("migration", 14),
        ("rail-transport", 14),
        ("artificial-intelligence", 13),
        ("climate-policy", 13),
        ("public-health", 12),
        ("cyber-security", 10),
        ("eu-enlargement", 10),
    ];
    assert_eq!(keywords, owned(&readme));

    let terms: (i64, i64) = sqlx::query_as("SELECT count(*), count(DISTINCT language) FROM keyword_terms")
        .fetch_one(&hub.db)
        .await
        .unwrap();
    assert_eq!(terms, (441, 10));
    let outlets: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sources WHERE NOT paused").fetch_one(&hub.db).await.unwrap();
    assert_eq!(outlets, 12, "the real outlets are fetched, the invented ones are not");
}

#[tokio::test]
async fn only_english_samples_have_a_tone() {
    let hub = Hub::seeded().await;
    let tones = counts(
        &hub.db,
        "SELECT DISTINCT language || CASE WHEN sentiment_score IS NULL THEN ' none' ELSE ' tone' END, 1::bigint
         FROM articles ORDER BY 1",
    )
    .await;
    let tones: Vec<&str> = tones.iter().map(|(tone, _)| tone.as_str()).collect();
    assert_eq!(
        tones,
        ["de none", "en tone", "es none", "fr none", "it none", "nl none", "pl none", "sv none"]
    );
    let unexplained: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM articles WHERE sentiment_score IS NULL AND sentiment_abstain_reason = ''",
    )
    .fetch_one(&hub.db)
    .await
    .unwrap();
    assert_eq!(unexplained, 0);
}

#[tokio::test]
async fn wire_copies_and_dates_are_as_the_readme_says() {
    let hub = Hub::seeded().await;
    let stories: (i64, i64) = sqlx::query_as(
        "SELECT count(DISTINCT syndicated_of), count(*) FROM articles WHERE syndicated_of IS NOT NULL",
    )
    .fetch_one(&hub.db)
    .await
    .unwrap();
    assert_eq!(stories, (7, 10), "17 copies of seven stories: each story has one original");
    let days: i64 = sqlx::query_scalar("SELECT count(DISTINCT publish_time::date) FROM articles")
        .fetch_one(&hub.db)
        .await
        .unwrap();
    assert!((60..=61).contains(&days), "{days}");
    let future: i64 = sqlx::query_scalar("SELECT count(*) FROM articles WHERE publish_time > now()")
        .fetch_one(&hub.db)
        .await
        .unwrap();
    assert_eq!(future, 0);
}
