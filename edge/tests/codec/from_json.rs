use euhub_edge::codec::JsonErrorKind::*;
use euhub_edge::codec::{MAX_DEPTH, field_from_json};
use prost_reflect::prost::Message;

use crate::support::*;

#[test]
fn takes_what_the_oracle_takes() {
    for json in [
        "{}",
        " \t\r\n{ } ",
        r#"{"int32Value":-2147483648,"uint32Value":4294967295,"sint32Value":-1,"fixed32Value":0,"sfixed32Value":7}"#,
        r#"{"int64Value":"-9223372036854775808","uint64Value":"18446744073709551615","sint64Value":"-1"}"#,
        r#"{"int64Value":9223372036854775807,"uint64Value":18446744073709551615,"fixed64Value":12}"#,
        r#"{"int32_value":1,"int64_value":"2","bool_value":true}"#,
        r#"{"int32Value":1e3,"int64Value":1.0,"uint32Value":1.5e1,"uint64Value":-0,"sint32Value":-2E+2}"#,
        r#"{"doubleValue":"NaN","floatValue":"NaN"}"#,
        r#"{"doubleValue":"Infinity","floatValue":"-Infinity"}"#,
        r#"{"doubleValue":1.7976931348623157e308,"floatValue":3.402823e38}"#,
        r#"{"doubleValue":5e-324,"floatValue":1e-45}"#,
        r#"{"doubleValue":"1.5","floatValue":"-2"}"#,
        r#"{"doubleValue":0.1,"floatValue":0.1}"#,
        r#"{"stringValue":"\"\\\/\b\f\n\r\t\u00e9\u20AC\ud83d\ude00 \u0000 é"}"#,
        r#"{"bytesValue":"-_-_"}"#,
        r#"{"bytesValue":"+/+/"}"#,
        r#"{"bytesValue":"AQ"}"#,
        r#"{"bytesValue":"AQ=="}"#,
        r#"{"bytesValue":"\/\/\/\/"}"#,
        r#"{"colour":"COLOUR_VIOLET","aliased":"ALIASED_ALSO_FIRST"}"#,
        r#"{"colour":-3,"aliased":77}"#,
        r#"{"int32Value":null,"stringValue":null,"colour":null}"#,
        r#"{"\u0069nt32Value":5}"#,
    ] {
        assert_agree("Scalars", json);
    }
    for json in [r#"{"int32Value":0,"stringValue":"","scalars":{}}"#, r#"{"int32Value":null,"scalars":null}"#]
    {
        assert_agree("Optionals", json);
    }
    for json in [
        r#"{"int32s":[1,-1,0],"unpacked":[0,1],"strings":["",""],"scalars":[{},{"int32Value":1}],"colours":[1,"COLOUR_RED"]}"#,
        r#"{"int32s":[],"strings":null}"#,
    ] {
        assert_agree("Repeats", json);
    }
    for json in [
        r#"{"byInt32":{"-1":"x"},"byUint64":{"18446744073709551615":""},"byBool":{"false":null},"byString":{"":{}}}"#,
        r#"{"byInt32":{},"byInt64":null,"bySfixed64":{"0":"1970-01-01T00:00:00Z"}}"#,
    ] {
        assert_agree("Maps", json);
    }
    for json in [
        r#"{"number":0}"#,
        r#"{"nothing":null}"#,
        r#"{"nothing":"NULL_VALUE"}"#,
        r#"{"anything":null}"#,
        r#"{"number":null,"text":"x"}"#,
        r#"{"tree":{},"yes":false,"after":"z"}"#,
    ] {
        assert_agree("Choice", json);
    }
    for json in [
        r#"{"timestamp":"0001-01-01T00:00:00Z"}"#,
        r#"{"timestamp":"9999-12-31T23:59:59.999999999Z"}"#,
        r#"{"timestamp":"2024-02-29T23:59:60Z"}"#,
        r#"{"timestamp":"1969-12-31T23:59:59.5Z"}"#,
        r#"{"timestamp":"2000-01-01T00:00:00.10+01:30"}"#,
        r#"{"timestamp":"1999-12-31T18:00:00-06:00"}"#,
        r#"{"duration":"1s"}"#,
        r#"{"duration":"-315576000000s"}"#,
        r#"{"duration":"-0.000000001s"}"#,
        r#"{"duration":"3.1s"}"#,
        r#"{"fieldMask":""}"#,
        r#"{"fieldMask":"a,b.c,fooBar.bazQux"}"#,
        r#"{"struct":{"b":[1,"x",true,{"c":{}},null]}}"#,
        r#"{"struct":{"":{}}}"#,
        r#"{"value":null}"#,
        r#"{"value":[]}"#,
        r#"{"values":[null,1,"NaN",false,{},[[]]]}"#,
        r#"{"listValue":[1,[2]],"empty":{},"nullValue":null,"optionalNull":null,"nulls":[null,"NULL_VALUE"]}"#,
        r#"{"doubleValue":0,"int64Value":"0","uint32Value":7,"boolValue":false,"stringValue":"","bytesValue":""}"#,
        r#"{"doubleValue":null,"timestamp":null,"struct":null,"any":null}"#,
        r#"{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.5s"}}"#,
        r#"{"any":{"@type":"x/codec.test.Tree","label":"a","left":{"label":"b"}}}"#,
        r#"{"any":{"label":"a","@type":"x/codec.test.Tree"}}"#,
        r#"{"any":{"@type":"x/codec.test.Empty"}}"#,
        r#"{"any":{"@type":"x/google.protobuf.Empty","value":{}}}"#,
    ] {
        assert_agree("WellKnown", json);
    }
    assert_agree(
        "Names",
        r#"{"type":"a","match":true,"self":1,"snakeCaseName":"b","somethingElse":"c","a\"b\\c":"d"}"#,
    );
    assert_agree("Names", r#"{"snake_case_name":"b","renamed":"c","quoted":"d","a_1_b":2,"UPPER_NAME":3}"#);
    assert_agree(
        "codec.test2.Old",
        r#"{"id":0,"inner":{"value":1},"item":[{"text":"a"}],"[codec.test2.note]":"n"}"#,
    );
}

/// Where ProtoJSON allows more than the oracle does.
#[test]
fn takes_more_than_the_oracle() {
    assert_same(
        "Scalars",
        r#"{"int64Value":"1e3","uint64Value":"7.0"}"#,
        r#"{"int64Value":"1000","uint64Value":7}"#,
    );
    assert_same(
        "Scalars",
        r#"{"uint64Value":1844674407370955161500e-2}"#,
        r#"{"uint64Value":18446744073709551615}"#,
    );
    assert_same("Scalars", r#"{"int32Value":0.000e999999999999}"#, "{}");
    assert_same("Maps", r#"{"byInt32":{"1e0":"x"}}"#, r#"{"byInt32":{"1":"x"}}"#);
    // The largest float, which is a little more than its shortest decimal form.
    assert_same("Scalars", r#"{"floatValue":3.4028235e38}"#, r#"{"floatValue":3.4028234663852886e38}"#);
    assert_eq!(from_json("WellKnown", br#"{"any":{}}"#).unwrap(), b"\x4a\x00");
}

#[test]
fn names_the_field_at_fault() {
    assert_refused("Tree", br#"{"lable":"x"}"#, UnknownField, "lable");
    assert_refused(
        "UpdateRequest",
        br#"{"trees":[{},{"left":{"lable":1}}]}"#,
        UnknownField,
        "trees[1].left.lable",
    );
    assert_refused("Tree", br#"{"named":{"a b":{"label":1}}}"#, WrongType, r#"named["a b"].label"#);
    assert_refused("Tree", br#"{"label":"a","label":"b"}"#, DuplicateField, "label");
    assert_refused("Scalars", br#"{"int32Value":1,"int32_value":1}"#, DuplicateField, "int32_value");
    assert_refused("Choice", br#"{"number":1,"text":"x"}"#, OneofConflict, "text");
    assert_refused("Maps", br#"{"byString":{"k":{},"j":{},"k":{}}}"#, DuplicateField, r#"byString["k"]"#);
    assert_refused("Maps", br#"{"byInt32":{"1":"","1.0":""}}"#, DuplicateField, r#"byInt32["1"]"#);
    assert_refused("WellKnown", br#"{"struct":{"a":1,"\u0061":2}}"#, DuplicateField, r#"struct["a"]"#);
    assert_refused("WellKnown", br#"{"any":{"@type":"x/codec.test.Nope"}}"#, InvalidValue, "any.@type");
    assert_refused("WellKnown", br#"{"any":{"@type":1}}"#, WrongType, "any.@type");
    assert_refused("WellKnown", br#"{"any":{"label":1}}"#, InvalidValue, "any");
    assert_refused(
        "WellKnown",
        br#"{"any":{"@type":"x/codec.test.Tree","@type":"x"}}"#,
        DuplicateField,
        "any.@type",
    );
    assert_refused("WellKnown", br#"{"any":{"@type":"x/google.protobuf.Empty"}}"#, InvalidValue, "any");
    let any = br#"{"any":{"@type":"x/codec.test.Tree","left":{"label":3}}}"#;
    assert_refused("WellKnown", any, WrongType, "any.left.label");
}

#[test]
fn refuses_wrong_values() {
    for value in ["\"1\"", "{}", "[1]", "1", "\"True\""] {
        assert_refused("Scalars", format!(r#"{{"boolValue":{value}}}"#).as_bytes(), WrongType, "boolValue");
    }
    for value in [
        "2147483648",
        "-2147483649",
        "1e10",
        "1.5",
        "\"x\"",
        "\"\"",
        "\" 1\"",
        "\"01\"",
        "\"+1\"",
        "\"NaN\"",
        "1e400",
    ] {
        assert_refused(
            "Scalars",
            format!(r#"{{"int32Value":{value}}}"#).as_bytes(),
            InvalidValue,
            "int32Value",
        );
    }
    for value in ["-1", "18446744073709551616", "1e20", "0.1", "99999999999999999999999999999999999999999999"]
    {
        assert_refused(
            "Scalars",
            format!(r#"{{"uint64Value":{value}}}"#).as_bytes(),
            InvalidValue,
            "uint64Value",
        );
    }
    for value in ["1e309", "-1e309", "\"inf\"", "\"nan\"", "\"0x1\""] {
        assert_refused(
            "Scalars",
            format!(r#"{{"doubleValue":{value}}}"#).as_bytes(),
            InvalidValue,
            "doubleValue",
        );
    }
    assert_refused("Scalars", br#"{"floatValue":3.5e38}"#, InvalidValue, "floatValue");
    assert_refused("Scalars", br#"{"bytesValue":"!"}"#, InvalidValue, "bytesValue");
    assert_refused("Scalars", br#"{"bytesValue":"A"}"#, InvalidValue, "bytesValue");
    assert_refused("Scalars", br#"{"colour":"RED"}"#, InvalidValue, "colour");
    assert_refused("Scalars", br#"{"colour":1.5}"#, InvalidValue, "colour");
    assert_refused("Scalars", br#"{"colour":true}"#, WrongType, "colour");
    assert_refused("Scalars", br#"{"stringValue":1}"#, WrongType, "stringValue");
    assert_refused("Scalars", b"[]", WrongType, "");
    assert_refused("Scalars", b"null", WrongType, "");
    assert_refused("Repeats", br#"{"int32s":1}"#, WrongType, "int32s");
    assert_refused("Repeats", br#"{"int32s":[1,null]}"#, WrongType, "int32s[1]");
    assert_refused("Repeats", br#"{"scalars":[null]}"#, WrongType, "scalars[0]");
    assert_refused("Maps", br#"{"byInt32":[]}"#, WrongType, "byInt32");
    assert_refused("Maps", br#"{"byInt32":{"1":null}}"#, WrongType, r#"byInt32["1"]"#);
    assert_refused("Maps", br#"{"byBool":{"1":1}}"#, InvalidValue, r#"byBool["1"]"#);
    assert_refused("Maps", br#"{"byUint32":{"-1":1}}"#, InvalidValue, r#"byUint32["-1"]"#);
    for value in [
        "0000-12-31T23:59:59Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "10000-01-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2023-13-01T00:00:00Z",
        "2023-00-01T00:00:00Z",
        "2023-01-01t00:00:00Z",
        "2023-01-01T00:00:00z",
        "2023-01-01 00:00:00Z",
        "2023-01-01T00:00:00",
        "2023-01-01T00:00Z",
        "2023-01-01T24:00:00Z",
        "2023-01-01T00:60:00Z",
        "2023-01-01T00:00:00.Z",
        "2023-01-01T00:00:00.1234567890Z",
        "2023-01-01T00:00:00+24:00",
        "2023-01-01T00:00:00+0100",
        "",
    ] {
        assert_refused(
            "WellKnown",
            format!(r#"{{"timestamp":"{value}"}}"#).as_bytes(),
            InvalidValue,
            "timestamp",
        );
    }
    for value in [
        "1",
        "s",
        "1.s",
        ".5s",
        "+1s",
        "1 s",
        "1S",
        "315576000001s",
        "1.0000000001s",
        "--1s",
        "99999999999999999999s",
    ] {
        assert_refused(
            "WellKnown",
            format!(r#"{{"duration":"{value}"}}"#).as_bytes(),
            InvalidValue,
            "duration",
        );
    }
    assert_refused("WellKnown", br#"{"fieldMask":"snake_case"}"#, InvalidValue, "fieldMask");
    assert_refused("WellKnown", br#"{"empty":{"a":1}}"#, UnknownField, "empty.a");
    assert_refused("WellKnown", br#"{"nullValue":0.5}"#, InvalidValue, "nullValue");
}

#[test]
fn refuses_what_is_not_json() {
    for json in [
        "",
        " ",
        "{",
        "}",
        "{]",
        "{\"label\"}",
        "{\"label\":}",
        "{\"label\":\"a\",}",
        "{,}",
        "{\"label\":\"a\" \"left\":{}}",
        "{label:1}",
        "{'label':1}",
        "{}{}",
        "{} x",
        "{\"label\":\"a\"",
        "{\"label\":\"a",
        "{\"label\":\"\\\"}",
        "{\"label\":\"\\x\"}",
        "{\"label\":\"\\u12\"}",
        "{\"label\":\"\\u12g4\"}",
        "{\"label\":\"\\ud800\"}",
        "{\"label\":\"\\ud800\\u0041\"}",
        "{\"label\":\"\\udc00\"}",
        "{\"label\":\"\\ud800\\ud800\"}",
        "{\"label\":\"\t\"}",
        "{\"label\":\"\u{1}\"}",
        "{\"children\":[{},]}",
        "{\"children\":[,{}]}",
        "{\"children\":[{} {}]}",
        "{\"children\":[{}",
        "{\"left\":nul}",
        "{\"left\":nullx}",
        "/**/{}",
        "\u{feff}{}",
        "{\u{a0}}",
        "{\"label\":\"\u{7f}\"} \u{0}",
    ] {
        let error = from_json("Tree", json.as_bytes()).expect_err(json);
        assert_eq!(error.kind, Syntax, "{json}: {error}");
    }
    for number in [
        "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "1_0", "- 1", "--1", "Infinity", "NaN", "1.e5", "00",
    ] {
        let error =
            from_json("Scalars", format!(r#"{{"doubleValue":{number}}}"#).as_bytes()).expect_err(number);
        assert_eq!(error.kind, Syntax, "{number}: {error}");
    }
    for bytes in
        [&b"{\"label\":\"\xff\"}"[..], b"\xff", b"{\"label\":\"\xed\xa0\x80\"}", b"{\"label\":\"\xc0\x80\"}"]
    {
        assert_refused("Tree", bytes, Syntax, "");
    }
    assert_refused("Tree", br#"{"children":[{},{"label":tru}]}"#, Syntax, "children[1].label");
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| format!("{}{{}}{}", "{\"left\":".repeat(levels), "}".repeat(levels));
    let wire = from_json("Tree", nested(MAX_DEPTH - 1).as_bytes()).unwrap();
    decode("Tree", &wire);
    assert_eq!(from_json("Tree", nested(MAX_DEPTH).as_bytes()).unwrap_err().kind, TooDeep);
    assert_eq!(from_json("Tree", nested(100_000).as_bytes()).unwrap_err().kind, TooDeep);
    let lists = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(from_json("google.protobuf.Value", lists.as_bytes()).unwrap_err().kind, TooDeep);
    let skipped = format!(r#"{{"a":{lists},"@type":"x/codec.test.Empty"}}"#);
    assert_eq!(from_json("google.protobuf.Any", skipped.as_bytes()).unwrap_err().kind, TooDeep);
    // A list in a list is two messages: what is taken stays within what a protobuf reader takes.
    for depth in 1..=MAX_DEPTH {
        let json = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        if let Ok(wire) = from_json("google.protobuf.Value", json.as_bytes()) {
            decode("google.protobuf.Value", &wire);
        }
    }
}

#[test]
fn an_error_repeats_no_more_than_a_little() {
    let error = from_json("Tree", format!(r#"{{"{}":1}}"#, "é".repeat(10_000)).as_bytes()).unwrap_err();
    assert!(error.path.len() < 200 && error.description.len() < 300, "{error}");
}

#[test]
fn long_values_get_long_lengths() {
    for length in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
        assert_agree("Tree", &format!(r#"{{"label":"x","left":{{"label":"{}"}}}}"#, "a".repeat(length)));
    }
    assert_agree("Repeats", &format!(r#"{{"int32s":[{}1]}}"#, "1,".repeat(300)));
}

#[test]
fn a_field_alone() {
    let field = |message: &str, name: &str, json: &str| {
        let mut out = Vec::new();
        let path = PLAN.field(id(message), name).unwrap();
        field_from_json(&PLAN, id(message), &path, json.as_bytes(), &mut out).map(|()| out)
    };
    let wire = field("UpdateRequest", "article", r#"{"title":"t","wordCount":3}"#).unwrap();
    let whole = oracle("UpdateRequest", r#"{"article":{"title":"t","wordCount":3}}"#);
    assert_eq!(wire, whole.encode_to_vec());
    let wire = field("UpdateRequest", "trees", r#"[{"label":"a"},{}]"#).unwrap();
    assert_eq!(wire, oracle("UpdateRequest", r#"{"trees":[{"label":"a"},{}]}"#).encode_to_vec());
    assert_eq!(field("UpdateRequest", "updateMask", r#""title""#).unwrap(), b"\x12\x07\x0a\x05title");
    assert_eq!(field("UpdateRequest", "article", "null").unwrap(), b"");
    let error = field("UpdateRequest", "article", r#"{"keywords":["a",1]}"#).unwrap_err();
    assert_eq!(error.path, "article.keywords[1]");
    assert_eq!(field("UpdateRequest", "article", "{} {}").unwrap_err().kind, Syntax);
    assert!(PLAN.field(id("UpdateRequest"), "nope").is_none());
}
