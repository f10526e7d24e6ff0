//! What holds for every file of package `euhub.v1`: bindings, comments, bounds and names.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, Value,
};

const PACKAGE: &str = "euhub.v1";

fn pool() -> DescriptorPool {
    DescriptorPool::decode(euhub::proto::DESCRIPTOR_SET).expect("a descriptor set")
}

fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    let services = pool.services().filter(|service| service.package_name() == PACKAGE);
    services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

fn messages(pool: &DescriptorPool) -> impl Iterator<Item = MessageDescriptor> + '_ {
    pool.all_messages().filter(|message| message.package_name() == PACKAGE && !message.is_map_entry())
}

fn enums(pool: &DescriptorPool) -> impl Iterator<Item = EnumDescriptor> + '_ {
    pool.all_enums().filter(|found| found.package_name() == PACKAGE)
}

/// An option of package `google.api` or `buf.validate`, when it is set.
fn option(pool: &DescriptorPool, options: &DynamicMessage, name: &str) -> Option<Value> {
    let extension = pool.get_extension_by_name(name).expect("an extension of the descriptor set");
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

fn set(message: &DynamicMessage, name: &str) -> Option<Value> {
    message
        .has_field_by_name(name)
        .then(|| message.get_field_by_name(name).expect("a known field").into_owned())
}

/// The paths of an `HttpRule` and of its additional bindings.
fn http_paths(rule: &DynamicMessage) -> Vec<String> {
    let verbs = ["get", "put", "post", "delete", "patch"];
    let own = verbs.iter().filter_map(|verb| set(rule, verb)?.as_str().map(str::to_owned));
    let more = set(rule, "additional_bindings");
    let more = more.iter().filter_map(Value::as_list).flatten().filter_map(Value::as_message);
    own.chain(more.flat_map(http_paths)).collect()
}

#[test]
fn every_rpc_has_an_http_binding_under_the_api_version() {
    let pool = pool();
    let mut gaps = Vec::new();
    for method in methods(&pool) {
        let rule = option(&pool, &method.options(), "google.api.http");
        let paths = rule.as_ref().and_then(Value::as_message).map(http_paths).unwrap_or_default();
        let health = "/api/health/detailed";
        if paths.is_empty() || !paths.iter().all(|path| path.starts_with("/api/v1/") || path == health) {
            gaps.push(format!("{} is bound to {paths:?}", method.full_name()));
        }
    }
    assert_eq!(gaps, Vec::<String>::new());
}

#[test]
fn everything_has_a_comment_that_ends_as_a_sentence() {
    let pool = pool();
    let mut gaps = Vec::new();
    for file in pool.files().filter(|file| file.package_name() == PACKAGE) {
        let descriptor = file.file_descriptor_proto();
        let source = descriptor.source_code_info.as_ref().expect("the build keeps source info");
        let comments: BTreeMap<&[i32], &str> = source
            .location
            .iter()
            .filter_map(|location| Some((&*location.path, location.leading_comments.as_deref()?.trim())))
            .collect();
        let mut expect = |path: &[i32], name: &str| {
            let comment = comments.get(path).copied().unwrap_or_default();
            if !comment.ends_with('.') || comment.len() < 4 {
                gaps.push(format!("{}: {name}: {comment:?}", file.name()));
            }
        };
        for service in file.services() {
            expect(service.path(), service.full_name());
            service.methods().for_each(|method| expect(method.path(), method.full_name()));
        }
        for message in messages(&pool).filter(|message| message.parent_file() == file) {
            expect(message.path(), message.full_name());
            message.fields().for_each(|field| expect(field.path(), field.full_name()));
        }
        for found in enums(&pool).filter(|found| found.parent_file() == file) {
            expect(found.path(), found.full_name());
            found.values().for_each(|value| expect(value.path(), value.full_name()));
        }
    }
    assert_eq!(gaps, Vec::<String>::new());
}

/// `OUTPUT_ONLY` fields are ignored in requests, so they need no bounds.
fn is_output_only(pool: &DescriptorPool, field: &FieldDescriptor) -> bool {
    const OUTPUT_ONLY: i32 = 3;
    let behavior = option(pool, &field.options(), "google.api.field_behavior");
    behavior
        .as_ref()
        .and_then(Value::as_list)
        .is_some_and(|list| list.contains(&Value::EnumNumber(OUTPUT_ONLY)))
}

/// The fields of every message that a client can send, as far as they count.
fn request_fields(pool: &DescriptorPool) -> Vec<FieldDescriptor> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<_> = methods(pool).into_iter().map(|method| method.input()).collect();
    let mut fields = Vec::new();
    while let Some(message) = open.pop() {
        if message.package_name() != PACKAGE || !seen.insert(message.full_name().to_owned()) {
            continue;
        }
        for field in message.fields().filter(|field| !is_output_only(pool, field)) {
            open.extend(field.kind().as_message().cloned());
            fields.push(field);
        }
    }
    fields
}

