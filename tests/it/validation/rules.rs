//! Every rule, at its limit and one past it.

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::{POOL, extension, set, violations_of};

/// What a pattern is to take and to refuse.
struct PatternCase {
    pattern: &'static str,
    accepted: &'static [&'static str],
    refused: &'static [&'static str],
    /// An accepted text of any length: the first, then the second until it is long enough.
    fill: (&'static str, &'static str),
}

/// What a text without a pattern may be; two bytes a character, so that bytes are not taken for code points.
const ANY_TEXT: (&str, &str) = ("", "é");

const PATTERNS: [PatternCase; 14] = [
    PatternCase {
        pattern: r"^\P{Cc}*$",
        accepted: &["a", "", "Öl & Gas — 日本 👍"],
        refused: &["\0", "a\nb", "a\n", "\u{7f}", "\u{85}"],
        fill: ANY_TEXT,
    },
    PatternCase {
        pattern: r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$",
        accepted: &["a", "tab\tand\r\nline", "日本"],
        refused: &["\0", "\u{8}", "\u{b}", "\u{c}", "\u{e}", "\u{1f}", "a\u{7f}"],
        fill: ANY_TEXT,
    },
    PatternCase {
        pattern: r"^([a-z0-9]+(-[a-z0-9]+)*)?$",
        accepted: &["energy", "", "a-1-b"],
        refused: &["-a", "a-", "a--b", "A", "a_b", "é", "a\n"],
        fill: ("", "a"),
    },
    PatternCase {
        pattern: r"^[A-Za-z0-9_-]*$",
        accepted: &["a", "", "0190_a-Z"],
        refused: &["a b", "é", "a\n"],
        fill: ("", "a"),
    },
    PatternCase {
        pattern: r"^[A-Z]{2}$",
        accepted: &["DE"],
        refused: &["", "D", "DEU", "de", "DE\n"],
        fill: ("", "A"),
    },
    PatternCase {
        pattern: r"^[A-Za-z]{2}$",
        accepted: &["DE", "de"],
        refused: &["", "D", "DEU", "D1", "éé", "DE\n"],
        fill: ("", "a"),
    },
    PatternCase {
        pattern: r"^([A-Za-z]{2})?$",
        accepted: &["DE", ""],
        refused: &["D", "DEU", "éé", "\n"],
        fill: ("", "a"),
    },
    PatternCase {
        pattern: r"^[A-Za-z]{2,3}$",
        accepted: &["en", "und"],
        refused: &["", "e", "engl", "e1", "en\n"],
        fill: ("", "a"),
    },
    PatternCase {
        pattern: r"^([A-Za-z]{2,3})?$",
        accepted: &["en", "", "UND"],
        refused: &["e", "engl", "en-GB"],
        fill: ("", "a"),
    },
    PatternCase {
        pattern: r"^([a-z_][a-z0-9_]*)?$",
        accepted: &["restored_2026", "", "_a"],
        refused: &["2026", "A", "a-b", "a b", "a;", "é"],
        fill: ("", "a"),
    },
    PatternCase {
        pattern: r"^([a-z]{2,3})?$",
        accepted: &["en", "", "und"],
        refused: &["e", "engl", "EN"],
        fill: ("", "a"),
    },
    PatternCase {
        pattern: r"^(https?://[^\s\p{Cc}]+)?$",
        accepted: &["https://example.eu/?a=1", "", "http://é.eu"],
        refused: &["https://", "ftp://example.eu", "javascript:alert(1)", "https://a b", " https://a"],
        fill: ("https://", "é"),
    },
    PatternCase {
        pattern: r"^(https?|file)://[^\s\p{Cc}]+$",
        accepted: &["https://example.eu/rss", "http://a", "file:///feeds/a.xml"],
        refused: &["", "https://", "gopher://a", "https://a b", "xhttps://a"],
        fill: ("https://", "é"),
    },
    PatternCase {
        pattern: r#"^([^\s\p{Cc}@<>(),:;"\\]+@([^\s\p{Cc}@<>(),:;"\\._]+\.)+[^\s\p{Cc}@<>(),:;"\\._]{2,})?$"#,
        accepted: &["ana@example.eu", "", "a.b+c@köln.example-1.de", "a@b.xn--p1ai"],
        refused: &[
            "a",
            "a@",
            "@b.eu",
            "a@b",
            "a@b.",
            "a@@b.eu",
            "a b@c.eu",
            "<a@b.eu>",
            "a@b.eu,c@d.eu",
            "a@b.eu\n",
        ],
        fill: ("a@b.c", "é"),
    },
];

