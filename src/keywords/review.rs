//! The weekly review: which keywords found nothing for long, with what was seen. Nothing is deleted.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use sqlx::PgExecutor;

use crate::error::Result;

/// Days that are looked at, and that a keyword has before it can be flagged.
const DAYS: i64 = 30;

/// What the last review saw of a keyword.
#[derive(Debug, Deserialize)]
pub struct Review {
    /// When.
    pub review_time: DateTime<Utc>,
    /// It found nothing for long.
    pub flagged: bool,
    /// Its articles of the days before.
    pub article_count: i32,
    /// All articles of the days before.
    pub archive_article_count: i32,
    /// Its newest article at the time.
    pub latest_article_time: Option<DateTime<Utc>>,
}

impl Review {
    /// What was seen, in a sentence.
    pub fn reason(&self) -> String {
        let all = self.archive_article_count;
        let latest = match self.latest_article_time {
            Some(time) => format!("the newest is of {}", time.date_naive()),
            None => "it never had one".into(),
        };
        match self.article_count {
            0 if self.flagged => {
                format!("None of the {all} articles of the last {DAYS} days is linked: {latest}.")
            }
            0 => format!(
                "None of the {all} articles of the last {DAYS} days is linked, but the keyword is younger than that: {latest}."
            ),
            n => format!("{n} of the {all} articles of the last {DAYS} days are linked: {latest}."),
        }
    }
}

/// Reviews every keyword; the number that is flagged. A flag goes when articles have come.
pub async fn review(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> Result<i64> {
    let since = now - TimeDelta::days(DAYS);
    Ok(sqlx::query_scalar!(
        r#"WITH archive AS (
               SELECT count(*)::int AS n FROM articles
               WHERE publish_time > $2 AND publish_time <= $1 AND analyze_time IS NOT NULL
           ), reviewed AS (
               INSERT INTO keyword_reviews (keyword_id, review_time, flagged, article_count, archive_article_count,
                   latest_article_time)
               SELECT k.id, $1, seen.n = 0 AND k.create_time <= $2, seen.n, archive.n,
                   (SELECT max(l.publish_time) FROM article_keywords l WHERE l.keyword_id = k.id)
               FROM keywords k CROSS JOIN archive CROSS JOIN LATERAL (
                   SELECT count(*)::int AS n FROM article_keywords l
                   WHERE l.keyword_id = k.id AND l.publish_time > $2 AND l.publish_time <= $1
               ) seen
               ON CONFLICT (keyword_id) DO UPDATE SET review_time = excluded.review_time, flagged = excluded.flagged,
                   article_count = excluded.article_count, archive_article_count = excluded.archive_article_count,
                   latest_article_time = excluded.latest_article_time
               RETURNING flagged
           )
           SELECT count(*) FILTER (WHERE flagged) AS "flagged!" FROM reviewed"#,
        now,
        since
    )
    .fetch_one(db)
    .await?)
}
