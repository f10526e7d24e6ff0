//! What a language model adds to the evidence for a suggestion, and what its failure does not change.

use std::time::Duration;

use euhub::clock::Clock;
use euhub::llm::{LANGUAGES, Llm, LlmProvider, LlmSettings};
use euhub::proto::admin_service_client::AdminServiceClient;
use euhub::proto::suggestion_service_client::SuggestionServiceClient;
use euhub::proto::{EvaluateSuggestionRequest, GetLlmStatsRequest, LlmBreakerState, SuggestionEvaluation};
use euhub::suggestions::service::Suggestions;
use serde_json::{Value, json};
use tonic::Request;

use crate::hub::{Hub, embedder, suggestions};
use crate::llm::model::{Act, Model, write};
use crate::suggestions::{decide, get, suggest, term};

const BOTH: [LlmProvider; 2] = [LlmProvider::Gemini, LlmProvider::OpenAi];
/// What a case changes of the settings.
type Adjust = fn(LlmSettings) -> LlmSettings;

const LLM: &str = "/api/v1/admin/llm";

/// A good answer to each of the two questions.
fn words(data: &Value) -> Value {
    if data["facts"].is_object() {
        json!({ "paragraph": format!("It {} by what is counted.", data["facts"]["decision"].as_str().unwrap()) })
    } else {
        LANGUAGES.iter().map(|language| (*language, format!("winter-{language}"))).collect()
    }
}

/// Good translations, and a note with a number that the facts do not hold.
fn a_wrong_number(data: &Value) -> Value {
    if data["facts"].is_object() { json!({ "paragraph": "987654321 articles match." }) } else { words(data) }
}

/// Translations that are out of bounds, and a good note.
fn a_long_term(data: &Value) -> Value {
    let mut answer = words(data);
    if data["facts"].is_null() {
        answer["fr"] = json!("x".repeat(101));
    }
    answer
}

fn authorized<T>(hub: &Hub, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {}", hub.admin_key).parse().unwrap());
    request
}

async fn evaluate_by_grpc(hub: &Hub, name: &str) -> SuggestionEvaluation {
    let mut client = SuggestionServiceClient::new(hub.channel().await);
    let request = authorized(hub, EvaluateSuggestionRequest { name: name.into() });
    client.evaluate_suggestion(request).await.unwrap().into_inner()
}

fn proposal() -> Value {
    let mut body = term("winter", "en");
    body["translations"] = json!([{ "language": "de", "term": "Frühjahr" }]);
    body
}

/// What the model has no part in.
fn evidence(evaluation: &Value) -> Value {
    let mut evidence = evaluation.clone();
    for field in ["name", "createTime", "proposedTranslations", "note"] {
        evidence.as_object_mut().unwrap().remove(field).unwrap();
    }
    evidence
}

#[tokio::test]
async fn an_evaluation_has_the_missing_translations_and_a_note() {
    for provider in BOTH {
        let model = Model::start(provider, [Act::Answer(words)]).await;
        let hub = Hub::with_llm(model.llm()).await;
        let name = suggest(&hub, proposal()).await;
        let found = decide(&hub, &name, "evaluate", json!({})).await.ok();
        let proposed = found["proposedTranslations"].as_array().unwrap();
        let languages: Vec<_> = proposed.iter().map(|term| term["language"].as_str().unwrap()).collect();
        assert_eq!(
            languages,
            ["da", "es", "fr", "it", "nl", "pl", "sv", "th"],
            "not en and de, which are given"
        );
        assert_eq!(proposed[0]["term"], "winter-da");
        assert!(found["note"].as_str().unwrap().ends_with("by what is counted."), "{found}");
        assert_eq!(get(&hub, &name).await["latestEvaluation"], found, "it is kept");

        // The model is told what the evidence says, and nothing that is private.
        let asked = model.asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 2);
        let facts = asked.iter().find(|(_, data)| data["facts"].is_object()).unwrap();
        assert_eq!(facts.1["facts"]["reasons"], found["reasons"]);

        let again = evaluate_by_grpc(&hub, &name).await;
        assert_eq!(
            (again.proposed_translations.len(), again.note.as_str()),
            (8, found["note"].as_str().unwrap())
        );

        let stats = hub.admin("GET", LLM, Value::Null).await.ok();
        let name = if provider == LlmProvider::Gemini { "gemini" } else { "openai" };
        assert_eq!((&stats["provider"], &stats["model"]), (&json!(name), &json!("tone-1")));
        assert_eq!(stats["breakerState"], "LLM_BREAKER_STATE_CLOSED");
        assert_eq!((&stats["callCount"], &stats["answeredCount"]), (&json!("4"), &json!("4")), "{stats}");
        assert_eq!((&stats["inputTokenCount"], &stats["outputTokenCount"]), (&json!("4000"), &json!("400")));
        assert!((stats["cost"].as_f64().unwrap() - 0.012).abs() < 1e-12, "{stats}");
    }
}

#[tokio::test]
async fn a_suggestion_in_all_languages_is_not_translated() {
    let model = Model::start(LlmProvider::Gemini, [Act::Answer(words)]).await;
    let hub = Hub::with_llm(model.llm()).await;
    let mut body = term("winter", "en");
    let others = LANGUAGES.iter().filter(|language| **language != "en");
    body["translations"] = others.map(|language| json!({ "language": language, "term": "Winter" })).collect();
    let name = suggest(&hub, body).await;
    let found = decide(&hub, &name, "evaluate", json!({})).await.ok();
    assert_eq!((&found["proposedTranslations"], model.requests()), (&json!([]), 1));
    assert_ne!(found["note"], "");
}

