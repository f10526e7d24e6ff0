//! How the words around a word change its valence. The order of the steps is the reference's, since later
//! ones build on the result of earlier ones.

use std::collections::BTreeSet;

use super::lexicon::{BOOST, Word};
use super::text::Token;

/// What a word in capitals among others adds.
const CAPITALS: f64 = 0.733;
/// What a negation multiplies by.
const NEGATION: f64 = -0.74;
/// What "never so" and "never this" multiply by.
const NEVER_SO: f64 = 1.25;
/// How much of a booster's effect is left at a distance of one, two and three words.
const DAMPING: [f64; 3] = [1.0, 0.95, 0.9];
/// What "but" multiplies by: what stands before it and what comes after.
const BEFORE_BUT: f64 = 0.5;
const AFTER_BUT: f64 = 1.5;

/// A word that bears sentiment, in its context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hit {
    /// Index of the token.
    pub at: usize,
    /// First and last token of the phrase: the word with those that changed its valence.
    pub first: usize,
    pub last: usize,
    pub valence: f64,
}

/// The words that bear sentiment, with their valence after all rules.
pub(super) fn hits(tokens: &[Token<'_>]) -> Vec<Hit> {
    let capitals = tokens.iter().filter(|token| token.upper).count();
    let mixed_case = 0 < capitals && capitals < tokens.len();
    let mut hits: Vec<Hit> = (0..tokens.len())
        .filter_map(|at| Context { tokens, at, mixed_case }.hit())
        .filter(|hit| hit.valence != 0.0)
        .collect();
    if let Some(but) = tokens.iter().position(|token| token.term.word == Word::But) {
        weigh_around_but(&mut hits, but);
    }
    hits
}

/// Halves what comes before "but" and strengthens what comes after. The reference finds the valence to
/// change by its value, so of several equal ones it changes the first, each time anew; so does this.
fn weigh_around_but(hits: &mut [Hit], but: usize) {
    let mut by_value: BTreeSet<(u64, usize)> =
        hits.iter().enumerate().map(|(at, hit)| (hit.valence.to_bits(), at)).collect();
    for at in 0..hits.len() {
        let value = hits[at].valence.to_bits();
        let first = by_value.range((value, 0)..).next().map_or(at, |&(_, first)| first);
        by_value.remove(&(value, first));
        hits[first].valence *= if hits[first].at < but { BEFORE_BUT } else { AFTER_BUT };
        by_value.insert((hits[first].valence.to_bits(), first));
    }
}

/// One token among all.
struct Context<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    mixed_case: bool,
}

