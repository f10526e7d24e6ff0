//! JSON to wire bytes, in the order of the JSON: a decoder of the wire does not mind the order of fields.

mod fault;
mod lexer;
mod value;
mod well_known;

use std::borrow::Cow;

use prost::encoding::{WireType, encode_key};

use self::fault::Fault;
use self::lexer::Lexer;
use super::wire::{begin_length, end_length};
use super::{JsonError, JsonErrorKind, MAX_DEPTH};
use crate::plan::{FieldPath, FieldPlan, Kind, Label, MessageId, MessagePlan, Plan, WellKnown};

pub(super) fn message(plan: &Plan, id: MessageId, json: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    decode(plan, json, out, |decoder| decoder.message(id))
}

pub(super) fn field(
    plan: &Plan,
    id: MessageId,
    path: &FieldPath,
    json: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), JsonError> {
    let field = &plan.get(id).fields[path.index];
    decode(plan, json, out, |decoder| match decoder.is_absent(field)? {
        true => Ok(()),
        false => decoder.field(field).map_err(|fault| fault.in_field(&path.name)),
    })
}

fn decode<'a>(
    plan: &'a Plan,
    json: &'a [u8],
    out: &'a mut Vec<u8>,
    read: impl FnOnce(&mut Decoder<'a>) -> Result<(), Fault>,
) -> Result<(), JsonError> {
    // Wire bytes are seldom more than the JSON, and six times it at most.
    out.reserve(json.len());
    let run = || {
        let mut decoder = Decoder { plan, lexer: Lexer::new(json)?, depth: 0, looked_ahead: 0, out };
        read(&mut decoder)?;
        decoder.lexer.finish()
    };
    run().map_err(Fault::into_error)
}

struct Decoder<'a> {
    plan: &'a Plan,
    lexer: Lexer<'a>,
    /// Messages and map entries around the one being written: what the recursion limit of its reader counts.
    depth: usize,
    /// Bytes that were read only to find the type of an `Any`.
    looked_ahead: usize,
    out: &'a mut Vec<u8>,
}

/// A set of small numbers that allocates only past 64.
#[derive(Default)]
struct Bits {
    low: u64,
    high: Vec<u64>,
}

impl Bits {
    /// Adds `bit` and returns whether it was new.
    #[inline]
    fn insert(&mut self, bit: usize) -> bool {
        let word = match bit / 64 {
            0 => &mut self.low,
            n => {
                self.high.resize(self.high.len().max(n), 0);
                &mut self.high[n - 1]
            }
        };
        let mask = 1 << (bit % 64);
        let new = *word & mask == 0;
        *word |= mask;
        new
    }
}

impl<'a> Decoder<'a> {
    fn fault(&self, kind: JsonErrorKind, detail: impl Into<Cow<'static, str>>) -> Fault {
        Fault::new(kind, detail, self.lexer.offset())
    }

