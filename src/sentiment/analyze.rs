//! Layer 1 of the sentiment analysis: VADER on English, and an honest abstention on everything else.

mod sentences;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::vader::Vader;
use sentences::sentences;

/// Name of the analyzer.
pub const ANALYZER: &str = "vader";
/// Version of the reference implementation whose scores it gives.
pub const VERSION: &str = "3.3.2";

/// The language that the lexicon is in.
const LANGUAGE: &str = "en";
/// The least confidence in the language at which the text is scored.
const MIN_LANGUAGE_CONFIDENCE: f64 = 0.5;
/// From this absolute score on a tone is positive or negative, at full confidence.
const MILD: f64 = 0.2;
/// From this absolute score on it is very positive or very negative, at full confidence.
const STRONG: f64 = 0.5;
/// The thresholds shrink with the confidence, down to this factor.
const MIN_THRESHOLD_FACTOR: f64 = 0.3;
/// Number of phrases reported as evidence.
const MAX_PHRASES: usize = 12;
/// Number of sentiment-bearing words at which half of the possible confidence is reached.
const HALF_EVIDENCE: f64 = 3.0;

/// A tone in five steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// Clearly negative.
    VeryNegative,
    /// Somewhat negative.
    Negative,
    /// Neither.
    Neutral,
    /// Somewhat positive.
    Positive,
    /// Clearly positive.
    VeryPositive,
}

impl Label {
    /// The label of a score (-1 to 1) held with a confidence (0 to 1): the thresholds 0.2 and 0.5 times
    /// the confidence, which counts as 0.3 at least.
    pub fn of(score: f64, confidence: f64) -> Self {
        let factor = confidence.max(MIN_THRESHOLD_FACTOR);
        if score.abs() < MILD * factor {
            return Self::Neutral;
        }
        match (score > 0.0, score.abs() < STRONG * factor) {
            (true, true) => Self::Positive,
            (true, false) => Self::VeryPositive,
            (false, true) => Self::Negative,
            (false, false) => Self::VeryNegative,
        }
    }

    /// The label in snake case, as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VeryNegative => "very_negative",
            Self::Negative => "negative",
            Self::Neutral => "neutral",
            Self::Positive => "positive",
            Self::VeryPositive => "very_positive",
        }
    }
}

/// A part of an article.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The title.
    Title,
    /// The body, or a text that is no article.
    Body,
}

/// A phrase behind a score: a word that bears sentiment with the words that changed its valence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phrase {
    /// The phrase as written.
    pub text: String,
    /// The field it stands in.
    pub field: Field,
    /// Its first code point in that field.
    pub start: u32,
    /// One past its last code point.
    pub end: u32,
    /// Its valence after negation, emphasis and contrast, about -4 to 4.
    pub valence: f64,
}

/// The tone of a text and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The tone, -1 (negative) to 1 (positive): the mean of the sentences' compound scores.
    pub score: f64,
    /// The tone in five steps.
    pub label: Label,
    /// 0 to 1: `n / (n + 3) * (1 + a) / 2`, where `n` is the number of sentiment-bearing words and `a`
    /// their agreement, the absolute sum of their valences over the sum of the absolute ones.
    pub confidence: f64,
    /// Share of the text that bears sentiment, 0 to 1.
    pub subjectivity: f64,
    /// Share of positive weight, 0 to 1, a mean over the sentences.
    pub positive: f64,
    /// Share of neutral weight, 0 to 1, a mean over the sentences.
    pub neutral: f64,
    /// Share of negative weight, 0 to 1, a mean over the sentences.
    pub negative: f64,
    /// The strongest phrases, at most twelve, strongest first.
    pub phrases: Vec<Phrase>,
}

/// Why an analyzer gave no score. Its `Display` is a sentence for users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbstainReason {
    /// The text is in this language (ISO 639-1), which the lexicon does not know.
    UnsupportedLanguage(String),
    /// There is no text.
    NoText,
    /// The language could not be told with enough confidence.
    UncertainLanguage,
}

