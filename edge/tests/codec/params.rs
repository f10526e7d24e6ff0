use euhub_edge::codec::ParamErrorKind::{self, *};
use euhub_edge::codec::{Param, ParamError, ParamWriter};
use prost_reflect::prost::Message;

use crate::support::*;

fn wire(params: &[(&str, &str)], bound: &[&str]) -> Result<Vec<u8>, ParamError> {
    let mut writer = ParamWriter::new(&PLAN, id("GetRequest"), bound);
    let mut out = Vec::new();
    params.iter().try_for_each(|(name, value)| writer.write(Param { name, value }, &mut out)).map(|()| out)
}

fn assert_reads(params: &[(&str, &str)], json: &str) {
    let ours = decode("GetRequest", &wire(params, &[]).unwrap());
    assert_eq!(ours.encode_to_vec(), oracle("GetRequest", json).encode_to_vec(), "{params:?}: {ours}");
}

#[track_caller]
fn assert_refused(params: &[(&str, &str)], bound: &[&str], kind: ParamErrorKind, name: &str) {
    let error = wire(params, bound).unwrap_err();
    assert_eq!((error.kind, error.name.as_str()), (kind, name), "{error}");
    assert!(error.description.contains(name), "{error}");
}

#[test]
fn every_type_that_a_parameter_carries() {
    assert_reads(&[], "{}");
    assert_reads(&[("name", "a b&é"), ("pageSize", "7")], r#"{"name":"a b&é","pageSize":7}"#);
    assert_reads(&[("page_size", "7")], r#"{"pageSize":7}"#);
    assert_reads(
        &[
            ("scalars.doubleValue", "-1.5e3"),
            ("scalars.float_value", "Infinity"),
            ("scalars.int64Value", "-9223372036854775808"),
            ("scalars.uint64Value", "18446744073709551615"),
            ("scalars.sint32Value", "-3"),
            ("scalars.fixed64Value", "9"),
            ("scalars.boolValue", "true"),
            ("scalars.bytesValue", "_-8="),
            ("scalars.colour", "COLOUR_RED"),
            ("scalars.aliased", "1"),
        ],
        r#"{"scalars":{"doubleValue":-1500,"floatValue":"Infinity","int64Value":"-9223372036854775808",
            "uint64Value":"18446744073709551615","sint32Value":-3,"fixed64Value":9,"boolValue":true,
            "bytesValue":"/+8=","colour":1,"aliased":1}}"#,
    );
    assert_reads(
        &[
            ("repeats.int32s", "1"),
            ("repeats.strings", "a"),
            ("repeats.int32s", "2"),
            ("repeats.colours", "COLOUR_GREEN"),
        ],
        r#"{"repeats":{"int32s":[1,2],"strings":["a"],"colours":[2]}}"#,
    );
    assert_reads(
        &[
            ("wellKnown.timestamp", "2026-03-01T12:30:00.5+01:00"),
            ("wellKnown.duration", "-1.5s"),
            ("wellKnown.fieldMask", "displayName,terms.language_code"),
            ("wellKnown.int64Value", "0"),
            ("wellKnown.stringValue", ""),
            ("wellKnown.boolValue", "false"),
            ("wellKnown.timestamps", "1970-01-01T00:00:00Z"),
            ("wellKnown.timestamps", "1970-01-01T00:00:01Z"),
            ("wellKnown.int64Values", "3"),
        ],
        r#"{"wellKnown":{"timestamp":"2026-03-01T11:30:00.5Z","duration":"-1.5s",
            "fieldMask":"displayName,terms.languageCode","int64Value":"0","stringValue":"","boolValue":false,
            "timestamps":["1970-01-01T00:00:00Z","1970-01-01T00:00:01Z"],"int64Values":[3]}}"#,
    );
    assert_reads(&[("choice.tree.left.label", "x")], r#"{"choice":{"tree":{"left":{"label":"x"}}}}"#);
    assert_reads(
        &[("choice.tree.label", "x"), ("choice.tree.left.label", "y")],
        r#"{"choice":{"tree":{"label":"x","left":{"label":"y"}}}}"#,
    );
    assert_reads(&[("optionals.int32Value", "0")], r#"{"optionals":{"int32Value":0}}"#);
}

#[test]
fn names_the_parameter_at_fault() {
    for name in [
        "nope",
        "",
        "name.x",
        "scalars.nope",
        "repeats.scalars.int32Value",
        "scalars.",
        ".name",
        "maps.byInt32.1",
    ] {
        assert_refused(&[("name", "x"), (name, "1")], &[], Unknown, name);
    }
    for name in
        ["scalars", "maps.byInt32", "wellKnown.struct", "wellKnown.any", "wellKnown.empty", "repeats.scalars"]
    {
        assert_refused(&[(name, "1")], &[], Unsupported, name);
    }
    for (name, value) in [
        ("pageSize", ""),
        ("pageSize", "x"),
        ("pageSize", "2147483648"),
        ("pageSize", " 1"),
        ("scalars.boolValue", "1"),
        ("scalars.boolValue", ""),
        ("scalars.colour", "RED"),
        ("scalars.colour", "1.5"),
        ("scalars.bytesValue", "*"),
        ("scalars.doubleValue", "inf"),
        ("wellKnown.timestamp", "yesterday"),
        ("wellKnown.duration", "5"),
        ("wellKnown.int64Value", "x"),
    ] {
        assert_refused(&[(name, value)], &[], InvalidValue, name);
    }
    assert_refused(&[("name", "a"), ("name", "b")], &[], Duplicate, "name");
    assert_refused(&[("pageSize", "1"), ("page_size", "1")], &[], Duplicate, "page_size");
    assert_refused(
        &[("scalars.int32Value", "1"), ("scalars.int32_value", "2")],
        &[],
        Duplicate,
        "scalars.int32_value",
    );
    assert_refused(&[("choice.number", "1"), ("choice.text", "a")], &[], OneofConflict, "choice.text");
    assert_refused(&[("choice.tree.label", "1"), ("choice.data", "")], &[], OneofConflict, "choice.data");
    assert_refused(&[("name", "a")], &["name"], AlreadyBound, "name");
    assert_refused(&[("scalars.int32Value", "1")], &["scalars"], AlreadyBound, "scalars.int32Value");
    assert_refused(&[("page_size", "1")], &["name", "pageSize"], AlreadyBound, "page_size");
    let error = wire(&[(&"x".repeat(5000), "")], &[]).unwrap_err();
    assert!(error.name.len() < 200 && error.description.len() < 300);
    let deep = ["choice.tree", &".left".repeat(5000)].concat();
    assert_eq!(wire(&[(&deep, "")], &[]).unwrap_err().kind, Unknown);
}

/// Path variables come behind the body, and hold: a zero among them too.
#[test]
fn what_comes_last_holds() {
    let mut all = from_json(
        "GetRequest",
        br#"{"name":"body","pageSize":9,"scalars":{"int32Value":1,"boolValue":true}}"#,
    )
    .unwrap();
    all.extend(wire(&[("name", "path"), ("scalars.int32Value", "0")], &[]).unwrap());
    all.extend(wire(&[("scalars.uint32Value", "4")], &["name"]).unwrap());
    let merged = decode("GetRequest", &all);
    let expected =
        oracle("GetRequest", r#"{"name":"path","pageSize":9,"scalars":{"boolValue":true,"uint32Value":4}}"#);
    assert_eq!(merged.encode_to_vec(), expected.encode_to_vec());
}
