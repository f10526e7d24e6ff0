//! The few bytes of protobuf that the edge touches without a message type.

/// Length-delimited wire type.
const LEN: u64 = 2;

/// `google.api.HttpBody`, without its extensions.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HttpBody {
    #[prost(string, tag = "1")]
    pub content_type: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: bytes::Bytes,
}

/// Appends a varint.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the tag and length of a length-delimited field, whose `length` bytes are to follow.
pub(crate) fn put_header(number: u32, length: usize, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | LEN, out);
    put_varint(length as u64, out);
}

/// Appends a length-delimited field.
pub(crate) fn put_bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    put_header(number, value.len(), out);
    out.extend_from_slice(value);
}

/// The last value of a length-delimited top-level field; `None` when it is absent or the message is malformed.
pub(crate) fn last_bytes(mut wire: &[u8], number: u32) -> Option<&[u8]> {
    let mut found = None;
    while !wire.is_empty() {
        let tag = varint(&mut wire)?;
        match tag & 7 {
            0 => drop(varint(&mut wire)?),
            1 => wire = wire.get(8..)?,
            LEN => {
                let length = usize::try_from(varint(&mut wire)?).ok()?;
                let (value, rest) = wire.split_at_checked(length)?;
                if tag >> 3 == u64::from(number) {
                    found = Some(value);
                }
                wire = rest;
            }
            5 => wire = wire.get(4..)?,
            _ => return None,
        }
    }
    found
}

fn varint(wire: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = wire.split_first()?;
        *wire = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn the_last_value_of_a_field_is_found() {
        let mut wire = vec![0x08, 0x96, 0x01, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1d, 1, 2, 3, 4];
        put_bytes(5, b"first", &mut wire);
        put_bytes(500, &[b'x'; 300], &mut wire);
        put_bytes(5, b"second", &mut wire);
        assert_eq!(last_bytes(&wire, 5), Some(&b"second"[..]));
        assert_eq!(last_bytes(&wire, 500), Some(&[b'x'; 300][..]));
        assert_eq!(last_bytes(&wire, 6), None);
        assert_eq!(last_bytes(&wire[..wire.len() - 1], 5), None);
        assert_eq!(last_bytes(&[0xff; 20], 5), None);
    }

    #[test]
    fn fields_written_here_decode_elsewhere() {
        let mut wire = Vec::new();
        put_bytes(1, b"text/plain", &mut wire);
        put_bytes(2, &[1; 200], &mut wire);
        let body = HttpBody::decode(wire.as_slice()).unwrap();
        assert_eq!((body.content_type.as_str(), body.data.len()), ("text/plain", 200));
    }
}
