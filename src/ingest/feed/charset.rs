//! From bytes to text, whatever the feed says about its own charset.
//!
//! Declarations are often wrong, so the bytes are believed first: a byte order mark, then well-formed UTF-8,
//! which no other charset produces by accident. Only what is not UTF-8 is read by its declaration.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// The `charset` parameter of a content type.
pub fn charset_of(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']))
    })
}

/// Decodes a feed. Bytes that fit no declared charset are read as UTF-8 and windows-1252, mixed if need be:
/// nothing is refused.
pub(crate) fn decode<'a>(bytes: &'a [u8], content_type: Option<&str>) -> Cow<'a, str> {
    if let Some((encoding, bom_length)) = Encoding::for_bom(bytes) {
        return encoding.decode_without_bom_handling(&bytes[bom_length..]).0;
    }
    // UTF-16 without its mark: every other byte of the first markup is zero.
    match bytes {
        [0, b'<' | b'{', ..] => return UTF_16BE.decode_without_bom_handling(bytes).0,
        [b'<' | b'{', 0, ..] => return UTF_16LE.decode_without_bom_handling(bytes).0,
        _ => {}
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let from_server =
        content_type.and_then(charset_of).and_then(|label| Encoding::for_label(label.as_bytes()));
    let from_document = declared_in_xml(bytes).and_then(Encoding::for_label);
    // A server's Latin-1 is mostly its default; the document's author knows better.
    let declared = match (from_server, from_document) {
        (Some(server), Some(document)) if server == WINDOWS_1252 || server == UTF_8 => Some(document),
        (server, document) => server.or(document),
    };
    declared
        .filter(|encoding| *encoding != UTF_8)
        .and_then(|encoding| encoding.decode_without_bom_handling_and_without_replacement(bytes))
        .unwrap_or_else(|| Cow::Owned(decode_mixed(bytes)))
}

/// UTF-8 where it is well formed, windows-1252 for every other byte.
fn decode_mixed(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + bytes.len() / 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.push_str(&WINDOWS_1252.decode_without_bom_handling(chunk.invalid()).0);
    }
    text
}

/// The encoding named by `<?xml ... encoding="..."?>`.
fn declared_in_xml(bytes: &[u8]) -> Option<&[u8]> {
    let head = &bytes[..bytes.len().min(256)];
    let head = head.split(|&b| b == b'>').next()?;
    let at = head.windows(9).position(|window| window == b"encoding=")? + 9;
    let (quote, rest) = head[at..].split_first()?;
    rest.split(|b| b == quote).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charset_parameter() {
        assert_eq!(charset_of("text/xml; charset=ISO-8859-2"), Some("ISO-8859-2"));
        assert_eq!(charset_of("text/xml;Charset=\"utf-8\"; x=y"), Some("utf-8"));
        assert_eq!(charset_of("charset=utf-8"), None);
        assert_eq!(charset_of("text/xml"), None);
    }

    #[test]
    fn well_formed_utf8_wins_over_every_declaration() {
        let feed = "<?xml version='1.0' encoding='iso-8859-1'?><rss>é</rss>";
        assert_eq!(decode(feed.as_bytes(), Some("text/xml; charset=windows-1252")), feed);
    }

    #[test]
    fn declared_charsets() {
        assert_eq!(
            decode(b"<?xml version='1.0' encoding='iso-8859-2'?>\xb3", None).chars().last(),
            Some('ł')
        );
        assert_eq!(decode(b"\xb3", Some("text/xml; charset=iso-8859-2")), "ł");
        let polish = b"<?xml version='1.0' encoding=\"iso-8859-2\"?>\xb3";
        assert_eq!(decode(polish, Some("text/xml; charset=iso-8859-1")).chars().last(), Some('ł'));
        assert_eq!(decode(polish, Some("text/xml; charset=utf-8")).chars().last(), Some('ł'));
        assert_eq!(decode(b"<?xml encoding='utf-8'?>caf\xe9", None), "<?xml encoding='utf-8'?>café");
        assert_eq!(decode(b"caf\xe9 \x80", Some("text/xml; charset=nonsense")), "café €");
    }

    #[test]
    fn one_stray_byte_does_not_spoil_the_rest() {
        assert_eq!(decode(b"\xc3\xa9t\xc3\xa9 \xe9", Some("text/xml; charset=utf-8")), "été é");
    }

    #[test]
    fn utf16_with_and_without_mark() {
        let le: Vec<u8> = "<é>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = "<é>".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(decode(&le, None), "<é>");
        assert_eq!(decode(&be, Some("text/xml; charset=utf-8")), "<é>");
        assert_eq!(decode(&[&[0xff, 0xfe][..], &le].concat(), None), "<é>");
        assert_eq!(decode(&[&[0xfe, 0xff][..], &be].concat(), None), "<é>");
        assert_eq!(decode(b"\xef\xbb\xbf<x/>", None), "<x/>");
    }

    #[test]
    fn short_input_is_fine() {
        for input in [&b""[..], b"<", b"\xff", b"\xef\xbb", b"encoding=", b"\xffencoding='"] {
            decode(input, None);
        }
    }
}
