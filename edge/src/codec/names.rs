//! Field mask paths between snake_case and lowerCamelCase.

/// Appends a dotted path in lowerCamelCase; `None` when the way back would not give the same path.
pub(super) fn camel_case(path: &str, out: &mut String) -> Option<()> {
    let mut after_underscore = false;
    for ch in path.chars() {
        match ch {
            'A'..='Z' => return None,
            'a'..='z' if after_underscore => out.push(ch.to_ascii_uppercase()),
            _ if after_underscore => return None,
            '_' => {}
            _ => out.push(ch),
        }
        after_underscore = ch == '_';
    }
    (!after_underscore).then_some(())
}

/// Appends a dotted path in snake_case; underscores in `path` are kept.
pub(super) fn snake_case(path: &str, out: &mut Vec<u8>) {
    for byte in path.bytes() {
        if byte.is_ascii_uppercase() {
            out.push(b'_');
        }
        out.push(byte.to_ascii_lowercase());
    }
}
