//! Why there is no answer.

use std::time::Duration;

/// A call without an answer that could be used. Messages are ours alone: no key, address, or text of the model or the article.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LlmError {
    /// The settings do not hold.
    #[error("{0}")]
    Setup(&'static str),
    /// The rate limit would let the request pass only after the time that the call has.
    #[error("the rate limit leaves no room for the request in time")]
    Busy,
    /// Too many requests failed in a row; nothing is sent for a while.
    #[error("the model failed too often; it is left alone for a while")]
    BreakerOpen,
    /// No answer in time.
    #[error("the model took too long")]
    Timeout,
    /// No connection, or one that broke.
    #[error("the model cannot be reached")]
    Unreachable,
    /// The server has had enough for now.
    #[error("the model's server answered 429")]
    Limited {
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Another status than 200 and 429.
    #[error("the model's server answered {0}")]
    Status(u16),
    /// The answer is larger than what is read.
    #[error("the answer is too large")]
    TooLarge,
    /// The answer is not of the protocol.
    #[error("the answer is not of the configured protocol")]
    InvalidResponse,
    /// The model gave no answer, or stopped within it.
    #[error("the model gave no whole answer")]
    Refused,
    /// The model's answer breaks its schema or bounds.
    #[error("the model's answer is not used: {0}")]
    InvalidAnswer(&'static str),
}

impl LlmError {
    /// Whether trying again may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Timeout | Self::Unreachable | Self::Limited { .. } => true,
            Self::Status(status) => *status >= 500,
            _ => false,
        }
    }

    /// Whether it says that the model cannot be used at all, rather than something about this one request.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Status(status) => !matches!(status, 400 | 413 | 422),
            Self::InvalidResponse => true,
            _ => self.may_pass(),
        }
    }
}
