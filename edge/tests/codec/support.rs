use std::path::Path;
use std::sync::LazyLock;

use euhub_edge::codec::{self, JsonError, JsonErrorKind, WireError};
use euhub_edge::plan::{MessageId, Plan};
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};

/// The plan of `tests/proto`.
pub static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root.join("tests/proto"), root.join("../proto")]).unwrap();
    compiler.include_imports(true);
    compiler.open_files(["codec.proto", "codec2.proto"]).unwrap();
    Plan::compile(&compiler.encode_file_descriptor_set()).unwrap()
});

pub fn id(name: &str) -> MessageId {
    PLAN.message(&full_name(name)).unwrap_or_else(|| panic!("no message {name}"))
}

pub fn full_name(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("codec.test.{name}") }
}

pub fn descriptor(name: &str) -> MessageDescriptor {
    PLAN.pool().get_message_by_name(&full_name(name)).unwrap()
}

pub fn to_json(name: &str, wire: &[u8]) -> Result<String, WireError> {
    let mut out = Vec::new();
    codec::to_json(&PLAN, id(name), wire, &mut out).map(|()| String::from_utf8(out).unwrap())
}

pub fn from_json(name: &str, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    codec::from_json(&PLAN, id(name), json, &mut out).map(|()| out)
}

/// What the oracle makes of wire bytes.
pub fn decode(name: &str, wire: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(descriptor(name), wire).unwrap()
}

/// What the oracle makes of JSON.
pub fn oracle(name: &str, json: &str) -> DynamicMessage {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(descriptor(name), &mut deserializer)
        .unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// JSON that this codec and the oracle both take, for the same message.
pub fn assert_agree(name: &str, json: &str) {
    let wire = from_json(name, json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
    let (ours, theirs) = (decode(name, &wire), oracle(name, json));
    assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec(), "{json}: {ours} for {theirs}");
    let expected = euhub_edge::testing::oracle_json(&theirs).unwrap();
    assert_eq!(to_json(name, &wire).unwrap(), String::from_utf8(expected).unwrap());
}

/// JSON for which this codec makes the message that another JSON stands for.
pub fn assert_same(name: &str, json: &str, as_json: &str) {
    let wire = from_json(name, json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
    let other = from_json(name, as_json.as_bytes()).unwrap_or_else(|error| panic!("{as_json}: {error}"));
    assert_eq!(
        decode(name, &wire).encode_to_vec(),
        decode(name, &other).encode_to_vec(),
        "{json} for {as_json}"
    );
}

#[track_caller]
pub fn assert_refused(name: &str, json: &[u8], kind: JsonErrorKind, path: &str) {
    let text = String::from_utf8_lossy(json).chars().take(200).collect::<String>();
    match from_json(name, json) {
        Ok(wire) => panic!("{text}: taken for {}", decode(name, &wire)),
        Err(error) => {
            assert_eq!((error.kind, error.path.as_str()), (kind, path), "{text}: {error}");
            assert!(error.description.contains(path), "{error}");
        }
    }
}
