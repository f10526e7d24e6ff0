//! The well-known types, whose JSON is not that of their fields.

use super::value::finite;
use super::{Content, Context};
use crate::codec::escape::write_string;
use crate::codec::names::camel_case;
use crate::codec::wire::Raw;
use crate::codec::{WireError, time};
use crate::plan::{Kind, Label, MessagePlan, WellKnown};

impl Context<'_> {
    pub(super) fn well_known(
        self,
        well_known: WellKnown,
        message: &MessagePlan,
        content: Content<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        match well_known {
            WellKnown::Timestamp => {
                let (seconds, nanos) = self.seconds_and_nanos(content)?;
                time::write_timestamp(seconds, nanos, out)
                    .ok_or(WireError::NoJsonForm("google.protobuf.Timestamp"))
            }
            WellKnown::Duration => {
                let (seconds, nanos) = self.seconds_and_nanos(content)?;
                time::write_duration(seconds, nanos, out)
                    .ok_or(WireError::NoJsonForm("google.protobuf.Duration"))
            }
            WellKnown::Wrapper(kind) => {
                let mut value = Raw::zero(kind);
                self.each(content, |number, raw, _| {
                    if number == 1 {
                        value = raw;
                    }
                    Ok(())
                })?;
                self.value(kind, 1, value, out)
            }
            WellKnown::FieldMask => self.field_mask(content, out),
            WellKnown::Any => self.any(content, out),
            WellKnown::Empty => {
                self.each(content, |_, _, _| Ok(()))?;
                out.extend_from_slice(b"{}");
                Ok(())
            }
            WellKnown::Struct | WellKnown::ListValue => self.only_field(message, content, out),
            WellKnown::Value => self.dynamic_value(message, content, out),
        }
    }

    /// A `Struct` or `ListValue`: the JSON of its one field, a map or a list.
    fn only_field(
        self,
        message: &MessagePlan,
        content: Content<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let mut items = self.gather(message, content)?;
        match (message.fields.first(), items.is_empty()) {
            (Some(field), false) => self.occurrences(field, &mut items, out)?,
            (Some(field), true) if field.label == Label::Map => out.extend_from_slice(b"{}"),
            _ => out.extend_from_slice(b"[]"),
        }
        Ok(())
    }

    /// A `Value`: the JSON of the member that its oneof holds, `null` when it holds none.
    fn dynamic_value(
        self,
        message: &MessagePlan,
        content: Content<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let mut items = self.gather(message, content)?;
        let Some(last) = items.last() else {
            out.extend_from_slice(b"null");
            return Ok(());
        };
        let field = &message.fields[last.field as usize];
        match (field.kind, self.raw(last.at)?) {
            (Kind::Double, Raw::Fixed64(bits)) => {
                let number = f64::from_bits(bits);
                if !number.is_finite() {
                    return Err(WireError::NoJsonForm("google.protobuf.Value"));
                }
                finite(number, out);
                Ok(())
            }
            _ => self.occurrences(field, &mut items, out),
        }
    }

    fn any(self, content: Content<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut url, mut payload): (&[u8], &[u8]) = (&[], &[]);
        self.each(content, |number, raw, _| {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => url = bytes,
                (2, Raw::Bytes(bytes)) => payload = bytes,
                (1 | 2, _) => return Err(WireError::WireType(number)),
                _ => {}
            }
            Ok(())
        })?;
        if url.is_empty() && payload.is_empty() {
            out.extend_from_slice(b"{}");
            return Ok(());
        }
        let url = std::str::from_utf8(url).map_err(|_| WireError::Utf8(1))?;
        let (_, name) = url.rsplit_once('/').ok_or(WireError::UnknownType)?;
        let id = self.plan.message(name).ok_or(WireError::UnknownType)?;
        let inner = self.deeper()?;
        let message = self.plan.get(id);
        out.extend_from_slice(b"{\"@type\":");
        write_string(url, out);
        if message.well_known.is_some() {
            out.extend_from_slice(b",\"value\":");
            inner.message(id, Content::Run(payload), out)?;
        } else {
            inner.fields(message, Content::Run(payload), false, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    /// Fields 1 (`int64 seconds`) and 2 (`int32 nanos`).
    fn seconds_and_nanos(self, content: Content<'_>) -> Result<(i64, i32), WireError> {
        let (mut seconds, mut nanos) = (0, 0);
        self.each(content, |number, raw, _| {
            match (number, raw) {
                (1, Raw::Varint(v)) => seconds = v as i64,
                (2, Raw::Varint(v)) => nanos = v as i32,
                (1 | 2, _) => return Err(WireError::WireType(number)),
                _ => {}
            }
            Ok(())
        })?;
        Ok((seconds, nanos))
    }

    fn field_mask(self, content: Content<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        let mut mask = String::new();
        self.each(content, |number, raw, _| {
            let path = match (number, raw) {
                (1, Raw::Bytes(path)) => std::str::from_utf8(path).map_err(|_| WireError::Utf8(1))?,
                (1, _) => return Err(WireError::WireType(1)),
                _ => return Ok(()),
            };
            if !mask.is_empty() {
                mask.push(',');
            }
            camel_case(path, &mut mask).ok_or(WireError::NoJsonForm("google.protobuf.FieldMask"))
        })?;
        write_string(&mask, out);
        Ok(())
    }
}
