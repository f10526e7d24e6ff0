//! Settings: defaults, then `euhub.toml`, then `EUHUB_*`, then flags. An unknown key is an error.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Deserializer, Serialize};

use crate::llm::LlmProvider;
use crate::suggestions::evaluate::Thresholds;

/// Environment variables that name one file or address outside the settings' own prefix.
const UNPREFIXED: [&str; 2] = ["DATABASE_URL", "REDIS_URL"];

/// What holds for this process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where gRPC is served.
    pub grpc_addr: SocketAddr,
    /// Where REST is served.
    pub edge_addr: SocketAddr,
    /// Where metrics are served, for processes with a port of their own for them; REST has them at `/metrics` too.
    pub metrics_addr: SocketAddr,
    /// Where the edge role finds the core (`http://host:port`); `standalone` needs none.
    pub core_url: String,
    /// Certificates that the core's is checked against, when `core_url` is `https`; the system's when not set.
    pub core_ca: Option<PathBuf>,
    /// Certificate that the edge role shows to a core that asks for one.
    pub core_cert: Option<PathBuf>,
    /// Its key.
    pub core_key: Option<PathBuf>,
    /// Certificate chain of both ports, in PEM form; plain text when not set.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// Authorities whose certificates clients of the gRPC port must show.
    pub tls_client_ca: Option<PathBuf>,
    /// TLS ends in front of this process, so browsers are told to insist on it.
    pub hsts: bool,
    /// Most connections of each port.
    pub max_connections: usize,
    /// Most connections of one address to each port; 0, or a trusted proxy in front, lifts the limit.
    pub max_connections_per_client: usize,
    /// A Postgres with pgvector; a private one is started when this is not set.
    pub database_url: Option<Secret>,
    /// A Redis for cached values; they are kept in this process when this is not set.
    pub redis_url: Option<Secret>,
    /// How long one cached keyword, article or tone is kept; 0 keeps none.
    pub cache_entity_ttl_seconds: u64,
    /// How long a cached page of a list is kept.
    pub cache_list_ttl_seconds: u64,
    /// How long cached completions and vectors of queries are kept.
    pub cache_session_ttl_seconds: u64,
    /// Where backups are: a folder, or `s3://bucket/prefix` with the usual `AWS_*` variables; `<data_dir>/backups` when not set.
    pub backup_url: Option<String>,
    /// A file with 64 hexadecimal digits: the key that backups are encrypted with; they are not when this is not set.
    pub backup_key_file: Option<PathBuf>,
    /// Days that every backup is kept for.
    pub backup_keep_days: u32,
    /// Weeks of each of which the newest backup is kept beyond that.
    pub backup_keep_weeks: u32,
    /// Months of each of which the newest backup is kept beyond that.
    pub backup_keep_months: u32,
    /// Most database connections of this process.
    pub database_connections: u32,
    /// Where the private Postgres, the model and the sample feeds live.
    pub data_dir: PathBuf,
    /// Folder of the Postgres binaries for the private server.
    pub pg_bin: Option<PathBuf>,
    /// Folder of the embedding model; `<data_dir>/model/all-MiniLM-L6-v2` when not set.
    pub model_dir: Option<PathBuf>,
    /// Folder of the project's sample feeds.
    pub samples_dir: PathBuf,
    /// Reading needs no key.
    pub public_read: bool,
    /// A file that holds one key with every scope.
    pub admin_key_file: Option<PathBuf>,
    /// Sources may be files and private addresses.
    pub allow_private_sources: bool,
    /// Most jobs that this worker runs at once.
    pub worker_concurrency: usize,
    /// Protocol of a language model that adds to what the Hub finds by itself; none is used when not set.
    pub llm_provider: Option<LlmProvider>,
    /// Its base URL, with the version; the provider's own when not set.
    pub llm_url: Option<String>,
    /// Name of the model.
    pub llm_model: Option<String>,
    /// Its key.
    pub llm_api_key: Option<Secret>,
    /// A file that holds the key.
    pub llm_api_key_file: Option<PathBuf>,
    /// Most requests to it a minute, of this process.
    pub llm_requests_per_minute: u32,
    /// Longest one call of it may take, with all its tries.
    pub llm_timeout_seconds: u64,
    /// Price of a million tokens of questions, for the cost that is shown.
    pub llm_price_in_per_million: f64,
    /// Price of a million tokens of answers.
    pub llm_price_out_per_million: f64,
    /// Origins that browsers may call from, exact (`https://hub.example`).
    #[serde(deserialize_with = "list")]
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed, as networks (`10.0.0.0/8`).
    #[serde(deserialize_with = "list")]
    pub trusted_proxies: Vec<String>,
    /// Requests a client a minute, of those that no limit below is for; 0 lifts the limit.
    pub rate_limit_per_minute: u32,
    /// Searches a client a minute; 0 lifts the limit.
    pub search_rate_limit_per_minute: u32,
    /// Writes a client a minute; 0 lifts the limit.
    pub write_rate_limit_per_minute: u32,
    /// Uploads a client a minute; 0 lifts the limit.
    pub upload_rate_limit_per_minute: u32,
    /// Routes without a limit (`GET /api/v1/status`), in which `*` stands for any text.
    #[serde(deserialize_with = "list")]
    pub rate_limit_exempt: Vec<String>,
    /// The limits hold over all edges, counted in Redis.
    pub rate_limit_shared: bool,
    /// Log filter, for example `info` or `euhub=debug`.
    pub log: String,
    /// Form of the log lines.
    pub log_format: LogFormat,
    /// By what suggestions of keywords are judged; a table of the file.
    pub suggestions: Thresholds,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `Text` on a terminal, `Json` elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grpc_addr: SocketAddr::from(([127, 0, 0, 1], 50051)),
            edge_addr: SocketAddr::from(([127, 0, 0, 1], 8080)),
            metrics_addr: SocketAddr::from(([127, 0, 0, 1], 9464)),
            core_url: "http://127.0.0.1:50051".into(),
            core_ca: None,
            core_cert: None,
            core_key: None,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            hsts: false,
            max_connections: 1024,
            max_connections_per_client: 256,
            database_url: None,
            redis_url: None,
            cache_entity_ttl_seconds: 30 * 60,
            cache_list_ttl_seconds: 60 * 60,
            cache_session_ttl_seconds: 15 * 60,
            backup_url: None,
            backup_key_file: None,
            backup_keep_days: 7,
            backup_keep_weeks: 0,
            backup_keep_months: 0,
            database_connections: 16,
            data_dir: "./.euhub".into(),
            pg_bin: None,
            model_dir: None,
            samples_dir: "./samples".into(),
            public_read: true,
            admin_key_file: None,
            allow_private_sources: false,
            worker_concurrency: 4,
            llm_provider: None,
            llm_url: None,
            llm_model: None,
            llm_api_key: None,
            llm_api_key_file: None,
            llm_requests_per_minute: 30,
            llm_timeout_seconds: 60,
            llm_price_in_per_million: 0.0,
            llm_price_out_per_million: 0.0,
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            rate_limit_per_minute: 60,
            search_rate_limit_per_minute: 60,
            write_rate_limit_per_minute: 60,
            upload_rate_limit_per_minute: 10,
            rate_limit_exempt: vec!["GET /health".into(), "GET /metrics".into()],
            rate_limit_shared: false,
            log: "info,sqlx::postgres::notice=warn,graphile_worker=warn,graphile_worker_migrations=warn"
                .into(),
            log_format: LogFormat::Auto,
            suggestions: Thresholds::default(),
        }
    }
}

