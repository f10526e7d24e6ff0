//! JSON string output, byte for byte what `serde_json` writes.

const QUOTE: u64 = 0x2222_2222_2222_2222;
const BACKSLASH: u64 = 0x5c5c_5c5c_5c5c_5c5c;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Whether any of eight bytes is a quote, a backslash or a control character (below 0x20).
fn any_special(word: u64) -> bool {
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    (zero(word ^ QUOTE) | zero(word ^ BACKSLASH) | control) != 0
}

/// Length of the longest prefix with no quote, backslash or control character.
pub(crate) fn plain_prefix(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks::<8>();
    let whole = words.iter().take_while(|word| !any_special(u64::from_le_bytes(**word))).count() * 8;
    let rest = &bytes[whole..];
    let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
    whole + rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len())
}

/// Writes `text` as a JSON string, quotes included.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let plain = plain_prefix(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(&special) = rest.get(plain) else { break };
        let short = match special {
            b'"' | b'\\' => special,
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            _ => b'u',
        };
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[
                b'0',
                b'0',
                HEX[usize::from(special >> 4)],
                HEX[usize::from(special & 15)],
            ]);
        }
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}
