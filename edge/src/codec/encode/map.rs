//! Map fields as JSON objects, sorted by key so that equal maps give equal bytes.

use super::value::quoted;
use super::{Context, Next, close, message_content};
use crate::codec::WireError;
use crate::codec::escape::write_string;
use crate::codec::wire::{Raw, Reader, unzigzag};
use crate::plan::{FieldPlan, Kind, MessagePlan};

const KEY: u32 = 1;
const VALUE: u32 = 2;

/// All keys of one map are of one variant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Signed(i64),
    Unsigned(u64),
    Bool(bool),
    Text(&'a str),
}

impl Context<'_> {
    /// Writes `{...}` from the entry at hand and those that `next` yields; returns what comes after them.
    pub(super) fn map<'a, T>(
        self,
        field: &FieldPlan,
        first: Raw<'a>,
        out: &mut Vec<u8>,
        mut next: impl FnMut() -> Result<Next<'a, T>, WireError>,
    ) -> Result<T, WireError> {
        let Kind::Message(entry_id) = field.kind else { return Err(WireError::WireType(field.number)) };
        let entry = self.plan.get(entry_id);
        let mut entries = Vec::new();
        let mut raw = first;
        let after = loop {
            let content = message_content(field.kind, field.number, raw)?;
            entries.push((key(entry, content)?, content));
            match next()? {
                Next::Same(same) => raw = same,
                Next::Other(other) => break other,
            }
        };
        // Stable, so that of equal keys the one written last stays last: it holds.
        entries.sort_by_key(|(key, _)| *key);

        out.push(b'{');
        let start = out.len();
        for (i, (key, content)) in entries.iter().enumerate() {
            if entries.get(i + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            match key {
                Key::Signed(key) => quoted(*key, out),
                Key::Unsigned(key) => quoted(*key, out),
                Key::Bool(key) => out.extend_from_slice(if *key { b"\"true\"" } else { b"\"false\"" }),
                Key::Text(key) => write_string(key, out),
            }
            out.push(b':');
            self.map_value(entry, content, out)?;
            out.push(b',');
        }
        close(b'}', start, out);
        Ok(after)
    }

    fn map_value(self, entry: &MessagePlan, content: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let field = entry.index_of(VALUE).map(|index| &entry.fields[index]).ok_or(WireError::Malformed)?;
        let mut reader = Reader::new(content);
        let mut values = Vec::new();
        while let Some((number, raw)) = reader.next()? {
            if number == VALUE {
                values.push(raw);
            }
        }
        if values.is_empty() {
            values.push(Raw::zero(field.kind));
        }
        self.merged(field, values.into_iter(), out)
    }
}

fn key<'a>(entry: &MessagePlan, content: &'a [u8]) -> Result<Key<'a>, WireError> {
    let field = entry.index_of(KEY).map(|index| &entry.fields[index]).ok_or(WireError::Malformed)?;
    let mut raw = Raw::zero(field.kind);
    let mut reader = Reader::new(content);
    while let Some((number, value)) = reader.next()? {
        if number == KEY {
            raw = value;
        }
    }
    Ok(match (field.kind, raw) {
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
        (Kind::String, Raw::Bytes(v)) => Key::Text(std::str::from_utf8(v).map_err(|_| WireError::Utf8(KEY))?),
        _ => return Err(WireError::WireType(KEY)),
    })
}