fn pattern_case(rules: &DynamicMessage) -> Option<&'static PatternCase> {
    let pattern = set(rules, "pattern")?;
    let pattern = pattern.as_str().expect("a text");
    let case = PATTERNS.iter().find(|case| case.pattern == pattern);
    Some(case.unwrap_or_else(|| panic!("no case for the pattern {pattern}: add one to PATTERNS")))
}

fn rules_of(field: &FieldDescriptor) -> Option<DynamicMessage> {
    let (options, rules) = (field.options(), extension("buf.validate.field"));
    options.has_extension(&rules).then(|| options.get_extension(&rules).as_message().expect("rules").clone())
}

/// The rules of the field's type, or of its items' type.
fn typed(rules: &DynamicMessage) -> Option<DynamicMessage> {
    rules.fields().find_map(|(_, value)| value.as_message().cloned())
}

fn items(rules: &DynamicMessage) -> Option<DynamicMessage> {
    set(rules, "items").and_then(|items| typed(items.as_message().expect("rules")))
}

fn limit(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a limit")).expect("a limit")
}

/// An accepted text of so many characters, as far as its pattern goes.
fn text(rules: &DynamicMessage, length: usize) -> Value {
    let (start, filler) = pattern_case(rules).map_or(ANY_TEXT, |case| case.fill);
    let start: String = start.chars().take(length).collect();
    let missing = length - start.chars().count();
    Value::String(start + &filler.repeat(missing))
}

/// A value that follows all rules; the texts of different numbers differ where there is no pattern.
fn valid_value(kind: &Kind, rules: Option<&DynamicMessage>, number: usize) -> Value {
    match (kind, rules) {
        (Kind::Message(message), _) => Value::Message(valid_message(message)),
        (Kind::String, Some(rules)) => {
            if let Some(allowed) = set(rules, "in") {
                let allowed = allowed.as_list().expect("a list");
                return allowed[number % allowed.len()].clone();
            }
            match pattern_case(rules) {
                Some(case) => {
                    let shortest = set(rules, "min_len").map_or(0, |least| limit(&least));
                    let fits = |text: &&&str| text.chars().count() >= shortest;
                    Value::String((*case.accepted.iter().find(fits).expect("a long enough text")).into())
                }
                None => text(rules, number + 1),
            }
        }
        (Kind::Int32 | Kind::Double, Some(rules)) => set(rules, "gte").unwrap_or(Value::default_value(kind)),
        (kind, _) => Value::default_value(kind),
    }
}

fn valid_list(field: &FieldDescriptor, length: usize) -> Vec<Value> {
    let items = rules_of(field).and_then(|rules| typed(&rules)).and_then(|list| items(&list));
    (0..length).map(|number| valid_value(&field.kind(), items.as_ref(), number)).collect()
}

fn valid_message(descriptor: &MessageDescriptor) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let Some(rules) = rules_of(&field) else { continue };
        let typed = typed(&rules);
        let value = if field.is_list() {
            let shortest = typed.and_then(|list| set(&list, "min_items")).map_or(0, |least| limit(&least));
            Value::List(valid_list(&field, shortest))
        } else {
            valid_value(&field.kind(), typed.as_ref(), 0)
        };
        message.set_field(&field, value);
    }
    message
}

