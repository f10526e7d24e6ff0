//! Random messages of any type, and the check that the codec agrees with `prost-reflect` on them.
//!
//! For tests alone: a failed check panics, with the smallest message that was found to fail.

use std::collections::HashMap;
use std::fmt;

use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use prost_reflect::prost::Message;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, SerializeOptions, Value,
};

use crate::codec::{from_json, to_json};
use crate::plan::Plan;

/// Deepest nesting of the messages that [`any_message`] makes.
const DEPTH: u32 = 3;

/// Checks the codec against `prost-reflect` on `cases` random messages of one type, the same ones on each run: equal
/// JSON (byte for byte where no map leaves the order open), the same message back, and the same JSON for two
/// encodings written one behind the other.
///
/// # Panics
/// When the plan has no such message, or the two disagree.
pub fn check_message_roundtrip(plan: &Plan, full_name: &str, cases: u32) {
    let descriptor = plan.pool().get_message_by_name(full_name).expect("a message of the plan");
    let strategy = (any_message(&descriptor).prop_map(Case), any_message(&descriptor).prop_map(Case));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&strategy, |(Case(one), Case(other))| {
        roundtrip(plan, &one)?;
        let joined = [one.encode_to_vec(), other.encode_to_vec()].concat();
        let merged = DynamicMessage::decode(descriptor.clone(), &joined[..]).expect("two valid messages");
        // Merging may make what has no JSON form, such as a path of two field masks.
        if let Some(expected) = oracle_json(&merged) {
            prop_assert_json(plan, &merged, &joined, &expected)?;
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{full_name}: {failure}");
    }
}

/// A message that shows as its JSON: the derived `Debug` repeats the descriptors at every level.
struct Case(DynamicMessage);

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&oracle_json(&self.0).unwrap_or_default()))
    }
}

fn roundtrip(plan: &Plan, message: &DynamicMessage) -> Result<(), TestCaseError> {
    let wire = message.encode_to_vec();
    // What encoding cannot tell from the default (-0.0, for one) is gone after it.
    let message = DynamicMessage::decode(message.descriptor(), &wire[..]).expect("its own encoding");
    let expected = oracle_json(&message).expect("generated messages have a JSON form");
    prop_assert_json(plan, &message, &wire, &expected)?;

    let id = plan.message(message.descriptor().full_name()).expect("a message of the plan");
    let mut back = Vec::new();
    if let Err(error) = from_json(plan, id, &expected, &mut back) {
        return Err(TestCaseError::fail(format!("{error}\n{}", String::from_utf8_lossy(&expected))));
    }
    let back = DynamicMessage::decode(message.descriptor(), &back[..])
        .map_err(|error| TestCaseError::fail(format!("{error} in the wire bytes of {message}")))?;
    if order_is_fixed(&message) {
        prop_assert_eq!(
            back.encode_to_vec(),
            message.encode_to_vec(),
            "{}",
            String::from_utf8_lossy(&expected)
        );
    } else {
        let again = oracle_json(&back).ok_or_else(|| TestCaseError::fail("no JSON form on the way back"))?;
        prop_assert_eq!(json_value(&again)?, json_value(&expected)?);
    }
    Ok(())
}

fn prop_assert_json(
    plan: &Plan,
    message: &DynamicMessage,
    wire: &[u8],
    expected: &[u8],
) -> Result<(), TestCaseError> {
    let id = plan.message(message.descriptor().full_name()).expect("a message of the plan");
    let mut json = Vec::new();
    if let Err(error) = to_json(plan, id, wire, &mut json) {
        return Err(TestCaseError::fail(format!("{error}, expected {}", String::from_utf8_lossy(expected))));
    }
    if order_is_fixed(message) {
        prop_assert_eq!(String::from_utf8_lossy(&json), String::from_utf8_lossy(expected));
    } else {
        prop_assert_eq!(json_value(&json)?, json_value(expected)?);
    }
    Ok(())
}

fn json_value(json: &[u8]) -> Result<serde_json::Value, TestCaseError> {
    serde_json::from_slice(json).map_err(|error| TestCaseError::fail(error.to_string()))
}

/// The JSON that `prost-reflect` writes, defaults included; `None` when the message has no JSON form.
pub fn oracle_json(message: &DynamicMessage) -> Option<Vec<u8>> {
    let mut serializer = serde_json::Serializer::new(Vec::new());
    let options = SerializeOptions::new().skip_default_fields(false);
    message.serialize_with_options(&mut serializer, &options).ok()?;
    Some(serializer.into_inner())
}

/// Whether no map in the message has two entries, whose order `prost-reflect` leaves to chance.
fn order_is_fixed(message: &DynamicMessage) -> bool {
    // An Any's content is opaque here.
    message.descriptor().full_name() != "google.protobuf.Any"
        && message.fields().all(|(_, value)| match value {
            Value::Map(entries) => entries.len() < 2 && entries.values().all(value_is_fixed),
            Value::List(values) => values.iter().all(value_is_fixed),
            value => value_is_fixed(value),
        })
}

