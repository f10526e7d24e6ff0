use euhub_edge::codec::{Param, params_to_wire};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::support::*;

const MESSAGES: [&str; 10] = [
    "Scalars",
    "Optionals",
    "Repeats",
    "Maps",
    "Tree",
    "Choice",
    "WellKnown",
    "Names",
    "GetRequest",
    "codec.test2.Old",
];

/// Pieces of JSON, so that random text gets past the first character.
fn json_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[{}\\[\\]:,\" \\\\]",
        select(vec![
            "\"label\":",
            "\"left\":{",
            "\"children\":[",
            "\"@type\":",
            "\"x/codec.test.Tree\"",
            "null",
            "true",
            "1e9",
            "-0",
            "\"value\":",
            "\"struct\":{",
            "\"any\":{",
            "\"\\ud83d\\ude00\"",
            "\"byInt32\":{",
            "\"1\":",
            "\"NaN\"",
            "\"timestamp\":\"",
            "2024-01-01T00:00:00Z",
            "\"int32Value\":",
            "\"bytesValue\":\"AA==\"",
            "\\u12",
        ])
        .prop_map(str::to_owned),
        "\\PC",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wire(name in select(MESSAGES.to_vec()), wire in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = to_json(name, &wire);
    }

    /// Valid bytes with one byte changed, or cut short.
    #[test]
    fn damaged_wire(json in json_like(), at in any::<Index>(), byte in any::<u8>(), cut in any::<Index>()) {
        for name in MESSAGES {
            let Ok(mut wire) = from_json(name, json.as_bytes()) else { continue };
            if !wire.is_empty() {
                let at = at.index(wire.len());
                wire[at] = byte;
            }
            let _ = to_json(name, &wire);
            let _ = to_json(name, &wire[..cut.index(wire.len() + 1)]);
        }
    }

    #[test]
    fn json(name in select(MESSAGES.to_vec()), json in json_like()) {
        if let Ok(wire) = from_json(name, json.as_bytes()) {
            decode(name, &wire);
            to_json(name, &wire).unwrap();
        }
    }

    #[test]
    fn json_of_bytes(name in select(MESSAGES.to_vec()), json in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = from_json(name, &json);
    }

    #[test]
    fn params(
        name in prop_oneof![
            "[a-z.]{0,12}",
            select(vec![
                "wellKnown.timestamp", "wellKnown.duration", "scalars.int32Value", "scalars.doubleValue",
                "wellKnown.fieldMask", "scalars.bytesValue", "scalars.colour", "repeats.unpacked", "choice.tree.label",
            ])
            .prop_map(str::to_owned),
        ],
        value in prop_oneof!["\\PC{0,20}", "[0-9.eE+TZs:-]{0,30}"],
    ) {
        let mut out = Vec::new();
        if params_to_wire(&PLAN, id("GetRequest"), &[Param { name: &name, value: &value }], &[], &mut out).is_ok() {
            decode("GetRequest", &out);
        }
    }
}
