use euhub_edge::testing::check_message_roundtrip;

use crate::support::PLAN;

fn check(name: &str) {
    check_message_roundtrip(&PLAN, name, 100);
}

macro_rules! roundtrips {
    ($($test:ident: $message:literal,)*) => {
        $(#[test] fn $test() { check($message) })*
    };
}

roundtrips! {
    scalars: "codec.test.Scalars",
    optionals: "codec.test.Optionals",
    repeats: "codec.test.Repeats",
    maps: "codec.test.Maps",
    tree: "codec.test.Tree",
    choice: "codec.test.Choice",
    well_known: "codec.test.WellKnown",
    names: "codec.test.Names",
    empty: "codec.test.Empty",
    article: "codec.test.Article",
    get_request: "codec.test.GetRequest",
    update_request: "codec.test.UpdateRequest",
    old: "codec.test2.Old",
    any: "google.protobuf.Any",
    value: "google.protobuf.Value",
    structure: "google.protobuf.Struct",
}
