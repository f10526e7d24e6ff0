//! Map fields as JSON objects, sorted by key so that equal maps give equal bytes.

use super::value::quoted;
use super::{Content, Context, Item, close, message_content};
use crate::codec::WireError;
use crate::codec::escape::write_string;
use crate::codec::wire::{Raw, unzigzag};
use crate::plan::{FieldPlan, Kind, MessagePlan};

const KEY: u32 = 1;
const VALUE: u32 = 2;

/// Place of a key that is not there, which counts as zero.
const ABSENT: u32 = u32::MAX;

/// All keys of one map are of one variant. UTF-8 sorts as bytes as it does as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Signed(i64),
    Unsigned(u64),
    Bool(bool),
    Text(&'a [u8]),
}

impl<'a> Context<'a> {
    /// Writes `{...}` from the entries, whose `field` it uses for the place of the key.
    pub(super) fn map(
        self,
        field: &FieldPlan,
        entries: &mut [Item],
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let Kind::Message(entry_id) = field.kind else { return Err(WireError::WireType(field.number)) };
        let entry = self.plan.get(entry_id);
        let member = |number| entry.index_of(number).map(|index| &entry.fields[index]);
        let (Some(key_field), Some(value_field)) = (member(KEY), member(VALUE)) else {
            return Err(WireError::Malformed);
        };
        for item in entries.iter_mut() {
            let content = message_content(field.kind, field.number, self.raw(item.at)?)?;
            item.field = ABSENT;
            self.each(Content::Run(content), |number, _, at| {
                if number == KEY {
                    item.field = at;
                }
                Ok(())
            })?;
            if let Key::Text(text) = self.key(key_field.kind, item)? {
                std::str::from_utf8(text).map_err(|_| WireError::Utf8(KEY))?;
            }
        }
        let key = |item: &Item| self.key(key_field.kind, item).ok();
        entries.sort_unstable_by(|a, b| key(a).cmp(&key(b)).then(a.at.cmp(&b.at)));

        out.push(b'{');
        let start = out.len();
        for (i, item) in entries.iter().enumerate() {
            // Of equal keys the one written last holds.
            if entries.get(i + 1).is_some_and(|next| key(next) == key(item)) {
                continue;
            }
            match self.key(key_field.kind, item)? {
                Key::Signed(key) => quoted(key, out),
                Key::Unsigned(key) => quoted(key, out),
                Key::Bool(key) => out.extend_from_slice(if key { b"\"true\"" } else { b"\"false\"" }),
                Key::Text(key) => {
                    write_string(std::str::from_utf8(key).map_err(|_| WireError::Utf8(KEY))?, out);
                }
            }
            out.push(b':');
            let content = message_content(field.kind, field.number, self.raw(item.at)?)?;
            self.map_value(entry, value_field, content, out)?;
            out.push(b',');
            self.within_limit(out)?;
        }
        close(b'}', start, out);
        Ok(())
    }

    fn map_value(
        self,
        entry: &MessagePlan,
        field: &FieldPlan,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let (mut value, mut count) = (Raw::zero(field.kind), 0);
        self.each(Content::Run(content), |number, raw, _| {
            if number == VALUE {
                (value, count) = (raw, count + 1);
            }
            Ok(())
        })?;
        if count < 2 {
            return self.value(field.kind, VALUE, value, out);
        }
        let mut items = self.gather(entry, Content::Run(content))?;
        items.retain(|item| entry.fields[item.field as usize].number == VALUE);
        self.merged(field, &items, out)
    }

    fn key(self, kind: Kind, item: &Item) -> Result<Key<'a>, WireError> {
        let raw = if item.field == ABSENT { Raw::zero(kind) } else { self.raw(item.field)? };
        Ok(match (kind, raw) {
            (Kind::Int32, Raw::Varint(v)) => Key::Signed((v as i32).into()),
            (Kind::Int64, Raw::Varint(v)) => Key::Signed(v as i64),
            (Kind::Sint32, Raw::Varint(v)) => Key::Signed(unzigzag(u64::from(v as u32))),
            (Kind::Sint64, Raw::Varint(v)) => Key::Signed(unzigzag(v)),
            (Kind::Sfixed32, Raw::Fixed32(v)) => Key::Signed((v as i32).into()),
            (Kind::Sfixed64, Raw::Fixed64(v)) => Key::Signed(v as i64),
            (Kind::Uint32, Raw::Varint(v)) => Key::Unsigned((v as u32).into()),
            (Kind::Uint64, Raw::Varint(v)) => Key::Unsigned(v),
            (Kind::Fixed32, Raw::Fixed32(v)) => Key::Unsigned(v.into()),
            (Kind::Fixed64, Raw::Fixed64(v)) => Key::Unsigned(v),
            (Kind::Bool, Raw::Varint(v)) => Key::Bool(v != 0),
            (Kind::String, Raw::Bytes(v)) => Key::Text(v),
            _ => return Err(WireError::WireType(KEY)),
        })
    }
}
