//! From text to tokens: emoji become words, white space splits, outer punctuation falls away. Python's
//! definitions of these hold, where they differ from Rust's.

use std::borrow::Cow;
use std::ops::Range;

use super::lexicon::{Lexicon, Term};

const EMOJI: &str = include_str!("emoji.tsv");

/// The words that stand for each emoji, in the order of the code points.
#[derive(Debug)]
pub(super) struct Emoji(Vec<(char, &'static str)>);

impl Emoji {
    /// Reads the embedded data.
    pub fn embedded() -> Self {
        let entry = |line: &'static str| {
            let (emoji, words) = line.split_once('\t').expect("every line of emoji.tsv holds a tab");
            (emoji.chars().next().expect("every emoji is one code point"), words)
        };
        let mut table: Vec<_> = EMOJI.lines().map(entry).collect();
        table.sort_unstable_by_key(|(emoji, _)| *emoji);
        Self(table)
    }

    fn words(&self, c: char) -> Option<&'static str> {
        if c.is_ascii() {
            return None;
        }
        self.0.binary_search_by_key(&c, |(emoji, _)| *emoji).ok().map(|at| self.0[at].1)
    }

    /// Puts words in the place of emoji. As in the reference, a space comes before them but none after, so
    /// that a letter or a variation selector behind an emoji clings to its last word.
    pub fn expand<'a>(&self, text: &'a str) -> Expanded<'a> {
        let first = if text.is_ascii() { None } else { text.find(|c| self.words(c).is_some()) };
        let Some(first) = first else { return Expanded { text: Cow::Borrowed(text), splices: Vec::new() } };
        let (plain, rest) = text.split_at(first);
        let mut expanded = String::with_capacity(text.len() * 2 + 32);
        expanded.push_str(plain);
        let mut splices = Vec::with_capacity(4);
        let mut length = plain.chars().count();
        let mut after_space = plain.is_empty() || plain.ends_with(' ');
        for (origin, c) in (length..).zip(rest.chars()) {
            let start = length;
            if let Some(words) = self.words(c) {
                if !after_space {
                    expanded.push(' ');
                    length += 1;
                }
                expanded.push_str(words);
                length += words.chars().count();
                after_space = false;
                splices.push(Splice { start, end: length, origin });
            } else {
                expanded.push(c);
                length += 1;
                after_space = c == ' ';
            }
        }
        Expanded { text: Cow::Owned(expanded), splices }
    }
}

/// Where the words for an emoji stand, in code points, and where the emoji stood.
#[derive(Debug)]
struct Splice {
    start: usize,
    end: usize,
    origin: usize,
}

/// A text with words for its emoji.
#[derive(Debug)]
pub(super) struct Expanded<'a> {
    pub text: Cow<'a, str>,
    splices: Vec<Splice>,
}

impl Expanded<'_> {
    /// The place in the original text, in code points, of a non-empty range of code points of this one.
    pub fn locate(&self, start: usize, end: usize) -> (usize, usize) {
        (self.origin(start), self.origin(end - 1) + 1)
    }

    fn origin(&self, point: usize) -> usize {
        let before = self.splices.partition_point(|splice| splice.start <= point);
        match self.splices[..before].last() {
            Some(splice) if point < splice.end => splice.origin,
            Some(splice) => splice.origin + 1 + (point - splice.end),
            None => point,
        }
    }
}

/// A word or emoticon.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub term: &'a Term,
    /// Whether it has letters and all of them are capitals.
    pub upper: bool,
    /// Its place, in code points.
    pub start: usize,
    pub end: usize,
}

/// All tokens of a text, and what else the rules ask about the whole of it.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    pub list: Vec<Token<'a>>,
    /// Number of exclamation marks.
    pub exclamations: usize,
    /// Number of question marks.
    pub questions: usize,
}

/// What a byte of a word can be. A word has the kinds of all its bytes.
mod kind {
    pub const SPACE: u8 = 1;
    pub const CAPITAL: u8 = 1 << 1;
    pub const SMALL: u8 = 1 << 2;
    pub const PUNCTUATION: u8 = 1 << 3;
    pub const APOSTROPHE: u8 = 1 << 4;
    pub const MARK: u8 = 1 << 5;
    pub const NON_ASCII: u8 = 1 << 6;
}