impl fmt::Display for AbstainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedLanguage(code) => match language_name(code) {
                Some(name) => write!(f, "VADER scores English only; this text is {name} ({code})"),
                None => write!(f, "VADER scores English only; this text is in another language ({code})"),
            },
            Self::NoText => f.write_str("There is no text to score"),
            Self::UncertainLanguage => f.write_str(
                "VADER scores English only; the language of this text could not be told with confidence",
            ),
        }
    }
}

/// What an analysis comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The tone.
    Scored(Scored),
    /// No tone, because it could not be told honestly.
    Abstained {
        /// Why.
        reason: AbstainReason,
    },
}

/// Scores a text that is no article. The language is an ISO 639-1 code (or `und`), held with a confidence of 0 to 1.
/// A text of one sentence gets exactly VADER's compound score.
pub fn analyze(text: &str, language: &str, language_confidence: f64) -> Outcome {
    analyze_fields(&[(Field::Body, text)], language, language_confidence)
}

/// Scores the sentences of an article's title and body together; the other arguments are those of [`analyze`].
pub fn analyze_article(title: &str, body: &str, language: &str, language_confidence: f64) -> Outcome {
    analyze_fields(&[(Field::Title, title), (Field::Body, body)], language, language_confidence)
}

fn analyze_fields(fields: &[(Field, &str)], language: &str, language_confidence: f64) -> Outcome {
    match abstain_reason(fields, language, language_confidence) {
        Some(reason) => Outcome::Abstained { reason },
        None => Outcome::Scored(score(fields)),
    }
}

fn abstain_reason(
    fields: &[(Field, &str)],
    language: &str,
    language_confidence: f64,
) -> Option<AbstainReason> {
    if fields.iter().all(|(_, text)| text.trim().is_empty()) {
        return Some(AbstainReason::NoText);
    }
    // Not a number is no confidence either.
    let confident = language_confidence >= MIN_LANGUAGE_CONFIDENCE;
    match language {
        "" | "und" => Some(AbstainReason::UncertainLanguage),
        _ if !confident => Some(AbstainReason::UncertainLanguage),
        LANGUAGE => None,
        other => Some(AbstainReason::UnsupportedLanguage(other.to_owned())),
    }
}

fn score(fields: &[(Field, &str)]) -> Scored {
    let vader = Vader::shared();
    let (mut count, mut compound) = (0.0, 0.0);
    let (mut positive, mut neutral, mut negative) = (0.0, 0.0, 0.0);
    let mut evidence = Evidence::default();
    for &(field, text) in fields {
        let mut offset = 0;
        for sentence in sentences(text) {
            let scores = vader.score(sentence);
            let length = sentence.chars().count();
            for hit in scores.hits {
                evidence.add(field, sentence, offset, hit);
            }
            offset += length;
            // A sentence without words has no shares and counts for nothing.
            if scores.positive + scores.neutral + scores.negative > 0.0 {
                count += 1.0;
                compound += scores.compound;
                positive += scores.positive;
                neutral += scores.neutral;
                negative += scores.negative;
            }
        }
    }
    let mean = |sum: f64| if count > 0.0 { sum / count } else { 0.0 };
    let (score, confidence) = (mean(compound), evidence.confidence());
    Scored {
        score,
        label: Label::of(score, confidence),
        confidence,
        subjectivity: mean(positive + negative).min(1.0),
        positive: mean(positive),
        neutral: mean(neutral),
        negative: mean(negative),
        phrases: evidence.phrases,
    }
}

/// The sentiment-bearing words of a text.
#[derive(Debug, Default)]
struct Evidence {
    words: f64,
    sum: f64,
    absolute: f64,
    /// The strongest phrases so far, strongest first.
    phrases: Vec<Phrase>,
}

