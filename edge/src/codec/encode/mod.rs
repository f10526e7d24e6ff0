//! Wire bytes to JSON.
//!
//! Encoders write fields in ascending order, so one pass usually does: values go straight from the wire to the
//! output and the plan fills the gaps with defaults. A message that breaks that order (or repeats a singular field,
//! or sets two members of a oneof) starts again on the gathering path, which sorts its fields first.

mod map;
mod value;
mod well_known;

use super::wire::{Raw, Reader};
use super::{MAX_DEPTH, WireError};
use crate::plan::{FieldPath, FieldPlan, Kind, Label, MessageId, MessagePlan, Plan};

#[derive(Clone, Copy)]
struct Context<'p> {
    plan: &'p Plan,
    depth: usize,
    /// Off below a message that was gathered: its children were already tried in order, and trying again at each
    /// level would double the work with every level.
    in_order: bool,
}

pub(super) fn message(plan: &Plan, id: MessageId, wire: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    Context { plan, depth: 0, in_order: true }.message(id, &[wire], out)
}

pub(super) fn field(
    plan: &Plan,
    id: MessageId,
    path: &FieldPath,
    wire: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let context = Context { plan, depth: 0, in_order: true };
    let message = plan.get(id);
    let mut items = gather(message, &[wire])?;
    items.retain(|(index, _)| *index == path.index);
    let field = &message.fields[path.index];
    match (&field.default, items.is_empty()) {
        (Some(default), true) => out.extend_from_slice(&default[field.key.len()..]),
        (None, true) => out.extend_from_slice(b"null"),
        (_, false) => context.occurrences(field, &items, out)?,
    }
    Ok(())
}

/// A field's index in its message, and one of its values.
type Item<'a> = (usize, Raw<'a>);

impl<'p> Context<'p> {
    fn deeper(self) -> Result<Self, WireError> {
        if self.depth == MAX_DEPTH {
            return Err(WireError::TooDeep);
        }
        Ok(Context { depth: self.depth + 1, ..self })
    }

    /// Writes a message whose encoding is the concatenation of `chunks`.
    fn message(self, id: MessageId, chunks: &[&[u8]], out: &mut Vec<u8>) -> Result<(), WireError> {
        let message = self.plan.get(id);
        if let Some(well_known) = message.well_known {
            return self.well_known(well_known, message, chunks, out);
        }
        out.push(b'{');
        self.fields(message, chunks, true, out)?;
        out.push(b'}');
        Ok(())
    }

    /// Writes the members of a message, without the braces; `first` unless others stand before them.
    fn fields(
        self,
        message: &MessagePlan,
        chunks: &[&[u8]],
        first: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        if let (true, [wire]) = (self.in_order, chunks) {
            let start = out.len();
            if self.fields_in_order(message, wire, Members { first }, out)? {
                return Ok(());
            }
            out.truncate(start);
        }
        Context { in_order: false, ..self }.fields_gathered(message, chunks, Members { first }, out)
    }

