//! Gets a feed over HTTP, safely: bounded in size, time and redirects, never from a private address, one
//! request a host at a time.
//!
//! Redirects are followed here rather than by the client, so that every hop is checked like the first URL.
//! No proxy is ever used: a proxy would resolve names itself, behind the address check.

mod address;
mod error;
mod file;
mod gate;
mod retry_after;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    LOCATION, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, redirect};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use url::{Host, Url};

pub use address::is_public;
pub use error::FetchError;
pub use gate::{HostGate, HostPermit};
pub use retry_after::RetryAfter;

/// Longest URL fetched or followed, in bytes.
pub const MAX_URL_LENGTH: usize = 2_048;

/// Longest validator or content type kept from a response, in bytes.
const MAX_HEADER_LENGTH: usize = 512;

const FEED_TYPES: &str = "application/rss+xml, application/atom+xml, application/rdf+xml, application/feed+json, \
     application/xml;q=0.9, text/xml;q=0.9, application/json;q=0.8, */*;q=0.5";

/// The bounds of a fetch.
#[derive(Debug, Clone)]
pub struct FetchPolicy {
    /// Allow private, loopback and link-local addresses, and `file:` URLs.
    pub allow_private: bool,
    /// The `User-Agent` sent.
    pub user_agent: String,
    /// Largest body, in bytes after decompression.
    pub max_bytes: usize,
    /// Longest wait for DNS, TCP and TLS of one hop.
    pub connect_timeout: Duration,
    /// Longest wait for everything: all redirects and the whole body.
    pub total_timeout: Duration,
    /// Most redirects followed.
    pub max_redirects: usize,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            allow_private: false,
            user_agent: concat!("euhub/", env!("CARGO_PKG_VERSION"), " (feed reader)").to_owned(),
            max_bytes: 10 * 1024 * 1024,
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(30),
            max_redirects: 5,
        }
    }
}

/// The validators of the last full answer; with either, the server may answer 304.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditional {
    /// Sent as `If-None-Match`.
    pub etag: Option<String>,
    /// Sent as `If-Modified-Since`.
    pub last_modified: Option<String>,
}

impl Conditional {
    fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// A fetch that succeeded.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// The server still has what the validators name.
    NotModified,
    /// A full answer.
    Body(Box<Body>),
}

/// A full answer.
#[derive(Debug, Clone)]
pub struct Body {
    /// The content, decompressed, in whatever charset it came.
    pub bytes: Bytes,
    /// HTTP status; 200 for a file.
    pub status: u16,
    /// The `Content-Type` header with its parameters.
    pub content_type: Option<String>,
    /// Validator for the next fetch.
    pub etag: Option<String>,
    /// Validator for the next fetch.
    pub last_modified: Option<String>,
    /// Where the content was found after redirects; the base of relative links.
    pub final_url: Url,
    /// Where the source has moved for good: the end of an unbroken chain of 301 and 308 from the first URL.
    pub moved_permanently_to: Option<Url>,
}

/// Fetches feeds. Clones share connections and the gate.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    gate: Arc<HostGate>,
    policy: Arc<FetchPolicy>,
    allowed: AddressRule,
}

/// Which addresses may be connected to.
pub type AddressRule = fn(IpAddr) -> bool;

impl Fetcher {
    /// A fetcher that holds to `policy`.
    pub fn new(policy: FetchPolicy) -> Result<Self, FetchError> {
        let allowed: AddressRule = if policy.allow_private { |_| true } else { is_public };
        Self::with_address_rule(policy, allowed)
    }

