//! Who calls, and what they may: API keys with scopes, checked once for gRPC and REST alike, by a layer in front of every service.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use rand::Rng;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use subtle::ConstantTimeEq;
use tonic::{Code, Status};

use crate::admin::{audit, store};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::telemetry;

/// What every key starts with, so that a leaked one is recognised.
const KEY_PREFIX: &str = "euhub_";
/// Random bytes of a key.
const KEY_BYTES: usize = 32;
/// Longest key that is looked at.
const MAX_KEY_LENGTH: usize = 256;
/// Wrong keys from one address in a minute, after which no more keys are looked at until that minute is over.
const WRONG_KEYS: u32 = 100;
/// Addresses whose wrong keys are counted.
const WRONG_KEY_CLIENTS: u64 = 10_000;
/// How exactly a key's last use is kept.
const LAST_USE_STEP: TimeDelta = TimeDelta::minutes(1);
/// Characters of a request id that are kept.
const MAX_REQUEST_ID: usize = 128;

/// Metadata of an answer: who the caller is, for the edge's access line.
pub const ACTOR: HeaderName = HeaderName::from_static("x-euhub-actor");

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scope {
    /// Reading, where it is not public.
    Read,
    /// Proposing keywords and voting for proposals, where reading is not public.
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
    /// Its key has the scope `admin`.
    pub admin: bool,
}

/// What the layer decides with.
#[derive(Clone)]
pub struct Authorizer {
    db: PgPool,
    clock: Clock,
    public_read: bool,
    admin_key_hash: Option<Arc<[u8; 32]>>,
    trusted_proxies: Arc<[IpNet]>,
    wrong_keys: moka::future::Cache<String, Arc<AtomicU32>>,
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
        let wrong_keys = moka::future::Cache::builder()
            .max_capacity(WRONG_KEY_CLIENTS)
            .time_to_live(Duration::from_secs(60))
            .build();
        let trusted_proxies = trusted_proxies.into();
        Ok(Self { db, clock, public_read, admin_key_hash, trusted_proxies, wrong_keys })
    }

    /// Decides one call: who makes it, and why it is refused if it is.
    async fn decide(&self, call: &Call) -> (Caller, Result<()>) {
        let caller = |actor: String| Caller {
            actor,
            client: call.client.clone(),
            request_id: call.request_id.clone(),
            admin: false,
        };
        let public = || caller("public".into());
        let key = match &call.key {
            Ok(Some(key)) => key,
            Ok(None) => {
                let allowed = match call.need {
                    None => Ok(()),
                    Some(Scope::Read | Scope::Suggest) if self.public_read => Ok(()),
                    Some(_) => Err(Error::Unauthenticated(
                        "this call needs an API key: `authorization: Bearer euhub_...`",
                    )),
                };
                return (public(), allowed);
            }
            Err(reason) => return (public(), Err(Error::Unauthenticated(reason))),
        };
        let wrong = self.wrong_keys.get_with(call.client.clone(), async { Arc::default() }).await;
        if wrong.load(Ordering::Relaxed) >= WRONG_KEYS {
            let reason = "too many wrong API keys from this address; try again in a minute";
            return (public(), Err(Error::ResourceExhausted(reason)));
        }
        let hash = hash(key);
        if let Some(admin) = &self.admin_key_hash
            && bool::from(admin.ct_eq(&hash))
        {
            return (Caller { admin: true, ..caller("key-file".into()) }, Ok(()));
        }
        let now = self.clock.now();
        let found = match store::find_api_key(&self.db, &hash, now).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                wrong.fetch_add(1, Ordering::Relaxed);
                let reason = "the API key is unknown, expired or revoked";
                return (public(), Err(Error::Unauthenticated(reason)));
            }
            // What anybody may ask is answered while the database is away: above all, how the server is.
            Err(_) if call.need.is_none() => return (public(), Ok(())),
            Err(error) => return (public(), Err(error)),
        };
        let has = |scope: Scope| found.scopes.iter().any(|name| name == scope.as_str());
        let caller = Caller { admin: has(Scope::Admin), ..caller(format!("key:{}", found.id)) };
        if found.last_use_time.is_none_or(|last| now - last >= LAST_USE_STEP)
            && let Err(error) = store::touch_api_key(&self.db, found.id, now).await
        {
            return (caller, Err(error));
        }
        let allowed = match call.need {
            None => Ok(()),
            Some(Scope::Read | Scope::Suggest) if self.public_read => Ok(()),
            Some(Scope::Read | Scope::Suggest) if has(Scope::Admin) => Ok(()),
            Some(scope) if has(scope) => Ok(()),
            Some(scope) => Err(Error::PermissionDenied(scope.as_str())),
        };
        (caller, allowed)
    }
}