    /// Returns whether the fields were in order; if not, what was written is to be dropped.
    fn fields_in_order(
        self,
        message: &MessagePlan,
        wire: &[u8],
        mut members: Members,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        let fields = &message.fields[..message.extensions];
        let mut reader = Reader::new(wire);
        let mut next = 0;
        let mut oneofs = 0_u64;
        let mut item = reader.next()?;
        while let Some((number, raw)) = item {
            while let Some(absent) = fields.get(next).filter(|field| field.number < number) {
                members.default(absent, out);
                next += 1;
            }
            let Some(field) = fields.get(next).filter(|field| field.number == number) else {
                if message.index_of(number).is_some() {
                    return Ok(false);
                }
                item = reader.next()?;
                continue;
            };
            next += 1;
            if let Some(oneof) = field.oneof {
                let bit = u32::try_from(oneof).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0);
                if bit == 0 || oneofs & bit != 0 {
                    return Ok(false);
                }
                oneofs |= bit;
            }
            members.key(field, out);
            item = match field.label {
                Label::Implicit | Label::Explicit => {
                    self.value(field.kind, number, raw, out)?;
                    reader.next()?
                }
                Label::Repeated { .. } => self.list(field, raw, out, || same(&mut reader, number))?,
                Label::Map => self.map(field, raw, out, || same(&mut reader, number))?,
            };
        }
        for absent in &fields[next..] {
            members.default(absent, out);
        }
        Ok(true)
    }

    fn fields_gathered(
        self,
        message: &MessagePlan,
        chunks: &[&[u8]],
        mut members: Members,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let items = gather(message, chunks)?;
        let mut rest = &items[..];
        for (index, field) in message.fields.iter().enumerate() {
            let (mine, others) = rest.split_at(rest.iter().take_while(|(i, _)| *i == index).count());
            rest = others;
            if mine.is_empty() {
                members.default(field, out);
            } else {
                members.key(field, out);
                self.occurrences(field, mine, out)?;
            }
        }
        Ok(())
    }

    /// Writes the value of a field from all its occurrences, of which there is at least one.
    fn occurrences(self, field: &FieldPlan, items: &[Item<'_>], out: &mut Vec<u8>) -> Result<(), WireError> {
        let Some((&(_, first), more)) = items.split_first() else { return Ok(()) };
        let mut more = more.iter().map(|(_, raw)| *raw);
        match field.label {
            Label::Repeated { .. } => {
                self.list(field, first, out, || Ok(more.next().map_or(Next::Other(()), Next::Same)))
            }
            Label::Map => self.map(field, first, out, || Ok(more.next().map_or(Next::Other(()), Next::Same))),
            Label::Implicit | Label::Explicit => self.merged(field, items.iter().map(|(_, raw)| *raw), out),
        }
    }

    /// Writes a singular field: the last of its scalars, or the merger of its messages.
    fn merged<'a>(
        self,
        field: &FieldPlan,
        mut items: impl Iterator<Item = Raw<'a>>,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        match field.kind {
            Kind::Message(id) | Kind::Group(id) => {
                let content = |raw| message_content(field.kind, field.number, raw);
                let chunks = items.map(content).collect::<Result<Vec<_>, _>>()?;
                self.deeper()?.message(id, &chunks, out)
            }
            kind => match items.by_ref().last() {
                Some(raw) => self.value(kind, field.number, raw, out),
                None => Ok(()),
            },
        }
    }

    /// Writes `[...]` from the value at hand and those that `next` yields; returns what comes after them.
    fn list<'a, T>(
        self,
        field: &FieldPlan,
        first: Raw<'a>,
        out: &mut Vec<u8>,
        mut next: impl FnMut() -> Result<Next<'a, T>, WireError>,
    ) -> Result<T, WireError> {
        out.push(b'[');
        let start = out.len();
        let mut raw = first;
        loop {
            match raw {
                Raw::Bytes(packed) if field.kind.is_packable() => {
                    let mut reader = Reader::new(packed);
                    while let Some(raw) = reader.next_packed(field.kind)? {
                        self.value(field.kind, field.number, raw, out)?;
                        out.push(b',');
                    }
                }
                raw => {
                    self.value(field.kind, field.number, raw, out)?;
                    out.push(b',');
                }
            }
            match next()? {
                Next::Same(same) => raw = same,
                Next::Other(other) => {
                    close(b']', start, out);
                    return Ok(other);
                }
            }
        }
    }
}

/// What follows a value of a repeated field.
enum Next<'a, T> {
    Same(Raw<'a>),
    Other(T),
}

type NextField<'a> = Next<'a, Option<(u32, Raw<'a>)>>;

fn same<'a>(reader: &mut Reader<'a>, number: u32) -> Result<NextField<'a>, WireError> {
    Ok(match reader.next()? {
        Some((same, raw)) if same == number => Next::Same(raw),
        other => Next::Other(other),
    })
}

/// Ends a list or object whose elements, written from `start` on, each have a comma behind them.
fn close(bracket: u8, start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.pop();
    }
    out.push(bracket);
}

fn message_content<'a>(kind: Kind, number: u32, raw: Raw<'a>) -> Result<&'a [u8], WireError> {
    match (kind, raw) {
        (Kind::Message(_), Raw::Bytes(content)) | (Kind::Group(_), Raw::Group(content)) => Ok(content),
        _ => Err(WireError::WireType(number)),
    }
}

/// Puts the commas between members: plan keys start with one.
struct Members {
    first: bool,
}

impl Members {
    #[inline]
    fn key(&mut self, field: &FieldPlan, out: &mut Vec<u8>) {
        out.extend_from_slice(&field.key[usize::from(self.first)..]);
        self.first = false;
    }

    #[inline]
    fn default(&mut self, field: &FieldPlan, out: &mut Vec<u8>) {
        if let Some(default) = &field.default {
            out.extend_from_slice(&default[usize::from(self.first)..]);
            self.first = false;
        }
    }
}

/// All known fields of a message, sorted by their place in the plan, each field's values in wire order. Of a oneof
/// only the member that was set last is kept, and of that only what came after the other members.
fn gather<'a>(message: &MessagePlan, chunks: &[&'a [u8]]) -> Result<Vec<Item<'a>>, WireError> {
    let mut items = Vec::new();
    for chunk in chunks {
        let mut reader = Reader::new(chunk);
        while let Some((number, raw)) = reader.next()? {
            if let Some(index) = message.index_of(number) {
                items.push((index, raw));
            }
        }
    }
    if !message.oneofs.is_empty() {
        #[derive(Clone, Copy)]
        enum Member {
            Unset,
            Last(usize),
            Overridden,
        }
        let mut members = vec![Member::Unset; message.oneofs.len()];
        let mut kept = Vec::with_capacity(items.len());
        for item in items.into_iter().rev() {
            if let Some(oneof) = message.fields[item.0].oneof {
                match members[oneof] {
                    Member::Unset => members[oneof] = Member::Last(item.0),
                    Member::Last(index) if index == item.0 => {}
                    Member::Last(_) | Member::Overridden => {
                        members[oneof] = Member::Overridden;
                        continue;
                    }
                }
            }
            kept.push(item);
        }
        kept.reverse();
        items = kept;
    }
    items.sort_by_key(|(index, _)| *index);
    Ok(items)
}