fn value_is_fixed(value: &Value) -> bool {
    value.as_message().is_none_or(order_is_fixed)
}

/// Messages of any type, valid by the rules of their well-known types, nested a few levels deep.
pub fn any_message(descriptor: &MessageDescriptor) -> BoxedStrategy<DynamicMessage> {
    message(descriptor, DEPTH)
}

fn message(descriptor: &MessageDescriptor, depth: u32) -> BoxedStrategy<DynamicMessage> {
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => timestamp(descriptor),
        "google.protobuf.Duration" => duration(descriptor),
        "google.protobuf.FieldMask" => field_mask(descriptor),
        "google.protobuf.Value" => dynamic_value(descriptor, depth),
        "google.protobuf.Any" => any_of_any_type(descriptor, depth),
        _ => plain_message(descriptor, depth),
    }
}

fn plain_message(descriptor: &MessageDescriptor, depth: u32) -> BoxedStrategy<DynamicMessage> {
    let alone = descriptor.fields().filter(|f| f.containing_oneof().is_none_or(|o| o.is_synthetic()));
    let mut parts: Vec<BoxedStrategy<Option<(FieldDescriptor, Value)>>> = Vec::new();
    parts.extend(alone.filter_map(|field| Some(prop::option::of(field_value(&field, depth)?).boxed())));
    for oneof in descriptor.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let members: Vec<_> = oneof.fields().filter_map(|field| field_value(&field, depth)).collect();
        if !members.is_empty() {
            parts.push(prop::option::of(prop::strategy::Union::new(members)).boxed());
        }
    }
    let descriptor = descriptor.clone();
    parts
        .prop_map(move |fields| {
            let mut message = DynamicMessage::new(descriptor.clone());
            for (field, value) in fields.into_iter().flatten() {
                message.set_field(&field, value);
            }
            message
        })
        .boxed()
}

/// A field with a value; `None` where the nesting ends.
fn field_value(field: &FieldDescriptor, depth: u32) -> Option<BoxedStrategy<(FieldDescriptor, Value)>> {
    let wrapper = field.parent_message().full_name().ends_with("Value")
        && field.parent_message().package_name() == "google.protobuf";
    let values = if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let keys = single(&entry.map_entry_key_field().kind(), depth, true)?
            .prop_filter_map("a map key", |key| Some(map_key(key)));
        let values = single(&entry.map_entry_value_field().kind(), depth.checked_sub(1)?, false)?;
        hash_map(keys, values, 0..4).prop_map(|entries: HashMap<_, _>| Value::Map(entries)).boxed()
    } else if field.is_list() {
        vec(single(&field.kind(), depth, false)?, 0..4).prop_map(Value::List).boxed()
    } else {
        single(&field.kind(), depth, wrapper)?
    };
    let field = field.clone();
    Some(values.prop_map(move |value| (field.clone(), value)).boxed())
}

fn map_key(value: Value) -> MapKey {
    match value {
        Value::Bool(key) => MapKey::Bool(key),
        Value::I32(key) => MapKey::I32(key),
        Value::I64(key) => MapKey::I64(key),
        Value::U32(key) => MapKey::U32(key),
        Value::U64(key) => MapKey::U64(key),
        Value::String(key) => MapKey::String(key),
        other => unreachable!("{other:?} is no map key"),
    }
}

fn single(kind: &Kind, depth: u32, finite: bool) -> Option<BoxedStrategy<Value>> {
    Some(match kind {
        Kind::Double => double(finite).prop_map(Value::F64).boxed(),
        Kind::Float => float(finite).prop_map(Value::F32).boxed(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            prop_oneof![any::<i32>(), Just(0), -9..9, Just(i32::MIN), Just(i32::MAX)]
                .prop_map(Value::I32)
                .boxed()
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            prop_oneof![any::<i64>(), Just(0), -9_i64..9, Just(i64::MIN), Just(i64::MAX)]
                .prop_map(Value::I64)
                .boxed()
        }
        Kind::Uint32 | Kind::Fixed32 => {
            prop_oneof![any::<u32>(), Just(0), 1_u32..9, Just(u32::MAX)].prop_map(Value::U32).boxed()
        }
        Kind::Uint64 | Kind::Fixed64 => {
            prop_oneof![any::<u64>(), Just(0), 1_u64..9, Just(u64::MAX)].prop_map(Value::U64).boxed()
        }
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::String => text().prop_map(Value::String).boxed(),
        Kind::Bytes => vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())).boxed(),
        Kind::Enum(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => {
            Just(Value::EnumNumber(0)).boxed()
        }
        Kind::Enum(descriptor) => {
            let declared: Vec<_> = descriptor.values().map(|value| value.number()).collect();
            prop_oneof![4 => prop::sample::select(declared), 1 => any::<i32>()]
                .prop_map(Value::EnumNumber)
                .boxed()
        }
        Kind::Message(descriptor) => {
            let depth = depth.checked_sub(1)?;
            // Lazily: a type may hold itself many times over.
            Just(descriptor.clone())
                .prop_flat_map(move |descriptor| message(&descriptor, depth))
                .prop_map(Value::Message)
                .boxed()
        }
    })
}