    fn wrong_type(&mut self, expected: &str) -> Fault {
        let found = match self.lexer.peek() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b'-' | b'0'..=b'9') => "a number",
            _ => match self.lexer.lookahead().literal() {
                Ok("null") => "null",
                Ok(_) => "a boolean",
                Err(fault) => return fault,
            },
        };
        self.fault(JsonErrorKind::WrongType, format!("expected {expected}, found {found}"))
    }

    fn open(&mut self, bracket: u8) -> Result<(), Fault> {
        if self.lexer.peek() == Some(bracket) {
            return self.lexer.open();
        }
        Err(self.wrong_type(if bracket == b'{' { "an object" } else { "an array" }))
    }

    fn message(&mut self, id: MessageId) -> Result<(), Fault> {
        let plan = self.plan;
        let message = plan.get(id);
        match message.well_known {
            Some(well_known) => self.well_known(well_known, message),
            None => self.object(message, false),
        }
    }

    /// Reads a message's members; in an `Any` they have `@type` among them, already dealt with.
    fn object(&mut self, message: &'a MessagePlan, in_any: bool) -> Result<(), Fault> {
        self.open(b'{')?;
        let (mut first, mut expected, mut typed) = (true, 0, false);
        let (mut seen, mut oneofs) = (Bits::default(), Bits::default());
        loop {
            // Most callers send the fields in the order of their declaration. A plan's key starts with a comma.
            let guess = message.fields.get(expected).map(|field| (&field.key[1..], &*field.json_name));
            let Some(key) = self.lexer.next_key_or(&mut first, guess)? else { return Ok(()) };
            if in_any && key == "@type" {
                self.skip_type(&mut typed)?;
                continue;
            }
            let index = match message.fields.get(expected) {
                Some(field) if *field.json_name == *key => expected,
                _ => message
                    .names
                    .get(&key)
                    .ok_or_else(|| self.fault(JsonErrorKind::UnknownField, "").in_field(&key))?,
            };
            expected = index + 1;
            let field = &message.fields[index];
            self.member(message, field, seen.insert(index), &mut oneofs)
                .map_err(|fault| fault.in_field(&key))?;
        }
    }

    fn member(
        &mut self,
        message: &MessagePlan,
        field: &'a FieldPlan,
        new: bool,
        oneofs: &mut Bits,
    ) -> Result<(), Fault> {
        if !new {
            return Err(self.fault(JsonErrorKind::DuplicateField, "given twice"));
        }
        if self.is_absent(field)? {
            return Ok(());
        }
        if let Some(oneof) = field.oneof
            && !oneofs.insert(oneof)
        {
            let detail = format!("another member of the oneof `{}` is set", message.oneofs[oneof]);
            return Err(self.fault(JsonErrorKind::OneofConflict, detail));
        }
        self.field(field)
    }

    /// Takes a `null` that stands for an absent field.
    #[inline]
    fn is_absent(&mut self, field: &FieldPlan) -> Result<bool, Fault> {
        if self.lexer.peek() != Some(b'n') {
            return Ok(false);
        }
        let singular = matches!(field.label, Label::Implicit | Label::Explicit);
        let takes_null = match field.kind {
            Kind::Enum(id) => self.plan.get_enum(id).null,
            Kind::Message(id) => self.plan.get(id).well_known == Some(WellKnown::Value),
            _ => false,
        };
        if singular && takes_null {
            return Ok(false);
        }
        self.lexer.literal()?;
        Ok(true)
    }

    /// Writes a field, tags included, from the value that comes next.
    fn field(&mut self, field: &'a FieldPlan) -> Result<(), Fault> {
        match field.label {
            Label::Implicit | Label::Explicit => self.singular(field),
            Label::Repeated { packed } => self.list(field, packed),
            Label::Map => self.map(field),
        }
    }

    #[inline]
    fn singular(&mut self, field: &'a FieldPlan) -> Result<(), Fault> {
        let start = self.out.len();
        self.out.extend_from_slice(&field.tag);
        let value = self.out.len();
        self.value(field)?;
        // An absent field and a zero are the same here, and zero is all zero bytes in every kind.
        if !field.has_presence() && self.out[value..].iter().all(|byte| *byte == 0) {
            self.out.truncate(start);
        }
        Ok(())
    }

    fn list(&mut self, field: &'a FieldPlan, packed: bool) -> Result<(), Fault> {
        if self.lexer.take_empty(*b"[]") {
            return Ok(());
        }
        self.open(b'[')?;
        let run = packed.then(|| {
            self.out.extend_from_slice(&field.packed_tag);
            begin_length(self.out)
        });
        let (mut first, mut index) = (true, 0);
        while self.lexer.next_element(&mut first)? {
            if !packed {
                self.out.extend_from_slice(&field.tag);
            }
            self.value(field).map_err(|fault| fault.at_index(index))?;
            index += 1;
        }
        if let Some(run) = run {
            end_length(run, self.out);
        }
        Ok(())
    }

    /// Writes one value of a field, without its tag.
    #[inline]
    fn value(&mut self, field: &'a FieldPlan) -> Result<(), Fault> {
        match field.kind {
            Kind::Message(id) => self.nested(|decoder| decoder.message(id)),
            Kind::Group(id) => {
                self.deeper(|decoder| decoder.message(id))?;
                encode_key(field.number, WireType::EndGroup, self.out);
                Ok(())
            }
            kind => self.scalar(kind),
        }
    }

    /// Puts the length of what `write` writes in front of it.
    fn nested(&mut self, write: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        let start = begin_length(self.out);
        self.deeper(write)?;
        end_length(start, self.out);
        Ok(())
    }

    fn deeper(&mut self, write: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        if self.depth == MAX_DEPTH {
            return Err(self.fault(JsonErrorKind::TooDeep, "nested too deeply"));
        }
        self.depth += 1;
        write(self)?;
        self.depth -= 1;
        Ok(())
    }
}
