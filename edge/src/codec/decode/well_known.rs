//! The well-known types, whose JSON is not that of their fields.

use super::{Decoder, Fault};
use crate::codec::scalar::{put_bytes, put_field_mask, put_seconds_and_nanos};
use crate::codec::{JsonErrorKind, time};
use crate::plan::{MessagePlan, WellKnown};

/// How many times the length of the JSON may be read in search of `@type`s.
const LOOK_AHEAD: usize = 16;

/// The number of each member of `google.protobuf.Value`'s oneof.
mod member {
    pub(super) const NULL: u32 = 1;
    pub(super) const NUMBER: u32 = 2;
    pub(super) const STRING: u32 = 3;
    pub(super) const BOOL: u32 = 4;
    pub(super) const STRUCT: u32 = 5;
    pub(super) const LIST: u32 = 6;
}

impl<'a> Decoder<'a> {
    pub(super) fn well_known(
        &mut self,
        well_known: WellKnown,
        message: &'a MessagePlan,
    ) -> Result<(), Fault> {
        match well_known {
            WellKnown::Timestamp => {
                let text = self.text("a string with an RFC 3339 time")?;
                match time::parse_timestamp(&text) {
                    Some(time) => self.seconds_and_nanos(time),
                    None => Err(self.fault(JsonErrorKind::InvalidValue, time::TIMESTAMP_FORM)),
                }
            }
            WellKnown::Duration => {
                let text = self.text("a string with a duration")?;
                match time::parse_duration(&text) {
                    Some(duration) => self.seconds_and_nanos(duration),
                    None => Err(self.fault(JsonErrorKind::InvalidValue, time::DURATION_FORM)),
                }
            }
            WellKnown::FieldMask => {
                let text = self.text("a string of field names")?;
                if text.contains('_') {
                    return Err(
                        self.fault(JsonErrorKind::InvalidValue, "expected field names in lowerCamelCase")
                    );
                }
                put_field_mask(&text, self.out);
                Ok(())
            }
            WellKnown::Empty => self.object(message, false),
            WellKnown::Any => self.any(message),
            WellKnown::Value => self.dynamic_value(message),
            WellKnown::Struct | WellKnown::ListValue | WellKnown::Wrapper(_) => {
                match message.fields.first() {
                    Some(field) => self.field(field),
                    None => Err(self.wrong_type("nothing")),
                }
            }
        }
    }

    fn seconds_and_nanos(&mut self, (seconds, nanos): (i64, i32)) -> Result<(), Fault> {
        put_seconds_and_nanos(seconds, nanos, self.out);
        Ok(())
    }

    fn dynamic_value(&mut self, message: &'a MessagePlan) -> Result<(), Fault> {
        let number = match self.lexer.peek() {
            Some(b'n') => member::NULL,
            Some(b'-' | b'0'..=b'9') => member::NUMBER,
            Some(b'"') => member::STRING,
            Some(b't' | b'f') => member::BOOL,
            Some(b'{') => member::STRUCT,
            Some(b'[') => member::LIST,
            _ => return Err(self.lexer.syntax("a value")),
        };
        match message.index_of(number) {
            Some(index) => self.field(&message.fields[index]),
            None => Err(self.wrong_type("another value")),
        }
    }

    /// Its members are those of the message that `@type` names, wherever that stands, or that message's `value`.
    fn any(&mut self, message: &'a MessagePlan) -> Result<(), Fault> {
        if self.lexer.peek() != Some(b'{') {
            return Err(self.wrong_type("an object"));
        }
        let Some(url) = self.type_url()? else { return Ok(()) };
        let plan = self.plan;
        let payload = url.rsplit_once('/').and_then(|(_, name)| plan.message(name)).ok_or_else(|| {
            self.fault(JsonErrorKind::InvalidValue, "expected the URL of a known message type")
                .in_field("@type")
        })?;
        let [url_field, value_field] = &*message.fields else { return Err(self.wrong_type("nothing")) };
        self.out.extend_from_slice(&url_field.tag);
        put_bytes(url.as_bytes(), self.out);
        let start = self.out.len();
        self.out.extend_from_slice(&value_field.tag);
        let value = self.out.len();
        self.nested(|decoder| match plan.get(payload) {
            payload_plan if payload_plan.well_known.is_none() => decoder.object(payload_plan, true),
            _ => decoder.any_value(payload),
        })?;
        if self.out[value..] == [0] {
            self.out.truncate(start);
        }
        Ok(())
    }

    /// The `@type` of the object that comes next, without moving; `None` for `{}`.
    fn type_url(&mut self) -> Result<Option<String>, Fault> {
        let mut ahead = self.lexer.lookahead();
        ahead.open()?;
        let mut first = true;
        while let Some(key) = ahead.next_key(&mut first)? {
            if key != "@type" {
                ahead.skip()?;
                continue;
            }
            if ahead.peek() != Some(b'"') {
                self.lexer = ahead;
                return Err(self.wrong_type("a string").in_field("@type"));
            }
            let url = ahead.string()?.into_owned();
            self.looked_ahead += ahead.offset() - self.lexer.offset();
            // Each level of nesting may hide its type behind all that it holds, to be read over and over.
            if self.looked_ahead > LOOK_AHEAD * self.lexer.length() {
                let detail = "too many nested objects whose `@type` does not come first";
                return Err(self.fault(JsonErrorKind::TooDeep, detail));
            }
            return Ok(Some(url));
        }
        if first {
            self.lexer = ahead;
            return Ok(None);
        }
        Err(self.fault(JsonErrorKind::InvalidValue, "expected a member `@type`"))
    }

    /// Passes over the value of an `@type` that [`Self::type_url`] has read.
    pub(super) fn skip_type(&mut self, typed: &mut bool) -> Result<(), Fault> {
        if std::mem::replace(typed, true) {
            return Err(self.fault(JsonErrorKind::DuplicateField, "given twice").in_field("@type"));
        }
        self.lexer.skip()
    }

    fn any_value(&mut self, payload: crate::plan::MessageId) -> Result<(), Fault> {
        self.lexer.open()?;
        let (mut first, mut found, mut typed) = (true, false, false);
        while let Some(key) = self.lexer.next_key(&mut first)? {
            match &*key {
                "@type" => self.skip_type(&mut typed)?,
                "value" if found => {
                    return Err(self.fault(JsonErrorKind::DuplicateField, "given twice").in_field("value"));
                }
                "value" => {
                    found = true;
                    self.message(payload).map_err(|fault| fault.in_field("value"))?;
                }
                key => return Err(self.fault(JsonErrorKind::UnknownField, "").in_field(key)),
            }
        }
        match found {
            true => Ok(()),
            false => Err(self.fault(JsonErrorKind::InvalidValue, "expected a member `value`")),
        }
    }
}
