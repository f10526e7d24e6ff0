//! Options of the proto files that the document shows.

use prost_reflect::{DynamicMessage, ReflectMessage, Value};

/// `extend google.protobuf.FieldOptions { repeated FieldBehavior field_behavior = 1052; }`
const FIELD_BEHAVIOR: u32 = 1052;

/// `google.api.FieldBehavior.REQUIRED`.
pub(super) const REQUIRED: i32 = 2;
/// `google.api.FieldBehavior.OUTPUT_ONLY`.
pub(super) const OUTPUT_ONLY: i32 = 3;
/// `google.api.FieldBehavior.INPUT_ONLY`.
pub(super) const INPUT_ONLY: i32 = 4;

/// Whether the options of a field hold a `google.api.field_behavior`.
pub(super) fn behaves(options: &DynamicMessage, behavior: i32) -> bool {
    let Some(extension) = options.descriptor().get_extension(FIELD_BEHAVIOR) else { return false };
    match &*options.get_extension(&extension) {
        Value::List(behaviors) => behaviors.iter().any(|value| value.as_enum_number() == Some(behavior)),
        _ => false,
    }
}

/// Whether the options say `deprecated`.
pub(super) fn deprecated(options: &DynamicMessage) -> bool {
    options.get_field_by_name("deprecated").is_some_and(|value| value.as_bool() == Some(true))
}
