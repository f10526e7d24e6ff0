//! RE2 patterns, as `buf.validate` has them, in the dialect of JSON Schema: ECMA-262 with the `u` flag.

use std::{iter::Peekable, str::Chars};

/// What ECMA-262 lets a backslash stand before with the `u` flag.
const SYNTAX: &str = "^$\\.*+?()[]{}|";

/// The category Cc, which tools that lack Unicode properties (Python's, for one) can then take too.
const CONTROLS: &str = r"\x00-\x1f\x7f-\x9f";

/// The same pattern in ECMA-262; `None` for what that cannot say, such as inline flags.
pub(super) fn ecma(re2: &str) -> Option<String> {
    let mut out = String::with_capacity(re2.len());
    let mut rest = re2.chars().peekable();
    let mut class = false;
    // A class escape in brackets, such as `\w`, cannot begin a range.
    let mut whole = false;
    while let Some(c) = rest.next() {
        let after = std::mem::take(&mut whole);
        match c {
            '\\' => whole = escape(&mut rest, class, &mut out)? && class,
            '[' if class => match rest.peek() {
                // A POSIX class.
                Some(':') => return None,
                _ => out.push_str("\\["),
            },
            '[' => {
                class = true;
                out.push('[');
                out.extend(rest.next_if_eq(&'^'));
                if rest.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            '-' if class && after => out.push_str("\\-"),
            '(' if !class => {
                out.push('(');
                if rest.next_if_eq(&'?').is_some() {
                    out.push('?');
                    rest.next_if_eq(&'P');
                    // Neither `(?:` nor `(?<name>`: flags.
                    out.push(rest.next_if(|c| matches!(c, ':' | '<'))?);
                }
            }
            '{' if !class && counts(rest.clone()) => {
                out.push('{');
                braced(&mut rest, &mut out);
            }
            '{' | '}' | ']' if !class => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    Some(out)
}

/// Writes what a backslash begins; whether that is a class of characters.
fn escape(rest: &mut Peekable<Chars<'_>>, class: bool, out: &mut String) -> Option<bool> {
    match rest.next()? {
        c @ ('d' | 'D' | 'w' | 'W' | 's' | 'S') => {
            out.extend(['\\', c]);
            return Some(true);
        }
        c @ ('p' | 'P') => {
            property(c, rest, class, out)?;
            return Some(true);
        }
        c @ ('b' | 'B' | 'f' | 'n' | 'r' | 't' | 'v') => out.extend(['\\', c]),
        'a' => out.push_str("\\x07"),
        'A' => out.push('^'),
        'z' => out.push('$'),
        'x' if rest.peek() == Some(&'{') => {
            out.push_str("\\u");
            braced(rest, out);
        }
        'x' => out.push_str("\\x"),
        c if SYNTAX.contains(c) || (c == '-' && class) => out.extend(['\\', c]),
        c if c.is_ascii_punctuation() => out.push(c),
        _ => return None,
    }
    Some(false)
}

/// Copies up to a closing brace.
fn braced(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.extend(std::iter::from_fn(|| rest.next_if(|c| *c != '}')));
    out.extend(rest.next());
}

/// Writes a Unicode property. A name longer than two letters is a script in RE2, which ECMA-262 has to be told.
fn property(letter: char, rest: &mut Peekable<Chars<'_>>, class: bool, out: &mut String) -> Option<()> {
    let name: String = match rest.next()? {
        '{' => std::iter::from_fn(|| rest.next().filter(|c| *c != '}')).collect(),
        c => c.into(),
    };
    let (letter, name) = match (letter, name.strip_prefix('^')) {
        ('p', Some(name)) => ('P', name),
        (_, Some(name)) => ('p', name),
        (letter, None) => (letter, name.as_str()),
    };
    match (letter, name) {
        ('p', "Cc") if class => out.push_str(CONTROLS),
        ('p', "Cc") => out.push_str(&format!("[{CONTROLS}]")),
        ('P', "Cc") if !class => out.push_str(&format!("[^{CONTROLS}]")),
        _ => {
            let script = name.len() > 2 && name != "Any" && !name.contains('=');
            out.push_str(&format!("\\{letter}{{{}{name}}}", if script { "Script=" } else { "" }));
        }
    }
    Some(())
}

/// Whether a brace opens a repetition (`{2}`, `{2,}`, `{2,3}`) and not a brace as such.
fn counts(rest: Peekable<Chars<'_>>) -> bool {
    let inner: String = rest.take_while(|c| *c != '}').collect();
    let (low, high) = inner.split_once(',').unwrap_or((&inner, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}

/// A pattern for exactly this text.
pub(super) fn literal(text: &str) -> String {
    text.chars().flat_map(|c| SYNTAX.contains(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_those_of_ecma() {
        for (re2, expected) in [
            (r"^\P{Cc}*$", r"^[^\x00-\x1f\x7f-\x9f]*$"),
            (r"\p{Cc}[\P{Cc}]", r"[\x00-\x1f\x7f-\x9f][\P{Cc}]"),
            (r"\A\pL{2,3}\z", r"^\p{L}{2,3}$"),
            (r"\p{Greek}|\p{^Latin}", r"\p{Script=Greek}|\P{Script=Latin}"),
            (r"[^\s\p{Cc}]+", r"[^\s\x00-\x1f\x7f-\x9f]+"),
            (r"\x{1F600}\x7f\a", r"\u{1F600}\x7f\x07"),
            (r#"\"a\-\/\."#, r#""a-/\."#),
            (r"[]a[-]{x}", r"[\]a\[-]\{x\}"),
            (r"[\w-.]{,2}", r"[\w\-.]\{,2\}"),
            (r"(?P<year>\d+)(?:x)(?<y>z)", r"(?<year>\d+)(?:x)(?<y>z)"),
            (r"^https?://[^/]+/$", r"^https?://[^/]+/$"),
        ] {
            assert_eq!(ecma(re2).as_deref(), Some(expected), "{re2}");
        }
        for untold in [r"(?i)a", r"[[:alpha:]]", r"\Qa.b\E", r"\C", r"\123"] {
            assert_eq!(ecma(untold), None, "{untold}");
        }
        assert_eq!(literal("a.b/{c}-"), r"a\.b/\{c\}-");
    }
}
