//! The analysis of stored articles: tone, embedding, wire copies, keyword links and aggregates, all of a batch in one transaction.

use std::sync::Arc;

use pgvector::Vector;
use tokio::time::Instant;

use crate::articles::watch;
use crate::error::{Error, Result};
use crate::ingest::store::{self, Analyzed, Candidate, Scored, Unanalyzed};
use crate::ingest::{Ingest, near_duplicate};
use crate::jobs;
use crate::keywords::link;
use crate::search::embedding::Embedder;
use crate::sentiment::aggregate;
use crate::sentiment::analyze::{self, Outcome};
use crate::sentiment::store::label_number;
use crate::telemetry;

/// Candidates that an article is compared with at most.
const MAX_CANDIDATES: i64 = 50;
/// Characters of an article that its embedding is made of: more than the model reads.
const EMBEDDED_CHARS: usize = 4_000;

impl Ingest {
    /// Analyses those of the articles that still wait for it; their number. Safe to repeat, and to run twice at once.
    pub async fn analyze(&self, ids: &[i64]) -> Result<usize> {
        let start = Instant::now();
        let articles = store::unanalyzed(&self.db, ids).await?;
        if articles.is_empty() {
            return Ok(0);
        }
        let embedder = self.embedder.clone();
        let analyzed = tokio::task::spawn_blocking(move || {
            let analyses = analyze_all(&articles, embedder.as_ref());
            analyses.map(|analyses| (articles, analyses))
        });
        let (articles, analyses) =
            analyzed.await.map_err(|error| Error::Internal(format!("analysing articles: {error}")))??;

        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        // Under the lock every other analysis is finished or has not begun, so that wire copies find each other.
        link::lock(&mut tx).await?;
        let mut done = Vec::with_capacity(analyses.len());
        for (article, analysis) in articles.iter().zip(&analyses) {
            let candidates = if article.bands.is_empty() {
                Vec::new()
            } else {
                store::near_duplicate_candidates(&mut tx, article, MAX_CANDIDATES).await?
            };
            if store::complete(&mut tx, analysis, original_of(article, &candidates), now).await? {
                done.push(article.id);
            }
        }
        let linked = link::link_articles(&mut tx, &done).await?;
        aggregate::add_articles(&mut tx, &done).await?;
        if self.llm.is_some() {
            jobs::store::enqueue_llm_scores(&mut *tx, &done).await?;
        }
        store::notify(&mut tx, watch::CHANNEL).await?;
        tx.commit().await?;
        for analysis in analyses.iter().filter(|analysis| done.contains(&analysis.id)) {
            telemetry::scored(analysis.analyzer.0, &analysis.language, !analysis.abstain_reason.is_empty());
        }
        telemetry::analyzed(done.len(), linked, start.elapsed());
        Ok(done.len())
    }

    /// Gives at most `limit` articles that were analysed without the loaded model a vector of it; their number.
    pub async fn embed_left_over(&self, limit: i64) -> Result<usize> {
        let Some(embedder) = self.embedder.clone() else { return Ok(0) };
        let model = embedder.name().to_owned();
        let articles = store::unembedded(&self.db, &model, limit).await?;
        let embedded = tokio::task::spawn_blocking(move || {
            let texts = articles.iter().map(|article| embedded_text(&article.title, &article.body));
            embed(&embedder, texts).map(|vectors| (articles, vectors))
        });
        let (articles, vectors) =
            embedded.await.map_err(|error| Error::Internal(format!("embedding articles: {error}")))??;
        for (article, vector) in articles.iter().zip(&vectors) {
            store::set_embedding(&self.db, article.id, vector, &model).await?;
        }
        Ok(articles.len())
    }
}

/// CPU work only: tone of each article, and the embeddings of all.
fn analyze_all(articles: &[Unanalyzed], embedder: Option<&Arc<Embedder>>) -> Result<Vec<Analyzed>> {
    let embeddings: Vec<Option<(Vector, String)>> = match embedder {
        None => articles.iter().map(|_| None).collect(),
        Some(embedder) => {
            let texts = articles.iter().map(|article| embedded_text(&article.title, &article.body));
            let vectors = embed(embedder, texts)?;
            vectors.into_iter().map(|vector| Some((vector, embedder.name().to_owned()))).collect()
        }
    };
    Ok(articles.iter().zip(embeddings).map(|(article, embedding)| analyzed(article, embedding)).collect())
}

/// Vectors of texts, in order.
pub(crate) fn embed(embedder: &Embedder, texts: impl Iterator<Item = String>) -> Result<Vec<Vector>> {
    let texts: Vec<String> = texts.collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = embedder.embed(&texts)?;
    Ok(vectors.into_iter().map(|vector| Vector::from(vector.to_vec())).collect())
}

/// The part of a text that its vector is made of.
pub(crate) fn embedded_text(title: &str, body: &str) -> String {
    let mut text = format!("{title}\n{body}");
    if let Some((end, _)) = text.char_indices().nth(EMBEDDED_CHARS) {
        text.truncate(end);
    }
    text
}

fn analyzed(article: &Unanalyzed, embedding: Option<(Vector, String)>) -> Analyzed {
    let outcome = analyze::analyze_article(
        &article.title,
        &article.body,
        &article.language,
        article.language_confidence,
    );
    let (abstain_reason, scored) = scored(outcome);
    Analyzed {
        id: article.id,
        analyzer: (analyze::ANALYZER, analyze::VERSION),
        language: article.language.clone(),
        abstain_reason,
        scored,
        embedding,
    }
}

/// An outcome as it is stored: why there is no score, or the score.
pub(crate) fn scored(outcome: Outcome) -> (String, Option<Scored>) {
    match outcome {
        Outcome::Abstained { reason } => (reason.to_string(), None),
        Outcome::Scored(scored) => {
            let scored = Scored {
                // Four digits, as the reference gives them: sums of them are exact.
                score: (scored.score * 1e4).round() / 1e4,
                label: label_number(scored.label),
                confidence: scored.confidence,
                subjectivity: scored.subjectivity,
                positive: scored.positive,
                neutral: scored.neutral,
                negative: scored.negative,
                phrases: scored.phrases,
            };
            (String::new(), Some(scored))
        }
    }
}

/// The article that this one is a wire copy of: the oldest that is alike enough, or what that one is a copy of.
fn original_of(article: &Unanalyzed, candidates: &[Candidate]) -> Option<i64> {
    // Bodies alone: each outlet writes its own headline over a wire story.
    let alike = |candidate: &&Candidate| near_duplicate::similarity(&article.body, &candidate.body);
    candidates
        .iter()
        .find(|candidate| alike(candidate) >= near_duplicate::SYNDICATED_THRESHOLD)
        .map(|candidate| candidate.syndicated_of.unwrap_or(candidate.id))
}