impl Context<'_> {
    /// The rule word so many tokens before this one.
    fn back(&self, distance: usize) -> Option<Word> {
        self.at.checked_sub(distance).map(|at| self.tokens[at].term.word)
    }

    fn next(&self) -> Option<&Token<'_>> {
        self.tokens.get(self.at + 1)
    }

    fn hit(&self) -> Option<Hit> {
        let token = &self.tokens[self.at];
        let base = token.term.valence?;
        let word = token.term.word;
        if word == Word::Kind && self.next().is_some_and(|next| next.term.word == Word::Of) {
            return None;
        }
        let mut hit = Hit { at: self.at, first: self.at, last: self.at, valence: base };
        if word == Word::No && self.next().is_some_and(|next| next.term.valence.is_some()) {
            hit.valence = 0.0;
        }
        if let Some(distance) = self.no_before() {
            hit.change(distance, base * NEGATION);
        }
        if token.upper && self.mixed_case {
            hit.valence += if hit.valence > 0.0 { CAPITALS } else { -CAPITALS };
        }
        for distance in 1..=self.at.min(3) {
            let modifier = &self.tokens[self.at - distance];
            if modifier.term.valence.is_some() {
                continue;
            }
            self.boost(&mut hit, modifier, distance);
            if let Some((factor, reach)) = self.negation(modifier, distance) {
                hit.change(reach, hit.valence * factor);
            }
            if distance == 3 {
                self.idioms(&mut hit);
            }
        }
        if self.back(1) == Some(Word::Least) && !matches!(self.back(2), Some(Word::At | Word::Very)) {
            hit.change(1, hit.valence * NEGATION);
        }
        Some(hit)
    }

    /// How far back a "no" stands that negates this word.
    fn no_before(&self) -> Option<usize> {
        let no = Some(Word::No);
        if self.back(1) == no {
            Some(1)
        } else if self.back(2) == no {
            Some(2)
        } else if self.back(3) == no && matches!(self.back(1), Some(Word::Or | Word::Nor)) {
            Some(3)
        } else {
            None
        }
    }

    fn boost(&self, hit: &mut Hit, modifier: &Token<'_>, distance: usize) {
        let mut boost = modifier.term.boost;
        if boost == 0.0 {
            return;
        }
        if hit.valence < 0.0 {
            boost = -boost;
        }
        if modifier.upper && self.mixed_case {
            boost += if hit.valence > 0.0 { CAPITALS } else { -CAPITALS };
        }
        hit.change(distance, hit.valence + boost * DAMPING[distance - 1]);
    }

    /// What a negation at this distance multiplies by, and how far back the words that say so begin.
    fn negation(&self, modifier: &Token<'_>, distance: usize) -> Option<(f64, usize)> {
        let is_so = |word| matches!(word, Some(Word::So | Word::This));
        let farthest = modifier.term.word;
        // At a distance of three, the reference takes any "so" or "this" before the word for "never so".
        if farthest == Word::Never && distance > 1 && is_so(self.back(distance - 1)) {
            return Some((NEVER_SO, distance));
        } else if distance == 3 && is_so(self.back(1)) {
            return Some((NEVER_SO, 1));
        }
        let doubt = || (1..distance).any(|nearer| self.back(nearer) == Some(Word::Doubt));
        if farthest == Word::Without && doubt() {
            return None;
        }
        modifier.term.negates.then_some((NEGATION, distance))
    }

    /// Phrases whose valence is not that of their words, and two-word dampeners. The reference looks for
    /// them only behind at least three words, of which the first is not in the lexicon.
    fn idioms(&self, hit: &mut Hit) {
        let at = self.at;
        let mut apply = |first: usize, last: usize| {
            let valence = self.tokens.get(first..=last).and_then(idiom);
            if let Some(valence) = valence {
                *hit = Hit { first: first.min(at), last: last.max(at), valence, ..*hit };
            }
            valence.is_some()
        };
        for (first, last) in
            [(at - 1, at), (at - 2, at), (at - 2, at - 1), (at - 3, at - 1), (at - 3, at - 2)]
        {
            if apply(first, last) {
                break;
            }
        }
        apply(at, at + 1);
        apply(at, at + 2);
        for distance in [3, 2] {
            if is_dampener(self.back(distance), self.back(distance - 1)) {
                hit.change(distance, hit.valence - BOOST);
            }
        }
    }
}

impl Hit {
    /// Sets the valence, because of a word that far back.
    fn change(&mut self, distance: usize, valence: f64) {
        self.valence = valence;
        self.first = self.first.min(self.at - distance);
    }
}

fn idiom(tokens: &[Token<'_>]) -> Option<f64> {
    use Word::{
        Ass, Bad, Beating, Bomb, Bus, Death, Die, For, Heart, Kiss, Of, Right, Shit, Stop, The, To, Yeah,
    };
    let word = |at: usize| tokens.get(at).map(|token| token.term.word);
    match (word(0)?, word(1)?, word(2)) {
        (The, Shit | Bomb, None) => Some(3.0),
        (Bad, Ass, None) => Some(1.5),
        (Bus, Stop, None) => Some(0.0),
        (Yeah, Right, None) => Some(-2.0),
        (Beating, Heart, None) => Some(3.5),
        (Kiss, Of, Some(Death)) => Some(-1.5),
        (To, Die, Some(For)) => Some(3.0),
        _ => None,
    }
}

fn is_dampener(first: Option<Word>, second: Option<Word>) -> bool {
    matches!(
        (first, second),
        (Some(Word::Kind | Word::Sort), Some(Word::Of)) | (Some(Word::Just), Some(Word::Enough))
    )
}
