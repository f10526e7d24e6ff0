//! `buf.validate` rules as keywords of JSON Schema (2020-12), as far as those can say them.
//!
//! They are read by reflection, so that no generated type is needed and a descriptor set may hold any part of the
//! published `buf/validate/validate.proto`. Rules without a counterpart (CEL, the present time, the bounds of 64-bit
//! integers, which are strings in JSON) are left out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost_reflect::{DynamicMessage, EnumDescriptor, ReflectMessage, Value as Proto};
use serde_json::{Map, Value, json};

use super::pattern;

/// `extend google.protobuf.FieldOptions { FieldRules field = 1159; }`, and the same for the options of oneofs.
const RULES: u32 = 1159;

/// `buf.validate.Ignore.IGNORE_ALWAYS`.
const IGNORE_ALWAYS: i32 = 3;

/// The rules that the options of a field or a oneof hold.
pub(super) fn of(options: &DynamicMessage) -> Option<DynamicMessage> {
    let extension = options.descriptor().get_extension(RULES)?;
    let rules = options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())?;
    rules.as_message().filter(|rules| number_of(rules, "ignore") != Some(IGNORE_ALWAYS)).cloned()
}

/// The rules of one type among those of a field, or those of the items, keys or values among them.
pub(super) fn part(rules: Option<&DynamicMessage>, name: &str) -> Option<DynamicMessage> {
    let rules = rules.filter(|rules| rules.has_field_by_name(name))?;
    rules.get_field_by_name(name)?.as_message().cloned()
}

/// Whether a rule is there and true.
pub(super) fn flag(rules: &DynamicMessage, name: &str) -> bool {
    rules.get_field_by_name(name).is_some_and(|value| value.as_bool() == Some(true))
}

/// Whether the rules let a zero value pass unchecked.
pub(super) fn spares_zero(rules: &DynamicMessage) -> bool {
    number_of(rules, "ignore").is_some_and(|ignore| ignore != 0)
}

fn number_of(rules: &DynamicMessage, name: &str) -> Option<i32> {
    rules.get_field_by_name(name)?.as_enum_number()
}

/// Whether the rules refuse a zero value, so that a field without presence must be given.
pub(super) fn refuse_zero(rules: &DynamicMessage) -> bool {
    let broken = |of: &DynamicMessage| {
        let over = |rule: &str, broken: fn(f64) -> bool| bound(of, rule).is_some_and(broken);
        let low = over("gt", |bound| bound >= 0.0) || over("gte", |bound| bound > 0.0);
        let high = over("lt", |bound| bound <= 0.0) || over("lte", |bound| bound < 0.0);
        let outside = if crossed(of) { low && high } else { low || high };
        outside
            || of.fields().any(|(rule, value)| match rule.name() {
                "const" => !is_zero(value),
                "in" => value.as_list().is_some_and(|list| !list.iter().any(is_zero)),
                "not_in" => value.as_list().is_some_and(|list| list.iter().any(is_zero)),
                "len" | "min_len" | "len_bytes" | "min_bytes" | "min_items" | "min_pairs" => !is_zero(value),
                "prefix" | "suffix" | "contains" => !is_zero(value),
                name => format(name).is_some_and(|format| format != "uri-reference") && !is_zero(value),
            })
    };
    flag(rules, "required")
        || !spares_zero(rules) && rules.fields().any(|(_, value)| value.as_message().is_some_and(broken))
}

/// Adds the keywords for the rules of a value (not those of a list, a map or an enum) to its schema.
pub(super) fn apply(rules: &DynamicMessage, schema: &mut Map<String, Value>) {
    for (case, value) in rules.fields() {
        let Some(of) = value.as_message() else { continue };
        match case.name() {
            "string" => text(of, schema),
            "bytes" => bytes(of, schema),
            "bool" | "int64" | "uint64" | "sint64" | "fixed64" | "sfixed64" => listed(of, schema),
            "float" | "double" if of.fields().next().is_some() => {
                // Rules are about numbers: NaN and the infinities, which are strings, are left out.
                schema.remove("pattern");
                schema.insert("type".into(), "number".into());
                listed(of, schema);
                bounds(of, schema);
            }
            "int32" | "uint32" | "sint32" | "fixed32" | "sfixed32" => {
                listed(of, schema);
                bounds(of, schema);
            }
            _ => {}
        }
    }
}

