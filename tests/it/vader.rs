//! The scores against those of the Python package (`tests/reference/vader.py` wrote them down).

use euhub::sentiment::vader::Vader;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    text: String,
    compound: f64,
    pos: f64,
    neu: f64,
    neg: f64,
}

#[test]
fn scores_equal_the_reference() {
    let expected = include_str!("../data/vader_expected.jsonl");
    let mut compared = 0;
    let mut wrong = Vec::new();
    for line in expected.lines() {
        let expected: Expected = serde_json::from_str(line).expect("the test data is JSON");
        let found = Vader::shared().score(&expected.text);
        let pairs = [
            (found.compound, expected.compound),
            (found.positive, expected.pos),
            (found.neutral, expected.neu),
            (found.negative, expected.neg),
        ];
        if pairs.iter().any(|(found, expected)| (found - expected).abs() > 1e-4) {
            wrong.push(format!("{:?}: (found, expected) {pairs:?}", expected.text));
        }
        compared += 1;
    }
    assert!(compared >= 300, "only {compared} sentences");
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn hits_lie_within_the_text_and_in_order() {
    for line in include_str!("../data/vader_expected.jsonl").lines() {
        let Expected { text, compound, .. } = serde_json::from_str(line).expect("the test data is JSON");
        let hits = Vader::shared().score(&text).hits;
        let length = text.chars().count();
        assert!(hits.iter().all(|hit| hit.start < hit.end && hit.end <= length), "{text:?}: {hits:?}");
        assert!(hits.is_sorted_by_key(|hit| hit.end), "{text:?}: {hits:?}");
        assert!(compound == 0.0 || !hits.is_empty(), "{text:?}");
    }
}