impl Evidence {
    /// Takes in a hit of a sentence that begins at this code point of its field.
    fn add(&mut self, field: Field, sentence: &str, offset: usize, hit: super::vader::Hit) {
        self.words += 1.0;
        self.sum += hit.valence;
        self.absolute += hit.valence.abs();

        let rank = self.phrases.partition_point(|phrase| phrase.valence.abs() >= hit.valence.abs());
        if rank == MAX_PHRASES {
            return;
        }
        let (start, end) = (code_point(offset + hit.start), code_point(offset + hit.end));
        let same = |phrase: &Phrase| (phrase.field, phrase.start, phrase.end) == (field, start, end);
        match self.phrases.iter().position(same) {
            // Two words of one idiom: the stronger stands for it.
            Some(known) if known < rank => return,
            Some(known) => drop(self.phrases.remove(known)),
            None => self.phrases.truncate(MAX_PHRASES - 1),
        }
        let text = sentence.chars().skip(hit.start).take(hit.end - hit.start).collect();
        self.phrases.insert(rank, Phrase { text, field, start, end, valence: hit.valence });
    }

    fn confidence(&self) -> f64 {
        if self.words == 0.0 {
            return 0.0;
        }
        let agreement = self.sum.abs() / self.absolute;
        self.words / (self.words + HALF_EVIDENCE) * (1.0 + agreement) / 2.0
    }
}

