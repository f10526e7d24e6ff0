//! Who calls, and what they may: API keys with scopes, checked once for gRPC and REST alike, by a layer in front of every service.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use rand::Rng;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use subtle::ConstantTimeEq;
use tonic::Status;

use crate::admin::store;
use crate::clock::Clock;
use crate::error::{Error, Result};

/// What every key starts with, so that a leaked one is recognised.
const KEY_PREFIX: &str = "euhub_";
/// Random bytes of a key.
const KEY_BYTES: usize = 32;
/// Longest key that is looked at.
const MAX_KEY_LENGTH: usize = 256;
/// Characters of a request id that are kept.
const MAX_REQUEST_ID: usize = 128;

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scope {
    /// Reading, where it is not public.
    Read,
    /// Proposing keywords.
    Suggest,
    /// Sources, keywords and administration; includes `read` and `suggest`.
    Admin,
    /// Backups.
    Backup,
}

impl Scope {
    /// The scope's name in keys and errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Suggest => "suggest",
            Self::Admin => "admin",
            Self::Backup => "backup",
        }
    }
}

/// Who a call comes from; every request that passed [`authorize`] carries one.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `key:{number}`, `key-file` or `public`.
    pub actor: String,
    /// Address of the client.
    pub client: String,
    /// Id of the request, as the client or the edge gave it; empty when neither did.
    pub request_id: String,
}

/// What the layer decides with.
#[derive(Clone)]
pub struct Authorizer {
    db: PgPool,
    clock: Clock,
    public_read: bool,
    admin_key_hash: Option<Arc<[u8; 32]>>,
    trusted_proxies: Arc<[IpNet]>,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("public_read", &self.public_read).finish_non_exhaustive()
    }
}

impl Authorizer {
    /// Reads the admin key file, where there is one. Of `trusted_proxies`, `x-forwarded-for` is believed.
    pub fn new(
        db: PgPool,
        clock: Clock,
        public_read: bool,
        admin_key_file: Option<&Path>,
        trusted_proxies: Vec<IpNet>,
    ) -> Result<Self, String> {
        let admin_key_hash = match admin_key_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("EUHUB_ADMIN_KEY_FILE {}: {error}", path.display()))?;
                let key = text.trim();
                if key.len() < KEY_BYTES {
                    return Err(format!(
                        "EUHUB_ADMIN_KEY_FILE {}: a key has at least {KEY_BYTES} characters; `openssl rand -base64 33` makes one",
                        path.display()
                    ));
                }
                Some(Arc::new(hash(key)))
            }
        };
        Ok(Self { db, clock, public_read, admin_key_hash, trusted_proxies: trusted_proxies.into() })
    }

    /// Decides one call: its caller, or why it is refused.
    async fn decide(&self, call: Call) -> Result<Caller> {
        let need = required_scope(&call.path);
        let caller = |actor: String| Caller { actor, client: call.client, request_id: call.request_id };
        let Some(key) = call.key? else {
            return match need {
                None => Ok(caller("public".into())),
                Some(Scope::Read) if self.public_read => Ok(caller("public".into())),
                Some(_) => Err(Error::Unauthenticated(
                    "this call needs an API key: `authorization: Bearer euhub_...`",
                )),
            };
        };
        let hash = hash(&key);
        if let Some(admin) = &self.admin_key_hash
            && bool::from(admin.ct_eq(&hash))
        {
            return Ok(caller("key-file".into()));
        }
        let found = store::find_api_key(&self.db, &hash, self.clock.now()).await?;
        let Some(found) = found else {
            return Err(Error::Unauthenticated("the API key is unknown, expired or revoked"));
        };
        let has = |scope: Scope| found.scopes.iter().any(|name| name == scope.as_str());
        let allowed = match need {
            None => true,
            Some(Scope::Read) if self.public_read => true,
            Some(scope @ (Scope::Read | Scope::Suggest)) => has(scope) || has(Scope::Admin),
            Some(scope) => has(scope),
        };
        match (allowed, need) {
            (false, Some(scope)) => Err(Error::PermissionDenied(scope.as_str())),
            _ => Ok(caller(format!("key:{}", found.id))),
        }
    }
}

