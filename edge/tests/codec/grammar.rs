//! Where wire bytes, JSON and query strings may be taken apart.

use std::ops::Range;

use crate::fuzz::{Grammar, replace};

pub static WIRE: Grammar = Grammar {
    pieces: |bytes| {
        let mut pieces = Vec::new();
        fields(bytes, 0, 8, &mut pieces);
        pieces
    },
    edit: edit_wire,
    joint: b"",
    words: &[
        b"\x08\x01",
        b"\x08\x00\x10\x00\x18\x00",
        b"\x0a\x00",
        b"\x12\x00",
        b"\x1a\x00",
        b"\x22\x00",
        b"\x2a\x00",
        b"\x0a\x01a",
        b"\x0a\x03\x01\x02\x03",
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x12\xff\xff\xff\xff\x0f",
        b"\x09\x00\x00\x00\x00\x00\x00\xf8\x7f",
        b"\x15\x00\x00\x80\x7f",
        b"\x33\x08\x01\x34",
        b"\x3b\x3c",
        b"\x8a\x01\x00",
        b"\x12\x04\x12\x02\x12\x00",
        b"\x0a\x11x/codec.test.Empty\x12\x00",
        b"\x80",
    ],
};

pub static JSON: Grammar = Grammar {
    pieces: values,
    edit: edit_json,
    joint: b",",
    words: &[
        b"{}",
        b"[]",
        b"null",
        b"true",
        b"0",
        b"-1",
        b"1e9",
        b"0.1",
        b"\"\"",
        b"\"a\"",
        b"\"NaN\"",
        b"\"\\ud83d\\ude00\"",
        b"\"\\u0000\"",
        b"\"1970-01-01T00:00:00Z\"",
        b"\"1.5s\"",
        b"\"AA==\"",
        b"\"label\":\"x\"",
        b"\"left\":{}",
        b"\"children\":[{}]",
        b"\"named\":{\"\":{}}",
        b"\"value\":{}",
        b"\"@type\":\"x/codec.test.Tree\"",
        b"\"@type\":\"x/google.protobuf.Any\"",
        b"{\"@type\":\"x/google.protobuf.Value\",\"value\":0}",
        b"\"",
        b"{",
        b"[",
    ],
};

pub static QUERY: Grammar = Grammar {
    pieces: |bytes| {
        let ends = |byte: &u8| matches!(byte, b'&' | b'=' | b'.');
        let (mut pieces, mut pair, mut part) = (Vec::new(), 0, 0);
        for (at, byte) in bytes.iter().chain(b"&").enumerate() {
            if ends(byte) {
                pieces.push(part..at);
                part = at + 1;
            }
            if *byte == b'&' {
                pieces.push(pair..at);
                pair = at + 1;
            }
        }
        pieces
    },
    edit: replace,
    joint: b"&",
    words: &[
        b"name",
        b"name=",
        b"a",
        b"left.left",
        b"tree.left.label=x",
        b"choice.tree.right.label=",
        b"repeats.int32s=-1",
        b"optionals.int32Value=0",
        b"wellKnown.fieldMask=A,b.c",
        b"wellKnown.timestamp",
        b"%41",
        b"%2B",
        b"%",
        b"%ff",
        b"+",
        b"1e400",
    ],
};

/// A tag at `at`: where the content begins and ends, and whether it has a length in front.
fn field(bytes: &[u8], at: usize) -> Option<(Range<usize>, bool)> {
    let (tag, content) = varint(bytes, at)?;
    let end = match tag & 7 {
        0 => varint(bytes, content)?.1,
        1 => content + 8,
        2 => {
            let (length, content) = varint(bytes, content)?;
            let end = content.checked_add(usize::try_from(length).ok()?)?;
            return (end <= bytes.len()).then_some((content..end, true));
        }
        5 => content + 4,
        // The tags around a group are fields of their own here.
        _ => content,
    };
    (end <= bytes.len()).then_some((content..end, false))
}

fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.get(at..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            return Some((value, at + i + 1));
        }
    }
    None
}

/// The fields of a message and, to some depth, of what looks like a message in it.
fn fields(bytes: &[u8], offset: usize, depth: usize, pieces: &mut Vec<Range<usize>>) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        let Some((content, delimited)) = field(bytes, at) else { return false };
        pieces.push(offset + at..offset + content.end);
        if delimited && depth > 0 && !content.is_empty() {
            let before = pieces.len();
            if !fields(&bytes[content.clone()], offset + content.start, depth - 1, pieces) {
                pieces.truncate(before);
            }
        }
        at = content.end;
    }
    true
}

/// Puts other bytes in the place of a piece, and sets the lengths around it right.
fn edit_wire(bytes: &[u8], piece: Range<usize>, with: &[u8]) -> Vec<u8> {
    let mut at = 0;
    while let Some((content, delimited)) = field(bytes, at).filter(|_| at < bytes.len()) {
        if delimited && content.start <= piece.start && piece.end <= content.end && piece.start > at {
            let start = content.start;
            let inner = edit_wire(&bytes[content.clone()], piece.start - start..piece.end - start, with);
            let (tag, _) = varint(bytes, at).expect("was read before");
            let mut out = bytes[..at].to_vec();
            for mut number in [tag, inner.len() as u64] {
                while number >= 0x80 {
                    out.push(number as u8 | 0x80);
                    number >>= 7;
                }
                out.push(number as u8);
            }
            return [&out, &inner, &bytes[content.end..]].concat();
        }
        at = content.end;
    }
    replace(bytes, piece, with)
}

/// Puts other bytes in the place of a piece, and takes a comma away with it.
fn edit_json(bytes: &[u8], piece: Range<usize>, with: &[u8]) -> Vec<u8> {
    let comma = |at: usize| with.is_empty() && bytes.get(at) == Some(&b',');
    match piece.start.checked_sub(1) {
        _ if comma(piece.end) => replace(bytes, piece.start..piece.end + 1, with),
        Some(before) if comma(before) => replace(bytes, before..piece.end, with),
        _ => replace(bytes, piece, with),
    }
}

/// Elements, members, the values of members, and whole containers.
fn values(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut pieces, mut open, mut quoted, mut escaped) = (Vec::new(), Vec::new(), false, false);
    // Where the element at hand began, and its value.
    let (mut element, mut value) = (0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match byte {
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => {
                open.push((at, element, value));
                (element, value) = (at + 1, at + 1);
            }
            b':' => value = at + 1,
            b',' | b'}' | b']' => {
                pieces.push(element..at);
                if value != element {
                    pieces.push(value..at);
                }
                (element, value) = (at + 1, at + 1);
                if *byte != b','
                    && let Some((start, outer, its_value)) = open.pop()
                {
                    pieces.push(start..at + 1);
                    (element, value) = (outer, its_value);
                }
            }
            _ => {}
        }
    }
    pieces
}