    /// A fetcher with a rule of its own for addresses, in place of the policy's.
    pub fn with_address_rule(policy: FetchPolicy, allowed: AddressRule) -> Result<Self, FetchError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls_config()?)
            .dns_resolver(Arc::new(address::CheckedResolver { allowed }))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(&policy.user_agent)
            .connect_timeout(policy.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(15))
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|_| FetchError::Setup)?;
        Ok(Self { client, gate: Arc::default(), policy: Arc::new(policy), allowed })
    }

    /// Gets `url`, following redirects. Waiting for another request to the same host does not count against
    /// the time limit.
    pub async fn fetch(&self, url: &Url, conditional: &Conditional) -> Result<Fetched, FetchError> {
        if url.scheme() == "file" && self.policy.allow_private {
            let read = file::read(url, conditional, self.policy.max_bytes);
            return tokio::time::timeout(self.policy.total_timeout, read)
                .await
                .map_err(|_| FetchError::Timeout)?;
        }
        let host = self.check(url)?;
        let permit = self.gate.enter(&host).await;
        let follow = self.follow(url.clone(), host, permit, conditional);
        tokio::time::timeout(self.policy.total_timeout, follow).await.map_err(|_| FetchError::Timeout)?
    }

    async fn follow(
        &self,
        mut url: Url,
        mut host: String,
        mut permit: HostPermit,
        conditional: &Conditional,
    ) -> Result<Fetched, FetchError> {
        let mut visited = vec![url.clone()];
        let mut moved_permanently_to = None;
        let mut all_permanent = true;
        loop {
            let response = self.send(&url, conditional).await?;
            let status = response.status();
            match status {
                StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => {
                    return self
                        .body(response, url, moved_permanently_to)
                        .await
                        .map(Box::new)
                        .map(Fetched::Body);
                }
                StatusCode::NOT_MODIFIED if !conditional.is_empty() => return Ok(Fetched::NotModified),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {}
                _ => {
                    let retry_after = matches!(status.as_u16(), 429 | 503)
                        .then(|| header(response.headers(), RETRY_AFTER))
                        .flatten()
                        .and_then(|value| RetryAfter::parse(&value));
                    return Err(FetchError::HttpStatus { status: status.as_u16(), retry_after });
                }
            }

            let next = redirect_target(&url, &response)?;
            let next_host = self.check(&next)?;
            if visited.len() > self.policy.max_redirects || visited.contains(&next) {
                return Err(FetchError::RedirectLoop);
            }
            let downgrade = url.scheme() == "https" && next.scheme() == "http";
            all_permanent &= !downgrade
                && matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT);
            if all_permanent {
                moved_permanently_to = Some(next.clone());
            }
            if next_host != host {
                // Given back before the next is taken: two fetches redirected to each other must not deadlock.
                drop(permit);
                permit = self.gate.enter(&next_host).await;
                host = next_host;
            }
            visited.push(next.clone());
            url = next;
        }
    }

    async fn send(&self, url: &Url, conditional: &Conditional) -> Result<Response, FetchError> {
        let mut request = self.client.get(url.clone()).header(ACCEPT, FEED_TYPES);
        if let Some(etag) = &conditional.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(last_modified) = &conditional.last_modified {
            request = request.header(IF_MODIFIED_SINCE, last_modified);
        }
        Ok(request.send().await?)
    }

    async fn body(
        &self,
        mut response: Response,
        final_url: Url,
        moved_permanently_to: Option<Url>,
    ) -> Result<Body, FetchError> {
        let limit = self.policy.max_bytes;
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(FetchError::TooLarge(limit));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if bytes.len() + chunk.len() > limit {
                return Err(FetchError::TooLarge(limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        let headers = response.headers();
        Ok(Body {
            bytes: bytes.into(),
            status: response.status().as_u16(),
            content_type: header(headers, CONTENT_TYPE),
            etag: header(headers, ETAG),
            last_modified: header(headers, LAST_MODIFIED),
            final_url,
            moved_permanently_to,
        })
    }

    /// Checks what can be known before DNS, and returns the host. Names are checked at connect, by the resolver.
    fn check(&self, url: &Url) -> Result<String, FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::InvalidUrl(
                "has a scheme that is not fetched (file: needs EUHUB_ALLOW_PRIVATE_SOURCES=true)",
            ));
        }
        if url.as_str().len() > MAX_URL_LENGTH {
            return Err(FetchError::InvalidUrl("is too long"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::InvalidUrl("carries user information"));
        }
        let host = url.host().ok_or(FetchError::InvalidUrl("has no host"))?;
        let literal = match host {
            Host::Ipv4(v4) => Some(IpAddr::V4(v4)),
            Host::Ipv6(v6) => Some(IpAddr::V6(v6)),
            Host::Domain(_) => None,
        };
        if literal.is_some_and(|address| !(self.allowed)(address)) {
            return Err(FetchError::PrivateAddress);
        }
        Ok(host.to_string())
    }
}

fn redirect_target(from: &Url, response: &Response) -> Result<Url, FetchError> {
    let location = response.headers().get(LOCATION).ok_or(FetchError::InvalidRedirect)?;
    // Some servers send raw UTF-8 here, which to_str() would refuse.
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| FetchError::InvalidRedirect)?;
    let mut target = from.join(location).map_err(|_| FetchError::InvalidRedirect)?;
    target.set_fragment(None);
    Ok(target)
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty() && value.len() <= MAX_HEADER_LENGTH).then(|| value.to_owned())
}

/// TLS 1.2 and 1.3 by ring, trusting the machine's certificates. On a machine with none, every `https` fetch
/// fails as `tls`, while `http` and `file` still work.
pub(crate) fn tls_config() -> Result<ClientConfig, FetchError> {
    let builder = || {
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| FetchError::Setup)
    };
    let mut config = match builder()?.with_platform_verifier() {
        Ok(trusting) => trusting.with_no_client_auth(),
        Err(_) => builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
