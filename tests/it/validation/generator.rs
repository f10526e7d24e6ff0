//! The generator: what it writes, and what it refuses to write.

#[path = "../../../build/validation.rs"]
mod validation;

use euhub::proto;
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use validation::generate;

use super::{POOL, extension, set};

#[test]
fn generated_code_depends_on_nothing_but_the_rules() {
    let built = include_str!(concat!(env!("OUT_DIR"), "/validation.rs"));
    assert_eq!(generate(proto::DESCRIPTOR_SET).unwrap(), built);
    let mut set = descriptor_set();
    list_mut(&mut set, "file").reverse();
    assert_eq!(generate(&set.encode_to_vec()).unwrap(), built);
}

/// The descriptor set as a message that can be changed, with its extensions kept.
fn descriptor_set() -> DynamicMessage {
    let set =
        POOL.get_message_by_name("google.protobuf.FileDescriptorSet").expect("imported by the annotations");
    DynamicMessage::decode(set, proto::DESCRIPTOR_SET).expect("a descriptor set")
}

fn list_mut<'a>(message: &'a mut DynamicMessage, name: &str) -> &'a mut Vec<Value> {
    message.get_field_by_name_mut(name).and_then(Value::as_list_mut).expect("a list")
}

/// What the generator says when one field of `ListArticlesRequest` is changed.
fn generate_with(field: &str, change: impl FnOnce(&mut DynamicMessage)) -> String {
    let named = |value: &&mut Value, name: &str| {
        set(value.as_message().expect("a descriptor"), "name") == Some(Value::String(name.into()))
    };
    let mut descriptors = descriptor_set();
    let found = list_mut(&mut descriptors, "file")
        .iter_mut()
        .find(|file| named(file, "euhub/v1/article.proto"))
        .and_then(Value::as_message_mut)
        .and_then(|file| {
            list_mut(file, "message_type").iter_mut().find(|message| named(message, "ListArticlesRequest"))
        })
        .and_then(Value::as_message_mut)
        .and_then(|message| list_mut(message, "field").iter_mut().find(|found| named(found, field)))
        .and_then(Value::as_message_mut);
    change(found.expect("a field of ListArticlesRequest"));
    generate(&descriptors.encode_to_vec()).expect_err("the rule cannot be enforced").to_string()
}

/// The same, with one rule of the field's type changed.
fn generate_with_rule(field: &str, case: &str, rule: &str, value: Value) -> String {
    generate_with(field, |field| {
        let options =
            field.get_field_by_name_mut("options").and_then(Value::as_message_mut).expect("options");
        let rules = options.get_extension_mut(&extension("buf.validate.field"));
        let rules =
            rules.as_message_mut().expect("rules").get_field_by_name_mut(case).expect("a type's rules");
        rules.as_message_mut().expect("rules").set_field_by_name(rule, value);
    })
}

#[test]
fn rules_that_cannot_be_enforced_fail_the_build() {
    const TYPE_INT64: i32 = 3;
    const LABEL_REPEATED: i32 = 3;
    const OUTPUT_ONLY: i32 = 3;
    let cases = [
        (
            "page_size: `int32` rules on int64",
            generate_with("page_size", |field| {
                field.set_field_by_name("type", Value::EnumNumber(TYPE_INT64))
            }),
        ),
        (
            "keyword: `string` rules on a repeated field",
            generate_with("keyword", |field| {
                field.set_field_by_name("label", Value::EnumNumber(LABEL_REPEATED))
            }),
        ),
        (
            "min_sentiment: rules in a map or a oneof",
            generate_with("min_sentiment", |field| field.clear_field_by_name("proto3_optional")),
        ),
        (
            "keyword: rules on an OUTPUT_ONLY field",
            generate_with("keyword", |field| {
                let options = field.get_field_by_name_mut("options").and_then(Value::as_message_mut).unwrap();
                let behavior = Value::List(vec![Value::EnumNumber(OUTPUT_ONLY)]);
                options.set_extension(&extension("google.api.field_behavior"), behavior);
            }),
        ),
        (
            "keyword: regex parse error",
            generate_with_rule("keyword", "string", "pattern", Value::String("(".into())),
        ),
        (
            "keyword: no value can satisfy both `min_len` and `max_len`",
            generate_with_rule("keyword", "string", "min_len", Value::U64(101)),
        ),
        (
            "page_size: no value can satisfy both `gte` and `lte`",
            generate_with_rule("page_size", "int32", "lte", Value::I32(-1)),
        ),
        (
            "min_sentiment: `double.lte` of NaN is not supported",
            generate_with_rule("min_sentiment", "double", "lte", Value::F64(f64::NAN)),
        ),
        (
            "keyword: `required` on string",
            generate_with("keyword", |field| {
                let options = field.get_field_by_name_mut("options").and_then(Value::as_message_mut).unwrap();
                let rules = options.get_extension_mut(&extension("buf.validate.field"));
                rules.as_message_mut().unwrap().set_field_by_name("required", Value::Bool(true));
            }),
        ),
    ];
    for (expected, error) in cases {
        assert!(
            error.starts_with(&format!("euhub.v1.ListArticlesRequest.{expected}")),
            "{expected}: {error}"
        );
    }
}
