use euhub_edge::codec::{MAX_DEPTH, WireError, field_to_json};
use euhub_edge::testing::oracle_json;

use crate::support::*;

/// Wire bytes that any decoder takes, and the oracle's JSON for them.
fn assert_agree_on_wire(name: &str, wire: &[u8]) {
    let expected = String::from_utf8(oracle_json(&decode(name, wire)).unwrap()).unwrap();
    assert_eq!(to_json(name, wire).unwrap(), expected);
}

#[test]
fn defaults_are_written_out() {
    assert_eq!(
        to_json("Scalars", b"").unwrap(),
        concat!(
            r#"{"doubleValue":0.0,"floatValue":0.0,"int32Value":0,"int64Value":"0","uint32Value":0,"uint64Value":"0","#,
            r#""sint32Value":0,"sint64Value":"0","fixed32Value":0,"fixed64Value":"0","sfixed32Value":0,"#,
            r#""sfixed64Value":"0","boolValue":false,"stringValue":"","bytesValue":"","colour":"COLOUR_UNSPECIFIED","#,
            r#""aliased":"ALIASED_NONE"}"#
        )
    );
    assert_eq!(to_json("Optionals", b"").unwrap(), "{}");
    assert_eq!(to_json("Choice", b"").unwrap(), r#"{"before":"","after":""}"#);
    assert_eq!(to_json("Empty", b"").unwrap(), "{}");
    assert_eq!(to_json("Tree", b"").unwrap(), r#"{"label":"","children":[],"named":{}}"#);
    for name in ["Scalars", "Optionals", "Repeats", "Maps", "Tree", "Choice", "WellKnown", "Names", "Article"]
    {
        assert_agree_on_wire(name, b"");
    }
}

#[test]
fn any_order_of_fields() {
    // after, before
    assert_agree_on_wire("Choice", b"\xaa\x01\x01z\x0a\x01a");
    // The last of a singular field holds, even when it is the default.
    assert_agree_on_wire("Scalars", b"\x18\x05\x18\x00\x72\x01a\x72\x01b");
    // An unknown field between two known ones, and an unknown group.
    assert_agree_on_wire("Tree", b"\x0a\x01a\x98\x06\x01\xa3\x06\x08\x01\xa4\x06\x12\x00");
    // Packed and unpacked, split by another field.
    assert_agree_on_wire(
        "Repeats",
        b"\x18\x01\x1a\x02\x02\x03\x18\x04\x72\x01s\x1a\x01\x05\x92\x01\x02\x07\x08\x90\x01\x09",
    );
    assert_agree_on_wire("Repeats", b"\x1a\x00");
    // left, left again: merged, at two levels.
    assert_agree_on_wire(
        "Tree",
        b"\x12\x05\x0a\x01a\x12\x00\x12\x06\x12\x04\x12\x00\x12\x00\x12\x03\x0a\x01b",
    );
    // Two members of a oneof: the last holds, and what the first had is forgotten.
    assert_agree_on_wire("Choice", b"\x10\x01\x1a\x01x");
    assert_agree_on_wire("Choice", b"\x1a\x01x\x10\x01");
    assert_agree_on_wire("Choice", b"\x22\x03\x0a\x01a\x10\x01\x22\x02\x12\x00\x22\x02\x1a\x00");
    // A map with a key twice, and entries without key or value.
    assert_agree_on_wire("Maps", b"\x0a\x05\x08\x01\x12\x01a\x0a\x05\x08\x01\x12\x01b");
    assert_agree_on_wire("Maps", b"\x0a\x00");
    assert_agree_on_wire("Maps", b"\x2a\x02\x08\x02");
    assert_agree_on_wire("Maps", b"\x4a\x07\x0d\x01\x00\x00\x00\x12\x00");
    // The value before the key, and a value in two parts.
    assert_agree_on_wire("Maps", b"\x62\x0e\x12\x03\x0a\x01a\x0a\x01k\x12\x02\x12\x00\x18\x01");
    // A timestamp in two parts.
    assert_agree_on_wire("WellKnown", b"\x0a\x02\x08\x01\x0a\x03\x10\x80\x08");
    // A group in two parts.
    assert_agree_on_wire("codec.test2.Old", b"\x33\x08\x01\x34\x33\x12\x02\x08\x05\x34\x08\x07");
    // Narrow integers keep their low bits.
    assert_agree_on_wire(
        "Scalars",
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x28\x80\x80\x80\x80\x80\x80\x01\x68\x02",
    );
}

#[test]
fn map_keys_are_sorted() {
    let maps =
        from_json("Maps", br#"{"byInt32":{"10":"","-1":"","9":""},"byBool":{"true":1,"false":2}}"#).unwrap();
    let json = to_json("Maps", &maps).unwrap();
    assert!(json.contains(r#""byInt32":{"-1":"","9":"","10":""}"#), "{json}");
    assert!(json.contains(r#""byBool":{"false":2.0,"true":1.0}"#), "{json}");
    let tree = from_json("google.protobuf.Struct", r#"{"b":1,"é":2,"a":3,"":4}"#.as_bytes()).unwrap();
    assert_eq!(to_json("google.protobuf.Struct", &tree).unwrap(), r#"{"":4.0,"a":3.0,"b":1.0,"é":2.0}"#);
}

#[test]
fn odd_values() {
    // NaN, infinities, -0.0, an unknown enum number.
    assert_agree_on_wire("Scalars", b"\x09\0\0\0\0\0\0\xf8\x7f\x15\0\0\x80\x7f\x80\x01\x4d");
    assert_agree_on_wire("Scalars", b"\x09\0\0\0\0\0\0\x00\x80\x15\0\0\x80\xff\x88\x01\x01");
    // Every character that is escaped, and those about them that are not.
    let text: String = (0..0x83).filter_map(char::from_u32).chain(['\u{2028}', '\u{ffff}', '😀']).collect();
    for shift in 0..8 {
        let label = format!("{}{text}", &"abcdefgh"[..shift]);
        assert_agree("Tree", &serde_json::json!({ "label": label }).to_string());
    }
    for seconds in
        [-62_135_596_800_i64, -62_135_596_801, 253_402_300_799, 253_402_300_800, 951_782_400, -1, 0, i64::MIN]
    {
        let mut wire = Vec::new();
        prost_reflect::prost::encoding::int64::encode(1, &seconds, &mut wire);
        let ours = to_json("google.protobuf.Timestamp", &wire).ok();
        let theirs = oracle_json(&decode("google.protobuf.Timestamp", &wire));
        assert_eq!(ours.map(String::into_bytes), theirs, "{seconds}");
    }
    for (wire, json) in [
        // -1.5 s; 315576000000 s; 1 ns; parts of different signs
        (
            &b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x80\xb6\xca\x91\xfe\xff\xff\xff\xff\x01"[..],
            Some("\"-1.500s\""),
        ),
        (b"\x08\x80\xbc\xae\xce\x97\x09", Some("\"315576000000s\"")),
        (b"\x08\x81\xbc\xae\xce\x97\x09", None),
        (b"\x10\x01", Some("\"0.000000001s\"")),
        (b"\x08\x01\x10\x80\xb6\xca\x91\xfe\xff\xff\xff\xff\x01", Some("\"0.500s\"")),
        (b"", Some("\"0s\"")),
    ] {
        assert_eq!(to_json("google.protobuf.Duration", wire).ok().as_deref(), json, "{wire:?}");
    }
    assert_eq!(to_json("google.protobuf.Value", b"").unwrap(), "null");
    assert_eq!(to_json("google.protobuf.Any", b"").unwrap(), "{}");
    assert_eq!(to_json("google.protobuf.DoubleValue", b"\x09\0\0\0\0\0\0\xf8\x7f").unwrap(), "\"NaN\"");
}

#[test]
fn refuses_what_is_no_message() {
    use WireError::*;
    for (name, wire, error) in [
        ("Tree", &b"\x0a"[..], Truncated),
        ("Tree", b"\x0a\x05a", Truncated),
        ("Tree", b"\x80", Truncated),
        ("Tree", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Truncated),
        ("Scalars", b"\x09\x00", Truncated),
        ("Tree", b"\x00\x00", Malformed),
        ("Tree", b"\x0e", Malformed),
        ("Tree", b"\x0c", Malformed),
        ("Tree", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Malformed),
        ("Scalars", b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", Malformed),
        ("Tree", b"\xa3\x06", Truncated),
        ("Tree", b"\xa3\x06\xac\x06", Malformed),
        ("Tree", b"\x08\x01", WireType(1)),
        ("Scalars", b"\x1a\x01\x01", WireType(3)),
        ("Repeats", b"\x70\x01", WireType(14)),
        ("Maps", b"\x08\x01", WireType(1)),
        ("Tree", b"\x0a\x01\xff", Utf8(1)),
        ("google.protobuf.FieldMask", b"\x0a\x03A_b", NoJsonForm("google.protobuf.FieldMask")),
        ("google.protobuf.Value", b"\x11\0\0\0\0\0\0\xf8\x7f", NoJsonForm("google.protobuf.Value")),
        ("google.protobuf.Any", b"\x0a\x03x/y", UnknownType),
        ("google.protobuf.Any", b"\x0a\x01y", UnknownType),
    ] {
        assert_eq!(to_json(name, wire), Err(error), "{name} {wire:?}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| {
        let mut wire = Vec::new();
        for _ in 0..levels {
            let mut outer = Vec::new();
            prost_reflect::prost::encoding::bytes::encode(2, &wire, &mut outer);
            wire = outer;
        }
        wire
    };
    assert_agree_on_wire("Tree", &nested(MAX_DEPTH));
    assert_eq!(to_json("Tree", &nested(MAX_DEPTH + 1)), Err(WireError::TooDeep));
    assert_eq!(to_json("Tree", &nested(10_000)), Err(WireError::TooDeep));
    assert_eq!(to_json("Tree", &[0x33].repeat(100_000)), Err(WireError::TooDeep));
}

/// Each level out of order, so that each is written on the gathering path: time must not double with every level.
#[test]
fn disorder_at_every_level_is_cheap() {
    let mut wire = Vec::new();
    for _ in 0..MAX_DEPTH {
        let mut outer = Vec::new();
        prost_reflect::prost::encoding::bytes::encode(2, &wire, &mut outer);
        outer.extend_from_slice(b"\x0a\x01x");
        wire = outer;
    }
    assert_agree_on_wire("Tree", &wire);
}

#[test]
fn a_field_alone() {
    let field = |message: &str, name: &str, wire: &[u8]| {
        let mut out = Vec::new();
        field_to_json(&PLAN, id(message), &PLAN.field(id(message), name).unwrap(), wire, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let wire =
        from_json("Article", br#"{"keywords":["a","b"],"title":"t","publishTime":"2026-01-01T00:00:00Z"}"#)
            .unwrap();
    assert_eq!(field("Article", "keywords", &wire), r#"["a","b"]"#);
    assert_eq!(field("Article", "title", &wire), r#""t""#);
    assert_eq!(field("Article", "publish_time", &wire), r#""2026-01-01T00:00:00Z""#);
    assert_eq!(field("Article", "author", &wire), "null");
    assert_eq!(field("Article", "wordCount", &wire), "0");
    assert_eq!(field("Article", "keywords", b""), "[]");
    assert_eq!(field("Tree", "named", b""), "{}");
    assert_eq!(
        field("Tree", "left", b"\x12\x03\x0a\x01a\x12\x02\x12\x00"),
        to_json("Tree", b"\x0a\x01a\x12\x00").unwrap()
    );
}