/// The layer: refuses the call, or passes it on with its [`Caller`].
pub async fn authorize(State(authorizer): State<Authorizer>, mut request: Request, next: Next) -> Response {
    match authorizer.decide(Call::of(&request, &authorizer.trusted_proxies)).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            let mut response = next.run(request).await;
            response.extensions_mut().insert(caller);
            response
        }
        Err(error) => Status::from(error).into_http::<axum::body::Body>().into_response(),
    }
}

/// What a request says of its caller.
struct Call {
    path: String,
    key: Result<Option<String>>,
    client: String,
    request_id: String,
}

impl Call {
    fn of(request: &Request, trusted_proxies: &[IpNet]) -> Self {
        let header = |name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        // The edge in this process has no connection, and says itself who called.
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
        let client = match peer {
            Some(peer) if !trusted_proxies.iter().any(|network| network.contains(&peer.ip())) => {
                peer.ip().to_string()
            }
            _ => header("x-forwarded-for").rsplit(',').next().unwrap_or_default().trim().to_owned(),
        };
        Self {
            path: request.uri().path().to_owned(),
            key: bearer(request),
            client,
            request_id: header("x-request-id").chars().take(MAX_REQUEST_ID).collect(),
        }
    }
}

/// The key of a request; an `authorization` header that holds none is an error, never a public call.
fn bearer(request: &Request) -> Result<Option<String>> {
    let Some(value) = request.headers().get(http::header::AUTHORIZATION) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .filter(|value| value.len() <= MAX_KEY_LENGTH)
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| Some(key.trim().to_owned()))
        .ok_or(Error::Unauthenticated("the authorization header must be `Bearer euhub_...`"))
}

/// The scope that an RPC needs; `None` for what is always public. What is not listed needs `admin`.
fn required_scope(path: &str) -> Option<Scope> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (service, method) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match service {
        "grpc.health.v1.Health"
        | "grpc.reflection.v1.ServerReflection"
        | "grpc.reflection.v1alpha.ServerReflection" => None,
        "euhub.v1.AdminService" if method == "GetStatus" => None,
        "euhub.v1.ArticleService" | "euhub.v1.SearchService" | "euhub.v1.SentimentService" => {
            Some(Scope::Read)
        }
        "euhub.v1.KeywordService" => match method {
            "CreateKeyword" | "UpdateKeyword" | "DeleteKeyword" => Some(Scope::Admin),
            _ => Some(Scope::Read),
        },
        _ => Some(Scope::Admin),
    }
}

/// A new key: what the caller is shown once, and the hash that is kept.
pub fn generate_key(rng: &mut impl Rng) -> (String, [u8; 32]) {
    let mut bytes = [0u8; KEY_BYTES];
    rng.fill_bytes(&mut bytes);
    let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hash(&key);
    (key, hash)
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_anything_needs_admin() {
        for path in [
            "/euhub.v1.KeywordService/CreateKeyword",
            "/euhub.v1.KeywordService/UpdateKeyword",
            "/euhub.v1.KeywordService/DeleteKeyword",
            "/euhub.v1.SourceService/ListSources",
            "/euhub.v1.DocumentService/GetDocument",
            "/euhub.v1.AdminService/AnythingNew",
            "/other.Service/Method",
            "/",
        ] {
            assert_eq!(required_scope(path), Some(Scope::Admin), "{path}");
        }
        assert_eq!(required_scope("/euhub.v1.SearchService/SearchArticles"), Some(Scope::Read));
        assert_eq!(required_scope("/euhub.v1.AdminService/GetStatus"), None);
    }

    #[test]
    fn keys_are_random_and_hashed() {
        let (first, first_hash) = generate_key(&mut crate::clock::system_rng());
        let (second, _) = generate_key(&mut crate::clock::system_rng());
        assert_ne!(first, second);
        assert!(first.starts_with(KEY_PREFIX) && first.len() > 45);
        assert_eq!(hash(&first), first_hash);
    }
}
