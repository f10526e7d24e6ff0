//! Reading and writing the protobuf wire format (<https://protobuf.dev/programming-guides/encoding/>).

use super::{MAX_DEPTH, WireError};
use crate::plan::Kind;

/// One value as it stands on the wire, before its declared type gives it a meaning.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// What stands between a group's tags.
    Group(&'a [u8]),
}

impl Raw<'_> {
    /// What an absent value of that kind counts as.
    pub(super) fn zero(kind: Kind) -> Raw<'static> {
        use prost::encoding::WireType;
        match kind.wire_type() {
            WireType::Varint => Raw::Varint(0),
            WireType::SixtyFourBit => Raw::Fixed64(0),
            WireType::ThirtyTwoBit => Raw::Fixed32(0),
            WireType::LengthDelimited => Raw::Bytes(&[]),
            WireType::StartGroup | WireType::EndGroup => Raw::Group(&[]),
        }
    }
}

/// Walks the fields of one encoded message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const START_GROUP: u64 = 3;
const END_GROUP: u64 = 4;
const FIXED32: u64 = 5;

impl<'a> Reader<'a> {
    pub(super) fn new(wire: &'a [u8]) -> Self {
        Reader { rest: wire }
    }

    /// The next field's number and value; `None` at the end.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<Option<(u32, Raw<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        if wire_type == START_GROUP {
            return Ok(Some((number, Raw::Group(self.group(number)?))));
        }
        Ok(Some((number, self.scalar(wire_type)?)))
    }

    /// The next field's value, if that field has this number; if not, the reader stays where it is.
    #[inline]
    pub(super) fn next_of(&mut self, number: u32) -> Result<Option<Raw<'a>>, WireError> {
        let mut ahead = *self;
        match ahead.next()? {
            Some((same, raw)) if same == number => {
                *self = ahead;
                Ok(Some(raw))
            }
            _ => Ok(None),
        }
    }

    /// What is still to be read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next value of a packed run of `kind`; `None` at the end.
    #[inline]
    pub(super) fn next_packed(&mut self, kind: Kind) -> Result<Option<Raw<'a>>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.scalar(kind.wire_type() as u64).map(Some)
    }

    #[inline(always)]
    fn scalar(&mut self, wire_type: u64) -> Result<Raw<'a>, WireError> {
        Ok(match wire_type {
            VARINT => Raw::Varint(self.varint()?),
            FIXED64 => Raw::Fixed64(u64::from_le_bytes(self.array()?)),
            BYTES => {
                let len = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                let (bytes, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
                self.rest = rest;
                Raw::Bytes(bytes)
            }
            FIXED32 => Raw::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(WireError::Malformed),
        })
    }

    #[inline]
    fn tag(&mut self) -> Result<(u32, u64), WireError> {
        let tag = self.varint()?;
        match u32::try_from(tag >> 3) {
            Ok(number) if number != 0 && tag <= u64::from(u32::MAX) => Ok((number, tag & 7)),
            _ => Err(WireError::Malformed),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    #[cold]
    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                // The tenth byte has room for one bit.
                if i == 9 && *byte > 1 {
                    return Err(WireError::Malformed);
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { WireError::Truncated } else { WireError::Malformed })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    /// Reads to the end of a group whose start tag was just read, and returns what is inside.
    #[cold]
    #[inline(never)]
    fn group(&mut self, number: u32) -> Result<&'a [u8], WireError> {
        let all = self.rest;
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let end = self.rest.len();
            if end == 0 {
                return Err(WireError::Truncated);
            }
            match self.tag()? {
                (number, START_GROUP) if open.len() < MAX_DEPTH => open.push(number),
                (_, START_GROUP) => return Err(WireError::TooDeep),
                (number, END_GROUP) if number == innermost => {
                    open.pop();
                    if open.is_empty() {
                        return Ok(&all[..all.len() - end]);
                    }
                }
                (_, wire_type) => {
                    self.scalar(wire_type)?;
                }
            }
        }
        Err(WireError::Malformed)
    }
}

/// Appends a varint.
#[inline]
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `tag` and room for a length. What follows is the content, until [`end_length`].
#[inline]
pub(super) fn begin_length(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Writes the length of what was appended since [`begin_length`] returned `start`.
#[inline]
pub(super) fn end_length(start: usize, out: &mut Vec<u8>) {
    let len = out.len() - start;
    if len < 0x80 {
        out[start - 1] = len as u8;
        return;
    }
    // One byte was kept free, which is enough for most: make room for the others.
    let mut varint = Vec::with_capacity(10);
    put_varint(len as u64, &mut varint);
    out.splice(start - 1..start, varint);
}

/// The zigzag form of a `sint32` or `sint64`.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The value of a zigzag form.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
