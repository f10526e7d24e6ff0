//! Scalars and maps.

use std::borrow::Cow;

use super::{Decoder, Fault};
use crate::codec::JsonErrorKind;
use crate::codec::scalar::{self, Reason, integer, put_base64, put_bytes, put_integer};
use crate::plan::{FieldPlan, Kind};

/// A map key, to be told from the others of its map.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Integer(i128),
    Text(Cow<'a, str>),
}

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
        self.open(b'{')?;
        let mut first = true;
        let mut keys = Vec::new();
        while let Some(text) = self.lexer.next_key(&mut first)? {
            self.out.extend_from_slice(&field.tag);
            self.nested(|decoder| {
                decoder.map_key(key_field, &text)?;
                decoder.singular(value_field)
            })
            .map_err(|fault| fault.at_key(&text))?;
            keys.push(match key_field.kind {
                Kind::String | Kind::Bool => Key::Text(text),
                _ => Key::Integer(integer(&text).unwrap_or_default()),
            });
        }
        self.distinct(keys)
    }

    fn distinct(&self, mut keys: Vec<Key<'_>>) -> Result<(), Fault> {
        keys.sort_unstable();
        let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) else { return Ok(()) };
        let fault = self.fault(JsonErrorKind::DuplicateField, "given twice");
        Err(match &twice[0] {
            Key::Integer(number) => fault.at_key(&number.to_string()),
            Key::Text(text) => fault.at_key(text),
        })
    }

    fn map_key(&mut self, field: &FieldPlan, text: &str) -> Result<(), Fault> {
        let invalid = invalid(self.lexer.offset());
        let start = self.out.len();
        self.out.extend_from_slice(&field.tag);
        let value = self.out.len();
        match field.kind {
            Kind::String => put_bytes(text.as_bytes(), self.out),
            Kind::Bool => match text {
                "true" => self.out.push(1),
                "false" => self.out.push(0),
                _ => return Err(invalid("expected a key of \"true\" or \"false\"")),
            },
            kind => {
                let key = integer(text).map_err(&invalid)?;
                put_integer(kind, key, self.out).map_err(&invalid)?;
            }
        }
        if !field.has_presence() && self.out[value..].iter().all(|byte| *byte == 0) {
            self.out.truncate(start);
        }
        Ok(())
    }
}
