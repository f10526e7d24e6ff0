//! The fields of messages whose order has to be found first.

use super::{Content, Context, Item};
use crate::codec::WireError;
use crate::codec::wire::{Raw, Reader};
use crate::plan::MessagePlan;

/// Mark of an item that counts for nothing.
const OVERRIDDEN: u32 = u32::MAX;

impl<'a> Context<'a> {
    /// All known fields of a message, sorted by their place in the plan, each field's values in wire order. Of a
    /// oneof only the member that was set last is kept, and of that only what came after the other members.
    pub(super) fn gather(self, message: &MessagePlan, content: Content<'_>) -> Result<Vec<Item>, WireError> {
        let mut count = 0;
        self.each(content, |number, _, _| {
            count += usize::from(message.index_of(number).is_some());
            Ok(())
        })?;
        let mut items = Vec::with_capacity(count);
        self.each(content, |number, _, at| {
            items.extend(message.index_of(number).map(|index| Item { field: index as u32, at }));
            Ok(())
        })?;
        if !message.oneofs.is_empty() {
            drop_overridden(message, &mut items);
        }
        items.sort_unstable();
        Ok(items)
    }

    /// Takes the fields of that number that come next, one after the other; their index is not set.
    pub(super) fn take_entries(self, reader: &mut Reader<'a>, number: u32) -> Result<Vec<Item>, WireError> {
        let mut count = 0;
        let mut ahead = *reader;
        while ahead.next_of(number)?.is_some() {
            count += 1;
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(Item { field: 0, at: self.place(reader) });
            reader.next_of(number)?;
        }
        Ok(entries)
    }

    /// Visits each field of a message: its number, its value, and where its tag stands.
    pub(super) fn each<'c>(
        self,
        content: Content<'c>,
        mut visit: impl FnMut(u32, Raw<'c>, u32) -> Result<(), WireError>,
    ) -> Result<(), WireError>
    where
        'a: 'c,
    {
        let (run, items): (_, &[Item]) = match content {
            Content::Run(run) => (Some(run), &[]),
            Content::Occurrences(items) => (None, items),
        };
        let occurrences = items.iter().map(|item| match self.raw(item.at)? {
            Raw::Bytes(run) | Raw::Group(run) => Ok(run),
            _ => Err(WireError::Malformed),
        });
        for run in run.into_iter().map(Ok).chain(occurrences) {
            let mut reader = Reader::new(run?);
            loop {
                let start = reader;
                let Some((number, raw)) = reader.next()? else { break };
                visit(number, raw, self.place(&start))?;
            }
        }
        Ok(())
    }

    /// The value of the field whose tag stands there.
    pub(super) fn raw(self, at: u32) -> Result<Raw<'a>, WireError> {
        match Reader::new(&self.wire[at as usize..]).next()? {
            Some((_, raw)) => Ok(raw),
            None => Err(WireError::Truncated),
        }
    }

    /// Where a reader stands that has something to read.
    fn place(self, reader: &Reader<'_>) -> u32 {
        (reader.rest().as_ptr().addr() - self.wire.as_ptr().addr()) as u32
    }
}

fn drop_overridden(message: &MessagePlan, items: &mut Vec<Item>) {
    #[derive(Clone, Copy)]
    enum Member {
        Unset,
        Last(u32),
        Overridden,
    }
    let mut members = vec![Member::Unset; message.oneofs.len()];
    for item in items.iter_mut().rev() {
        let Some(oneof) = message.fields[item.field as usize].oneof else { continue };
        match members[oneof] {
            Member::Unset => members[oneof] = Member::Last(item.field),
            Member::Last(field) if field == item.field => {}
            Member::Last(_) | Member::Overridden => {
                members[oneof] = Member::Overridden;
                item.field = OVERRIDDEN;
            }
        }
    }
    items.retain(|item| item.field != OVERRIDDEN);
}
