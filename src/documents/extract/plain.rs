//! Plain text.

use super::{Refusal, Text};
use crate::ingest::feed::charset;

/// Of this many characters one may be a control character that no text has.
const CONTROLS_ONE_IN: usize = 200;

/// Decodes text by its byte order mark, as UTF-8, as declared, or as windows-1252.
pub(super) fn read(bytes: &[u8], charset: Option<&str>, text: &mut Text) -> Result<(), Refusal> {
    let declared = charset.map(|label| format!("text/plain; charset={label}"));
    let decoded = charset::decode(bytes, declared.as_deref());
    let (mut all, mut controls) = (0_usize, 0_usize);
    for c in decoded.chars() {
        if c == '\0' {
            return Err(Refusal::UnknownType);
        }
        all += 1;
        controls += usize::from(c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}'));
    }
    if controls > all / CONTROLS_ONE_IN {
        return Err(Refusal::UnknownType);
    }
    text.push(&decoded);
    Ok(())
}
