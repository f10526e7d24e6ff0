//! Wire bytes to JSON.
//!
//! Encoders write fields in ascending order, so one pass usually does: values go straight from the wire to the
//! output and the plan fills the gaps with defaults. A message that breaks that order (or repeats a singular field,
//! or sets two members of a oneof) starts again on the gathering path, which sorts its fields first.

mod gather;
mod map;
mod value;
mod well_known;

use super::wire::{Raw, Reader};
use super::{MAX_DEPTH, WireError};
use crate::plan::{FieldPath, FieldPlan, Kind, Label, MessageId, MessagePlan, Plan};

/// JSON that a message may take beyond ten times its wire bytes. Two bytes of an empty message in a list make JSON of
/// all its default values: without a limit, a small answer of a broken upstream would fill the memory.
const FREE_JSON: usize = 16 << 20;

#[derive(Clone, Copy)]
struct Context<'a> {
    plan: &'a Plan,
    /// The outermost message, into which every [`Item`] points.
    wire: &'a [u8],
    /// Length that the output may reach.
    limit: usize,
    depth: usize,
    /// Off below a message that was gathered: its children were already tried in order, and trying again at each
    /// level would double the work with every level.
    in_order: bool,
}

/// A field of the wire: its index in its message's plan, and where its tag stands. Small on purpose, and made in
/// vectors of the right size: a message may be nothing but fields of two bytes each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    field: u32,
    at: u32,
}