fn code_point(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// English name of a language of Europe.
fn language_name(code: &str) -> Option<&'static str> {
    Some(match code {
        "ar" => "Arabic",
        "bg" => "Bulgarian",
        "ca" => "Catalan",
        "cs" => "Czech",
        "da" => "Danish",
        "de" => "German",
        "el" => "Greek",
        "es" => "Spanish",
        "et" => "Estonian",
        "fi" => "Finnish",
        "fr" => "French",
        "ga" => "Irish",
        "hr" => "Croatian",
        "hu" => "Hungarian",
        "it" => "Italian",
        "lt" => "Lithuanian",
        "lv" => "Latvian",
        "mt" => "Maltese",
        "nl" => "Dutch",
        "no" => "Norwegian",
        "pl" => "Polish",
        "pt" => "Portuguese",
        "ro" => "Romanian",
        "ru" => "Russian",
        "sk" => "Slovak",
        "sl" => "Slovenian",
        "sq" => "Albanian",
        "sr" => "Serbian",
        "sv" => "Swedish",
        "tr" => "Turkish",
        "uk" => "Ukrainian",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(outcome: Outcome) -> Scored {
        match outcome {
            Outcome::Scored(scored) => scored,
            Outcome::Abstained { reason } => panic!("abstained: {reason}"),
        }
    }

    fn reason(outcome: Outcome) -> AbstainReason {
        match outcome {
            Outcome::Scored(scored) => panic!("scored {}", scored.score),
            Outcome::Abstained { reason } => reason,
        }
    }

    #[test]
    fn one_sentence_gets_vaders_scores() {
        let text = "The talks were not very good, but the mood is GREAT!";
        let (expected, found) = (Vader::shared().score(text), scored(analyze(text, "en", 0.9)));
        assert_eq!(found.score, expected.compound);
        assert_eq!(
            (found.positive, found.neutral, found.negative),
            (expected.positive, expected.neutral, expected.negative)
        );
        assert_eq!(found.subjectivity, expected.positive + expected.negative);
    }

    #[test]
    fn german_abstains_and_says_so() {
        let text =
            "Die Kommission hat die Pläne vorgestellt, die die Mitgliedstaaten die Woche über berieten.";
        let reason = reason(analyze(text, "de", 0.99));
        assert_eq!(reason, AbstainReason::UnsupportedLanguage("de".to_owned()));
        assert_eq!(reason.to_string(), "VADER scores English only; this text is German (de)");
    }

    #[test]
    fn an_unknown_language_is_named_by_its_code() {
        let reason = reason(analyze("Saluton", "eo", 0.9));
        assert_eq!(reason.to_string(), "VADER scores English only; this text is in another language (eo)");
    }

    #[test]
    fn doubt_about_the_language_abstains() {
        for (language, confidence) in [("en", 0.49), ("en", f64::NAN), ("de", 0.2), ("und", 1.0), ("", 1.0)] {
            assert_eq!(
                reason(analyze("Good", language, confidence)),
                AbstainReason::UncertainLanguage,
                "{language}"
            );
        }
        assert!(scored(analyze("Good", "en", 0.5)).score > 0.0);
    }

    #[test]
    fn no_text_abstains_whatever_the_language() {
        assert_eq!(reason(analyze(" \n\u{a0}", "en", 1.0)), AbstainReason::NoText);
        assert_eq!(reason(analyze_article("", "\t", "de", 1.0)), AbstainReason::NoText);
    }

    #[test]
    fn a_text_without_tone_is_neutral_and_not_confident() {
        let found = scored(analyze("The council meets on Tuesday.", "en", 1.0));
        assert_eq!((found.score, found.label, found.confidence), (0.0, Label::Neutral, 0.0));
        assert_eq!((found.subjectivity, found.neutral), (0.0, 1.0));
        assert!(found.phrases.is_empty());
    }

    #[test]
    fn the_score_is_the_mean_over_sentences() {
        let (good, bad) = ("A great success.", "The bank failed.");
        let vader = Vader::shared();
        let expected = (vader.score(good).compound + vader.score(bad).compound) / 2.0;
        let together = scored(analyze(&format!("{good} {bad}"), "en", 1.0));
        assert_eq!(together.score, expected);
        assert_eq!(scored(analyze_article(good, bad, "en", 1.0)).score, expected);
    }

    #[test]
    fn phrases_point_into_their_field() {
        let (title, body) = ("Élan: a great win", "“Café” crisis over. It was not good. Nobody died 😂.");
        let found = scored(analyze_article(title, body, "en", 1.0));
        assert!(found.phrases.iter().any(|phrase| phrase.field == Field::Title && phrase.text == "great"));
        assert!(found.phrases.iter().any(|phrase| phrase.field == Field::Body && phrase.text == "not good"));
        for phrase in &found.phrases {
            let text = if phrase.field == Field::Title { title } else { body };
            let cut: String =
                text.chars().skip(phrase.start as usize).take((phrase.end - phrase.start) as usize).collect();
            assert_eq!(cut, phrase.text);
        }
    }

    #[test]
    fn the_twelve_strongest_phrases_are_kept_strongest_first() {
        let text = "good bad ".repeat(10) + "murder. Both called it the kiss of death.";
        let found = scored(analyze(&text, "en", 1.0));
        assert_eq!(found.phrases.len(), MAX_PHRASES);
        assert_eq!(found.phrases[0].text, "murder");
        assert!(found.phrases.is_sorted_by(|a, b| a.valence.abs() >= b.valence.abs()));
        let idiom = scored(analyze("Both called it the kiss of death.", "en", 1.0));
        assert_eq!(idiom.phrases.len(), 1);
    }

    #[test]
    fn confidence_grows_with_evidence_and_agreement() {
        let confidence = |text| scored(analyze(text, "en", 1.0)).confidence;
        assert_eq!(confidence("good"), 0.25);
        assert_eq!(confidence("good good good"), 0.5);
        assert!(confidence("good bad good") < confidence("good good good"));
    }

    #[test]
    fn labels_follow_the_thresholds() {
        use Label::*;
        for (score, confidence, label) in [
            (0.19, 1.0, Neutral),
            (0.2, 1.0, Positive),
            (0.49, 1.0, Positive),
            (0.5, 1.0, VeryPositive),
            (-0.2, 1.0, Negative),
            (-0.5, 1.0, VeryNegative),
            (0.19, 0.5, Positive),
            (0.059, 0.0, Neutral),
            (0.061, 0.0, Positive),
            (-0.151, 0.3, VeryNegative),
            (0.0, 0.0, Neutral),
        ] {
            assert_eq!(Label::of(score, confidence), label, "{score} at {confidence}");
        }
    }
}