/// Values that a rule accepts, its limit among them, and values that it refuses, one past the limit among them.
type Samples = (Vec<Value>, Vec<Value>);

/// The samples of a rule of a scalar or enum type.
fn scalar_samples(kind: &Kind, rules: &DynamicMessage, rule: &str, value: &Value) -> Samples {
    let texts = |texts: &[&str]| texts.iter().map(|text| Value::String((*text).into())).collect::<Vec<_>>();
    match (rule, value) {
        ("string.min_len", Value::U64(_)) => {
            (vec![text(rules, limit(value))], vec![text(rules, limit(value) - 1)])
        }
        ("string.max_len", Value::U64(_)) => {
            (vec![text(rules, limit(value))], vec![text(rules, limit(value) + 1)])
        }
        ("string.pattern", Value::String(_)) => {
            let case = pattern_case(rules).expect("the rule is a pattern");
            let shortest = set(rules, "min_len").map_or(0, |least| limit(&least));
            let accepted = case.accepted.iter().copied().filter(|text| text.chars().count() >= shortest);
            (texts(&accepted.collect::<Vec<_>>()), texts(case.refused))
        }
        ("string.in", Value::List(allowed)) => {
            let longer = format!("{}x", allowed.last().and_then(Value::as_str).expect("a text"));
            (allowed.clone(), texts(&[&longer, "no such value"]))
        }
        ("int32.gte", Value::I32(bound)) => (vec![Value::I32(*bound)], vec![Value::I32(bound - 1)]),
        ("int32.lte", Value::I32(bound)) => (vec![Value::I32(*bound)], vec![Value::I32(bound + 1)]),
        ("double.gte", Value::F64(bound)) => (
            vec![Value::F64(*bound)],
            [bound.next_down(), f64::NEG_INFINITY, f64::NAN].map(Value::F64).into(),
        ),
        ("double.lte", Value::F64(bound)) => {
            (vec![Value::F64(*bound)], [bound.next_up(), f64::INFINITY, f64::NAN].map(Value::F64).into())
        }
        ("enum.defined_only", Value::Bool(true)) => {
            let defined: Vec<i32> =
                kind.as_enum().expect("an enum").values().map(|value| value.number()).collect();
            let past = defined.iter().max().expect("a value") + 1;
            (
                defined.into_iter().map(Value::EnumNumber).collect(),
                vec![Value::EnumNumber(past), Value::EnumNumber(-1)],
            )
        }
        (rule, value) => panic!("no case for the rule {rule} = {value}: add one"),
    }
}

/// The samples of a rule of a repeated field as a whole.
fn list_samples(field: &FieldDescriptor, list: &DynamicMessage, rule: &str, value: &Value) -> Samples {
    let lists =
        |lengths: [usize; 2]| lengths.map(|length| vec![Value::List(valid_list(field, length))]).into();
    match (rule, value) {
        ("repeated.min_items", Value::U64(_)) => lists([limit(value), limit(value) - 1]),
        ("repeated.max_items", Value::U64(_)) => lists([limit(value), limit(value) + 1]),
        ("repeated.unique", Value::Bool(true)) => {
            let shortest = set(list, "min_items").map_or(2, |least| limit(&least).max(2));
            let mut twice = valid_list(field, shortest);
            twice[shortest - 1] = twice[0].clone();
            (vec![Value::List(valid_list(field, shortest))], vec![Value::List(twice)])
        }
        (rule, value) => panic!("no case for the rule {rule} = {value}: add one"),
    }
}