/// The encoding of one message.
#[derive(Clone, Copy)]
enum Content<'a> {
    Run(&'a [u8]),
    /// What these occurrences of one field hold, to be merged.
    Occurrences(&'a [Item]),
}

pub(super) fn message(plan: &Plan, id: MessageId, wire: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    Context::new(plan, wire, out)?.message(id, Content::Run(wire), out)
}

pub(super) fn field(
    plan: &Plan,
    id: MessageId,
    path: &FieldPath,
    wire: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let context = Context::new(plan, wire, out)?;
    let message = plan.get(id);
    let mut items = context.gather(message, Content::Run(wire))?;
    items.retain(|item| item.field as usize == path.index);
    let field = &message.fields[path.index];
    match (&field.default, items.is_empty()) {
        (Some(default), true) => out.extend_from_slice(&default[field.key.len()..]),
        (None, true) => out.extend_from_slice(b"null"),
        (_, false) => context.occurrences(field, &mut items, out)?,
    }
    Ok(())
}

impl<'a> Context<'a> {
    fn new(plan: &'a Plan, wire: &'a [u8], out: &[u8]) -> Result<Self, WireError> {
        if u32::try_from(wire.len()).is_err() {
            return Err(WireError::TooLarge);
        }
        let limit = out.len() + 10 * wire.len() + FREE_JSON;
        Ok(Context { plan, wire, limit, depth: 0, in_order: true })
    }

    fn deeper(self) -> Result<Self, WireError> {
        if self.depth == MAX_DEPTH {
            return Err(WireError::TooDeep);
        }
        Ok(Context { depth: self.depth + 1, ..self })
    }

    fn message(self, id: MessageId, content: Content<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        let message = self.plan.get(id);
        if let Some(well_known) = message.well_known {
            return self.well_known(well_known, message, content, out);
        }
        out.push(b'{');
        self.fields(message, content, true, out)?;
        out.push(b'}');
        Ok(())
    }

    /// Writes the members of a message, without the braces; `first` unless others stand before them.
    fn fields(
        self,
        message: &MessagePlan,
        content: Content<'_>,
        first: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        if let (true, Content::Run(run)) = (self.in_order, content) {
            let start = out.len();
            if self.fields_in_order(message, run, Members { first }, out)? {
                return Ok(());
            }
            out.truncate(start);
        }
        Context { in_order: false, ..self }.fields_gathered(message, content, Members { first }, out)
    }

    /// Returns whether the fields were in order; if not, what was written is to be dropped.
    fn fields_in_order(
        self,
        message: &MessagePlan,
        run: &[u8],
        mut members: Members,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        let fields = &message.fields[..message.extensions];
        let mut reader = Reader::new(run);
        let mut next = 0;
        let mut oneofs = 0_u64;
        loop {
            let start = reader;
            let Some((number, raw)) = reader.next()? else { break };
            while let Some(absent) = fields.get(next).filter(|field| field.number < number) {
                members.default(absent, out);
                next += 1;
            }
            let Some(field) = fields.get(next).filter(|field| field.number == number) else {
                if message.index_of(number).is_some() {
                    return Ok(false);
                }
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
            match field.label {
                Label::Implicit | Label::Explicit => self.value(field.kind, number, raw, out)?,
                Label::Repeated { .. } => self.list(field, raw, out, || reader.next_of(number))?,
                Label::Map => {
                    reader = start;
                    let mut entries = self.take_entries(&mut reader, number)?;
                    self.map(field, &mut entries, out)?;
                }
            }
        }
        for absent in &fields[next..] {
            members.default(absent, out);
        }
        Ok(true)
    }

    fn fields_gathered(
        self,
        message: &MessagePlan,
        content: Content<'_>,
        mut members: Members,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let mut items = self.gather(message, content)?;
        let mut rest = &mut items[..];
        for (index, field) in message.fields.iter().enumerate() {
            let count = rest.iter().take_while(|item| item.field as usize == index).count();
            let (mine, others) = rest.split_at_mut(count);
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

    /// Writes the value of a field from all its occurrences.
    fn occurrences(self, field: &FieldPlan, items: &mut [Item], out: &mut Vec<u8>) -> Result<(), WireError> {
        match (field.label, &*items) {
            (Label::Repeated { .. }, [first, more @ ..]) => {
                let mut more = more.iter();
                let first = self.raw(first.at)?;
                self.list(field, first, out, || more.next().map(|item| self.raw(item.at)).transpose())
            }
            (Label::Map, _) => self.map(field, items, out),
            (_, items) => self.merged(field, items, out),
        }
    }

    /// Writes a singular field: the last of its scalars, or the merger of its messages.
    fn merged(self, field: &FieldPlan, items: &[Item], out: &mut Vec<u8>) -> Result<(), WireError> {
        match (field.kind, items) {
            (Kind::Message(id) | Kind::Group(id), [_, _, ..]) => {
                for item in items {
                    message_content(field.kind, field.number, self.raw(item.at)?)?;
                }
                self.deeper()?.message(id, Content::Occurrences(items), out)
            }
            (kind, [.., last]) => self.value(kind, field.number, self.raw(last.at)?, out),
            (_, []) => Ok(()),
        }
    }

    /// Writes `[...]` from the value at hand and those that `next` yields.
    fn list<'w>(
        self,
        field: &FieldPlan,
        first: Raw<'w>,
        out: &mut Vec<u8>,
        mut next: impl FnMut() -> Result<Option<Raw<'w>>, WireError>,
    ) -> Result<(), WireError> {
        out.push(b'[');
        let start = out.len();
        let mut value = Some(first);
        while let Some(raw) = value {
            match raw {
                Raw::Bytes(packed) if field.kind.is_packable() => {
                    let mut reader = Reader::new(packed);
                    while let Some(raw) = reader.next_packed(field.kind)? {
                        self.element(field, raw, out)?;
                    }
                }
                raw => self.element(field, raw, out)?,
            }
            value = next()?;
        }
        close(b']', start, out);
        Ok(())
    }

    #[inline]
    fn element(self, field: &FieldPlan, raw: Raw<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.value(field.kind, field.number, raw, out)?;
        out.push(b',');
        self.within_limit(out)
    }

    #[inline]
    fn within_limit(self, out: &[u8]) -> Result<(), WireError> {
        if out.len() > self.limit { Err(WireError::TooLarge) } else { Ok(()) }
    }
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
