//! The aggregates that every shown number comes from: (keyword, day, source) -> counts and sums. Kept with each analysis, in its
//! transaction, and rebuilt from the links by a job.

use sqlx::PgTransaction;

use crate::error::Result;

/// Adds newly linked articles. Needs [`crate::keywords::link::lock`].
pub async fn add_articles(tx: &mut PgTransaction<'_>, article_ids: &[i64]) -> Result<()> {
    sqlx::query!(
        "INSERT INTO keyword_daily AS d
             (keyword_id, day, source_id, n, sum, sum_of_squares, positive, neutral, negative, abstained)
         SELECT l.keyword_id, (a.publish_time AT TIME ZONE 'UTC')::date, a.source_id, count(*),
             COALESCE(sum(a.sentiment_score::numeric), 0),
             COALESCE(sum(a.sentiment_score::numeric * a.sentiment_score::numeric), 0),
             count(*) FILTER (WHERE a.sentiment_label >= 4), count(*) FILTER (WHERE a.sentiment_label = 3),
             count(*) FILTER (WHERE a.sentiment_label <= 2), count(*) FILTER (WHERE a.sentiment_label IS NULL)
         FROM article_keywords l JOIN articles a ON a.id = l.article_id
         WHERE l.article_id = ANY ($1)
         GROUP BY 1, 2, 3
         ON CONFLICT (keyword_id, day, source_id) DO UPDATE SET
             n = d.n + excluded.n, sum = d.sum + excluded.sum,
             sum_of_squares = d.sum_of_squares + excluded.sum_of_squares,
             positive = d.positive + excluded.positive, neutral = d.neutral + excluded.neutral,
             negative = d.negative + excluded.negative, abstained = d.abstained + excluded.abstained",
        article_ids
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes an article out, to be added again with another score. Needs [`crate::keywords::link::lock`].
pub async fn subtract_article(tx: &mut PgTransaction<'_>, article_id: i64) -> Result<()> {
    sqlx::query!(
        "UPDATE keyword_daily d SET n = d.n - 1, sum = d.sum - COALESCE(a.sentiment_score::numeric, 0),
             sum_of_squares = d.sum_of_squares - COALESCE(a.sentiment_score::numeric * a.sentiment_score::numeric, 0),
             positive = d.positive - ((a.sentiment_label >= 4) IS TRUE)::int,
             neutral = d.neutral - ((a.sentiment_label = 3) IS TRUE)::int,
             negative = d.negative - ((a.sentiment_label <= 2) IS TRUE)::int,
             abstained = d.abstained - (a.sentiment_label IS NULL)::int
         FROM article_keywords l JOIN articles a ON a.id = l.article_id
         WHERE l.article_id = $1 AND d.keyword_id = l.keyword_id AND d.source_id = a.source_id
           AND d.day = (a.publish_time AT TIME ZONE 'UTC')::date",
        article_id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Makes the aggregates of one keyword, or of all, anew from the links. Needs [`crate::keywords::link::lock`].
pub async fn rebuild(tx: &mut PgTransaction<'_>, keyword_id: Option<i64>) -> Result<()> {
    sqlx::query!("DELETE FROM keyword_daily WHERE $1::bigint IS NULL OR keyword_id = $1", keyword_id)
        .execute(&mut **tx)
        .await?;
    sqlx::query!(
        "INSERT INTO keyword_daily
             (keyword_id, day, source_id, n, sum, sum_of_squares, positive, neutral, negative, abstained)
         SELECT l.keyword_id, (a.publish_time AT TIME ZONE 'UTC')::date, a.source_id, count(*),
             COALESCE(sum(a.sentiment_score::numeric), 0),
             COALESCE(sum(a.sentiment_score::numeric * a.sentiment_score::numeric), 0),
             count(*) FILTER (WHERE a.sentiment_label >= 4), count(*) FILTER (WHERE a.sentiment_label = 3),
             count(*) FILTER (WHERE a.sentiment_label <= 2), count(*) FILTER (WHERE a.sentiment_label IS NULL)
         FROM article_keywords l JOIN articles a ON a.id = l.article_id
         WHERE $1::bigint IS NULL OR l.keyword_id = $1
         GROUP BY 1, 2, 3",
        keyword_id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
