//! Why a fetch failed.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;

use super::retry_after::RetryAfter;

/// A failed fetch. Messages name no address, path or user information, so that they may be stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL cannot be fetched as it stands.
    #[error("the URL {0}")]
    InvalidUrl(&'static str),
    /// The host is, or resolves to, an address that is not public.
    #[error("the host is not on the public internet (private ones need EUHUB_ALLOW_PRIVATE_SOURCES=true)")]
    PrivateAddress,
    /// The host name did not resolve.
    #[error("the host name did not resolve")]
    Dns,
    /// Nothing listens at the host's port.
    #[error("the connection was refused")]
    Refused,
    /// No connection for another reason.
    #[error("no connection to the host")]
    Connect,
    /// The TLS handshake failed: an untrusted certificate, a wrong name, no common version.
    #[error("the TLS handshake failed")]
    Tls,
    /// Connecting or the whole fetch took too long.
    #[error("the time limit passed")]
    Timeout,
    /// The body passes the size limit, in bytes after decompression.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The redirects form a circle, or there are too many.
    #[error("redirected in a circle or too often")]
    RedirectLoop,
    /// A redirect without a usable target.
    #[error("a redirect without a usable target")]
    InvalidRedirect,
    /// The server answered with a status that carries no feed.
    #[error("the server answered {status}")]
    HttpStatus {
        /// HTTP status code.
        status: u16,
        /// The server's `Retry-After`, on 429 and 503.
        retry_after: Option<RetryAfter>,
    },
    /// The answer is not valid HTTP, or its compression is broken.
    #[error("the answer is not valid HTTP")]
    InvalidResponse,
    /// The connection ended before the body did.
    #[error("the connection ended early")]
    Interrupted,
    /// A local file could not be read.
    #[error("the file could not be read: {0}")]
    File(io::ErrorKind),
    /// The HTTP client could not be set up.
    #[error("the HTTP client could not be set up")]
    Setup,
}

impl FetchError {
    /// A stable name for the kind of failure, kept with the run: `dns`, `timeout`, `http_status_404`.
    pub fn class(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::HttpStatus { status, .. } => return Cow::Owned(format!("http_status_{status}")),
            Self::InvalidUrl(_) => "invalid_url",
            Self::PrivateAddress => "private_address",
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::TooLarge(_) => "too_large",
            Self::RedirectLoop => "redirect_loop",
            Self::InvalidRedirect => "invalid_redirect",
            Self::InvalidResponse => "invalid_response",
            Self::Interrupted => "interrupted",
            Self::File(_) => "file",
            Self::Setup => "setup",
        })
    }

    /// What the server said about when to come back, if it did.
    pub fn retry_after(&self) -> Option<RetryAfter> {
        match self {
            Self::HttpStatus { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        // The causes are more telling than the client's own categories, so they are looked at first.
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(current) = cause {
            if let Some(known) = known_cause(current) {
                return known;
            }
            cause = current.source();
        }
        if error.is_timeout() {
            Self::Timeout
        } else if error.is_dns() {
            Self::Dns
        } else if error.is_connect() {
            Self::Connect
        } else if error.is_body() {
            Self::Interrupted
        } else {
            Self::InvalidResponse
        }
    }
}

fn known_cause(error: &(dyn StdError + 'static)) -> Option<FetchError> {
    if let Some(own) = error.downcast_ref::<FetchError>() {
        return Some(own.clone());
    }
    if error.is::<rustls::Error>() {
        return Some(FetchError::Tls);
    }
    let io = error.downcast_ref::<io::Error>()?;
    // An io::Error does not list what it wraps among its sources.
    if let Some(inner) = io.get_ref()
        && let Some(known) = known_cause(inner)
    {
        return Some(known);
    }
    match io.kind() {
        io::ErrorKind::ConnectionRefused => Some(FetchError::Refused),
        io::ErrorKind::TimedOut => Some(FetchError::Timeout),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Some(FetchError::Interrupted),
        _ => None,
    }
}
