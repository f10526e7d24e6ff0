//! Counters of what was asked, how it ended, and what it cost.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::breaker::BreakerState;
use super::error::LlmError;
use super::settings::{LlmProvider, LlmSettings};

/// What a client has done since the process started, for metrics and status.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LlmStats {
    /// The protocol.
    pub provider: LlmProvider,
    /// Name of the model.
    pub model: String,
    /// Calls, whatever came of them.
    pub calls: u64,
    /// Calls with an answer that was used.
    pub answered: u64,
    /// Calls whose answer broke its schema or bounds.
    pub invalid: u64,
    /// Calls that the model refused or broke off.
    pub refused: u64,
    /// Calls that the rate limit, ours or the server's, did not let pass in time.
    pub limited: u64,
    /// Calls that were not tried because the breaker was open.
    pub not_tried: u64,
    /// Calls that failed in another way.
    pub failed: u64,
    /// Requests sent; more than calls where some were sent again.
    pub requests: u64,
    /// Tokens of the questions, as the server counts them.
    pub tokens_in: u64,
    /// Tokens of the answers and of thoughts about them.
    pub tokens_out: u64,
    /// What the tokens cost by the configured prices, in their currency.
    pub cost: f64,
    /// The circuit breaker.
    pub breaker: BreakerState,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    answered: AtomicU64,
    invalid: AtomicU64,
    refused: AtomicU64,
    limited: AtomicU64,
    not_tried: AtomicU64,
    failed: AtomicU64,
    requests: AtomicU64,
    tokens_in: AtomicU64,
    tokens_out: AtomicU64,
}

impl Counters {
    pub(super) fn called(&self, error: Option<&LlmError>) {
        let counter = match error {
            None => &self.answered,
            Some(LlmError::InvalidAnswer(_)) => &self.invalid,
            Some(LlmError::Refused) => &self.refused,
            Some(LlmError::Busy | LlmError::Limited { .. }) => &self.limited,
            Some(LlmError::BreakerOpen) => &self.not_tried,
            Some(_) => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn tried(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn spent(&self, tokens_in: u64, tokens_out: u64) {
        self.tokens_in.fetch_add(tokens_in, Relaxed);
        self.tokens_out.fetch_add(tokens_out, Relaxed);
    }

    pub(super) fn snapshot(&self, settings: &LlmSettings, breaker: BreakerState) -> LlmStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let (tokens_in, tokens_out) = (read(&self.tokens_in), read(&self.tokens_out));
        let millions = |tokens: u64| tokens as f64 / 1e6;
        let mut stats = LlmStats {
            provider: settings.provider,
            model: settings.model.clone(),
            calls: 0,
            answered: read(&self.answered),
            invalid: read(&self.invalid),
            refused: read(&self.refused),
            limited: read(&self.limited),
            not_tried: read(&self.not_tried),
            failed: read(&self.failed),
            requests: read(&self.requests),
            tokens_in,
            tokens_out,
            cost: millions(tokens_in) * settings.price_in_per_million
                + millions(tokens_out) * settings.price_out_per_million,
            breaker,
        };
        stats.calls =
            stats.answered + stats.invalid + stats.refused + stats.limited + stats.not_tried + stats.failed;
        stats
    }
}