/// Adds the number of items or pairs that a list or map may have, by the keywords for the least and the most.
pub(super) fn count(of: &DynamicMessage, [least, most]: [&str; 2], schema: &mut Map<String, Value>) {
    for (rule, value) in of.fields() {
        match rule.name() {
            "min_items" | "min_pairs" => at_least(schema, least, value.as_u64().unwrap_or_default()),
            "max_items" | "max_pairs" => at_most(schema, most, value.as_u64().unwrap_or_default()),
            "unique" if value.as_bool() == Some(true) => {
                drop(schema.insert("uniqueItems".into(), true.into()))
            }
            _ => {}
        }
    }
}

/// The values of an enum that the rules name; `None` when they name none.
pub(super) fn named(rules: &DynamicMessage, of: &EnumDescriptor) -> Option<Vec<Value>> {
    let rules = part(Some(rules), "enum")?;
    let numbers = |rule: &str| -> Option<Vec<i32>> {
        let value = rules.get_field_by_name(rule).filter(|_| rules.has_field_by_name(rule))?;
        Some(match &*value {
            Proto::List(list) => list.iter().filter_map(Proto::as_i32).collect(),
            value => value.as_i32().into_iter().collect(),
        })
    };
    let show = |number: i32| of.get_value(number).map_or(json!(number), |value| json!(value.name()));
    if let Some(listed) = numbers("const").or_else(|| numbers("in")) {
        return Some(listed.into_iter().map(show).collect());
    }
    let refused = numbers("not_in")?;
    let left = of.values().filter(|value| !refused.contains(&value.number()));
    Some(left.map(|value| json!(value.name())).collect())
}

/// Raises a lower bound.
pub(super) fn at_least(schema: &mut Map<String, Value>, keyword: &str, bound: u64) {
    let bound = schema.get(keyword).and_then(Value::as_u64).map_or(bound, |other| other.max(bound));
    schema.insert(keyword.to_owned(), bound.into());
}

/// Lowers an upper bound.
fn at_most(schema: &mut Map<String, Value>, keyword: &str, bound: u64) {
    let bound = schema.get(keyword).and_then(Value::as_u64).map_or(bound, |other| other.min(bound));
    schema.insert(keyword.to_owned(), bound.into());
}

fn text(of: &DynamicMessage, schema: &mut Map<String, Value>) {
    listed(of, schema);
    let mut all = Vec::new();
    for (rule, value) in of.fields() {
        match (rule.name(), value) {
            ("len", Proto::U64(length)) => {
                at_least(schema, "minLength", *length);
                at_most(schema, "maxLength", *length);
            }
            ("min_len", Proto::U64(length)) => at_least(schema, "minLength", *length),
            ("max_len", Proto::U64(length)) => at_most(schema, "maxLength", *length),
            // A character takes one byte to four.
            ("min_bytes", Proto::U64(length)) => at_least(schema, "minLength", length.div_ceil(4)),
            ("max_bytes", Proto::U64(length)) => at_most(schema, "maxLength", *length),
            ("pattern", Proto::String(re2)) => match pattern::ecma(re2) {
                Some(ecma) => all.push(json!({"pattern": ecma})),
                None => drop(schema.insert("description".into(), format!("Matches `{re2}` (RE2).").into())),
            },
            ("prefix", Proto::String(text)) => {
                all.push(json!({"pattern": format!("^{}", pattern::literal(text))}));
            }
            ("suffix", Proto::String(text)) => {
                all.push(json!({"pattern": format!("{}$", pattern::literal(text))}));
            }
            ("contains", Proto::String(text)) => all.push(json!({"pattern": pattern::literal(text)})),
            ("not_contains", Proto::String(text)) => {
                all.push(json!({"not": {"pattern": pattern::literal(text)}}));
            }
            (name, Proto::Bool(true)) => {
                if let Some(format) = format(name) {
                    schema.insert("format".into(), format.into());
                }
            }
            _ => {}
        }
    }
    match <[Value; 1]>::try_from(all) {
        Ok([Value::Object(only)]) => schema.extend(only),
        Ok(_) => {}
        Err(all) if all.is_empty() => {}
        Err(all) => drop(schema.insert("allOf".into(), all.into())),
    }
}

