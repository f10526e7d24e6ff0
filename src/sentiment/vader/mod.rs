//! VADER: the tone of an English text by a rated lexicon and rules for the words around each word.
//!
//! Scores equal the PyPI package vaderSentiment 3.3.2 to 1e-4, its peculiarities included: see `README.md`
//! beside this file for the source of the figures.

mod lexicon;
mod rules;
mod text;

use std::sync::LazyLock;

use lexicon::Lexicon;
use text::{Emoji, Tokens};

/// The variance of the sum of valences that the compound score is normalised by.
const ALPHA: f64 = 15.0;
/// The longest phrase that a hit reports, in code points; of a longer one it reports the word alone.
const MAX_PHRASE: usize = 80;

static SHARED: LazyLock<Vader> = LazyLock::new(Vader::new);

/// The analyzer: the lexicon and the emoji, ready for look-up.
#[derive(Debug)]
pub struct Vader {
    lexicon: Lexicon,
    emoji: Emoji,
}

/// The scores of one text, rounded as the reference rounds them.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// The tone, -1 (most negative) to 1 (most positive), to four decimals.
    pub compound: f64,
    /// Share of the text that is positive, 0 to 1, to three decimals.
    pub positive: f64,
    /// Share of the text that is neutral, 0 to 1, to three decimals.
    pub neutral: f64,
    /// Share of the text that is negative, 0 to 1, to three decimals.
    pub negative: f64,
    /// The phrases that bear sentiment, in the order of their words.
    pub hits: Vec<Hit>,
}

/// A word that bears sentiment, with the words around it that changed its valence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Where the phrase begins, in Unicode code points of the text.
    pub start: usize,
    /// Where it ends (exclusive), in Unicode code points of the text.
    pub end: usize,
    /// The valence after all rules; words of the lexicon lie between -4 and 4 before them.
    pub valence: f64,
}

impl Vader {
    /// Reads the embedded data. This takes some time: [`Vader::shared`] does it once.
    pub fn new() -> Self {
        Self { lexicon: Lexicon::embedded(), emoji: Emoji::embedded() }
    }

    /// The one analyzer of the process.
    pub fn shared() -> &'static Self {
        &SHARED
    }

    /// Scores a text, which should be an English sentence. A text without words has all scores 0.
    pub fn score(&self, text: &str) -> Scores {
        let expanded = self.emoji.expand(text);
        let Tokens { list: tokens, exclamations, questions } = Tokens::of(&expanded.text, &self.lexicon);
        if tokens.is_empty() {
            return Scores { compound: 0.0, positive: 0.0, neutral: 0.0, negative: 0.0, hits: Vec::new() };
        }
        let hits = rules::hits(&tokens);
        let emphasis = emphasis(exclamations, questions);

        let sum: f64 = hits.iter().map(|hit| hit.valence).sum();
        let sum = if sum == 0.0 { sum } else { sum + emphasis.copysign(sum) };
        let compound = (sum / (sum * sum + ALPHA).sqrt()).clamp(-1.0, 1.0);

        // A neutral word counts 1; the others count 1 more than their valence, to balance that.
        let (mut positive, mut negative) = (0.0, 0.0);
        for hit in &hits {
            if hit.valence > 0.0 {
                positive += hit.valence + 1.0;
            } else {
                negative += 1.0 - hit.valence;
            }
        }
        if positive > negative {
            positive += emphasis;
        } else if positive < negative {
            negative += emphasis;
        }
        let neutral = (tokens.len() - hits.len()) as f64;
        let total = positive + negative + neutral;

        let hits = hits.into_iter().map(|hit| {
            let (mut start, mut end) = (tokens[hit.first].start, tokens[hit.last].end);
            if end - start > MAX_PHRASE {
                (start, end) = (tokens[hit.at].start, tokens[hit.at].end);
            }
            let (start, end) = expanded.locate(start, end);
            Hit { start, end, valence: hit.valence }
        });
        Scores {
            compound: round(compound, 10_000.0),
            positive: round(positive / total, 1_000.0),
            neutral: round(neutral / total, 1_000.0),
            negative: round(negative / total, 1_000.0),
            hits: hits.collect(),
        }
    }
}

impl Default for Vader {
    fn default() -> Self {
        Self::new()
    }
}

/// What exclamation marks (up to four) and question marks (from two on) add.
fn emphasis(exclamations: usize, questions: usize) -> f64 {
    let question = match questions {
        0 | 1 => 0.0,
        2 | 3 => questions as f64 * 0.18,
        _ => 0.96,
    };
    exclamations.min(4) as f64 * 0.292 + question
}

/// Rounds a number between -1 and 1 to `1 / scale` as Python does: by its exact decimal value, and a tie to even.
fn round(x: f64, scale: f64) -> f64 {
    let scaled = x * scale;
    // The product is itself rounded: near a half it may lie on the other side, and the exact value decides.
    if (scaled.fract().abs() - 0.5).abs() > 1e-9 {
        return scaled.round() / scale;
    }
    let decimals = scale.log10() as usize;
    format!("{x:.decimals$}").parse().expect("a formatted number is a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrases(text: &str) -> Vec<String> {
        let cut = |hit: &Hit| text.chars().skip(hit.start).take(hit.end - hit.start).collect();
        Vader::shared().score(text).hits.iter().map(cut).collect()
    }

    #[test]
    fn a_text_without_words_scores_nothing() {
        for text in ["", "  \t\n", "\u{a0}\u{1c}"] {
            let scores = Vader::shared().score(text);
            assert_eq!((scores.compound, scores.neutral, scores.hits.len()), (0.0, 0.0, 0), "{text:?}");
        }
    }

    #[test]
    fn hits_hold_the_words_that_changed_them() {
        assert_eq!(phrases("The deal was not very good."), ["not very good"]);
        assert_eq!(phrases("It is so good, they say."), ["so good"]);
        assert_eq!(phrases("Both sides called it a kiss of death"), ["kiss of death", "kiss of death"]);
        assert_eq!(phrases("¡Olé! 💋 ¿un good día?"), ["💋", "good"]);
        // Two words of the same emoji: "tears" and "joy".
        assert_eq!(phrases("😂"), ["😂", "😂"]);
    }

    #[test]
    fn a_long_phrase_shrinks_to_its_word() {
        let text = format!("not {} good", "x".repeat(MAX_PHRASE));
        assert_eq!(phrases(&text), ["good"]);
    }

    #[test]
    fn rounding_is_by_the_exact_value() {
        // 0.0625 is a tie in binary too; 0.00015 lies below the tie and 0.00025 above it.
        assert_eq!(round(0.0625, 1_000.0), 0.062);
        assert_eq!(round(0.0635, 1_000.0), 0.064);
        assert_eq!(round(0.00015, 10_000.0), 0.0001);
        assert_eq!(round(0.00025, 10_000.0), 0.0003);
        assert_eq!(round(-0.62486, 10_000.0), -0.6249);
    }
}
