//! Any bytes: no panic, no hang, memory in proportion to the input; and what JSON says survives the way there and back.

use std::cell::RefCell;

use euhub_edge::codec::{self, JsonErrorKind, MAX_DEPTH, Param, ParamWriter, WireError};
use euhub_edge::http::template;

use crate::fuzz::{Input, fuzz, peak, under_watch};
use crate::grammar::{JSON, QUERY, WIRE};
use crate::support::*;

/// Memory for each byte of input.
const FACTOR: usize = 10;

/// Memory beside that: four words for each level of nesting (those of an error's path, or of a parameter's), whatever it
/// takes in the input, and the texts of an error, which repeat 100 bytes of a name.
const CONSTANT: usize = MAX_DEPTH * 32 + 1024;

/// Longest JSON that the small inputs of a target make: thousands of messages with all their defaults.
const ROOM: usize = 4 << 20;

thread_local! {
    /// Output that need not grow, so that only working memory is counted.
    static OUT: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(ROOM));
}

/// Runs with an output that need not grow; returns the result, the output and the peak of the other memory.
fn working<T>(run: impl FnOnce(&mut Vec<u8>) -> T) -> (T, Vec<u8>, usize) {
    OUT.with_borrow_mut(|out| {
        out.clear();
        let mut result = None;
        let peak = peak(|| result = Some(run(out)));
        assert_eq!(out.capacity(), ROOM, "more JSON than expected");
        (result.unwrap(), out.clone(), peak)
    })
}

#[track_caller]
fn assert_in_proportion(peak: usize, input: &[u8]) {
    let bound = FACTOR * input.len() + CONSTANT;
    assert!(peak <= bound, "{peak} bytes of memory for {} of input", input.len());
}

/// Working memory is bounded by the wire; the JSON itself is not, since two bytes of an empty message write all its
/// defaults, and has a limit of its own.
fn check_wire(input: &Input) {
    let id = id(&input.message);
    let (result, json, peak) = working(|out| codec::to_json(&PLAN, id, &input.bytes, out));
    assert_in_proportion(peak, &input.bytes);
    if result.is_err() {
        return;
    }
    match from_json(&input.message, &json) {
        Ok(wire) => {
            // A field mask's empty paths are gone on the way back, and paths with a comma are two.
            let without_commas = |json: &str| json.replace(',', "");
            let again = to_json(&input.message, &wire).unwrap();
            assert_eq!(without_commas(&again), without_commas(std::str::from_utf8(&json).unwrap()));
        }
        Err(error) => assert_eq!(error.kind, JsonErrorKind::TooDeep, "{error} in its own JSON"),
    }
}

/// Working memory and the wire bytes, a vector of which may be twice as long as its content, are bounded by the JSON.
fn check_json(input: &Input) {
    let (message, json) = (input.message.as_str(), &input.bytes[..]);
    let id = id(message);
    let (_, _, peak) = working(|out| codec::from_json(&PLAN, id, json, out));
    let mut wire = Vec::new();
    let result = codec::from_json(&PLAN, id, json, &mut wire);
    assert_in_proportion(peak + wire.capacity(), json);
    if result.is_ok() {
        decode(message, &wire);
        let json = to_json(message, &wire).unwrap();
        let again = from_json(message, json.as_bytes()).unwrap();
        assert_eq!(to_json(message, &again).unwrap(), json);
        assert_eq!(from_json(message, json.as_bytes()).unwrap(), again);
    }
}

fn check_query(input: &Input) {
    let Ok(query) = std::str::from_utf8(&input.bytes) else { return };
    let id = id("GetRequest");
    let mut wire = Vec::new();
    let mut run = || {
        let mut writer = ParamWriter::new(&PLAN, id, &["name"]);
        template::pairs(query).all(|pair| {
            pair.is_ok_and(|(name, value)| {
                writer.write(Param { name: &name, value: &value }, &mut wire).is_ok()
            })
        })
    };
    let mut accepted = false;
    let peak = peak(|| accepted = run());
    assert_in_proportion(peak, &input.bytes);
    if accepted {
        decode("GetRequest", &wire);
    }
}

#[test]
fn wire_to_json() {
    fuzz("wire", &WIRE, 20_000, check_wire);
}

#[test]
fn json_to_wire() {
    fuzz("json", &JSON, 20_000, check_json);
}

#[test]
fn query_to_wire() {
    fuzz("query", &QUERY, 20_000, check_query);
}

fn input(message: &str, bytes: impl Into<Vec<u8>>) -> Input {
    Input { message: message.to_owned(), bytes: bytes.into() }
}

