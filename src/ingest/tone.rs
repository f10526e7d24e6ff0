//! Layer 2 of the analysis of tone: what a language model says of an article that layer 1 has analysed. It has jobs of its own, so that
//! nothing else waits for it; as long as it has no answer, layer 1 stands.

use crate::error::Result;
use crate::ingest::Ingest;
use crate::keywords::link;
use crate::llm::{ANALYZER, LlmError};
use crate::sentiment::{aggregate, store};
use crate::telemetry;

/// Why there is no score, where the model was asked in vain.
const NO_ANSWER: &str = "the model gave no answer that can be used";

impl Ingest {
    /// Asks the model for an article's tone; false when there is nothing to ask, or no answer to expect. Safe to repeat.
    ///
    /// Its score becomes the article's, in every language: so numbers of articles in different languages come from one analyzer, and can be
    /// compared. What layer 1 said stays beside it.
    pub async fn score_by_llm(&self, article_id: i64) -> Result<bool> {
        let Some(llm) = &self.llm else { return Ok(false) };
        let text = store::text_without(&self.db, article_id, ANALYZER, llm.model()).await?;
        let Some(text) = text.filter(|text| !(text.title.trim().is_empty() && text.body.trim().is_empty()))
        else {
            return Ok(false);
        };
        let tone = match llm.sentiment(&text.title, &text.body).await {
            Ok(tone) => tone,
            // To ask the same again would cost the same and help little.
            Err(error @ (LlmError::Refused | LlmError::InvalidAnswer(_))) => {
                telemetry::degraded("llm", &error);
                let (analyzer, now) = ((ANALYZER, llm.model()), self.clock.now());
                store::add_abstention(&self.db, article_id, analyzer, &text.language, NO_ANSWER, now).await?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let mut tx = self.db.begin().await?;
        link::lock(&mut tx).await?;
        aggregate::subtract_article(&mut tx, article_id).await?;
        let now = self.clock.now();
        if !store::add_tone(&mut tx, article_id, (ANALYZER, llm.model()), &text.language, &tone, now).await? {
            return Ok(false);
        }
        aggregate::add_articles(&mut tx, &[article_id]).await?;
        tx.commit().await?;
        telemetry::scored(ANALYZER, &text.language, false);
        Ok(true)
    }
}
