//! Which keywords are covered together, and how much more often than chance would have it. `docs/KEYWORDS.md` explains the formula.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};

use crate::error::Result;

/// Articles below which two keywords count as met by chance.
const MIN_ARTICLES: i64 = 3;

/// Strength of a relation, 0 to 1: the normalised pointwise mutual information of `both` articles with the two keywords, where each alone
/// has `one` and `other` of all `archive` articles. 0 is chance or less, 1 that neither ever comes without the other. G. Bouma, Normalized
/// (Pointwise) Mutual Information in Collocation Extraction, 2009.
#[allow(clippy::cast_precision_loss, reason = "counts of articles stay far below 2^52")]
pub fn strength(both: i64, one: i64, other: i64, archive: i64) -> f64 {
    if both == 0 {
        return 0.0;
    }
    if both == archive {
        return 1.0;
    }
    let (both, one, other, archive) = (both as f64, one as f64, other as f64, archive as f64);
    let information = (both * archive / (one * other)).ln();
    (information / (archive / both).ln()).clamp(0.0, 1.0)
}

/// Makes all relations anew from the links; their number.
pub async fn rebuild(db: &PgPool, now: DateTime<Utc>) -> Result<u64> {
    let mut tx = db.begin().await?;
    // One at a time; readers go on.
    sqlx::query!("LOCK TABLE keyword_relations IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
    let pairs = sqlx::query!(
        r#"WITH sizes AS (SELECT keyword_id, count(*) AS n FROM article_keywords GROUP BY keyword_id),
             pairs AS (
               SELECT a.keyword_id AS one, b.keyword_id AS other, count(*) AS both
               FROM article_keywords a JOIN article_keywords b ON b.article_id = a.article_id AND b.keyword_id > a.keyword_id
               GROUP BY a.keyword_id, b.keyword_id HAVING count(*) >= $1
             )
           SELECT p.one, p.other, p.both AS "both!", s.n AS "one_count!", t.n AS "other_count!",
               (SELECT count(*) FROM articles WHERE analyze_time IS NOT NULL) AS "archive!"
           FROM pairs p JOIN sizes s ON s.keyword_id = p.one JOIN sizes t ON t.keyword_id = p.other"#,
        MIN_ARTICLES
    )
    .fetch_all(&mut *tx)
    .await?;
    let (mut ones, mut others, mut strengths, mut counts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for pair in pairs {
        let strength = strength(pair.both, pair.one_count, pair.other_count, pair.archive);
        if strength > 0.0 {
            ones.push(pair.one);
            others.push(pair.other);
            strengths.push(strength);
            counts.push(i32::try_from(pair.both).unwrap_or(i32::MAX));
        }
    }
    sqlx::query!("DELETE FROM keyword_relations").execute(&mut *tx).await?;
    let added = sqlx::query!(
        "INSERT INTO keyword_relations (keyword_id, other_id, strength, article_count)
         SELECT r.one, r.other, r.strength, r.n
         FROM unnest($1::bigint[], $2::bigint[], $3::float8[], $4::int[]) AS r (one, other, strength, n)
         -- A keyword may have been deleted since.
         JOIN keywords a ON a.id = r.one JOIN keywords b ON b.id = r.other",
        &ones,
        &others,
        &strengths,
        &counts
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO keyword_relations_computed (compute_time) VALUES ($1)
         ON CONFLICT (one) DO UPDATE SET compute_time = excluded.compute_time",
        now
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(added.rows_affected())
}

/// When relations were last computed; none before the first time.
pub async fn compute_time(db: impl PgExecutor<'_>) -> Result<Option<DateTime<Utc>>> {
    Ok(sqlx::query_scalar!("SELECT compute_time FROM keyword_relations_computed").fetch_optional(db).await?)
}

/// A keyword in the graph.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub id: i64,
    /// Its slug.
    pub slug: String,
    /// Its name for people.
    pub display_name: String,
    /// Number of linked articles.
    pub article_count: i32,
}

/// A keyword, and the at most `limit` others that are related to it most strongly, the strongest first.
pub async fn nodes(
    db: impl PgExecutor<'_>,
    keyword_id: i64,
    min_strength: f64,
    limit: i64,
) -> Result<Vec<Node>> {
    Ok(sqlx::query_as!(
        Node,
        r#"SELECT k.id, k.slug, k.display_name, k.article_count
           FROM (
               SELECT $1::bigint AS id, 2::float8 AS strength
               UNION ALL
               (SELECT k.id, r.strength FROM keyword_relations r
                JOIN keywords k ON k.id = CASE WHEN r.keyword_id = $1 THEN r.other_id ELSE r.keyword_id END
                WHERE (r.keyword_id = $1 OR r.other_id = $1) AND r.strength >= $2
                ORDER BY r.strength DESC, k.slug LIMIT $3)
           ) n JOIN keywords k ON k.id = n.id
           ORDER BY n.strength DESC, k.slug"#,
        keyword_id,
        min_strength,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Two keywords that are covered together.
#[derive(Debug)]
pub struct Edge {
    /// Slug of the one; of the two, the keyword that was asked for.
    pub source: String,
    /// Slug of the other.
    pub target: String,
    /// 0 to 1.
    pub strength: f64,
    /// Number of articles linked to both.
    pub article_count: i32,
}

/// The relations among keywords, strongest first; those of `keyword_id` begin at it.
pub async fn edges(
    db: impl PgExecutor<'_>,
    keyword_id: i64,
    among: &[i64],
    min_strength: f64,
) -> Result<Vec<Edge>> {
    Ok(sqlx::query_as!(
        Edge,
        r#"SELECT CASE WHEN r.other_id = $1 OR (r.keyword_id <> $1 AND b.slug < a.slug) THEN b.slug ELSE a.slug END AS "source!",
               CASE WHEN r.other_id = $1 OR (r.keyword_id <> $1 AND b.slug < a.slug) THEN a.slug ELSE b.slug END AS "target!",
               r.strength, r.article_count
           FROM keyword_relations r JOIN keywords a ON a.id = r.keyword_id JOIN keywords b ON b.id = r.other_id
           WHERE r.keyword_id = ANY ($2) AND r.other_id = ANY ($2) AND r.strength >= $3
           ORDER BY r.strength DESC, 1, 2"#,
        keyword_id,
        among,
        min_strength
    )
    .fetch_all(db)
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of `docs/KEYWORDS.md` has these numbers.
    #[test]
    fn the_worked_example_of_the_documentation_holds() {
        let page = include_str!("../../docs/KEYWORDS.md");
        assert!(page.contains("| at least 3 articles"), "{MIN_ARTICLES}");
        let strength = strength(30, 120, 60, 2400);
        assert!((strength - 10f64.ln() / 80f64.ln()).abs() < 1e-12);
        assert!(page.contains(&format!("= **{strength:.3}**")), "{strength}");
    }

    #[test]
    fn strength_runs_from_chance_to_never_apart() {
        assert_eq!(strength(0, 10, 10, 100), 0.0);
        assert_eq!(strength(1, 10, 10, 100), 0.0, "what chance gives");
        assert_eq!(strength(1, 50, 50, 100), 0.0, "less than chance gives");
        assert!((strength(10, 10, 10, 100) - 1.0).abs() < 1e-12);
        assert_eq!(strength(100, 100, 100, 100), 1.0);
        assert!(strength(5, 10, 10, 100) > strength(4, 10, 10, 100));
        assert!(strength(5, 10, 10, 100) < strength(5, 10, 10, 1000), "rarer words say more");
    }
}