/// Half a megabyte of what sorting, merging, escapes or lookups could make quadratic: it would take minutes.
#[test]
fn large_inputs_are_read_in_proportion() {
    let keys = |make: &dyn Fn(usize) -> String| (0..40_000).map(make).collect::<Vec<_>>().join(",");
    let long = "k".repeat(200_000);
    let escaped = "\\u006b".repeat(30_000);
    let json = [
        input("google.protobuf.Struct", format!(r#"{{"{long}":0,{}}}"#, keys(&|i| format!(r#""{i:x}":0"#)))),
        input(
            "google.protobuf.Struct",
            format!(r#"{{"{escaped}":0,{}}}"#, keys(&|i| format!(r#""{i:x}":0"#))),
        ),
        input(
            "Maps",
            format!(
                r#"{{"byInt32":{{"0.{}":"",{}}}}}"#,
                "0".repeat(200_000),
                keys(&|i| format!(r#""{}":"""#, i + 1))
            ),
        ),
        input("Tree", format!(r#"{{"children":[{}]}}"#, keys(&|_| r#"{"label":"\n"}"#.to_owned()))),
        input("Tree", format!("{}\"{long}\"{}", r#"{"left":"#.repeat(98) + r#"{"label":"#, "}".repeat(99))),
        input("Scalars", format!(r#"{{"doubleValue":0.{}}}"#, "1".repeat(400_000))),
        input("google.protobuf.Any", hidden_types(15, &long)),
    ];
    under_watch(json.into_iter(), |input| {
        let (_, _, peak) =
            working(|out| codec::from_json(&PLAN, id(&input.message), &input.bytes, out).unwrap());
        assert_in_proportion(peak, &input.bytes);
    });

    let entries = |text: &str| from_json("google.protobuf.Struct", text.as_bytes()).unwrap();
    let mut disordered = b"\x2a\x01x".repeat(60_000);
    for _ in 0..MAX_DEPTH - 1 {
        disordered = [vec![0x12], length(disordered.len()), disordered, b"\x0a\x01x".to_vec()].concat();
    }
    let wire = [
        input(
            "google.protobuf.Struct",
            entries(&format!(r#"{{"{long}":0,{}}}"#, keys(&|i| format!(r#""{i:x}":0"#)))),
        ),
        input(
            "Maps",
            [b"\x0a\xc0\x9a\x0c".to_vec(), b"\x10\x01".repeat(100_000), b"\x0a\x02\x08\x05".repeat(40_000)]
                .concat(),
        ),
        input("Scalars", [0x18, 1].repeat(200_000)),
        input("Tree", b"\x12\x00\x1a\x00".repeat(100_000)),
        input("Maps", b"\x0a\x00".repeat(200_000)),
        input("Choice", b"\x10\x01\x1a\x00".repeat(100_000)),
        input("Tree", disordered),
        input(
            "codec.test2.Old",
            [b"\x33".repeat(50), b"\x08\x01".repeat(100_000), b"\x34".repeat(50)].concat(),
        ),
    ];
    under_watch(wire.into_iter(), |input| {
        let (_, _, peak) = working(|out| codec::to_json(&PLAN, id(&input.message), &input.bytes, out));
        assert_in_proportion(peak, &input.bytes);
    });

    let pairs = |make: &dyn Fn(usize) -> String| (0..5000).map(make).collect::<Vec<_>>().join("&");
    let sides =
        |i: usize| (0..13).map(|bit| if i >> bit & 1 == 0 { ".left" } else { ".right" }).collect::<String>();
    let query = [
        input("", pairs(&|_| "repeats.int32s=1".to_owned())),
        input("", pairs(&|i| format!("choice.tree{}.label=", sides(i)))),
        input("", format!("name={}", "%41+".repeat(100_000))),
        input("", "a&".repeat(100_000)),
    ];
    under_watch(query.into_iter(), check_query);
}

fn length(mut number: usize) -> Vec<u8> {
    let mut varint = Vec::new();
    while number >= 0x80 {
        varint.push(number as u8 | 0x80);
        number >>= 7;
    }
    varint.push(number as u8);
    varint
}

/// An `Any` in an `Any`, each with its `@type` behind what it holds.
fn hidden_types(levels: usize, text: &str) -> String {
    let inner = format!(r#"{{"label":"{text}","@type":"x/codec.test.Tree"}}"#);
    (1..levels).fold(inner, |inner, _| format!(r#"{{"value":{inner},"@type":"x/google.protobuf.Any"}}"#))
}

/// Each level is searched for its `@type`: that many times over, the text would be read.
#[test]
fn a_type_may_be_hidden_in_few_levels_only() {
    let text = "x".repeat(10_000);
    from_json("google.protobuf.Any", hidden_types(16, &text).as_bytes()).unwrap();
    let error = from_json("google.protobuf.Any", hidden_types(18, &text).as_bytes()).unwrap_err();
    assert_eq!(error.kind, JsonErrorKind::TooDeep, "{error}");
}

/// Three bytes of wire make 300 of JSON here, which is right for a few and ends before it fills the memory.
#[test]
fn json_has_a_limit() {
    let empty = b"\x8a\x01\x00";
    let each = to_json("Repeats", &empty.repeat(2)).unwrap().len() - to_json("Repeats", empty).unwrap().len();
    assert!(each > 300, "{each}");
    let most = (16 << 20) / (each - 10 * empty.len());
    assert!(to_json("Repeats", &empty.repeat(most - 20)).is_ok());
    assert_eq!(to_json("Repeats", &empty.repeat(most + 20)), Err(WireError::TooLarge));
}

/// What is read at the deepest level is written with its empty lists and maps, one level deeper: that is read again.
#[test]
fn the_deepest_json_comes_back() {
    let json = format!("{}{{}}{}", "{\"left\":".repeat(MAX_DEPTH - 1), "}".repeat(MAX_DEPTH - 1));
    check_json(&input("Tree", json));
}
