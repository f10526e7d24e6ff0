//! A server that plays a language model in both protocols, and checks the form of what it is asked.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use euhub::clock::Clock;
use euhub::config::Secret;
use euhub::llm::{Llm, LlmProvider, LlmSettings};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The key that it wants.
pub const KEY: &str = "key-9f8e7d6c5b4a";

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// The model writes this.
    Write(String),
    /// The model writes what this makes of the data.
    Answer(fn(&Value) -> Value),
    /// The model refuses.
    Refuse,
    /// A status, with a `Retry-After` where one is given.
    Status(u16, Option<&'static str>),
    /// A 200 with this body.
    Body(String),
    /// No answer at all.
    Hang,
}

pub fn write(answer: &Value) -> Act {
    Act::Write(answer.to_string())
}

/// A server with one model behind it.
#[derive(Clone)]
pub struct Model {
    provider: LlmProvider,
    acts: Arc<Mutex<VecDeque<Act>>>,
    /// What the model was told to do, and the data.
    pub asked: Arc<Mutex<Vec<(String, Value)>>>,
    address: SocketAddr,
}

impl Model {
    /// A server that does what `acts` say in order, and the last of them for ever.
    pub async fn start(provider: LlmProvider, acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acts = Arc::new(Mutex::new(acts.into_iter().collect()));
        let model = Self { provider, acts, asked: Arc::default(), address };
        let router = Router::new().fallback(answer).with_state(model.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        model
    }

    /// How it is reached: in tests nothing waits long.
    pub fn settings(&self) -> LlmSettings {
        LlmSettings {
            url: format!("http://{}/v9/", self.address),
            key: Some(Secret::new(KEY)),
            requests_per_minute: 60_000,
            backoff: Duration::from_millis(1),
            price_in_per_million: 2.0,
            price_out_per_million: 10.0,
            ..LlmSettings::new(self.provider, "tone-1")
        }
    }

    /// A client of it.
    pub fn llm(&self) -> Llm {
        Llm::new(self.settings(), Clock::system()).unwrap()
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

async fn answer(State(model): State<Model>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let request: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(uri.query(), None, "no key in the URL");
    let (system, user, schema) = match model.provider {
        LlmProvider::Gemini => {
            assert_eq!(uri.path(), "/v9/models/tone-1:generateContent");
            assert_eq!(headers["x-goog-api-key"], KEY);
            assert!(!headers.contains_key("authorization"));
            assert_eq!(request["contents"].as_array().unwrap().len(), 1);
            assert_eq!(request["contents"][0]["role"], "user");
            assert_eq!(request["generationConfig"]["responseMimeType"], "application/json");
            (
                &request["systemInstruction"]["parts"][0]["text"],
                &request["contents"][0]["parts"][0]["text"],
                &request["generationConfig"]["responseJsonSchema"],
            )
        }
        LlmProvider::OpenAi => {
            assert_eq!(uri.path(), "/v9/chat/completions");
            assert_eq!(headers["authorization"], format!("Bearer {KEY}"));
            assert!(!headers.contains_key("x-goog-api-key"));
            assert_eq!(request["model"], "tone-1");
            let (messages, format) = (&request["messages"], &request["response_format"]);
            assert_eq!((&messages[0]["role"], &messages[1]["role"]), (&json!("system"), &json!("user")));
            assert_eq!(format["type"], "json_schema");
            assert_eq!(format["json_schema"]["strict"], true);
            assert!(format["json_schema"]["name"].is_string());
            (&messages[0]["content"], &messages[1]["content"], &format["json_schema"]["schema"])
        }
    };
    check_schema(schema);
    let data: Value = serde_json::from_str(user.as_str().unwrap()).unwrap();
    model.asked.lock().unwrap().push((system.as_str().unwrap().to_owned(), data.clone()));
    let act = {
        let mut acts = model.acts.lock().unwrap();
        if acts.len() > 1 { acts.pop_front().unwrap() } else { acts[0].clone() }
    };
    match act {
        Act::Hang => std::future::pending().await,
        Act::Body(body) => body.into_response(),
        Act::Status(status, retry_after) => {
            let status = StatusCode::from_u16(status).unwrap();
            // Servers like to repeat what they were sent.
            let body = format!("{{\"error\":{{\"message\":\"key {KEY}: {status}\"}}}}");
            match retry_after {
                Some(value) => (status, [("retry-after", value)], body).into_response(),
                None => (status, body).into_response(),
            }
        }
        Act::Write(text) => wire(model.provider, Some(&text)).to_string().into_response(),
        Act::Answer(make) => wire(model.provider, Some(&make(&data).to_string())).to_string().into_response(),
        Act::Refuse => wire(model.provider, None).to_string().into_response(),
    }
}

fn wire(provider: LlmProvider, text: Option<&str>) -> Value {
    match (provider, text) {
        (LlmProvider::Gemini, Some(text)) => json!({
            "candidates": [{
                "content": { "role": "model", "parts": [{ "text": "Hm.", "thought": true }, { "text": text }] },
                "finishReason": "STOP", "index": 0,
            }],
            "usageMetadata": {
                "promptTokenCount": 1000, "candidatesTokenCount": 80, "thoughtsTokenCount": 20, "totalTokenCount": 1100,
            },
            "modelVersion": "tone-1", "responseId": "r",
        }),
        (LlmProvider::Gemini, None) => json!({
            "promptFeedback": { "blockReason": "PROHIBITED_CONTENT" }, "usageMetadata": { "promptTokenCount": 1000 },
        }),
        (LlmProvider::OpenAi, text) => json!({
            "id": "c", "object": "chat.completion", "created": 1, "model": "tone-1",
            "choices": [{
                "index": 0, "finish_reason": "stop",
                "message": { "role": "assistant", "content": text, "refusal": text.is_none().then_some("I cannot.") },
            }],
            "usage": { "prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100 },
        }),
    }
}

/// Strict schemas: every object lists all that it has as required, and lets nothing else in.
fn check_schema(schema: &Value) {
    if schema["type"] == "object" {
        assert_eq!(schema["additionalProperties"], false, "{schema}");
        let properties = schema["properties"].as_object().unwrap();
        let required: Vec<_> =
            schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(properties.keys().all(|name| required.contains(&name.as_str())), "{schema}");
        assert_eq!(properties.len(), required.len());
        properties.values().for_each(check_schema);
    }
    if schema["type"] == "array" {
        check_schema(&schema["items"]);
    }
    assert!(schema["type"].is_string(), "{schema}");
}

/// A tone as a model writes it, with one phrase that is in no text.
pub fn tone() -> Value {
    json!({
        "score": -0.62, "confidence": 0.9, "subjectivity": 0.3, "class": "mixed",
        "phrases": [{ "text": "schlimme Krise", "valence": -3.2 }, { "text": "made up", "valence": -1 }],
    })
}
