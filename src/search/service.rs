//! How words and meaning are put together, and where query vectors come from.

use std::collections::HashMap;
use std::sync::Arc;

use pgvector::Vector;
use sqlx::PgPool;

use crate::articles::filter::Filter;
use crate::cache::{Cache, Class, Kind};
use crate::error::{Error, Result};
use crate::search::embedding::{Embedder, FETCH_COMMAND};
use crate::search::store::{self, Hit};

/// Articles that semantic and hybrid search rank at most, each way.
pub const CANDIDATES: i64 = 200;
/// Constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009).
const RRF_K: f64 = 60.0;

/// A ranked article, with its cosine similarity to the query where that is known.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// The article and its score in the mode.
    pub hit: Hit,
    /// -1 to 1.
    pub similarity: Option<f64>,
}

/// Search over the archive. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Search {
    /// The archive.
    pub db: PgPool,
    /// Answers, and the vectors of queries.
    pub cache: Cache,
    /// Makes vectors, where a model is loaded.
    pub embedder: Option<Arc<Embedder>>,
}

impl Search {
    /// The best candidates by meaning, nearest first.
    pub async fn semantic(&self, query: &str, filter: &Filter) -> Result<Vec<Ranked>> {
        let embedder = self.embedder()?;
        let vector = self.query_vector(&embedder, query).await?;
        let hits = store::semantic(&self.db, &vector, embedder.name(), filter, CANDIDATES).await?;
        Ok(hits.into_iter().map(|hit| Ranked { similarity: Some(hit.score), hit }).collect())
    }

    /// The best candidates by words and by meaning, joined by reciprocal rank fusion.
    pub async fn hybrid(&self, query: &str, filter: &Filter) -> Result<Vec<Ranked>> {
        let (semantic, lexical) = tokio::try_join!(
            self.semantic(query, filter),
            store::lexical(&self.db, query, filter, None, CANDIDATES)
        )?;
        Ok(fuse(semantic, lexical))
    }

    /// The model, or what to do to have one.
    pub fn embedder(&self) -> Result<Arc<Embedder>> {
        self.embedder.clone().ok_or_else(|| Error::FailedPrecondition {
            reason: "MODEL_MISSING",
            message: format!(
                "no embedding model is loaded: run `{FETCH_COMMAND}` and restart, or use mode LEXICAL"
            ),
        })
    }

    async fn query_vector(&self, embedder: &Arc<Embedder>, query: &str) -> Result<Vector> {
        let query = query.trim().to_owned();
        let method = format!("embed/{}", embedder.name());
        let embedder = Arc::clone(embedder);
        let asked = query.clone();
        let embed = async {
            let vectors = tokio::task::spawn_blocking(move || embedder.embed(&[&query]))
                .await
                .map_err(|error| Error::Internal(format!("embedding a query: {error}")))??;
            let vector = vectors.first().ok_or_else(|| Error::Internal("the model gave no vector".into()))?;
            Ok(QueryVector { values: vector.to_vec() })
        };
        let kept = self.cache.answer(Kind::QueryVectors, Class::Session, &method, &asked, embed).await?;
        Ok(Vector::from(kept.values))
    }
}

/// A query's vector as the cache keeps it.
#[derive(Clone, PartialEq, prost::Message)]
struct QueryVector {
    #[prost(float, repeated, tag = "1")]
    values: Vec<f32>,
}

/// Reciprocal rank fusion: an article scores 1 / (60 + rank) in each list that holds it.
fn fuse(semantic: Vec<Ranked>, lexical: Vec<Hit>) -> Vec<Ranked> {
    let mut fused: HashMap<i64, Ranked> = HashMap::with_capacity(semantic.len() + lexical.len());
    for (rank, ranked) in semantic.into_iter().enumerate() {
        let hit = Hit { score: reciprocal(rank), ..ranked.hit };
        fused.insert(hit.id, Ranked { hit, ..ranked });
    }
    for (rank, hit) in lexical.into_iter().enumerate() {
        let score = reciprocal(rank);
        fused
            .entry(hit.id)
            .and_modify(|ranked| ranked.hit.score += score)
            .or_insert_with(|| Ranked { hit: Hit { score, ..hit }, similarity: None });
    }
    let mut fused: Vec<Ranked> = fused.into_values().collect();
    fused.sort_by(|a, b| b.hit.score.total_cmp(&a.hit.score).then(b.hit.id.cmp(&a.hit.id)));
    fused
}

fn reciprocal(rank: usize) -> f64 {
    1.0 / (RRF_K + 1.0 + f64::from(u32::try_from(rank).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn hit(id: i64) -> Hit {
        Hit { id, score: 0.0, publish_time: DateTime::UNIX_EPOCH }
    }

    #[test]
    fn what_both_lists_hold_comes_first() {
        let semantic = [3, 1].map(|id| Ranked { hit: hit(id), similarity: Some(0.5) });
        let fused = fuse(semantic.to_vec(), vec![hit(2), hit(1)]);
        let ids: Vec<i64> = fused.iter().map(|ranked| ranked.hit.id).collect();
        assert_eq!(ids, [1, 3, 2]);
        assert!((fused[0].hit.score - 2.0 / 62.0).abs() < 1e-12);
        assert_eq!(fused[2].similarity, None);
    }
}