/// The layer: refuses the call, or passes it on with its [`Caller`]. Calls to administration leave an audit row, whatever becomes of
/// them; a change that was made has left one in its own transaction.
pub async fn authorize(State(authorizer): State<Authorizer>, mut request: Request, next: Next) -> Response {
    let call = Call::of(&request, &authorizer.trusted_proxies);
    let (caller, allowed) = authorizer.decide(&call).await;
    let refused = |error: Error| Status::from(error).into_http::<axum::body::Body>().into_response();
    let mut response = match allowed {
        // As at any rate limit, nothing is kept: a flood must not fill the log.
        Err(error @ Error::ResourceExhausted(_)) => {
            telemetry::refused(&error, false);
            return refused(error);
        }
        Ok(()) => {
            request.extensions_mut().insert(caller.clone());
            next.run(request).await
        }
        Err(error) => {
            telemetry::refused(&error, matches!(call.key, Ok(None)));
            refused(error)
        }
    };
    if matches!(call.need, Some(Scope::Admin | Scope::Backup)) {
        let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
        let kept = if code == Code::Ok && !only_reads(&call.path) {
            Ok(())
        } else {
            let (now, action) = (authorizer.clock.now(), call.action());
            audit::audit_outcome(&authorizer.db, &caller, action, outcome(code), now).await
        };
        if let Err(error) = kept {
            // What cannot be audited is not answered.
            response = refused(error);
        }
    }
    if let Ok(actor) = HeaderValue::from_str(&caller.actor) {
        response.headers_mut().insert(ACTOR, actor);
    }
    response.extensions_mut().insert(caller);
    response
}

/// How the audit log names what became of a call.
fn outcome(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        code => euhub_edge::http::code_name(code),
    }
}

/// What a request says of its caller.
struct Call {
    path: String,
    /// The scope that it needs.
    need: Option<Scope>,
    /// The key, none, or why what was sent is none.
    key: Result<Option<String>, &'static str>,
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
            need: required_scope(request.uri().path()),
            key: bearer(request),
            client,
            request_id: header("x-request-id").chars().take(MAX_REQUEST_ID).collect(),
        }
    }

    /// `Service/Method`.
    fn action(&self) -> &str {
        let path = self.path.trim_start_matches('/');
        path.strip_prefix("euhub.v1.").unwrap_or(path)
    }
}

/// Whether an RPC may change what others read: not so administration's own services, which have keys, the cache and the log, nor backups.
pub fn may_change(path: &str) -> bool {
    required_scope(path) == Some(Scope::Admin)
        && !only_reads(path)
        && !["/euhub.v1.AdminService/", "/euhub.v1.OperationsService/"]
            .iter()
            .any(|own| path.starts_with(own))
}

/// Whether a method changes nothing, going by its name.
fn only_reads(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    ["Get", "List", "Search", "Export", "Watch"].iter().any(|verb| method.starts_with(verb))
}

/// The key of a request; an `authorization` header that holds none is an error, never a public call.
fn bearer(request: &Request) -> Result<Option<String>, &'static str> {
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
        .ok_or("the authorization header must be `Bearer euhub_...`")
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
        "euhub.v1.OperationsService" if method == "GetDetailedHealth" => None,
        "euhub.v1.ArticleService" | "euhub.v1.SearchService" | "euhub.v1.SentimentService" => {
            Some(Scope::Read)
        }
        "euhub.v1.KeywordService" => match method {
            "CreateKeyword" | "UpdateKeyword" | "DeleteKeyword" => Some(Scope::Admin),
            _ => Some(Scope::Read),
        },
        "euhub.v1.SuggestionService" => match method {
            "CreateSuggestion" | "VoteSuggestion" => Some(Scope::Suggest),
            "GetSuggestion" | "ListSuggestions" => Some(Scope::Read),
            _ => Some(Scope::Admin),
        },
        "euhub.v1.BackupService" => Some(Scope::Backup),
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
            "/euhub.v1.OperationsService/SetLog",
            "/euhub.v1.SuggestionService/ApproveSuggestion",
            "/euhub.v1.SuggestionService/AnythingNew",
            "/other.Service/Method",
            "/",
        ] {
            assert_eq!(required_scope(path), Some(Scope::Admin), "{path}");
        }
        assert_eq!(required_scope("/euhub.v1.SearchService/SearchArticles"), Some(Scope::Read));
        assert_eq!(required_scope("/euhub.v1.SuggestionService/VoteSuggestion"), Some(Scope::Suggest));
        assert_eq!(required_scope("/euhub.v1.BackupService/AnythingNew"), Some(Scope::Backup));
        assert_eq!(required_scope("/euhub.v1.AdminService/GetStatus"), None);
        assert_eq!(required_scope("/euhub.v1.OperationsService/GetDetailedHealth"), None);
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
