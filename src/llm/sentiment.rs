//! Layer 2 of the sentiment analysis: the tone of an article in any language, with the phrases it rests on.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Llm;
use super::error::LlmError;
use super::wire::Prompt;
use crate::sentiment::analyze::{Field, Label, Phrase};

/// Code points of a body that are sent at most.
const MAX_BODY: usize = 12_000;
/// Phrases of an answer at most.
const MAX_PHRASES: usize = 12;
/// Code points of a phrase at most.
const MAX_PHRASE: usize = 200;

const TASK: &str = "Judge the tone in which the article (`title`, `body`) presents its subject, in the article's own language. `score`: -1 very \
     negative to 1 very positive, 0 when neutral. `confidence`: 0 to 1, how sure you are. `subjectivity`: 0 purely factual to 1 purely \
     opinion. `class`: `fact` for reporting, `opinion` for comment, `mixed` for both. `phrases`: at most 12 short phrases that decide the \
     score, the strongest first, each copied character by character from the title or the body and at most 200 characters long, with \
     its `valence` from -4 to 4.";

/// What kind of text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It reports.
    Fact,
    /// It comments.
    Opinion,
    /// Both.
    Mixed,
}

impl Class {
    /// The class as it is stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fact => "fact",
            Self::Opinion => "opinion",
            Self::Mixed => "mixed",
        }
    }
}

/// The tone of an article, as a model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tone {
    /// -1 (negative) to 1 (positive), to four digits.
    pub score: f64,
    /// The tone in five steps.
    pub label: Label,
    /// 0 to 1.
    pub confidence: f64,
    /// 0 (factual) to 1 (opinion).
    pub subjectivity: f64,
    /// Reporting or comment.
    pub class: Class,
    /// Only those that were found in the text.
    pub phrases: Vec<Phrase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    score: f64,
    confidence: f64,
    subjectivity: f64,
    class: Class,
    phrases: Vec<AnswerPhrase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerPhrase {
    text: String,
    valence: f64,
}

impl Llm {
    /// The tone of an article.
    pub async fn sentiment(&self, title: &str, body: &str) -> Result<Tone, LlmError> {
        let sent: String = body.chars().take(MAX_BODY).collect();
        let number =
            |minimum: i32, maximum: i32| json!({ "type": "number", "minimum": minimum, "maximum": maximum });
        let prompt = Prompt {
            name: "sentiment",
            task: TASK,
            longest: Duration::MAX,
            schema: json!({
                "type": "object",
                "properties": {
                    "score": number(-1, 1),
                    "confidence": number(0, 1),
                    "subjectivity": number(0, 1),
                    "class": { "type": "string", "enum": ["fact", "opinion", "mixed"] },
                    "phrases": {
                        "type": "array",
                        "maxItems": MAX_PHRASES,
                        "items": {
                            "type": "object",
                            "properties": { "text": { "type": "string" }, "valence": number(-4, 4) },
                            "required": ["text", "valence"],
                            "additionalProperties": false,
                        },
                    },
                },
                "required": ["score", "confidence", "subjectivity", "class", "phrases"],
                "additionalProperties": false,
            }),
            data: json!({ "title": title, "body": sent }),
        };
        self.ask(&prompt, |answer| check(answer, title, &sent)).await
    }
}

fn check(answer: Answer, title: &str, body: &str) -> Result<Tone, &'static str> {
    // Not a number is in no range.
    let within = |value: f64, low: f64, high: f64| (low..=high).contains(&value);
    if !within(answer.score, -1.0, 1.0) {
        return Err("its score is not within -1 to 1");
    }
    if !within(answer.confidence, 0.0, 1.0) || !within(answer.subjectivity, 0.0, 1.0) {
        return Err("its confidence or subjectivity is not within 0 to 1");
    }
    if answer.phrases.len() > MAX_PHRASES {
        return Err("it has too many phrases");
    }
    for phrase in &answer.phrases {
        if !within(phrase.valence, -4.0, 4.0) || phrase.text.chars().count() > MAX_PHRASE {
            return Err("a phrase is too long, or its valence not within -4 to 4");
        }
    }
    let mut seen = HashSet::new();
    let found = answer.phrases.iter().filter_map(|phrase| find(phrase, title, body));
    Ok(Tone {
        // Four digits, as layer 1 gives them: sums of them are exact.
        score: (answer.score * 1e4).round() / 1e4,
        label: Label::of(answer.score, answer.confidence),
        confidence: answer.confidence,
        subjectivity: answer.subjectivity,
        class: answer.class,
        phrases: found.filter(|phrase| seen.insert((phrase.field == Field::Title, phrase.start))).collect(),
    })
}

/// The phrase where it first stands; none when it was made up.
fn find(phrase: &AnswerPhrase, title: &str, body: &str) -> Option<Phrase> {
    let text = phrase.text.trim();
    if text.is_empty() {
        return None;
    }
    let (field, content, at) = [(Field::Title, title), (Field::Body, body)]
        .into_iter()
        .find_map(|(field, content)| Some((field, content, content.find(text)?)))?;
    let start = u32::try_from(content[..at].chars().count()).ok()?;
    let length = u32::try_from(text.chars().count()).ok()?;
    Some(Phrase { text: text.to_owned(), field, start, end: start + length, valence: phrase.valence })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: serde_json::Value) -> Result<Tone, &'static str> {
        let answer = serde_json::from_value(json).map_err(|_| "schema")?;
        check(answer, "Élan: ein großer Sieg", "Die „Krise“ ist 😂 vorbei, ein großer Sieg.")
    }

    #[test]
    fn phrases_are_found_again_in_code_points_or_dropped() {
        let tone = answer(json!({
            "score": 0.123_456, "confidence": 1, "subjectivity": 0, "class": "mixed", "phrases": [
                { "text": "😂 vorbei", "valence": 2 }, { "text": " großer Sieg", "valence": 3.5 },
                { "text": "großer Sieg", "valence": 3 }, { "text": "großer Triumph", "valence": 4 }, { "text": " ", "valence": 1 },
            ],
        }))
        .unwrap();
        assert_eq!(tone.score, 0.1235);
        let phrases: Vec<_> =
            tone.phrases.iter().map(|p| (p.text.as_str(), p.field, p.start, p.end)).collect();
        assert_eq!(phrases, [("😂 vorbei", Field::Body, 16, 24), ("großer Sieg", Field::Title, 10, 21)]);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let good = json!({ "score": 1, "confidence": 0, "subjectivity": 1, "class": "fact", "phrases": [] });
        assert!(answer(good.clone()).is_ok());
        let phrase = |text: String, valence: f64| json!([{ "text": text, "valence": valence }]);
        for (field, value) in [
            ("score", json!(1.01)),
            ("score", json!("1")),
            ("confidence", json!(-0.1)),
            ("subjectivity", json!(2)),
            ("class", json!("rumour")),
            ("phrases", phrase("Sieg".into(), 4.5)),
            ("phrases", phrase("x".repeat(201), 1.0)),
            ("phrases", json!(vec![json!({ "text": "Sieg", "valence": 1 }); 13])),
            ("comment", json!("ignored")),
        ] {
            let mut bad = good.clone();
            bad[field] = value.clone();
            assert!(answer(bad).is_err(), "{field}: {value}");
        }
    }
}
