//! Gemini's `generateContent`.

use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::LlmError;
use super::wire::{Prompt, Reply, Wire, sensitive};

#[derive(Debug)]
pub(super) struct Gemini;

impl Wire for Gemini {
    fn path(&self, model: &str) -> Vec<String> {
        let model = model.strip_prefix("models/").unwrap_or(model);
        vec!["models".into(), format!("{model}:generateContent")]
    }

    fn key_header(&self, key: &str) -> Result<(HeaderName, HeaderValue), LlmError> {
        Ok((HeaderName::from_static("x-goog-api-key"), sensitive(key)?))
    }

    fn body(&self, _model: &str, prompt: &Prompt) -> Value {
        json!({
            "systemInstruction": { "parts": [{ "text": prompt.system() }] },
            "contents": [{ "role": "user", "parts": [{ "text": prompt.data.to_string() }] }],
            "generationConfig": {
                "responseMimeType": "application/json",
                "responseJsonSchema": prompt.schema,
            },
        })
    }

    fn read(&self, body: &[u8]) -> Option<Reply> {
        let Response { candidates, prompt_feedback, usage_metadata: usage } =
            serde_json::from_slice(body).ok()?;
        let answer = match candidates.into_iter().next() {
            Some(candidate) if candidate.finish_reason.as_deref() == Some("STOP") => {
                let parts = candidate.content.unwrap_or_default().parts;
                Ok(parts.into_iter().filter(|part| !part.thought).filter_map(|part| part.text).collect())
            }
            Some(_) => Err(LlmError::Refused),
            None if prompt_feedback.is_some() => Err(LlmError::Refused),
            None => return None,
        };
        Some(Reply {
            answer,
            tokens_in: usage.prompt_token_count,
            tokens_out: usage.candidates_token_count.saturating_add(usage.thoughts_token_count),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    candidates: Vec<Candidate>,
    /// Why the prompt itself was blocked.
    prompt_feedback: Option<Value>,
    #[serde(default)]
    usage_metadata: Usage,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    content: Option<Content>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Content {
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
    /// The model's own notes, which are no part of the answer.
    #[serde(default)]
    thought: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Usage {
    prompt_token_count: u64,
    candidates_token_count: u64,
    thoughts_token_count: u64,
}
