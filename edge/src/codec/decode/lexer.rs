//! A pull parser for RFC 8259 JSON, strict and without a tree.

use std::borrow::Cow;

use super::Fault;
use crate::codec::escape::plain_prefix;
use crate::codec::scalar::number_length;
use crate::codec::{JsonErrorKind, MAX_DEPTH};

/// Reads one JSON text from front to back.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Where the key read last begins.
    key: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(json: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(json)
            .map_err(|error| Fault::new(JsonErrorKind::Syntax, "not valid UTF-8", error.valid_up_to()))?;
        Ok(Lexer { text, at: 0, depth: 0, key: 0 })
    }

    /// A second reader that starts here.
    pub(super) fn lookahead(&self) -> Self {
        Lexer { ..*self }
    }

    /// Length of the whole text.
    pub(super) fn length(&self) -> usize {
        self.text.len()
    }

    pub(super) fn offset(&self) -> usize {
        self.at
    }

    pub(super) fn syntax(&self, expected: &str) -> Fault {
        let found = match self.text[self.at..].chars().next() {
            Some(ch) => format!("expected {expected}, found {ch:?}"),
            None => format!("expected {expected}, found the end"),
        };
        Fault::new(JsonErrorKind::Syntax, found, self.at)
    }

    /// The first byte of the next token; `None` at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Takes `byte` if it is next.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn finish(mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.syntax("the end")),
        }
    }

    /// Enters a `{` or `[`, which the caller has seen with [`Self::peek`].
    #[inline]
    pub(super) fn open(&mut self) -> Result<(), Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::new(JsonErrorKind::TooDeep, "nested too deeply", self.at));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Takes an empty container. It counts as no level: on the way out, empty ones are written inside the deepest.
    pub(super) fn take_empty(&mut self, brackets: [u8; 2]) -> bool {
        let mut ahead = self.lookahead();
        let empty = ahead.take(brackets[0]) && ahead.take(brackets[1]);
        if empty {
            self.at = ahead.at;
        }
        empty
    }

    /// Moves to the next member of the object entered last, past its colon; `None` behind its `}`.
    #[inline]
    pub(super) fn next_key(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Fault> {
        self.next_key_or(first, None)
    }

    /// As [`Self::next_key`], with a guess at the key: how it is likely to be written, colon included, and what it is.
    #[inline]
    pub(super) fn next_key_or(
        &mut self,
        first: &mut bool,
        guess: Option<(&[u8], &'a str)>,
    ) -> Result<Option<Cow<'a, str>>, Fault> {
        if self.closes(b'}', first)? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(self.syntax("a member name in double quotes"));
        }
        if let Some((written, key)) = guess
            && self.text.as_bytes()[self.at..].starts_with(written)
        {
            self.at += written.len();
            return Ok(Some(Cow::Borrowed(key)));
        }
        self.key = self.at;
        let key = self.string()?;
        if !self.take(b':') {
            return Err(self.syntax("':'"));
        }
        Ok(Some(key))
    }

    /// Moves to the next element of the array entered last; false behind its `]`.
    #[inline]
    pub(super) fn next_element(&mut self, first: &mut bool) -> Result<bool, Fault> {
        Ok(!self.closes(b']', first)?)
    }

    #[inline]
    fn closes(&mut self, bracket: u8, first: &mut bool) -> Result<bool, Fault> {
        if self.take(bracket) {
            self.depth -= 1;
            return Ok(true);
        }
        if !std::mem::take(first) && !self.take(b',') {
            return Err(self.syntax(if bracket == b'}' { "',' or '}'" } else { "',' or ']'" }));
        }
        Ok(false)
    }

    /// Reads a string, whose opening quote the caller has seen with [`Self::peek`].
    #[inline]
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        let start = self.at + 1;
        let end = start + plain_prefix(&self.text.as_bytes()[start..]);
        self.at = end;
        if self.text.as_bytes().get(end) == Some(&b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..end]));
        }
        self.escaped_string(start).map(Cow::Owned)
    }

    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<String, Fault> {
        let mut value = String::from(&self.text[start..self.at]);
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(value);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let ch = self.escape()?;
                    value.push(ch);
                }
                Some(_) => return Err(self.syntax("no bare control character in a string")),
                None => return Err(self.syntax("'\"'")),
            }
            let plain = plain_prefix(&self.text.as_bytes()[self.at..]);
            value.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
        }
    }

    /// Where the key begins that [`Self::next_key`] gave last.
    pub(super) fn key_offset(&self) -> usize {
        self.key
    }

    /// The characters of a string that was read before and begins there.
    pub(super) fn string_at(&self, start: usize) -> impl Iterator<Item = char> {
        let mut ahead = Lexer { at: start + 1, ..*self };
        std::iter::from_fn(move || match ahead.text[ahead.at..].chars().next()? {
            '"' => None,
            '\\' => {
                ahead.at += 1;
                ahead.escape().ok()
            }
            ch => {
                ahead.at += ch.len_utf8();
                Some(ch)
            }
        })
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let ch = match self.text.as_bytes().get(self.at) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.syntax("an escape character")),
        };
        self.at += 1;
        Ok(ch)
    }

    /// `uXXXX`, or the two of a surrogate pair.
    fn unicode_escape(&mut self) -> Result<char, Fault> {
        let start = self.at;
        let high = self.code_unit()?;
        let scalar = if (0xd800..0xdc00).contains(&high) && self.text.as_bytes().get(self.at) == Some(&b'\\')
        {
            self.at += 1;
            let low = self.code_unit()?;
            let pair = (0xdc00..0xe000).contains(&low);
            pair.then(|| 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
        } else {
            Some(high)
        };
        scalar
            .and_then(char::from_u32)
            .ok_or_else(|| Fault::new(JsonErrorKind::Syntax, "half a surrogate pair in a string", start))
    }

    fn code_unit(&mut self) -> Result<u32, Fault> {
        let hex = self.text.as_bytes().get(self.at..self.at + 5).and_then(|escape| escape.strip_prefix(b"u"));
        let unit = hex.and_then(|hex| {
            hex.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
        });
        match unit {
            Some(unit) => {
                self.at += 5;
                Ok(unit)
            }
            None => Err(self.syntax("'u' and four hexadecimal digits")),
        }
    }

    /// Reads a number and returns it as written.
    #[inline]
    pub(super) fn number(&mut self) -> Result<&'a str, Fault> {
        let rest = &self.text[self.at..];
        let Some(length) = number_length(rest.as_bytes()) else { return Err(self.syntax("a number")) };
        self.at += length;
        Ok(&rest[..length])
    }

    /// Reads `true`, `false` or `null`.
    pub(super) fn literal(&mut self) -> Result<&'static str, Fault> {
        let rest = &self.text[self.at..];
        let Some(literal) = ["true", "false", "null"].into_iter().find(|literal| rest.starts_with(literal))
        else {
            return Err(self.syntax("a value"));
        };
        self.at += literal.len();
        Ok(literal)
    }

    /// Passes over one value of any type.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'{') => {
                self.open()?;
                let mut first = true;
                while self.next_key(&mut first)?.is_some() {
                    self.skip()?;
                }
            }
            Some(b'[') => {
                self.open()?;
                let mut first = true;
                while self.next_element(&mut first)? {
                    self.skip()?;
                }
            }
            Some(b'"') => {
                self.string()?;
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
            }
            _ => {
                self.literal()?;
            }
        }
        Ok(())
    }
}