const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        kinds[byte] = match b {
            b'\t'..=b'\r' | 0x1c..=b' ' => kind::SPACE,
            b'A'..=b'Z' => kind::CAPITAL,
            b'a'..=b'z' => kind::SMALL,
            b'\'' => kind::PUNCTUATION | kind::APOSTROPHE,
            b'!' | b'?' => kind::PUNCTUATION | kind::MARK,
            0x80.. => kind::NON_ASCII,
            _ if b.is_ascii_punctuation() => kind::PUNCTUATION,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

impl<'a> Tokens<'a> {
    /// Splits a text, in one pass over its bytes.
    pub fn of(text: &str, lexicon: &'a Lexicon) -> Self {
        let bytes = text.as_bytes();
        let mut tokens =
            Self { list: Vec::with_capacity(bytes.len() / 5 + 1), exclamations: 0, questions: 0 };
        // Bytes so far that begin no code point: what lies between an offset in bytes and one in code points.
        let mut continued = 0;
        let mut at = 0;
        while at < bytes.len() {
            let (start, first) = (at, at - continued);
            let mut kinds = 0;
            let mut space = 0;
            while let Some(&b) = bytes.get(at) {
                let kind = KINDS[usize::from(b)];
                if kind == kind::SPACE {
                    space = 1;
                    break;
                }
                kinds |= kind;
                if kind == kind::NON_ASCII {
                    let c = text[at..].chars().next().unwrap_or_default();
                    if is_space(c) {
                        space = c.len_utf8();
                        break;
                    }
                    at += c.len_utf8();
                    continued += c.len_utf8() - 1;
                } else {
                    at += 1;
                }
            }
            if at > start {
                tokens.push(text, start..at, first..at - continued, kinds, lexicon);
            }
            at += space;
            continued += space.saturating_sub(1);
        }
        tokens
    }

    /// Takes in a word, given its place in bytes and in code points and the kinds of its bytes.
    fn push(
        &mut self,
        text: &str,
        place: Range<usize>,
        points: Range<usize>,
        kinds: u8,
        lexicon: &'a Lexicon,
    ) {
        let bytes = text.as_bytes();
        if kinds & kind::MARK != 0 {
            let word = &bytes[place.clone()];
            self.exclamations += word.iter().filter(|&&b| b == b'!').count();
            self.questions += word.iter().filter(|&&b| b == b'?').count();
        }
        let (place, points) =
            if kinds & kind::PUNCTUATION == 0 { (place, points) } else { strip(bytes, place, points) };
        let (start, end) = (points.start, points.end);
        let token = if kinds & kind::NON_ASCII == 0 {
            let has_apostrophe = kinds & kind::APOSTROPHE != 0;
            let term = lexicon.ascii_term(&bytes[place.start..], place.len(), has_apostrophe);
            // Stripping takes no letters, so this holds of what is left too.
            Token { term, upper: kinds & (kind::CAPITAL | kind::SMALL) == kind::CAPITAL, start, end }
        } else {
            let word = &text[place];
            Token { term: lexicon.term(word), upper: is_upper(word), start, end }
        };
        self.list.push(token);
    }
}

/// Drops the punctuation around a word, unless two or fewer characters would be left: those are emoticons.
fn strip(bytes: &[u8], place: Range<usize>, points: Range<usize>) -> (Range<usize>, Range<usize>) {
    let letter = |b: &u8| !b.is_ascii_punctuation();
    let word = &bytes[place.clone()];
    let before = word.iter().position(letter).unwrap_or(word.len());
    let after = word.iter().rev().position(letter).unwrap_or(0);
    if points.len() > before + after + 2 {
        (place.start + before..place.end - after, points.start + before..points.end - after)
    } else {
        (place, points)
    }
}

/// Python's `str.isspace`: white space and the four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Python's `str.isupper`: a capital is there, and no small or title-case letter.
fn is_upper(word: &str) -> bool {
    word.chars().any(char::is_uppercase) && !word.chars().any(|c| c.is_lowercase() || is_title_case(c))
}

/// Unicode's general category Lt: a digraph whose first letter alone is a capital.
fn is_title_case(c: char) -> bool {
    matches!(c, '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}' | '\u{1f88}'..='\u{1f8f}' | '\u{1f98}'..='\u{1f9f}'
        | '\u{1fa8}'..='\u{1faf}' | '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(text: &str) -> Vec<(usize, usize)> {
        Tokens::of(text, &Lexicon::embedded()).list.iter().map(|token| (token.start, token.end)).collect()
    }

    #[test]
    fn punctuation_falls_off_words_and_stays_on_emoticons() {
        assert_eq!(spans("\"Good,\" :) (ok) a..."), [(1, 5), (8, 10), (11, 15), (16, 20)]);
    }

    #[test]
    fn white_space_is_pythons() {
        assert_eq!(spans("one\u{1c}two\u{a0}six\u{200b}ten\u{3000}"), [(0, 3), (4, 7), (8, 15)]);
        assert_eq!(spans("é\u{2028}ß\u{a0}\u{a0}x"), [(0, 1), (2, 3), (5, 6)]);
        assert_eq!(spans(" \t\n"), []);
    }

    #[test]
    fn capitals_are_pythons() {
        for (word, upper) in [
            ("ABC", true),
            ("A1!", true),
            ("Abc", false),
            ("123", false),
            ("ÄÖ", true),
            ("Äö", false),
            ("ǅA", false),
        ] {
            assert_eq!(is_upper(word), upper, "{word}");
        }
    }

    #[test]
    fn emoji_become_words_and_keep_their_place() {
        let expanded = Emoji::embedded().expand("né 😂x 💋");
        assert_eq!(expanded.text, "né face with tears of joyx kiss mark");
        assert_eq!(expanded.locate(3, 7), (3, 4));
        assert_eq!(expanded.locate(21, 26), (3, 5));
        assert_eq!(expanded.locate(27, 31), (6, 7));
    }
}
