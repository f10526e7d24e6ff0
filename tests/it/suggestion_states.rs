//! The states of suggestions against a model: whatever is called in whatever order, the answer is the model's, and so is what is kept.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::admin_keys::key;
use crate::hub::{Answer, Hub};
use crate::keywords::{create, keyword};
use crate::suggestions::{call, info, term};

/// Terms and voters of a case.
const TERMS: usize = 3;
const VOTERS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Propose(usize, usize),
    Vote(usize, usize),
    Evaluate(usize),
    Approve(usize),
    Merge(usize),
    Reject(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let term = 0..TERMS;
    let step = prop_oneof![
        3 => (term.clone(), 0..VOTERS).prop_map(|(term, voter)| Step::Propose(term, voter)),
        2 => (term.clone(), 0..VOTERS).prop_map(|(term, voter)| Step::Vote(term, voter)),
        2 => term.clone().prop_map(Step::Evaluate),
        1 => term.clone().prop_map(Step::Approve),
        1 => term.clone().prop_map(Step::Merge),
        1 => term.prop_map(Step::Reject),
    ];
    proptest::collection::vec(step, 1..25)
}

/// A suggestion as the model has it.
#[derive(Clone, Debug)]
struct Model {
    name: String,
    state: &'static str,
    voters: BTreeSet<usize>,
    keyword: String,
}

impl Model {
    fn is_open(&self) -> bool {
        ["PENDING", "EVALUATED"].contains(&self.state)
    }
}

/// One case: terms that no other case has, and what was last made of each.
struct Case<'a> {
    hub: &'a Hub,
    voters: &'a [String],
    number: usize,
    slots: [Option<Model>; TERMS],
}

impl Case<'_> {
    fn term(&self, slot: usize) -> String {
        format!("zorblat{} quimby{slot}", self.number)
    }

    async fn decide(&self, name: &str, verb: &str, body: Value) -> Answer {
        self.hub.admin("POST", &format!("/api/v1/{name}:{verb}"), body).await
    }

    async fn propose(&mut self, slot: usize, voter: usize) -> Result<(), TestCaseError> {
        let body = term(&self.term(slot).to_uppercase(), "en");
        let answer =
            call(self.hub, Some(&self.voters[voter]), "POST", "/api/v1/suggestions", body).await.ok();
        let suggestion = &answer["suggestion"];
        match &mut self.slots[slot] {
            Some(model) if model.is_open() => {
                model.voters.insert(voter);
                prop_assert_eq!(
                    (&answer["created"], &suggestion["name"]),
                    (&json!(false), &json!(model.name))
                );
            }
            Some(model) if !model.keyword.is_empty() => {
                prop_assert_eq!(&answer["existingKeyword"], &json!(model.keyword));
                prop_assert_eq!(suggestion, &Value::Null);
            }
            closed => {
                prop_assert_eq!(&answer["created"], &json!(true));
                let name = suggestion["name"].as_str().unwrap_or_default().to_owned();
                let voters = BTreeSet::from([voter]);
                *closed = Some(Model { name, state: "PENDING", voters, keyword: String::new() });
            }
        }
        Ok(())
    }

    /// Calls `verb` on what a slot holds; an open one goes to `next`, a closed one refuses.
    async fn act(
        &mut self,
        slot: usize,
        verb: &str,
        next: Option<&'static str>,
        body: Value,
    ) -> Result<(), TestCaseError> {
        let Some(model) = self.slots[slot].clone() else { return Ok(()) };
        let answer = self.decide(&model.name, verb, body).await;
        if !model.is_open() {
            prop_assert_eq!(&answer.json()["error"]["status"], "FAILED_PRECONDITION");
            prop_assert_eq!(&info(&answer)["metadata"]["state"], model.state);
            return Ok(());
        }
        prop_assert_eq!(answer.status, 200, "{}", answer.text);
        let keyword = match next {
            Some("APPROVED" | "MERGED") => {
                answer.json()["keyword"]["name"].as_str().unwrap_or_default().to_owned()
            }
            _ => String::new(),
        };
        self.slots[slot] = Some(Model { state: next.unwrap_or(model.state), keyword, ..model });
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Propose(slot, voter) => self.propose(slot, voter).await?,
            Step::Vote(slot, voter) => {
                let Some(model) = &mut self.slots[slot] else { return Ok(()) };
                let path = format!("/api/v1/{}:vote", model.name);
                let answer = call(self.hub, Some(&self.voters[voter]), "POST", &path, json!({})).await;
                if model.is_open() {
                    model.voters.insert(voter);
                    prop_assert_eq!(answer.status, 200);
                } else {
                    prop_assert_eq!(&info(&answer)["metadata"]["state"], model.state);
                }
            }
            Step::Evaluate(slot) => self.act(slot, "evaluate", Some("EVALUATED"), json!({})).await?,
            Step::Approve(slot) => self.act(slot, "approve", Some("APPROVED"), json!({})).await?,
            Step::Merge(slot) => {
                let body = json!({"mergeInto": format!("case-{}", self.number)});
                self.act(slot, "approve", Some("MERGED"), body).await?;
            }
            Step::Reject(slot) => {
                self.act(slot, "reject", Some("REJECTED"), json!({"reason": "No."})).await?
            }
        }
        for model in self.slots.iter().flatten() {
            let kept = self.hub.get(&format!("/api/v1/{}", model.name)).await.ok();
            prop_assert_eq!(&kept["state"], &json!(format!("SUGGESTION_STATE_{}", model.state)));
            prop_assert_eq!(&kept["voteCount"], &json!(model.voters.len()));
            prop_assert_eq!(&kept["keyword"], &json!(model.keyword));
            prop_assert_eq!(kept["rejectionReason"] == "", model.state != "REJECTED");
            prop_assert!(model.state != "EVALUATED" || kept["latestEvaluation"].is_object());
        }
        Ok(())
    }
}

#[test]
fn every_order_of_calls_ends_where_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (hub, voters) = runtime.block_on(async {
        let hub = Hub::without_model().await;
        let mut voters = Vec::new();
        for _ in 0..VOTERS {
            voters.push(key(&hub, &["suggest"], None).await.1);
        }
        (hub, voters)
    });
    let number = std::cell::Cell::new(0);
    let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&steps(), |steps| {
        number.set(number.get() + 1);
        let mut case =
            Case { hub: &hub, voters: &voters, number: number.get(), slots: [const { None }; TERMS] };
        runtime.block_on(async {
            create(
                &hub,
                keyword(&format!("Case {}", case.number), &[("en", &format!("blimfark{}", case.number))]),
            )
            .await;
            for step in steps {
                case.step(step).await?;
            }
            Ok(())
        })
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
