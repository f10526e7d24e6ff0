//! Chat completions as OpenAI defines them and many servers offer them.

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::LlmError;
use super::wire::{Prompt, Reply, Wire, sensitive};

#[derive(Debug)]
pub(super) struct OpenAi;

impl Wire for OpenAi {
    fn path(&self, _model: &str) -> Vec<String> {
        vec!["chat".into(), "completions".into()]
    }

    fn key_header(&self, key: &str) -> Result<(HeaderName, HeaderValue), LlmError> {
        Ok((AUTHORIZATION, sensitive(&format!("Bearer {key}"))?))
    }

    fn body(&self, model: &str, prompt: &Prompt) -> Value {
        json!({
            "model": model,
            "messages": [
                { "role": "system", "content": prompt.system() },
                { "role": "user", "content": prompt.data.to_string() },
            ],
            "response_format": {
                "type": "json_schema",
                "json_schema": { "name": prompt.name, "strict": true, "schema": prompt.schema },
            },
        })
    }

    fn read(&self, body: &[u8]) -> Option<Reply> {
        let Response { choices, usage } = serde_json::from_slice(body).ok()?;
        let Choice { message, finish_reason } = choices.into_iter().next()?;
        let usage = usage.unwrap_or_default();
        // Some compatible servers leave the reason out; an answer that was cut off still fails its schema.
        let whole = finish_reason.is_none_or(|reason| reason == "stop") && message.refusal.is_none();
        Some(Reply {
            answer: message.content.filter(|_| whole).ok_or(LlmError::Refused),
            tokens_in: usage.prompt_tokens,
            tokens_out: usage.completion_tokens,
        })
    }
}

#[derive(Deserialize)]
struct Response {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}