#[tokio::test]
async fn whatever_the_model_does_the_evidence_is_the_same() {
    let hub = Hub::seeded().await;
    let name = suggest(&hub, proposal()).await;
    let expected = decide(&hub, &name, "evaluate", json!({})).await.ok();
    let hang = |settings| LlmSettings { timeout: Duration::from_millis(300), ..settings };
    let usual = |settings| settings;
    let acts: [(&str, Act, Adjust); 9] = [
        ("a hang", Act::Hang, hang),
        ("429", Act::Status(429, None), usual),
        ("429, for an hour", Act::Status(429, Some("3600")), usual),
        ("500", Act::Status(500, None), usual),
        ("a refusal", Act::Refuse, usual),
        ("no JSON", Act::Write("{\"paragraph\": ".into()), usual),
        ("another schema", write(&json!({ "score": 2 })), usual),
        ("another protocol", Act::Body("<html>".into()), usual),
        ("a breaker that opens", Act::Status(500, None), |settings| LlmSettings {
            breaker_failures: 1,
            ..settings
        }),
    ];
    for provider in BOTH {
        for (what, act, settings) in &acts {
            let model = Model::start(provider, [act.clone()]).await;
            let llm = Llm::new(settings(model.settings()), Clock::system()).unwrap();
            let suggestions = suggestions(hub.db.clone(), Some(embedder()));
            let suggestions = Suggestions { llm: Some(llm.clone()), ..suggestions };
            let id = name.trim_start_matches("suggestions/").parse().unwrap();
            suggestions.evaluate(None, id).await.unwrap();
            let found = get(&hub, &name).await["latestEvaluation"].clone();
            assert_ne!(found["name"], expected["name"], "{what}: a new row");
            assert_eq!(evidence(&found), evidence(&expected), "{what}");
            assert_eq!((&found["proposedTranslations"], &found["note"]), (&json!([]), &json!("")), "{what}");
            let stats = llm.stats();
            assert_eq!((stats.calls, stats.answered), (2, 0), "{what}: {stats:?}");
        }
        // One of the two may still hold.
        for (act, terms, note) in
            [(Act::Answer(a_wrong_number), 8, false), (Act::Answer(a_long_term), 0, true)]
        {
            let model = Model::start(provider, [act]).await;
            let suggestions = suggestions(hub.db.clone(), Some(embedder()));
            let suggestions = Suggestions { llm: Some(model.llm()), ..suggestions };
            let id = name.trim_start_matches("suggestions/").parse().unwrap();
            suggestions.evaluate(None, id).await.unwrap();
            let found = get(&hub, &name).await["latestEvaluation"].clone();
            assert_eq!(evidence(&found), evidence(&expected));
            let proposed = found["proposedTranslations"].as_array().unwrap().len();
            assert_eq!((proposed, found["note"] != ""), (terms, note), "{found}");
        }
    }
}

#[tokio::test]
async fn others_may_decide_while_the_model_is_asked() {
    let model = Model::start(LlmProvider::Gemini, [Act::Hang]).await;
    let settings = LlmSettings { timeout: Duration::from_secs(4), ..model.settings() };
    let hub = Hub::with_llm(Llm::new(settings, Clock::system()).unwrap()).await;
    let name = suggest(&hub, proposal()).await;
    let evaluating = decide(&hub, &name, "evaluate", json!({}));
    let rejecting = async {
        crate::program::wait_for("the question", async || model.requests() >= 1).await;
        // With the row locked this would wait for the model, and lose.
        decide(&hub, &name, "reject", json!({ "reason": "No." })).await
    };
    let (evaluated, rejected) = tokio::join!(evaluating, rejecting);
    rejected.ok();
    assert_eq!((evaluated.status, &evaluated.json()["error"]["status"]), (409, &json!("ABORTED")));
    assert_eq!(get(&hub, &name).await["state"], "SUGGESTION_STATE_REJECTED");
}

#[tokio::test]
async fn statistics_say_that_there_is_no_model_or_that_it_is_left_alone() {
    let hub = Hub::seeded().await;
    let stats = hub.admin("GET", LLM, Value::Null).await.ok();
    assert_eq!((&stats["provider"], &stats["callCount"]), (&json!(""), &json!("0")), "{stats}");

    let model = Model::start(LlmProvider::OpenAi, [Act::Status(500, None)]).await;
    let settings = LlmSettings { breaker_failures: 1, ..model.settings() };
    let hub = Hub::with_llm(Llm::new(settings, Clock::system()).unwrap()).await;
    let name = suggest(&hub, proposal()).await;
    decide(&hub, &name, "evaluate", json!({})).await.ok();
    decide(&hub, &name, "evaluate", json!({})).await.ok();
    let mut client = AdminServiceClient::new(hub.channel().await);
    let stats = client.get_llm_stats(authorized(&hub, GetLlmStatsRequest {})).await.unwrap().into_inner();
    assert_eq!(stats.breaker_state(), LlmBreakerState::Open);
    assert_eq!((stats.call_count, stats.answered_count), (4, 0));
    assert!(stats.not_tried_count >= 2, "{stats:?}");
}