/// Sets the field of an otherwise valid message to each sample (nothing: leaves it out) and looks at the violations.
fn check_samples(field: &FieldDescriptor, rule: &str, place: &str, samples: [Vec<Option<Value>>; 2]) {
    let [accepted, refused] = samples;
    assert!(!accepted.is_empty() && !refused.is_empty(), "{rule} of {field:?} shows nothing");
    let found = |value: &Option<Value>| {
        let mut message = valid_message(field.parent_message());
        match value {
            Some(value) => message.set_field(field, value.clone()),
            None => message.clear_field(field),
        }
        let name = field.parent_message().full_name();
        violations_of(name, &message.encode_to_vec())
            .unwrap_or_else(|| panic!("{name} has rules: add it to checked_messages!"))
    };
    for value in &accepted {
        assert_eq!(found(value), [], "{} accepts {value:?} by {rule}", field.full_name());
    }
    for value in &refused {
        let found = found(value);
        let context = format!("{} refuses {value:?} by {rule}: {found:?}", field.full_name());
        assert!(found.iter().any(|violation| violation.rule == rule), "{context}");
        assert!(found.iter().all(|violation| violation.field == place), "{context}");
        assert!(found.iter().all(|violation| violation.description.ends_with('.')), "{context}");
    }
}

fn some((accepted, refused): Samples) -> [Vec<Option<Value>>; 2] {
    [accepted, refused].map(|values| values.into_iter().map(Some).collect())
}

/// Puts each sample behind a valid item.
fn as_items(field: &FieldDescriptor, (accepted, refused): Samples) -> Samples {
    // Not behind its own like: items may have to differ.
    let before =
        |sample: &Value| valid_list(field, 2).into_iter().skip(1).filter(|item| item != sample).collect();
    let behind = |sample| {
        let mut items: Vec<Value> = before(&sample);
        items.push(sample);
        Value::List(items)
    };
    (accepted.into_iter().map(behind).collect(), refused.into_iter().map(behind).collect())
}

/// Checks all rules of a field and answers how many there are.
fn check_rules(field: &FieldDescriptor, rules: &DynamicMessage) -> usize {
    let (kind, name) = (field.kind(), field.name());
    let mut checked = 0;
    for (case, value) in rules.fields() {
        let Some(of_type) = value.as_message() else {
            assert_eq!(
                (case.name(), value),
                ("required", &Value::Bool(true)),
                "no case for this rule: add one"
            );
            let set = valid_value(&kind, None, 0);
            check_samples(field, "required", name, [vec![Some(set)], vec![None]]);
            checked += 1;
            continue;
        };
        for (rule, value) in of_type.fields() {
            let id = format!("{}.{}", case.name(), rule.name());
            match value.as_message() {
                Some(items) => {
                    for (case, of_items) in items.fields() {
                        let of_items = of_items.as_message().expect("the rules of a type");
                        for (rule, value) in of_items.fields() {
                            let id = format!("{}.{}", case.name(), rule.name());
                            let samples = scalar_samples(&kind, of_items, &id, value);
                            check_samples(field, &id, &format!("{name}[1]"), some(as_items(field, samples)));
                            checked += 1;
                        }
                    }
                }
                None => {
                    let samples = match field.is_list() {
                        true => list_samples(field, of_type, &id, value),
                        false => scalar_samples(&kind, of_type, &id, value),
                    };
                    check_samples(field, &id, name, some(samples));
                    checked += 1;
                }
            }
        }
    }
    checked
}

#[test]
fn every_rule_accepts_its_limit_and_refuses_one_past_it() {
    let mut checked = 0;
    for message in POOL.all_messages().filter(|message| message.package_name() == "euhub.v1") {
        for field in message.fields() {
            if let Some(rules) = rules_of(&field) {
                let found = check_rules(&field, &rules);
                assert!(found > 0, "{} has empty rules", field.full_name());
                checked += found;
            }
        }
    }
    assert!(checked > 100, "only {checked} rules were found");
}

#[test]
fn every_request_can_be_checked() {
    for method in POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let (name, valid) = (method.input().full_name().to_owned(), valid_message(&method.input()));
        let found = violations_of(&name, &valid.encode_to_vec());
        assert_eq!(found, Some(vec![]), "{name} is listed in checked_messages! and can be valid");
    }
}
