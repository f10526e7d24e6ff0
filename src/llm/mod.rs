//! A language model behind HTTP, off unless configured. Everything that asks it goes on without an answer, and no answer is used before it
//! was checked: what it says decides numbers, labels and phrases within bounds, never what the program does.

mod breaker;
mod error;
mod gemini;
mod limit;
mod note;
mod openai;
mod sentiment;
mod settings;
mod stats;
mod translations;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, redirect};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use url::Url;

use crate::clock::{Clock, system_rng};
use crate::ingest::fetch::{RetryAfter, tls_config};
use crate::telemetry;
use breaker::Breaker;
pub use breaker::BreakerState;
pub use error::LlmError;
use limit::Limit;
pub use sentiment::{Class, Tone};
pub use settings::{LlmProvider, LlmSettings};
use stats::Counters;
pub use stats::LlmStats;
pub use translations::LANGUAGES;
use wire::{Prompt, Reply, Wire};

/// Name of the analyzer whose version is the model's name.
pub const ANALYZER: &str = "llm";

/// Largest answer, in bytes after decompression.
const MAX_BYTES: usize = 1024 * 1024;
/// Tries of one call at most.
const MAX_TRIES: u32 = 4;
/// The longest `Retry-After` that is believed.
const MAX_HOLD: Duration = Duration::from_secs(300);

/// A client of one model. Clones share its limits, its circuit breaker and its counters.
#[derive(Clone, Debug)]
pub struct Llm(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    wire: Box<dyn Wire>,
    url: Url,
    /// Marked as sensitive, so that not even `Debug` shows the key.
    key: Option<(HeaderName, HeaderValue)>,
    settings: LlmSettings,
    clock: Clock,
    limit: Limit,
    breaker: Breaker,
    counters: Counters,
}

impl Llm {
    /// A client by `settings`. No request is made yet.
    pub fn new(settings: LlmSettings, clock: Clock) -> Result<Self, LlmError> {
        let wire: Box<dyn Wire> = match settings.provider {
            LlmProvider::Gemini => Box::new(gemini::Gemini),
            LlmProvider::OpenAi => Box::new(openai::OpenAi),
        };
        let url = settings::endpoint(&settings.url, &wire.path(&settings.model))?;
        let key = settings.key.as_ref().map(|key| wire.key_header(key.expose()));
        // The key is sent to whom it was given for: redirects are not followed, and no proxy is used.
        let client = Client::builder()
            .tls_backend_preconfigured(tls_config().map_err(|_| LlmError::Setup("TLS could not be set up"))?)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("euhub/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|_| LlmError::Setup("the HTTP client could not be set up"))?;
        telemetry::llm_breaker(false);
        Ok(Self(Arc::new(Inner {
            client,
            wire,
            url,
            key: key.transpose()?,
            limit: Limit::new(settings.requests_per_minute),
            breaker: Breaker::new(settings.breaker_failures, settings.breaker_pause),
            counters: Counters::default(),
            settings,
            clock,
        })))
    }

    /// Name of the model.
    pub fn model(&self) -> &str {
        &self.0.settings.model
    }

    /// What this client has done since the process started.
    pub fn stats(&self) -> LlmStats {
        let Inner { counters, settings, breaker, .. } = &*self.0;
        counters.snapshot(settings, breaker.state(Instant::now()))
    }

    /// Asks, and gives what `check` makes of the answer: an answer that is not exactly of the form `R` never gets that far.
    async fn ask<R: DeserializeOwned, T>(
        &self,
        prompt: &Prompt,
        check: impl FnOnce(R) -> Result<T, &'static str>,
    ) -> Result<T, LlmError> {
        let started = Instant::now();
        let answer = self.0.call(prompt).await.and_then(|text| {
            let answer =
                serde_json::from_str(&text).map_err(|_| "it is not of the schema that was asked for");
            answer.and_then(check).map_err(LlmError::InvalidAnswer)
        });
        self.0.counters.called(answer.as_ref().err());
        telemetry::llm_called(started.elapsed(), answer.is_err());
        answer
    }
}

impl Inner {
    /// One call: the text of the answer, after as many tries as time and their number allow.
    async fn call(&self, prompt: &Prompt) -> Result<String, LlmError> {
        let body = serde_json::to_vec(&self.wire.body(&self.settings.model, prompt))
            .map_err(|_| LlmError::Setup("the request could not be written"))?;
        let longest = self.settings.timeout.min(prompt.longest);
        let deadline = Instant::now() + longest;
        let mut failed: Option<LlmError> = None;
        for tries in 1.. {
            if !self.breaker.lets_pass(Instant::now()) {
                return Err(failed.unwrap_or(LlmError::BreakerOpen));
            }
            let Some(turn) = self.limit.reserve(Instant::now(), deadline) else {
                return Err(failed.unwrap_or(LlmError::Busy));
            };
            sleep_until(turn).await;
            let Some(pass) = self.breaker.enter(Instant::now()) else {
                return Err(failed.unwrap_or(LlmError::BreakerOpen));
            };
            // No single try may use up the time of the next.
            let left = deadline.saturating_duration_since(Instant::now()).min(longest / 2);
            self.counters.tried();
            let error = match timeout(left, self.send(body.clone())).await.unwrap_or(Err(LlmError::Timeout)) {
                Ok(reply) => {
                    self.counters.spent(reply.tokens_in, reply.tokens_out);
                    telemetry::llm_spent(reply.tokens_in, reply.tokens_out);
                    if pass.succeeded() {
                        telemetry::recovered("llm");
                        telemetry::llm_breaker(false);
                    }
                    return reply.answer;
                }
                Err(error) => error,
            };
            if !error.is_outage() {
                pass.succeeded();
            } else if pass.failed(Instant::now()) {
                telemetry::away("llm", &error);
                telemetry::llm_breaker(true);
            }
            if let LlmError::Limited { retry_after: Some(wait) } = error {
                self.limit.hold(Instant::now() + wait.min(MAX_HOLD));
            }
            let pause = self.settings.backoff * 2_u32.pow(tries - 1);
            let pause = pause.mul_f64(system_rng().random_range(0.5..1.5));
            if tries == MAX_TRIES || !error.may_pass() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            failed = Some(error);
            sleep(pause).await;
        }
        Err(failed.unwrap_or(LlmError::Busy))
    }

    async fn send(&self, body: Vec<u8>) -> Result<Reply, LlmError> {
        let mut request =
            self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        if let Some((name, value)) = &self.key {
            request = request.header(name, value);
        }
        // What the client says of an error may hold the URL, and is left out.
        let response = request.send().await.map_err(|_| LlmError::Unreachable)?;
        let status = response.status().as_u16();
        match status {
            200 => self.wire.read(&read(response).await?).ok_or(LlmError::InvalidResponse),
            429 => {
                let value = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let retry_after = value.and_then(RetryAfter::parse);
                Err(LlmError::Limited { retry_after: retry_after.map(|wait| wait.delay(self.clock.now())) })
            }
            _ => Err(LlmError::Status(status)),
        }
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, LlmError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| LlmError::Unreachable)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(LlmError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
