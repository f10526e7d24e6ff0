//! A paragraph about the evidence of an evaluation.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Llm;
use super::error::LlmError;
use super::wire::{FOR_A_PERSON, Prompt};

/// Code points of a note at most.
const MAX_NOTE: usize = 1_200;

const TASK: &str = "Write one paragraph in plain English, at most 1,000 characters, for the person who decides whether the proposed keyword in \
     `facts` should be tracked: what the numbers say for it and against it. Use only what `facts` holds. Quote numbers exactly as they \
     are written there, and write no other numbers, no links and no markup.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    paragraph: String,
}

impl Llm {
    /// A paragraph about `facts`. Every number in it is one of theirs.
    pub async fn evaluation_note(&self, facts: &Value) -> Result<String, LlmError> {
        let prompt = Prompt {
            name: "evaluation_note",
            task: TASK,
            longest: FOR_A_PERSON,
            schema: json!({
                "type": "object",
                "properties": { "paragraph": { "type": "string" } },
                "required": ["paragraph"],
                "additionalProperties": false,
            }),
            data: json!({ "facts": facts }),
        };
        self.ask(&prompt, |answer| check(answer, &facts.to_string())).await
    }
}

fn check(Answer { paragraph }: Answer, facts: &str) -> Result<String, &'static str> {
    let paragraph = paragraph.trim();
    if paragraph.is_empty() || paragraph.chars().count() > MAX_NOTE {
        return Err("its paragraph is empty or too long");
    }
    if paragraph.chars().any(char::is_control) || paragraph.contains(['<', '>']) || paragraph.contains("://")
    {
        return Err("its paragraph holds line breaks, markup or links");
    }
    let known: HashSet<String> = numbers(facts).collect();
    if !numbers(paragraph).all(|number| known.contains(&number)) {
        return Err("its paragraph has a number that the facts do not have");
    }
    Ok(paragraph.to_owned())
}

/// The numbers of a text, without separators of thousands: `1,234.5` is `1234.5`.
fn numbers(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_numeric() && !matches!(c, '.' | ','))
        .map(|number| number.trim_matches(['.', ',']).replace(',', ""))
        .filter(|number| !number.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_no_number_of_its_own() {
        let facts = json!({ "articles": 1234, "share": 0.35, "term": "G7" }).to_string();
        let check = |text: &str| check(Answer { paragraph: text.into() }, &facts);
        assert_eq!(check(" The G7 had 1,234 articles, a share of 0.35. ").unwrap().chars().next(), Some('T'));
        for bad in [
            "",
            "It had 1235 articles.",
            "0.4 of all",
            "See https://a.example",
            "<b>G7</b>",
            "a\nb",
            &"x".repeat(1_201),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
