//! A keyword's term in each of the ten languages.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Llm;
use super::error::LlmError;
use super::wire::{FOR_A_PERSON, Prompt};

/// The languages that keywords have terms in.
pub const LANGUAGES: [&str; 10] = ["en", "de", "fr", "es", "it", "pl", "sv", "nl", "da", "th"];

/// Code points of a term at most.
const MAX_TERM: usize = 100;

const TASK: &str = "Translate the search term `term`, which is in the language `language` (ISO 639-1), into each of the ten languages of the schema, \
     as that language's newspapers would write it: a word or a short phrase of at most 100 characters, without explanation.";

impl Llm {
    /// The term in each of [`LANGUAGES`]; in its own it stays as it is.
    pub async fn translations(
        &self,
        term: &str,
        language: &str,
    ) -> Result<BTreeMap<&'static str, String>, LlmError> {
        let properties: Map<String, Value> =
            LANGUAGES.iter().map(|language| ((*language).to_owned(), json!({ "type": "string" }))).collect();
        let prompt = Prompt {
            name: "translations",
            task: TASK,
            longest: FOR_A_PERSON,
            schema: json!({
                "type": "object",
                "properties": properties,
                "required": LANGUAGES,
                "additionalProperties": false,
            }),
            data: json!({ "term": term, "language": language }),
        };
        let mut terms = self.ask(&prompt, check).await?;
        if let Some(own) = terms.get_mut(language) {
            term.clone_into(own);
        }
        Ok(terms)
    }
}

fn check(mut answer: BTreeMap<String, String>) -> Result<BTreeMap<&'static str, String>, &'static str> {
    let mut terms = BTreeMap::new();
    for language in LANGUAGES {
        let term = answer.remove(language).ok_or("a language is missing")?;
        let term = term.trim();
        if term.is_empty() || term.chars().count() > MAX_TERM || term.chars().any(char::is_control) {
            return Err("a term is empty, too long, or holds control characters");
        }
        terms.insert(language, term.to_owned());
    }
    if !answer.is_empty() {
        return Err("it has languages that were not asked for");
    }
    Ok(terms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ten(german: &str) -> BTreeMap<String, String> {
        LANGUAGES.iter().map(|l| ((*l).into(), if *l == "de" { german.into() } else { "x".into() })).collect()
    }

    #[test]
    fn exactly_ten_terms_within_bounds_are_taken() {
        assert_eq!(check(ten(" Strom ")).unwrap()["de"], "Strom");
        assert!(check(ten(&"ü".repeat(100))).is_ok());
        for bad in ["", " ", "a\nb", &"ü".repeat(101)] {
            assert!(check(ten(bad)).is_err(), "{bad:?}");
        }
        let mut more = ten("Strom");
        more.insert("pt".into(), "x".into());
        assert!(check(more).is_err());
        let mut less = ten("Strom");
        less.remove("th");
        assert!(check(less).is_err());
    }
}