/// The rules of a field for its type (`string`, `repeated`, ...).
fn rules(pool: &DescriptorPool, field: &FieldDescriptor, case: &str) -> Option<DynamicMessage> {
    let rules = option(pool, &field.options(), "buf.validate.field")?;
    set(rules.as_message()?, case)?.as_message().cloned()
}

/// A text that follows the rules has a greatest length.
fn is_bounded(rules: &DynamicMessage) -> bool {
    let pattern = set(rules, "pattern");
    let finite = pattern.as_ref().and_then(Value::as_str).is_some_and(|pattern| {
        pattern.starts_with('^')
            && pattern.ends_with('$')
            && !pattern.contains(['*', '+', '|'])
            && !pattern.contains(",}")
    });
    finite || set(rules, "max_len").is_some() || set(rules, "in").is_some()
}

#[test]
fn every_text_and_list_of_a_request_is_bounded() {
    let pool = pool();
    let mut gaps = Vec::new();
    for field in request_fields(&pool) {
        let list =
            field.is_list().then(|| rules(&pool, &field, "repeated").unwrap_or_else(|| no_rules(&pool)));
        if list.as_ref().is_some_and(|list| set(list, "max_items").is_none()) {
            gaps.push(format!("{} has no max_items", field.full_name()));
        }
        let text = match &list {
            Some(list) => {
                set(list, "items").and_then(|items| set(items.as_message()?, "string")?.as_message().cloned())
            }
            None => rules(&pool, &field, "string"),
        };
        if field.kind() == Kind::String && !text.as_ref().is_some_and(is_bounded) {
            gaps.push(format!("{} has no greatest length", field.full_name()));
        }
    }
    assert_eq!(gaps, Vec::<String>::new());
}

fn no_rules(pool: &DescriptorPool) -> DynamicMessage {
    DynamicMessage::new(pool.get_message_by_name("buf.validate.RepeatedRules").expect("imported"))
}

#[test]
fn every_pattern_is_anchored() {
    let pool = pool();
    let mut gaps = Vec::new();
    for field in messages(&pool).flat_map(|message| message.fields().collect::<Vec<_>>()) {
        let items = rules(&pool, &field, "repeated").and_then(|list| set(&list, "items"));
        let items = items.and_then(|items| set(items.as_message()?, "string")?.as_message().cloned());
        for text in rules(&pool, &field, "string").into_iter().chain(items) {
            let pattern = set(&text, "pattern");
            let pattern = pattern.as_ref().and_then(Value::as_str);
            if pattern.is_some_and(|pattern| !pattern.starts_with('^') || !pattern.ends_with('$')) {
                gaps.push(format!("{}: {pattern:?}", field.full_name()));
            }
        }
    }
    assert_eq!(gaps, Vec::<String>::new());
}

#[test]
fn pages_have_at_most_a_hundred_items() {
    let pool = pool();
    let mut gaps = Vec::new();
    for method in methods(&pool) {
        let page_size = method.input().get_field_by_name("page_size");
        if page_size.is_none() && method.name().starts_with("List") {
            gaps.push(format!("{} has no page_size", method.full_name()));
        }
        if let Some(field) = page_size {
            let rules = rules(&pool, &field, "int32");
            let bound = |name| rules.as_ref().and_then(|rules| set(rules, name)?.as_i32());
            if bound("gte") != Some(0) || !bound("lte").is_some_and(|most| (1..=100).contains(&most)) {
                gaps.push(format!("{} is not 0 to 100", field.full_name()));
            }
        }
    }
    assert_eq!(gaps, Vec::<String>::new());
}

#[test]
fn every_enum_starts_unspecified() {
    let pool = pool();
    let found =
        enums(&pool).map(|found| (found.default_value().number(), found.default_value().name().to_owned()));
    let gaps: Vec<_> =
        found.filter(|(number, name)| *number != 0 || !name.ends_with("_UNSPECIFIED")).collect();
    assert_eq!(gaps, []);
}
