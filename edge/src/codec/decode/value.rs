//! Scalars and maps.

use std::borrow::Cow;

use super::{Decoder, Fault};
use crate::codec::JsonErrorKind;
use crate::codec::scalar::{self, Reason, integer, put_base64, put_bytes, put_integer};
use crate::plan::{FieldPlan, Kind};

/// What tells a map key from the others of its map: its value, or where in the JSON its text begins. A map may be
/// nothing but keys of five bytes each, so that what is kept of each counts.
type Key = u64;

/// Makes the fault of a value that starts there.
fn invalid(start: usize) -> impl Fn(Reason) -> Fault {
    move |reason| Fault::new(JsonErrorKind::InvalidValue, reason, start)
}

impl<'a> Decoder<'a> {
    pub(super) fn text(&mut self, expected: &str) -> Result<Cow<'a, str>, Fault> {
        match self.lexer.peek() {
            Some(b'"') => self.lexer.string(),
            _ => Err(self.wrong_type(expected)),
        }
    }

    /// Writes a value of any kind but a message, without its tag.
    #[inline]
    pub(super) fn scalar(&mut self, kind: Kind) -> Result<(), Fault> {
        match kind {
            Kind::String => {
                let text = self.text("a string")?;
                put_bytes(text.as_bytes(), self.out);
                Ok(())
            }
            Kind::Bool => match self.lexer.peek() {
                Some(b't' | b'f') => {
                    let literal = self.lexer.literal()?;
                    self.out.push(u8::from(literal == "true"));
                    Ok(())
                }
                _ => Err(self.wrong_type("a boolean")),
            },
            Kind::Bytes => {
                let text = self.text("a string of base64")?;
                let invalid = invalid(self.lexer.offset());
                put_base64(&text, self.out).map_err(invalid)
            }
            Kind::Enum(_) => self.enum_value(kind),
            _ => self.number(kind),
        }
    }

    fn number(&mut self, kind: Kind) -> Result<(), Fault> {
        match self.lexer.peek() {
            Some(b'-' | b'0'..=b'9') => {
                let start = self.lexer.offset();
                let number = self.lexer.number()?;
                scalar::put_number(kind, number, self.out).map_err(invalid(start))
            }
            Some(b'"') => {
                let start = self.lexer.offset();
                let text = self.lexer.string()?;
                scalar::put_number_text(kind, &text, self.out).map_err(invalid(start))
            }
            _ => Err(self.wrong_type("a number")),
        }
    }

    fn enum_value(&mut self, kind: Kind) -> Result<(), Fault> {
        let Kind::Enum(id) = kind else { return Err(self.wrong_type("an enum")) };
        let plan = self.plan.get_enum(id);
        let start = self.lexer.offset();
        match self.lexer.peek() {
            Some(b'"') => {
                let name = self.lexer.string()?;
                let number = plan.number(&name).ok_or_else(|| invalid(start)("not a value of the enum"))?;
                put_integer(kind, number.into(), self.out).map_err(invalid(start))
            }
            Some(b'-' | b'0'..=b'9') => {
                let number = self.lexer.number()?;
                let number = integer(number).map_err(invalid(start))?;
                put_integer(kind, number, self.out).map_err(invalid(start))
            }
            Some(b'n') if plan.null => {
                self.lexer.literal()?;
                self.out.push(0);
                Ok(())
            }
            _ => Err(self.wrong_type("the name of an enum value")),
        }
    }

    /// Writes a map, tags included.
    pub(super) fn map(&mut self, field: &'a FieldPlan) -> Result<(), Fault> {
        let plan = self.plan;
        let Kind::Message(entry) = field.kind else { return Err(self.wrong_type("a map")) };
        let entry = plan.get(entry);
        let [key_field, value_field] = &*entry.fields else { return Err(self.wrong_type("a map")) };
        if self.lexer.take_empty(*b"{}") {
            return Ok(());
        }
        self.open(b'{')?;
        let mut first = true;
        let mut keys = Vec::new();
        while let Some(text) = self.lexer.next_key(&mut first)? {
            let start = self.lexer.key_offset();
            self.out.extend_from_slice(&field.tag);
            self.nested(|decoder| {
                keys.push(decoder.map_key(key_field, &text, start)?);
                decoder.singular(value_field)
            })
            .map_err(|fault| fault.at_key(&text))?;
        }
        self.distinct(key_field.kind, keys)
    }

    fn distinct(&self, kind: Kind, mut keys: Vec<Key>) -> Result<(), Fault> {
        let text = |key: Key| self.lexer.string_at(key as usize);
        let twice = if kind == Kind::String {
            keys.sort_unstable_by(|a, b| text(*a).cmp(text(*b)));
            keys.windows(2).find(|pair| text(pair[0]).eq(text(pair[1])))
        } else {
            keys.sort_unstable();
            keys.windows(2).find(|pair| pair[0] == pair[1])
        };
        let Some(&[key, _]) = twice else { return Ok(()) };
        let key = match kind {
            Kind::String => text(key).collect(),
            Kind::Bool => (key == 1).to_string(),
            Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => key.to_string(),
            _ => (key as i64).to_string(),
        };
        Err(self.fault(JsonErrorKind::DuplicateField, "given twice").at_key(&key))
    }

    fn map_key(&mut self, field: &FieldPlan, text: &str, start: usize) -> Result<Key, Fault> {
        let invalid = invalid(start);
        let tag = self.out.len();
        self.out.extend_from_slice(&field.tag);
        let value = self.out.len();
        let key = match (field.kind, text) {
            (Kind::String, _) => {
                put_bytes(text.as_bytes(), self.out);
                start as Key
            }
            (Kind::Bool, "true" | "false") => {
                self.out.push(u8::from(text == "true"));
                Key::from(text == "true")
            }
            (Kind::Bool, _) => return Err(invalid("expected a key of \"true\" or \"false\"")),
            (kind, _) => {
                let key = integer(text).map_err(&invalid)?;
                put_integer(kind, key, self.out).map_err(&invalid)?;
                key as Key
            }
        };
        if !field.has_presence() && self.out[value..].iter().all(|byte| *byte == 0) {
            self.out.truncate(tag);
        }
        Ok(key)
    }
}
