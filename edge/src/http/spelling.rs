//! Names of request fields as their caller wrote them, for errors that a service names by proto name.

use bytes::Bytes;

use crate::plan::{FieldPlan, Kind, Label, MessageId, Plan};

/// What a request was written in.
pub(crate) struct Spelling<'a> {
    pub plan: &'a Plan,
    /// The request message, which paths start from.
    pub input: MessageId,
    pub query: &'a str,
    pub json: Bytes,
}

impl Spelling<'_> {
    /// A path such as `keyword.display_terms[2].term` in JSON names, or as it is where the caller used proto names.
    /// What is no field stays as it is.
    pub(crate) fn path(&self, path: &str) -> String {
        let mut spelt = String::with_capacity(path.len());
        let mut message = Some(self.input);
        let mut rest = path;
        while let Some(first) = rest.chars().next() {
            let end = match first {
                // A map's key may hold anything but is quoted, and quotes in it are escaped.
                '[' => bracket(rest),
                _ => rest.find(['.', '[']).unwrap_or(rest.len()).max(first.len_utf8()),
            };
            let (part, after) = rest.split_at(end);
            rest = after;
            let field = message.filter(|_| first != '[' && first != '.').and_then(|id| {
                let plan = self.plan.get(id);
                Some(&plan.fields[plan.names.get(part)?])
            });
            match field {
                Some(field) => {
                    spelt.push_str(if self.wrote(field) { &field.name } else { &field.json_name });
                    message = self.below(field);
                }
                None => {
                    spelt.push_str(part);
                    if first != '[' && first != '.' {
                        message = None;
                    }
                }
            }
        }
        spelt
    }

    /// The message that a path goes on in.
    fn below(&self, field: &FieldPlan) -> Option<MessageId> {
        match field.kind {
            Kind::Message(entry) if field.label == Label::Map => {
                let entry = self.plan.get(entry);
                match entry.fields[entry.index_of(2)?].kind {
                    Kind::Message(value) => Some(value),
                    _ => None,
                }
            }
            Kind::Message(inner) | Kind::Group(inner) => Some(inner),
            _ => None,
        }
    }

    /// Whether the caller used the proto name of a field.
    fn wrote(&self, field: &FieldPlan) -> bool {
        if field.name == field.json_name {
            return true;
        }
        let in_query = self.query.split('&').any(|pair| {
            pair.split('=').next().unwrap_or_default().split('.').any(|part| *part == *field.name)
        });
        let member = format!("\"{}\"", field.name);
        in_query || self.json.windows(member.len()).any(|window| window == member.as_bytes())
    }
}

/// Length of `[...]` at the start of a path.
fn bracket(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ']' if !quoted => return at + 1,
            _ => {}
        }
    }
    text.len()
}
