//! Values against a JSON Schema (2020-12): the keywords that the edge's documents use, and no others.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

/// The first thing in `value` that its schema, part of `document`, refuses.
pub fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let members = schema.as_object().unwrap_or_else(|| panic!("{schema} is no schema"));
    for (keyword, operand) in members {
        if !holds(document, schema, keyword, operand, value)? {
            return Err(format!("{value}: {keyword} {operand}"));
        }
    }
    Ok(())
}

/// Whether a value meets one keyword; an error when a part of the value does not.
fn holds(
    document: &Value,
    schema: &Value,
    keyword: &str,
    operand: &Value,
    value: &Value,
) -> Result<bool, String> {
    let passes = |schema: &Value| check(document, schema, value).is_ok();
    let list = || operand.as_array().unwrap();
    let bound = || operand.as_f64().unwrap();
    let number = || value.as_f64().unwrap_or(f64::NAN);
    let length = |value: &Value| match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    } as f64;
    Ok(match (keyword, value) {
        ("$ref", _) => {
            let target = document.pointer(&operand.as_str().unwrap()[1..]);
            check(document, target.unwrap_or_else(|| panic!("{operand} leads nowhere")), value)?;
            true
        }
        ("type", _) => match operand {
            Value::Array(types) => types.iter().any(|kind| is(kind, value)),
            kind => is(kind, value),
        },
        ("const", _) => operand == value,
        ("enum", _) => list().contains(value),
        ("not", _) => !passes(operand),
        ("allOf", _) => {
            list().iter().try_for_each(|schema| check(document, schema, value))?;
            true
        }
        ("anyOf", _) => list().iter().any(passes),
        ("oneOf", _) => list().iter().filter(|schema| passes(schema)).count() == 1,
        ("pattern", Value::String(text)) => Regex::new(operand.as_str().unwrap()).unwrap().is_match(text),
        ("minLength", Value::String(_))
        | ("minItems", Value::Array(_))
        | ("minProperties", Value::Object(_)) => length(value) >= bound(),
        ("maxLength", Value::String(_))
        | ("maxItems", Value::Array(_))
        | ("maxProperties", Value::Object(_)) => length(value) <= bound(),
        ("minimum", Value::Number(_)) => number() >= bound(),
        ("maximum", Value::Number(_)) => number() <= bound(),
        ("exclusiveMinimum", Value::Number(_)) => number() > bound(),
        ("exclusiveMaximum", Value::Number(_)) => number() < bound(),
        ("uniqueItems", Value::Array(items)) => {
            items.iter().map(Value::to_string).collect::<BTreeSet<_>>().len() == items.len()
        }
        ("items", Value::Array(items)) => {
            items.iter().try_for_each(|item| check(document, operand, item))?;
            true
        }
        ("required", Value::Object(members)) => {
            list().iter().all(|name| members.contains_key(name.as_str().unwrap()))
        }
        ("properties", Value::Object(members)) => {
            for (name, member) in members {
                if let Some(schema) = operand.get(name) {
                    check(document, schema, member)?;
                }
            }
            true
        }
        ("propertyNames", Value::Object(members)) => {
            members.keys().try_for_each(|name| check(document, operand, &name.as_str().into()))?;
            true
        }
        ("additionalProperties", Value::Object(members)) => {
            let known = |name: &str| schema["properties"].get(name).is_some();
            let mut others = members.iter().filter(|(name, _)| !known(name));
            match operand {
                Value::Bool(allowed) => *allowed || others.next().is_none(),
                schema => {
                    others.try_for_each(|(_, member)| check(document, schema, member))?;
                    true
                }
            }
        }
        (
            "pattern"
            | "minLength"
            | "maxLength"
            | "minItems"
            | "maxItems"
            | "minProperties"
            | "maxProperties"
            | "minimum"
            | "maximum"
            | "exclusiveMinimum"
            | "exclusiveMaximum"
            | "uniqueItems"
            | "items"
            | "required"
            | "properties"
            | "propertyNames"
            | "additionalProperties"
            | "description"
            | "format"
            | "contentEncoding"
            | "readOnly"
            | "writeOnly"
            | "deprecated",
            _,
        ) => true,
        (keyword, _) => panic!("{keyword} is not known here"),
    })
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        kind => panic!("{kind} is no type"),
    }
}
