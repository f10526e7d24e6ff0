//! Fragments of text around matched words. Postgres marks matches with two control characters that stored text never holds.

use crate::proto::{Highlight, TextSpan};

/// Before a match.
pub const START: char = '\u{2}';
/// After a match.
pub const END: char = '\u{3}';

/// Reads a marked fragment; none when nothing in it matched. Spans are in code points of the fragment without its marks.
pub fn parse(field: &str, marked: &str) -> Option<Highlight> {
    let mut text = String::with_capacity(marked.len());
    let mut matches = Vec::new();
    let mut position = 0;
    let mut start = None;
    for character in marked.chars() {
        match character {
            START => start = Some(position),
            END => {
                if let Some(start) = start.take() {
                    matches.push(TextSpan { start, end: position });
                }
            }
            character => {
                text.push(character);
                position += 1;
            }
        }
    }
    (!matches.is_empty()).then(|| Highlight { field: field.into(), text, matches })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_count_code_points() {
        let found = parse("body", "l'\u{2}énergie\u{3} et le \u{2}gaz\u{3}").unwrap();
        assert_eq!(found.text, "l'énergie et le gaz");
        assert_eq!(found.matches, [TextSpan { start: 2, end: 9 }, TextSpan { start: 16, end: 19 }]);
    }

    #[test]
    fn a_fragment_without_match_is_none() {
        assert_eq!(parse("title", "nothing here"), None);
    }
}
