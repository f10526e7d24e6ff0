//! Path templates of `google.api.http`.
//!
//! The grammar is that of `google/api/http.proto`, with one allowance that Envoy makes too: literals may follow `**`.
//!
//! ```text
//! Template  = "/" Segments [ ":" Literal ]
//! Segments  = Segment { "/" Segment }
//! Segment   = "*" | "**" | Literal | "{" FieldPath [ "=" Segments ] "}"
//! FieldPath = Ident { "." Ident }
//! ```

use std::borrow::Cow;

/// One step of a template's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A fixed word, percent-decoded.
    Literal(String),
    /// `*`: exactly one non-empty segment.
    One,
    /// `**`: any number of segments, none included.
    Rest,
}

/// A `{field=pattern}` of a template: the field it fills and the segments it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Dotted path of the request field, as the template writes it.
    pub field: String,
    /// First covered segment, counted in the template.
    pub start: usize,
    /// One past the last covered segment, counted in the template.
    pub end: usize,
}

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The path, variables flattened.
    pub segments: Vec<Segment>,
    /// The custom verb after the last colon.
    pub verb: Option<String>,
    /// The variables in the order of the path.
    pub variables: Vec<Variable>,
}

/// Why a template is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path template {template:?}: {reason}")]
pub struct TemplateError {
    /// The template as written.
    pub template: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Template {
    /// Parses a template such as `/v1/{name=shelves/*}/books:search`.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        parse(template).map_err(|reason| TemplateError { template: template.to_owned(), reason })
    }

    /// Values of the variables for a path of this template, still encoded and without its first slash.
    ///
    /// A variable of one `*` is decoded in full. In one of several segments `%2F` stays as it is, so that the slashes
    /// of the value are those of the path (`google/api/http.proto`). `None` when an escape is malformed or not UTF-8.
    pub fn values<'t>(&'t self, path: &str) -> Option<Vec<(&'t str, String)>> {
        let extra = path.split('/').count() as isize - self.segments.len() as isize;
        let rest = self.segments.iter().position(|s| *s == Segment::Rest);
        // Segments behind `**` lie further on by what it swallowed beyond one (or one less when it took none).
        let place = |index: usize| match rest {
            Some(rest) if index > rest => index.saturating_add_signed(extra),
            _ => index,
        };
        self.variables
            .iter()
            .map(|variable| {
                let (start, end) = (place(variable.start), place(variable.end));
                let single = matches!(self.segments[variable.start..variable.end], [Segment::One]);
                let mut value = String::new();
                for (index, segment) in path.split('/').take(end).skip(start).enumerate() {
                    if index > 0 {
                        value.push('/');
                    }
                    value.push_str(&decode(segment, !single)?);
                }
                Some((variable.field.as_str(), value))
            })
            .collect()
    }
}

/// Percent-decodes one path segment; `keep_slash` leaves `%2F` encoded. `None` for a bad escape or bytes not UTF-8.
pub fn decode(segment: &str, keep_slash: bool) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            decoded.push(bytes[at]);
            at += 1;
            continue;
        }
        let byte = hex(*bytes.get(at + 1)?)? << 4 | hex(*bytes.get(at + 2)?)?;
        if byte == b'/' && keep_slash {
            decoded.extend_from_slice(&bytes[at..at + 3]);
        } else {
            decoded.push(byte);
        }
        at += 3;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The pairs of a query string (`application/x-www-form-urlencoded`), decoded one by one; the name as it stands when
/// its pair cannot be decoded.
pub fn pairs(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), &str>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        decode_form(name).zip(decode_form(value)).ok_or(name)
    })
}

fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') {
        return decode(&text.replace('+', " "), false).map(|decoded| Cow::Owned(decoded.into_owned()));
    }
    decode(text, false)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn parse(template: &str) -> Result<Template, &'static str> {
    let mut rest = template.strip_prefix('/').ok_or("must start with a slash")?;
    let mut parsed = Template { segments: Vec::new(), verb: None, variables: Vec::new() };
    loop {
        rest = match rest.strip_prefix('{') {
            Some(inner) => {
                let (variable, after) = inner.split_once('}').ok_or("a variable is not closed")?;
                parse_variable(variable, &mut parsed)?;
                after
            }
            None => {
                let end = rest.find(['/', ':', '{', '}']).unwrap_or(rest.len());
                parsed.segments.push(parse_segment(&rest[..end])?);
                &rest[end..]
            }
        };
        if rest.is_empty() {
            break;
        }
        if let Some(verb) = rest.strip_prefix(':') {
            if verb.is_empty() || verb.contains(['/', ':', '{', '}', '*']) {
                return Err("the verb is not a plain word");
            }
            parsed.verb = Some(verb.to_owned());
            break;
        }
        rest = rest.strip_prefix('/').ok_or("a slash or a verb must follow a segment")?;
    }
    if parsed.segments.iter().filter(|segment| **segment == Segment::Rest).count() > 1 {
        return Err("`**` may stand only once");
    }
    Ok(parsed)
}

fn parse_variable(variable: &str, parsed: &mut Template) -> Result<(), &'static str> {
    let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
    let ident = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if !field.split('.').all(ident) {
        return Err("a variable's name is not a field path");
    }
    if parsed.variables.iter().any(|earlier| earlier.field == field) {
        return Err("a variable stands twice");
    }
    let start = parsed.segments.len();
    for segment in pattern.split('/') {
        parsed.segments.push(parse_segment(segment)?);
    }
    parsed.variables.push(Variable { field: field.to_owned(), start, end: parsed.segments.len() });
    Ok(())
}

fn parse_segment(segment: &str) -> Result<Segment, &'static str> {
    match segment {
        "" => Err("a segment is empty"),
        "*" => Ok(Segment::One),
        "**" => Ok(Segment::Rest),
        literal if literal.contains(['*', '{', '}', ':']) => {
            Err("a segment is neither a word nor a wildcard")
        }
        literal => {
            let decoded = decode(literal, false).ok_or("a literal has a malformed escape")?;
            Ok(Segment::Literal(decoded.into_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(word: &str) -> Segment {
        Segment::Literal(word.to_owned())
    }

    #[test]
    fn every_form_of_the_grammar_parses() {
        let template = Template::parse("/v1/{book.name=shelves/*/books/*}/pages/{page}:print").unwrap();
        assert_eq!(
            template.segments,
            [
                literal("v1"),
                literal("shelves"),
                Segment::One,
                literal("books"),
                Segment::One,
                literal("pages"),
                Segment::One
            ]
        );
        assert_eq!(template.verb.as_deref(), Some("print"));
        assert_eq!(
            template.variables,
            [
                Variable { field: "book.name".into(), start: 1, end: 5 },
                Variable { field: "page".into(), start: 6, end: 7 }
            ]
        );
        assert_eq!(Template::parse("/v1/**").unwrap().segments, [literal("v1"), Segment::Rest]);
    }

    #[test]
    fn malformed_templates_are_refused() {
        for bad in [
            "", "v1", "/", "/v1/", "/v1//x", "/{", "/{a", "/{a=}", "/{a b}", "/{a.}", "/a*", "/**/**",
            "/{a}/{a}", "/x:", "/x:y/z", "/x:y:z", "/{a}b", "/a{b}", "/%zz", "/}",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn one_segment_decodes_in_full_and_several_keep_the_encoded_slash() {
        let one = Template::parse("/v1/{name}").unwrap();
        assert_eq!(one.values("v1/a%2Fb%20%C3%A9").unwrap(), [("name", "a/b é".to_owned())]);
        let many = Template::parse("/v1/{name=files/**}").unwrap();
        assert_eq!(many.values("v1/files/a%2Fb/c%20d").unwrap(), [("name", "files/a%2Fb/c d".to_owned())]);
        assert_eq!(many.values("v1/files").unwrap(), [("name", "files".to_owned())]);
        assert_eq!(one.values("v1/%ff"), None);
        assert_eq!(one.values("v1/%4"), None);
    }

    #[test]
    fn literals_after_a_double_star_keep_their_place() {
        let template = Template::parse("/v1/{path=**}/rows/{row}").unwrap();
        let values = template.values("v1/a/b/c/rows/7").unwrap();
        assert_eq!(values, [("path", "a/b/c".to_owned()), ("row", "7".to_owned())]);
        let values = template.values("v1/rows/7").unwrap();
        assert_eq!(values, [("path", String::new()), ("row", "7".to_owned())]);
    }
}
