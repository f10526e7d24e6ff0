//! Enforces the `buf.validate` rules of `proto/` on decoded messages.
//!
//! The implementations of [`Validate`] are written at build time by `build/validation.rs`; this file holds what they call. A
//! rule means what it means in `buf.validate`: a field without presence is always checked, an `optional` field and a message
//! field only when set, and all violations are reported, not the first alone.
//!
//! Two rules come from the AIPs instead. Fields that are `OUTPUT_ONLY` are not checked, because a client may send back what it
//! read (AIP-203). In a request with an `update_mask`, the resource's fields outside the mask are not checked, because they are
//! not written (AIP-134); its `name` always is.

use std::{
    collections::HashSet,
    fmt::{self, Display},
    hash::Hash,
};

use prost_types::FieldMask;
use regex::Regex;

/// At most so many violations are reported for one message.
pub const MAX_VIOLATIONS: usize = 50;

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path from the checked message to the field, in proto names: `keyword.terms[2].language`.
    pub field: String,
    /// What the rule asks, for people: a sentence that never repeats the value.
    pub description: String,
    /// The rule as `buf.validate` names it: `string.max_len`.
    pub rule: &'static str,
}

/// A message whose fields have rules.
pub trait Validate {
    /// Adds the violations of this message, which stands at `at`, to `out`.
    fn validate(&self, at: &Path<'_>, out: &mut Violations<'_>);
}

/// Checks every rule of a message and of the messages in it.
///
/// # Errors
///
/// The first [`MAX_VIOLATIONS`] violations, in the order of the fields.
pub fn check<T: Validate>(message: &T) -> Result<(), Vec<Violation>> {
    let mut violations = Violations { list: Vec::new(), mask: None };
    message.validate(&Path::Root, &mut violations);
    if violations.list.is_empty() { Ok(()) } else { Err(violations.list) }
}

/// Where a value stands: a list linked through the stack, made into text only for a violation.
#[derive(Debug)]
pub enum Path<'a> {
    /// The checked message itself.
    Root,
    /// A field of the message at the first path.
    Field(&'a Path<'a>, &'static str),
    /// An item of the repeated field at the first path.
    Item(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn field(&self, name: &'static str) -> Path<'_> {
        Path::Field(self, name)
    }

    fn item(&self, index: usize) -> Path<'_> {
        Path::Item(self, index)
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The violations found so far.
#[derive(Debug)]
pub struct Violations<'a> {
    list: Vec<Violation>,
    mask: Option<Mask<'a>>,
}

impl Violations<'_> {
    fn add(&mut self, at: &Path<'_>, rule: &'static str, description: impl FnOnce() -> String) {
        if self.list.len() == MAX_VIOLATIONS {
            return;
        }
        let field = at.to_string();
        if self.mask.as_ref().is_none_or(|mask| mask.covers(&field)) {
            self.list.push(Violation { field, description: description(), rule });
        }
    }
}

/// The part of a resource that an update writes.
#[derive(Debug)]
struct Mask<'a> {
    resource: &'a Path<'a>,
    /// Relative to the resource.
    paths: &'a [String],
}

impl Mask<'_> {
    fn covers(&self, field: &str) -> bool {
        let resource = self.resource.to_string();
        let Some(relative) = field.strip_prefix(&resource).and_then(|rest| rest.strip_prefix('.')) else {
            return true;
        };
        relative == "name"
            || self.paths.iter().any(|path| {
                let below = relative.strip_prefix(path.as_str());
                path == "*" || below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
    }
}

/// Validates the resource of an update, as far as the mask goes; a mask without paths is no mask.
fn validate_masked<T: Validate>(
    resource: &T,
    mask: Option<&FieldMask>,
    at: &Path<'_>,
    out: &mut Violations<'_>,
) {
    match mask {
        Some(FieldMask { paths }) if !paths.is_empty() => {
            let list = std::mem::take(&mut out.list);
            let mut masked = Violations { list, mask: Some(Mask { resource: at, paths }) };
            resource.validate(at, &mut masked);
            out.list = masked.list;
        }
        _ => resource.validate(at, out),
    }
}

fn required(is_set: bool, at: &Path<'_>, out: &mut Violations<'_>) {
    if !is_set {
        out.add(at, "required", || "Must be set.".into());
    }
}

fn min_len(value: &str, limit: usize, at: &Path<'_>, out: &mut Violations<'_>) {
    if value.chars().take(limit).count() < limit {
        out.add(at, "string.min_len", || match limit {
            1 => "Must not be empty.".into(),
            _ => format!("Must be at least {} long.", count(limit, "character")),
        });
    }
}

fn max_len(value: &str, limit: usize, at: &Path<'_>, out: &mut Violations<'_>) {
    // There are never more code points than bytes.
    if value.len() > limit && value.chars().count() > limit {
        out.add(at, "string.max_len", || format!("Must be at most {} long.", count(limit, "character")));
    }
}

fn pattern(value: &str, pattern: &Regex, at: &Path<'_>, out: &mut Violations<'_>) {
    if !pattern.is_match(value) {
        out.add(at, "string.pattern", || format!("Must match the pattern `{pattern}`."));
    }
}

fn one_of(value: &str, allowed: &[&str], at: &Path<'_>, out: &mut Violations<'_>) {
    if !allowed.contains(&value) {
        out.add(at, "string.in", || {
            let or_empty = if allowed.contains(&"") { "empty or " } else { "" };
            let named: Vec<String> =
                allowed.iter().filter(|value| !value.is_empty()).map(|value| format!("`{value}`")).collect();
            format!("Must be {or_empty}one of {}.", named.join(", "))
        });
    }
}

/// A number at or over a bound; NaN is not.
fn gte<T: PartialOrd + Display>(
    value: T,
    bound: T,
    rule: &'static str,
    at: &Path<'_>,
    out: &mut Violations<'_>,
) {
    if value.partial_cmp(&bound).is_none_or(|order| order.is_lt()) {
        out.add(at, rule, || format!("Must be at least {bound}."));
    }
}

/// A number at or under a bound; NaN is not.
fn lte<T: PartialOrd + Display>(
    value: T,
    bound: T,
    rule: &'static str,
    at: &Path<'_>,
    out: &mut Violations<'_>,
) {
    if value.partial_cmp(&bound).is_none_or(|order| order.is_gt()) {
        out.add(at, rule, || format!("Must be at most {bound}."));
    }
}

fn defined_only<E: TryFrom<i32>>(value: i32, at: &Path<'_>, out: &mut Violations<'_>) {
    if E::try_from(value).is_err() {
        out.add(at, "enum.defined_only", || "Must be one of the defined values.".into());
    }
}

fn min_items(found: usize, limit: usize, at: &Path<'_>, out: &mut Violations<'_>) {
    if found < limit {
        out.add(at, "repeated.min_items", || {
            format!("Must have at least {}; it has {found}.", count(limit, "item"))
        });
    }
}

fn max_items(found: usize, limit: usize, at: &Path<'_>, out: &mut Violations<'_>) {
    if found > limit {
        out.add(at, "repeated.max_items", || {
            format!("Must have at most {}; it has {found}.", count(limit, "item"))
        });
    }
}

fn unique<T: Eq + Hash>(values: &[T], at: &Path<'_>, out: &mut Violations<'_>) {
    let mut seen = HashSet::with_capacity(values.len());
    if !values.iter().all(|value| seen.insert(value)) {
        out.add(at, "repeated.unique", || "Must not name an item twice.".into());
    }
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// What `build/validation.rs` wrote.
mod generated {
    use super::*;

    include!(concat!(env!("OUT_DIR"), "/validation.rs"));
}
