//! Writes the code that enforces the `buf.validate` rules of `proto/`: implementations of `crate::validation::Validate`.
//!
//! Everything that cannot be enforced is an error here, so that a rule is never written and then skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write;

use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind,
    MessageDescriptor, Value,
};
use regex::Regex;

const PACKAGE: &str = "euhub.v1";

/// The names that prost writes as raw identifiers.
#[rustfmt::skip]
const KEYWORDS: [&str; 47] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else", "enum", "false",
    "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv",
    "pub", "ref", "return", "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The source text for a serialised `FileDescriptorSet` with imports; the order of its files makes no difference.
pub fn generate(descriptors: &[u8]) -> Result<String> {
    let pool = DescriptorPool::decode(descriptors)?;
    let messages: BTreeMap<String, MessageDescriptor> = pool
        .all_messages()
        .filter(|message| message.package_name() == PACKAGE && !message.is_map_entry())
        .map(|message| (message.full_name().to_owned(), message))
        .collect();
    let requests: BTreeSet<String> = pool
        .services()
        .flat_map(|service| {
            service.methods().map(|method| method.input().full_name().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let mut generator = Generator::new(&pool, &messages)?;
    let mut code = String::new();
    for (name, message) in &messages {
        if generator.validated.contains(name) || requests.contains(name) {
            generator.message(message, &mut code)?;
        }
    }
    for (index, pattern) in generator.patterns.iter().enumerate() {
        writeln!(
            code,
            "static PATTERN_{index}: std::sync::LazyLock<Regex> =\n    \
             std::sync::LazyLock::new(|| Regex::new({pattern:?}).expect(\"compiled at build time\"));"
        )?;
    }
    Ok(code)
}

struct Generator {
    rules: ExtensionDescriptor,
    behavior: ExtensionDescriptor,
    /// The messages with rules, in themselves or below, by full name.
    validated: BTreeSet<String>,
    /// Every pattern once; the index is in its static's name.
    patterns: Vec<String>,
}

impl Generator {
    fn new(pool: &DescriptorPool, messages: &BTreeMap<String, MessageDescriptor>) -> Result<Self> {
        let extension =
            |name| pool.get_extension_by_name(name).ok_or(format!("{name} is not in the descriptor set"));
        let mut generator = Self {
            rules: extension("buf.validate.field")?,
            behavior: extension("google.api.field_behavior")?,
            validated: BTreeSet::new(),
            patterns: Vec::new(),
        };
        loop {
            let found: BTreeSet<String> = messages
                .iter()
                .filter(|(_, message)| message.fields().any(|field| generator.is_checked(&field)))
                .map(|(name, _)| name.clone())
                .collect();
            if found == generator.validated {
                return Ok(generator);
            }
            generator.validated = found;
        }
    }

    fn rules(&self, field: &FieldDescriptor) -> Option<DynamicMessage> {
        let options = field.options();
        options
            .has_extension(&self.rules)
            .then(|| options.get_extension(&self.rules).as_message().cloned())
            .flatten()
    }

    fn is_output_only(&self, field: &FieldDescriptor) -> bool {
        /// `google.api.FieldBehavior.OUTPUT_ONLY`.
        const OUTPUT_ONLY: i32 = 3;
        let options = field.options();
        let behavior = options.get_extension(&self.behavior);
        behavior.as_list().is_some_and(|list| list.contains(&Value::EnumNumber(OUTPUT_ONLY)))
    }

    /// The field holds messages that have rules. Maps hold them in their entries' values.
    fn holds_validated(&self, field: &FieldDescriptor) -> bool {
        let kind = match field.kind() {
            Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
            kind => kind,
        };
        kind.as_message().is_some_and(|message| self.validated.contains(message.full_name()))
    }

    fn is_checked(&self, field: &FieldDescriptor) -> bool {
        self.rules(field).is_some() || (self.holds_validated(field) && !self.is_output_only(field))
    }

    fn message(&mut self, message: &MessageDescriptor, code: &mut String) -> Result<()> {
        let has_mask = message.get_field_by_name("update_mask").is_some_and(|field| {
            field.kind().as_message().is_some_and(|mask| mask.full_name() == "google.protobuf.FieldMask")
        });
        let mut checks = String::new();
        for field in message.fields() {
            if self.is_checked(&field) {
                let check = self
                    .field(&field, has_mask)
                    .map_err(|error| format!("{}: {error}", field.full_name()))?;
                checks += &check;
            }
        }
        if message.parent_message().is_some() {
            return Err(format!("{}: rules in nested messages are not supported", message.full_name()).into());
        }
        let unused = if checks.is_empty() { "_" } else { "" };
        write!(
            code,
            "impl Validate for crate::proto::{} {{\n    \
             fn validate(&self, {unused}at: &Path<'_>, {unused}out: &mut Violations<'_>) {{\n{checks}    }}\n}}\n\n",
            message.name()
        )?;
        Ok(())
    }

    /// A block of statements that checks one field.
    fn field(&mut self, field: &FieldDescriptor, has_mask: bool) -> Result<String> {
        if self.is_output_only(field) {
            return Err("rules on an OUTPUT_ONLY field, which nobody may set".into());
        }
        if field.is_map() || field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()) {
            return Err("rules in a map or a oneof are not supported".into());
        }
        if field.cardinality() == Cardinality::Required {
            return Err("proto2 fields are not supported".into());
        }
        let place = if KEYWORDS.contains(&field.name()) {
            format!("self.r#{}", field.name())
        } else {
            format!("self.{}", field.name())
        };
        let rules = self.rules(field);
        let kind = field.kind();
        let mut code = format!("        let field = at.field({:?});\n", field.name());
        if field.is_list() {
            code += &self.list(field, &place, rules.as_ref())?;
        } else if let Some(message) = kind.as_message() {
            let required = rules.as_ref().map(|rules| only_required(rules)).transpose()?.unwrap_or(false);
            if required {
                writeln!(code, "        required({place}.is_some(), &field, out);")?;
            }
            if self.validated.contains(message.full_name()) {
                let call = match has_mask {
                    true => "validate_masked(value, self.update_mask.as_ref(), &field, out)",
                    false => "value.validate(&field, out)",
                };
                writeln!(code, "        if let Some(value) = &{place} {{ {call}; }}")?;
            }
        } else if let Some(rules) = &rules {
            let checks = self.singular(&kind, rules, "field")?;
            match field.supports_presence() {
                true => writeln!(code, "        if let Some(value) = &{place} {{\n{checks}        }}")?,
                false => writeln!(code, "        {{\n            let value = &{place};\n{checks}        }}")?,
            }
        }
        Ok(code)
    }

    fn list(
        &mut self,
        field: &FieldDescriptor,
        place: &str,
        rules: Option<&DynamicMessage>,
    ) -> Result<String> {
        let kind = field.kind();
        let mut code = String::new();
        let mut items = String::new();
        if kind.as_message().is_some_and(|message| self.validated.contains(message.full_name())) {
            items += "            value.validate(&item, out);\n";
        }
        for (case, value) in rules.iter().flat_map(|rules| rules.fields()) {
            let (true, Some(repeated)) = (case.name() == "repeated", value.as_message()) else {
                return Err(format!("`{}` rules on a repeated field", case.name()).into());
            };
            for (rule, value) in repeated.fields() {
                match (rule.name(), value) {
                    ("min_items", Value::U64(limit)) => {
                        writeln!(code, "        min_items({place}.len(), {limit}, &field, out);")?;
                    }
                    ("max_items", Value::U64(limit)) => {
                        writeln!(code, "        max_items({place}.len(), {limit}, &field, out);")?;
                    }
                    ("unique", Value::Bool(true)) => {
                        if matches!(kind, Kind::Double | Kind::Float | Kind::Message(_)) {
                            return Err(format!("`unique` on {kind:?}").into());
                        }
                        writeln!(code, "        unique(&{place}, &field, out);")?;
                    }
                    ("items", Value::Message(rules)) => items += &self.singular(&kind, rules, "item")?,
                    (rule, value) => {
                        return Err(format!("`repeated.{rule}` of {value} is not supported").into());
                    }
                }
            }
        }
        if !items.is_empty() {
            writeln!(
                code,
                "        for (index, value) in {place}.iter().enumerate() {{\n            \
                 let item = field.item(index);\n{items}        }}"
            )?;
        }
        Ok(code)
    }

    /// Statements that check the reference `value`, a scalar or enum, whose path is in the variable `at`.
    fn singular(&mut self, kind: &Kind, rules: &DynamicMessage, at: &str) -> Result<String> {
        let mut code = String::new();
        for (case, value) in rules.fields() {
            let rules = value.as_message().ok_or(format!("`{}` on {kind:?}", case.name()))?;
            let bounds = match (case.name(), kind) {
                ("string", Kind::String) => ["min_len", "max_len"],
                ("int32", Kind::Int32) | ("double", Kind::Double) => ["gte", "lte"],
                ("enum", Kind::Enum(_)) => ["", ""],
                (case, kind) => return Err(format!("`{case}` rules on {kind:?}").into()),
            };
            for (rule, value) in rules.fields() {
                let call = self.check(kind, case.name(), rule.name(), value)?;
                writeln!(code, "            {call} &{at}, out);")?;
            }
            let [low, high] =
                bounds.map(|bound| rules.get_field_by_name(bound).filter(|_| rules.has_field_by_name(bound)));
            if low.zip(high).is_some_and(|(low, high)| number(&low) > number(&high)) {
                return Err(format!("no value can satisfy both `{}` and `{}`", bounds[0], bounds[1]).into());
            }
        }
        Ok(code)
    }

    /// The call of one rule's check, up to the arguments that all checks share.
    fn check(&mut self, kind: &Kind, case: &str, rule: &str, value: &Value) -> Result<String> {
        Ok(match (rule, value) {
            ("min_len" | "max_len", Value::U64(limit)) => format!("{rule}(value, {limit},"),
            ("pattern", Value::String(pattern)) => {
                format!("pattern(value, &PATTERN_{},", self.pattern(pattern)?)
            }
            ("in", Value::List(allowed)) => {
                let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
                format!("one_of(value, &{allowed:?},")
            }
            ("gte" | "lte", Value::I32(bound)) => format!("{rule}(*value, {bound}, \"{case}.{rule}\","),
            ("gte" | "lte", Value::F64(bound)) if bound.is_finite() => {
                format!("{rule}(*value, {bound:?}, \"{case}.{rule}\",")
            }
            ("defined_only", Value::Bool(true)) => {
                let defined = kind.as_enum().filter(|defined| {
                    defined.package_name() == PACKAGE && defined.parent_message().is_none()
                });
                let defined =
                    defined.ok_or(format!("`defined_only` is supported on top-level enums of {PACKAGE}"))?;
                format!("defined_only::<crate::proto::{}>(*value,", defined.name())
            }
            (rule, value) => return Err(format!("`{case}.{rule}` of {value} is not supported").into()),
        })
    }

    fn pattern(&mut self, pattern: &str) -> Result<usize> {
        Regex::new(pattern)?;
        Ok(self.patterns.iter().position(|known| known == pattern).unwrap_or_else(|| {
            self.patterns.push(pattern.to_owned());
            self.patterns.len() - 1
        }))
    }
}

/// The only rule that fits a message field.
fn only_required(rules: &DynamicMessage) -> Result<bool> {
    let mut required = false;
    for (rule, value) in rules.fields() {
        match (rule.name(), value) {
            ("required", Value::Bool(value)) => required = *value,
            (case, _) => return Err(format!("`{case}` rules on a message").into()),
        }
    }
    Ok(required)
}

fn number(value: &Value) -> f64 {
    match value {
        Value::I32(number) => f64::from(*number),
        Value::U64(number) => *number as f64,
        Value::F64(number) => *number,
        _ => f64::NAN,
    }
}