/// The JSON Schema format of a well-known form of strings.
fn format(rule: &str) -> Option<&'static str> {
    Some(match rule {
        "email" => "email",
        "hostname" => "hostname",
        "ipv4" => "ipv4",
        "ipv6" => "ipv6",
        "uri" => "uri",
        "uri_ref" => "uri-reference",
        "uuid" => "uuid",
        _ => return None,
    })
}

/// Lengths of the base64 of so many bytes, which may come without its padding.
fn bytes(of: &DynamicMessage, schema: &mut Map<String, Value>) {
    for (rule, value) in of.fields() {
        let Some(length) = value.as_u64() else { continue };
        if matches!(rule.name(), "len" | "min_len") {
            at_least(schema, "minLength", length.saturating_mul(4).div_ceil(3));
        }
        if matches!(rule.name(), "len" | "max_len") {
            at_most(schema, "maxLength", length.div_ceil(3).saturating_mul(4));
        }
    }
}

/// Values that are listed one by one.
fn listed(of: &DynamicMessage, schema: &mut Map<String, Value>) {
    for (rule, value) in of.fields() {
        match rule.name() {
            "const" => drop(schema.insert("const".into(), show(value))),
            "in" => drop(schema.insert("enum".into(), show(value))),
            "not_in" => drop(schema.insert("not".into(), json!({"enum": show(value)}))),
            _ => {}
        }
    }
}

fn bounds(of: &DynamicMessage, schema: &mut Map<String, Value>) {
    let (mut low, mut high) = (Map::new(), Map::new());
    for (rule, value) in of.fields() {
        match rule.name() {
            "gt" => drop(low.insert("exclusiveMinimum".into(), show(value))),
            "gte" => drop(low.insert("minimum".into(), show(value))),
            "lt" => drop(high.insert("exclusiveMaximum".into(), show(value))),
            "lte" => drop(high.insert("maximum".into(), show(value))),
            _ => {}
        }
    }
    if crossed(of) {
        schema.insert("anyOf".into(), json!([low, high]));
        return;
    }
    // Narrower than what the type has room for.
    for (of_type, rule) in [("minimum", &low), ("maximum", &high)] {
        if !rule.is_empty() {
            schema.remove(of_type);
        }
    }
    schema.extend(low);
    schema.extend(high);
}

/// Whether the lower bound is over the upper one, which means the numbers outside of both.
fn crossed(of: &DynamicMessage) -> bool {
    let low = bound(of, "gt").or_else(|| bound(of, "gte"));
    let high = bound(of, "lt").or_else(|| bound(of, "lte"));
    low.zip(high).is_some_and(|(low, high)| low > high)
}

fn bound(of: &DynamicMessage, rule: &str) -> Option<f64> {
    number(&*of.get_field_by_name(rule).filter(|_| of.has_field_by_name(rule))?)
}

fn number(value: &Proto) -> Option<f64> {
    Some(match value {
        Proto::I32(number) => f64::from(*number),
        Proto::U32(number) => f64::from(*number),
        Proto::I64(number) => *number as f64,
        Proto::U64(number) => *number as f64,
        Proto::F32(number) => f64::from(*number),
        Proto::F64(number) => *number,
        _ => return None,
    })
}

fn is_zero(value: &Proto) -> bool {
    match value {
        Proto::Bool(flag) => !flag,
        Proto::String(text) => text.is_empty(),
        Proto::Bytes(bytes) => bytes.is_empty(),
        value => number(value) == Some(0.0),
    }
}

/// A value as ProtoJSON.
fn show(value: &Proto) -> Value {
    match value {
        Proto::Bool(flag) => json!(flag),
        Proto::I32(number) => json!(number),
        Proto::U32(number) => json!(number),
        Proto::I64(number) => json!(number.to_string()),
        Proto::U64(number) => json!(number.to_string()),
        // By its shortest form: 0.1 and not 0.10000000149011612.
        Proto::F32(number) => number.to_string().parse::<f64>().map_or(Value::Null, Value::from),
        Proto::F64(number) => json!(number),
        Proto::String(text) => json!(text),
        Proto::Bytes(bytes) => json!(STANDARD.encode(bytes)),
        Proto::List(list) => list.iter().map(show).collect(),
        _ => Value::Null,
    }
}