/// All doubles, NaN as the one that JSON gives back.
fn double(finite: bool) -> BoxedStrategy<f64> {
    let any = prop_oneof![prop::num::f64::ANY, Just(0.0), -1e6..1e6, Just(f64::INFINITY), Just(5e-324)];
    any.prop_map(move |v| match v {
        v if finite && !v.is_finite() => 1.5,
        v if v.is_nan() => f64::NAN,
        v => v,
    })
    .boxed()
}

fn float(finite: bool) -> BoxedStrategy<f32> {
    let any =
        prop_oneof![prop::num::f32::ANY, Just(0.0), -1e6_f32..1e6, Just(f32::MAX), Just(f32::MIN_POSITIVE)];
    any.prop_map(move |v| match v {
        v if finite && !v.is_finite() => 1.5,
        v if v.is_nan() => f32::NAN,
        v => v,
    })
    .boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        "[a-z ]{0,12}",
        "[\\x00-\\x7f]{0,24}",
        vec(any::<char>(), 0..12).prop_map(|chars| chars.into_iter().collect::<String>()),
        "[é漢😀\"\\\\/]{0,9}",
    ]
    .boxed()
}

fn seconds_and_nanos(descriptor: &MessageDescriptor, seconds: i64, nanos: i32) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(nanos));
    message
}

fn nanos() -> BoxedStrategy<i32> {
    prop_oneof![
        Just(0),
        (0..1000).prop_map(|v| v * 1_000_000),
        (0..1_000_000).prop_map(|v| v * 1000),
        0..1_000_000_000
    ]
    .boxed()
}

fn timestamp(descriptor: &MessageDescriptor) -> BoxedStrategy<DynamicMessage> {
    let descriptor = descriptor.clone();
    let seconds =
        prop_oneof![-62_135_596_800..=253_402_300_799_i64, 0..2_000_000_000_i64, Just(-62_135_596_800)];
    (seconds, nanos()).prop_map(move |(s, n)| seconds_and_nanos(&descriptor, s, n)).boxed()
}

/// Zero, or neither part zero: then no merger of two durations has parts of different signs, which is invalid.
fn duration(descriptor: &MessageDescriptor) -> BoxedStrategy<DynamicMessage> {
    let descriptor = descriptor.clone();
    let parts = (1..=315_576_000_000_i64, nanos().prop_map(|n| n.max(1)));
    let sign = prop_oneof![Just(-1), Just(0), Just(1)];
    (parts, sign)
        .prop_map(move |((s, n), sign)| seconds_and_nanos(&descriptor, s * sign, n * sign as i32))
        .boxed()
}

fn field_mask(descriptor: &MessageDescriptor) -> BoxedStrategy<DynamicMessage> {
    let descriptor = descriptor.clone();
    vec("[a-z][a-z0-9]{0,5}(_[a-z]{1,4}){0,2}(\\.[a-z]{1,4}(_[a-z]{1,4})?){0,2}", 0..4)
        .prop_map(move |paths| {
            let mut message = DynamicMessage::new(descriptor.clone());
            message.set_field_by_name("paths", Value::List(paths.into_iter().map(Value::String).collect()));
            message
        })
        .boxed()
}

/// A `Value` always holds something: JSON has no form for one that does not.
fn dynamic_value(descriptor: &MessageDescriptor, depth: u32) -> BoxedStrategy<DynamicMessage> {
    let members: Vec<_> = descriptor.fields().filter_map(|field| field_value(&field, depth)).collect();
    let descriptor = descriptor.clone();
    prop::strategy::Union::new(members)
        .prop_map(move |(field, value)| {
            let mut message = DynamicMessage::new(descriptor.clone());
            message.set_field(&field, value);
            message
        })
        .boxed()
}

/// An `Any` with content: one without would, merged, take over the content of another type.
fn any_of_any_type(descriptor: &MessageDescriptor, depth: u32) -> BoxedStrategy<DynamicMessage> {
    let types: Vec<_> = descriptor
        .parent_pool()
        .all_messages()
        .filter(|m| !m.is_map_entry() && m.full_name() != "google.protobuf.Any")
        .filter(|m| m.fields().len() > 0 && m.parent_file().syntax() == prost_reflect::Syntax::Proto3)
        .collect();
    let descriptor = descriptor.clone();
    prop::sample::select(types)
        .prop_flat_map(move |inner| message(&inner, depth.saturating_sub(1)))
        .prop_filter("an Any with content", |inner| inner.encoded_len() > 0)
        .prop_map(move |inner| {
            let mut message = DynamicMessage::new(descriptor.clone());
            let url = format!("type.googleapis.com/{}", inner.descriptor().full_name());
            message.set_field_by_name("type_url", Value::String(url));
            message.set_field_by_name("value", Value::Bytes(inner.encode_to_vec().into()));
            message
        })
        .boxed()
}
