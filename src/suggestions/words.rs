//! What a language model adds to an evaluation: words alone. The numbers and the decision are made before it is asked.

use serde_json::json;

use crate::keywords::store::Term;
use crate::llm::{LANGUAGES, Llm, LlmError};
use crate::suggestions::evaluate::{Decision, Verdict};
use crate::suggestions::store::Suggestion;
use crate::telemetry;

/// Terms and a paragraph, for the person who decides; each empty where the model had no usable answer.
#[derive(Debug, Default)]
pub struct Words {
    /// Terms in the languages that the suggestion has none in.
    pub translations: Vec<Term>,
    /// A paragraph about the evidence.
    pub note: String,
}

impl Words {
    /// Asks for both at the same time. Neither needs the other, and an evaluation needs none of them.
    pub async fn ask(llm: &Llm, suggestion: &Suggestion, verdict: &Verdict) -> Self {
        let decision = match verdict.decision {
            Decision::Approve => "approve",
            Decision::NeedsReview => "needs review",
            Decision::Reject => "reject",
            Decision::Merge => "merge into the nearest keyword",
        };
        let facts = json!({
            "term": suggestion.term,
            "language": suggestion.language,
            "votes": suggestion.vote_count,
            "decision": decision,
            "reasons": verdict.reasons,
        });
        let (translations, note) = tokio::join!(translations(llm, suggestion), llm.evaluation_note(&facts));
        Self { translations: or_nothing(translations), note: or_nothing(note) }
    }
}

async fn translations(llm: &Llm, suggestion: &Suggestion) -> Result<Vec<Term>, LlmError> {
    let given = suggestion.terms();
    let missing = |language: &str| given.iter().all(|term| term.language != language);
    if !LANGUAGES.iter().any(|language| missing(language)) {
        return Ok(Vec::new());
    }
    let terms = llm.translations(&suggestion.term, &suggestion.language).await?;
    let terms = terms.into_iter().filter(|(language, _)| missing(language));
    Ok(terms.map(|(language, term)| Term { language: language.to_owned(), term }).collect())
}

fn or_nothing<T: Default>(answer: Result<T, LlmError>) -> T {
    answer.unwrap_or_else(|error| {
        telemetry::degraded("llm", &error);
        T::default()
    })
}
