//! The edge's JSON of every message of the API equals prost-reflect's, and parses back to the same bytes.

use euhub::proto::DESCRIPTOR_SET;
use euhub_edge::plan::Plan;
use euhub_edge::testing::check_message_roundtrip;

/// Random messages of each type.
const CASES: u32 = 200;

#[test]
fn every_message_of_the_api_round_trips() {
    let plan = Plan::compile(DESCRIPTOR_SET).unwrap();
    let names: Vec<String> = plan
        .pool()
        .all_messages()
        .map(|message| message.full_name().to_owned())
        .filter(|name| name.starts_with("euhub.v1."))
        .collect();
    assert!(names.len() > 50, "the API has more messages than {}", names.len());
    for name in names {
        check_message_roundtrip(&plan, &name, CASES);
    }
}
