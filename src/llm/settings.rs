//! How the model is reached.

use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::LlmError;
use crate::config::{Config, Secret};

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LlmProvider {
    /// Gemini's `generateContent`.
    Gemini,
    /// Chat completions, as OpenAI and compatible servers have them.
    OpenAi,
}

/// How a model is reached, and how often.
#[derive(Clone, Debug)]
pub struct LlmSettings {
    /// The protocol.
    pub provider: LlmProvider,
    /// Base URL, with the version and without what the protocol appends.
    pub url: String,
    /// Name of the model.
    pub model: String,
    /// The key; a server of one's own may need none.
    pub key: Option<Secret>,
    /// Most requests a minute of this process, tries again included.
    pub requests_per_minute: u32,
    /// Longest a call may take, tries again and waiting included; one try may take half of it.
    pub timeout: Duration,
    /// About how long to wait before the first try again; each next takes twice as long.
    pub backoff: Duration,
    /// Failures in a row after which nothing is sent for a while.
    pub breaker_failures: u32,
    /// How long that is.
    pub breaker_pause: Duration,
    /// Price of a million tokens of questions.
    pub price_in_per_million: f64,
    /// Price of a million tokens of answers.
    pub price_out_per_million: f64,
}

impl LlmSettings {
    /// Settings of a model, with what holds unless told otherwise.
    pub fn new(provider: LlmProvider, model: impl Into<String>) -> Self {
        let url = match provider {
            LlmProvider::Gemini => "https://generativelanguage.googleapis.com/v1beta",
            LlmProvider::OpenAi => "https://api.openai.com/v1",
        };
        Self {
            provider,
            url: url.into(),
            model: model.into(),
            key: None,
            requests_per_minute: 30,
            timeout: Duration::from_secs(60),
            backoff: Duration::from_secs(1),
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(60),
            price_in_per_million: 0.0,
            price_out_per_million: 0.0,
        }
    }

    /// What the process's settings say; none when no provider is set.
    pub fn from_config(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(provider) = config.llm_provider else { return Ok(None) };
        let model = config.llm_model.as_deref().map(str::trim).unwrap_or_default();
        if model.is_empty() || model.len() > 200 || model.chars().any(char::is_control) {
            bail!("llm_provider is set without a usable llm_model");
        }
        let key = match (&config.llm_api_key, &config.llm_api_key_file) {
            (Some(_), Some(_)) => bail!("llm_api_key and llm_api_key_file are both set"),
            (Some(key), None) => Some(key.expose().to_owned()),
            (None, Some(path)) => Some(
                std::fs::read_to_string(path)
                    .with_context(|| format!("llm_api_key_file: cannot read {}", path.display()))?,
            ),
            (None, None) => None,
        };
        let key = key.map(|key| key.trim().to_owned());
        if key.as_ref().is_some_and(String::is_empty) {
            bail!("the key of the language model is empty");
        }
        for (name, number) in [
            ("llm_requests_per_minute", u64::from(config.llm_requests_per_minute)),
            ("llm_timeout_seconds", config.llm_timeout_seconds),
        ] {
            if !(1..=100_000).contains(&number) {
                bail!("{name} must be 1 to 100000");
            }
        }
        let prices = [config.llm_price_in_per_million, config.llm_price_out_per_million];
        if !prices.iter().all(|price| price.is_finite() && *price >= 0.0) {
            bail!("llm_price_in_per_million and llm_price_out_per_million must be 0 or more");
        }
        let defaults = Self::new(provider, model);
        Ok(Some(Self {
            url: config.llm_url.clone().unwrap_or(defaults.url),
            key: key.map(Secret::new),
            requests_per_minute: config.llm_requests_per_minute,
            timeout: Duration::from_secs(config.llm_timeout_seconds),
            price_in_per_million: prices[0],
            price_out_per_million: prices[1],
            ..defaults
        }))
    }
}

/// The URL that is asked. It holds no secret, and one that seems to is refused: URLs end up in logs.
pub(super) fn endpoint(base: &str, path: &[String]) -> Result<Url, LlmError> {
    let mut url = Url::parse(base).map_err(|_| LlmError::Setup("llm_url is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(LlmError::Setup("llm_url must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(LlmError::Setup("llm_url must hold no user, password or query: the key is llm_api_key"));
    }
    url.set_fragment(None);
    url.path_segments_mut()
        .map_err(|()| LlmError::Setup("llm_url is not a URL"))?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}
