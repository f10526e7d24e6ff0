//! Sentences of English prose: Unicode's bounds (UAX #29), less those behind an abbreviation.

use unicode_segmentation::UnicodeSegmentation;

/// Abbreviations that stand before a name.
const BEFORE_NAME: &[&str] = &[
    "Adm", "Brig", "Capt", "Cmdr", "Col", "Dr", "Fr", "Gen", "Gov", "Hon", "Lt", "Maj", "Messrs", "Mr",
    "Mrs", "Ms", "Mt", "Pres", "Prof", "Rep", "Rev", "Sen", "Sgt", "Sr", "St", "Ste", "vs", "v", "e.g",
    "i.e", "cf",
];
/// Abbreviations that stand before a number.
const BEFORE_NUMBER: &[&str] = &[
    "Apr", "Art", "Aug", "Dec", "Feb", "Fig", "Jan", "Jul", "Jun", "Mar", "No", "Nos", "Nov", "Oct", "Sep",
    "Sept", "approx", "art", "c", "ca", "ch", "no", "nos", "p", "para", "pp", "sec", "vol",
];

/// The sentences of a text, with the white space behind each: together they are the text.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut bounds = text.split_sentence_bound_indices().peekable();
    std::iter::from_fn(move || {
        let (start, mut part) = bounds.next()?;
        while let Some(&(_, next)) = bounds.peek() {
            if !ends_in_abbreviation(part, next) {
                break;
            }
            bounds.next();
            part = next;
        }
        let end = bounds.peek().map_or(text.len(), |&(end, _)| end);
        Some(&text[start..end])
    })
}

/// Whether a full stop at the end of the part belongs to its last word, so that the sentence goes on.
fn ends_in_abbreviation(part: &str, next: &str) -> bool {
    // A line break or a paragraph ends a sentence whatever stands before it.
    let Some(stem) = part.trim_end_matches(' ').strip_suffix('.') else { return false };
    let word = stem.rsplit(|c: char| c.is_whitespace()).next().unwrap_or(stem);
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    BEFORE_NAME.contains(&word)
        || is_initials(word)
        || (BEFORE_NUMBER.contains(&word) && next.starts_with(|c: char| c.is_ascii_digit()))
}

/// Single capitals with full stops between them, such as "J" and "U.S"; "I" is a word.
fn is_initials(word: &str) -> bool {
    let capital = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(char::is_uppercase) && chars.next().is_none()
    };
    word != "I" && word.split('.').all(capital)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(text: &str) -> Vec<&str> {
        let parts: Vec<_> = sentences(text).collect();
        assert_eq!(parts.concat(), text);
        parts.into_iter().map(str::trim).collect()
    }

    #[test]
    fn full_stops_and_marks_end_sentences() {
        assert_eq!(
            trimmed("It fell. It rose! Why? Nobody knows…"),
            ["It fell.", "It rose!", "Why?", "Nobody knows…"]
        );
        assert_eq!(trimmed("He said “It is over.” She left."), ["He said “It is over.”", "She left."]);
        assert_eq!(trimmed("One line\nAnother"), ["One line", "Another"]);
    }

    #[test]
    fn abbreviations_and_numbers_do_not() {
        for text in [
            "Dr. Weber met Gov. Ruiz of St. Moritz.",
            "J. R. Silva spoke for the U.S. Treasury.",
            "The euro rose 3.5 per cent on Jan. 5 under Art. 50.",
            "They cited No. 7, e.g. Lille vs. Lyon.",
        ] {
            assert_eq!(trimmed(text), [text]);
        }
    }

    #[test]
    fn short_words_still_end_sentences() {
        assert_eq!(trimmed("Did it work? No. It failed."), ["Did it work?", "No.", "It failed."]);
        assert_eq!(trimmed("So did I. He left."), ["So did I.", "He left."]);
        assert_eq!(trimmed("Mr.\n\nSmith"), ["Mr.", "", "Smith"]);
    }

    #[test]
    fn nothing_has_no_sentence() {
        assert_eq!(trimmed(""), [""; 0]);
    }
}