impl Config {
    /// Reads `file` (or `euhub.toml` where there is one), the environment, and the flags that were given.
    pub fn load(file: Option<&Path>, flags: impl Serialize) -> Result<Self, Box<figment::Error>> {
        let toml = match file {
            Some(path) => Toml::file_exact(path),
            None => Toml::file("euhub.toml"),
        };
        Figment::from(Serialized::defaults(Self::default()))
            .merge(toml)
            .merge(Env::raw().only(&UNPREFIXED))
            .merge(Env::prefixed("EUHUB_").ignore(&["config_file"]))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(Box::new)
    }

    /// Folder of the embedding model.
    pub fn model_dir(&self) -> PathBuf {
        self.model_dir.clone().unwrap_or_else(|| self.data_dir.join("model/all-MiniLM-L6-v2"))
    }
}

/// A list, or in the environment its items joined by commas.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List {
        Items(Vec<String>),
        Joined(String),
    }
    Ok(match List::deserialize(deserializer)? {
        List::Items(items) => items,
        List::Joined(text) => {
            text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
        }
    })
}

/// A setting that may hold a password: shown without it, whoever prints it.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself; only for the library that connects with it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn redacted(&self) -> String {
        match url::Url::parse(&self.0) {
            // A key with a colon reads as a URL too, but has no host.
            Ok(mut url) if url.has_host() => {
                if url.password().is_some() && url.set_password(Some("***")).is_err() {
                    return "***".into();
                }
                url.set_query(None);
                url.into()
            }
            _ => "***".into(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

#[cfg(test)]
#[allow(clippy::result_large_err, reason = "the error is figment's own")]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win_and_lists_may_be_joined_by_commas() {
        figment::Jail::expect_with(|jail| {
            jail.create_file(
                "euhub.toml",
                "log = 'debug'\nedge_addr = '127.0.0.1:1'\ncors_origins = ['https://a']",
            )?;
            jail.set_env("EUHUB_EDGE_ADDR", "127.0.0.1:2");
            jail.set_env("EUHUB_TRUSTED_PROXIES", "10.0.0.0/8, ::1/128");
            let config = Config::load(None, serde_json::json!({})).map_err(|error| *error)?;
            assert_eq!(config.log, "debug");
            assert_eq!(config.edge_addr.port(), 2);
            assert_eq!(config.cors_origins, ["https://a"]);
            assert_eq!(config.trusted_proxies, ["10.0.0.0/8", "::1/128"]);
            Ok(())
        });
    }

    #[test]
    fn a_table_changes_what_it_names() {
        figment::Jail::expect_with(|jail| {
            jail.create_file("euhub.toml", "[suggestions]\nbroad_share = 0.5")?;
            let config = Config::load(None, serde_json::json!({})).map_err(|error| *error)?;
            assert_eq!(config.suggestions, Thresholds { broad_share: 0.5, ..Thresholds::default() });
            jail.create_file("euhub.toml", "[suggestions]\nbroad = 0.5")?;
            let error = Config::load(None, serde_json::json!({})).unwrap_err().to_string();
            assert!(error.contains("broad"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        figment::Jail::expect_with(|jail| {
            jail.set_env("EUHUB_GRPC_ADR", "127.0.0.1:2");
            let error = Config::load(None, serde_json::json!({})).unwrap_err().to_string();
            assert!(error.contains("grpc_adr"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn passwords_are_never_shown() {
        let secret = Secret::new("postgres://hub:hunter2@db.example/euhub?password=hunter2");
        for text in [format!("{secret:?}"), serde_json::to_string(&secret).unwrap()] {
            assert!(!text.contains("hunter2") && text.contains("db.example"), "{text}");
        }
        for key in ["hunter2", "id:hunter2"] {
            assert_eq!(format!("{:?}", Secret::new(key)), "***");
        }
    }
}
