//! The command line: roles and the operator's verbs. Human output by default, `--json` for programs.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use chrono::TimeDelta;
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::admin::audit::audit;
use crate::admin::store as admin;
use crate::auth::{self, Caller, Scope};
use crate::backup::{self, command::BackupCommand};
use crate::clock::{Clock, system_rng};
use crate::config::Config;
use crate::documents::extract::worker;
use crate::ingest::Ingest;
use crate::lifecycle::{self, Database, Roles};
use crate::search::embedding::Embedder;
use crate::sources::store as sources;
use crate::{database, seed, telemetry};

/// How Europe's press covers a topic: feeds in, tone over time and search out, over gRPC and REST.
#[derive(Debug, Parser)]
#[command(name = "euhub", version, arg_required_else_help = true)]
struct Cli {
    /// Settings file; `euhub.toml` where there is one.
    #[arg(long, global = true, env = "EUHUB_CONFIG_FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

/// Settings that flags may give.
#[derive(Debug, Args, Serialize)]
struct Flags {
    /// Where gRPC is served.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_addr: Option<SocketAddr>,
    /// Where REST is served.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    edge_addr: Option<SocketAddr>,
    /// Where the private Postgres, the model and the sample feeds live.
    #[arg(long, global = true, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything in one process: gRPC, REST and jobs.
    Standalone {
        /// Adds the sample sources, keywords and feeds first; what is there stays.
        #[arg(long)]
        seed: bool,
    },
    /// Runs gRPC.
    Serve,
    /// Runs REST in front of a gRPC server (`core_url`).
    Edge,
    /// Runs the jobs.
    Worker,
    /// Brings the database's schema up to date.
    Migrate,
    /// Adds the sample sources, keywords and feeds; a second time changes nothing.
    Seed {
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Fetches feeds now, whether due or not, and analyses what came.
    Ingest {
        /// Slug of the source; every source that is not paused when left out.
        source: Option<String>,
        /// One JSON object a run instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Backups.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// API keys.
    #[command(subcommand)]
    Apikey(ApiKeyCommand),
    /// The embedding model.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Asks a running server for its health by the standard gRPC protocol; exit code 0 when it serves.
    Healthcheck {
        /// Address of the server.
        #[arg(long, default_value = "http://127.0.0.1:50051")]
        url: String,
        /// Full name of the service; the whole server when left out.
        #[arg(long, default_value = "")]
        service: String,
    },
    /// Prints the settings that hold, secrets hidden.
    Config,
    /// Reads an uploaded file: what a server runs for each, under limits.
    #[command(name = worker::COMMAND, hide = true)]
    ExtractText {
        /// The declared charset.
        #[arg(long)]
        charset: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum ApiKeyCommand {
    /// Makes a key and shows it once.
    Create {
        /// What the key is for.
        #[arg(long)]
        name: String,
        /// What it allows; may be given more than once.
        #[arg(long = "scope", value_enum, required = true)]
        scopes: Vec<Scope>,
        /// Days until it no longer holds; without end when left out.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3650))]
        expires_in_days: Option<u32>,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Lists the keys, never the secrets.
    List {
        /// One JSON object a key instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Revokes a key at once.
    Revoke {
        /// Number of the key, as `list` shows it.
        id: i64,
    },
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Writes the model's graph from its weights, where that has not been done, and tries it.
    Import,
}

/// Runs the command of this process.
pub async fn main() -> ExitCode {
    // The client of buckets takes the process's provider of TLS; nothing has set one before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("euhub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let config = Config::load(cli.config.as_deref(), &cli.flags)?;
    telemetry::log::init(&config.log, config.log_format).map_err(|error| anyhow!(error))?;
    match cli.command {
        Command::Standalone { seed } => standalone(config, seed).await,
        Command::Serve => with_database(config, Roles { serve: true, edge: false, worker: false }).await,
        Command::Worker => with_database(config, Roles { serve: false, edge: false, worker: true }).await,
        Command::Edge => {
            let roles = Roles { serve: false, edge: true, worker: false };
            lifecycle::run(config, roles, None, || ()).await
        }
        Command::Migrate => {
            let database = Database::open(&config).await?;
            let result = database::migrate(&database.pool).await;
            database.close().await?;
            result?;
            say("the schema is up to date");
            Ok(())
        }
        Command::Seed { json } => {
            with_ingest(&config, async |ingest| {
                let seeded = seed_with_progress(&ingest, &config, !json).await?;
                if json { say_json(&seeded) } else { Ok(()) }
            })
            .await
        }
        Command::Ingest { source, json } => {
            with_ingest(&config, async |ingest| ingest_now(&ingest, source.as_deref(), json).await).await
        }
        Command::Backup(command) => backup::command::run(&config, command).await,
        Command::Apikey(command) => api_key(&config, command).await,
        Command::Model(ModelCommand::Import) => {
            let folder = config.model_dir();
            let embedder = tokio::task::spawn_blocking(move || Embedder::load(&folder)).await??;
            let name = embedder.name().to_owned();
            tokio::task::spawn_blocking(move || embedder.embed(&["a first sentence"])).await??;
            say(&format!("the embedding model {name} is ready"));
            Ok(())
        }
        Command::ExtractText { charset } => Ok(worker::run(charset.as_deref())?),
        Command::Healthcheck { url, service } => healthcheck(&config, &url, &service).await,
        Command::Config => {
            say(&serde_json::to_string_pretty(&config)?);
            Ok(())
        }
    }
}

async fn standalone(config: Config, seed: bool) -> anyhow::Result<()> {
    let database = Database::open(&config).await?;
    database::migrate(&database.pool).await?;
    if seed {
        let embedder = lifecycle::embedder(&config.model_dir()).await?;
        let ingest = lifecycle::ingest(&config, database.pool.clone(), Clock::system(), embedder)?;
        seed_with_progress(&ingest, &config, true).await?;
    }
    let (rest, grpc) = (config.edge_addr, config.grpc_addr);
    let (scheme, plain) = if config.tls_cert.is_some() { ("https", "") } else { ("http", "-plaintext ") };
    let ready = move || {
        say("EU Intelligence Hub is ready. Stop it with Ctrl-C.");
        say(&format!("  REST      {scheme}://{rest}/api/v1/keywords"));
        say(&format!("  docs      {scheme}://{rest}/docs"));
        say(&format!("  OpenAPI   {scheme}://{rest}/api/openapi.json"));
        say(&format!("  health    {scheme}://{rest}/health"));
        say(&format!("  gRPC      {grpc} (reflection on: grpcurl {plain}{grpc} list)"));
    };
    lifecycle::run(config, Roles { serve: true, edge: true, worker: true }, Some(database), ready).await
}

async fn with_database(config: Config, roles: Roles) -> anyhow::Result<()> {
    let database = Database::open(&config).await?;
    if config.database_url.is_some() {
        database.require_migrated().await?;
    } else {
        // The private database is this program's own: there is nobody else to migrate it.
        database::migrate(&database.pool).await?;
    }
    lifecycle::run(config, roles, Some(database), || ()).await
}

/// Opens database and model, does `work`, and closes again whatever came of it.
async fn with_ingest(
    config: &Config,
    work: impl AsyncFnOnce(Ingest) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let database = Database::open(config).await?;
    let result = async {
        database::migrate(&database.pool).await?;
        let embedder = lifecycle::embedder(&config.model_dir()).await?;
        work(lifecycle::ingest(config, database.pool.clone(), Clock::system(), embedder)?).await
    }
    .await;
    database.close().await?;
    result
}

async fn seed_with_progress(ingest: &Ingest, config: &Config, show: bool) -> anyhow::Result<seed::Seeded> {
    let bar = spinner(show, "samples");
    let result =
        seed::seed(ingest, &config.samples_dir, &config.data_dir, |step| bar.set_message(step.to_owned()))
            .await;
    bar.finish_and_clear();
    let seeded = result?;
    if show {
        say(&format!(
            "samples: {} new sources, {} new keywords, {} new articles",
            seeded.sources, seeded.keywords, seeded.articles
        ));
    }
    Ok(seeded)
}

async fn ingest_now(ingest: &Ingest, source: Option<&str>, json: bool) -> anyhow::Result<()> {
    let slugs: Vec<String> = match source {
        Some(slug) => vec![slug.to_owned()],
        None => {
            let all = sources::list(&ingest.db, None, i64::MAX).await?;
            all.into_iter().filter(|source| !source.paused).map(|source| source.slug).collect()
        }
    };
    let bar = if json { ProgressBar::hidden() } else { ProgressBar::new(u64::try_from(slugs.len())?) };
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut failed = 0;
    for slug in &slugs {
        bar.set_message(slug.clone());
        seed::ingest_source(ingest, slug, |run| {
            failed += usize::from(run.outcome == 3);
            if json {
                // A run is plain data; writing it as JSON cannot fail.
                let _ = say_json(run);
            } else {
                let problem = if run.error.is_empty() { String::new() } else { format!(" - {}", run.error) };
                bar.suspend(|| {
                    say(&format!(
                        "{slug}: {} new, {} duplicate, {} failed{problem}  {}",
                        run.new, run.duplicate, run.failed, run.feed_url
                    ));
                });
            }
        })
        .await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    if failed > 0 {
        bail!(
            "{failed} feeds could not be fetched; the lines above and `GET /api/v1/sources/*/runs` say why"
        );
    }
    Ok(())
}

async fn api_key(config: &Config, command: ApiKeyCommand) -> anyhow::Result<()> {
    let database = Database::open(config).await?;
    let result = async {
        database::migrate(&database.pool).await?;
        api_key_command(&database, command).await
    }
    .await;
    database.close().await?;
    result
}

async fn api_key_command(database: &Database, command: ApiKeyCommand) -> anyhow::Result<()> {
    let db = &database.pool;
    let now = Clock::system().now();
    let operator = Caller {
        actor: "command-line".into(),
        client: String::new(),
        request_id: String::new(),
        admin: true,
    };
    match command {
        ApiKeyCommand::Create { name, scopes, expires_in_days, json } => {
            let (key, hash) = auth::generate_key(&mut system_rng());
            let scopes: Vec<String> = scopes.into_iter().map(|scope| scope.as_str().to_owned()).collect();
            let expire_time = expires_in_days.map(|days| now + TimeDelta::days(days.into()));
            let mut tx = db.begin().await?;
            let id = admin::insert_api_key(&mut *tx, &name, &hash, &scopes, now, expire_time).await?;
            audit(&mut *tx, &operator, "apikeys.create", &format!("apiKeys/{id}"), now).await?;
            tx.commit().await?;
            if json {
                return say_json(
                    &serde_json::json!({ "id": id, "key": key, "scopes": scopes, "expire_time": expire_time }),
                );
            }
            say(&format!("key {id} ({}), shown this once:", scopes.join(", ")));
            say(&key);
        }
        ApiKeyCommand::List { json } => {
            for key in admin::list_api_keys(db, None, i64::MAX).await? {
                if json {
                    say_json(&key)?;
                    continue;
                }
                let state = match (key.revoke_time, key.expire_time) {
                    (Some(time), _) => format!("revoked {}", time.format("%F %R")),
                    (None, Some(time)) if time <= now => format!("expired {}", time.format("%F %R")),
                    (None, Some(time)) => format!("expires {}", time.format("%F %R")),
                    (None, None) => "no expiry".into(),
                };
                let used = key
                    .last_use_time
                    .map_or("never used".into(), |time| format!("used {}", time.format("%F %R")));
                say(&format!("{:>4}  {:<24} {:<20} {state}, {used}", key.id, key.name, key.scopes.join(",")));
            }
        }
        ApiKeyCommand::Revoke { id } => {
            let mut tx = db.begin().await?;
            if !admin::revoke_api_key(&mut *tx, id, now).await? {
                bail!("no key {id} holds; `euhub apikey list` shows them");
            }
            audit(&mut *tx, &operator, "apikeys.revoke", &format!("apiKeys/{id}"), now).await?;
            tx.commit().await?;
            say(&format!("key {id} is revoked"));
        }
    }
    Ok(())
}

async fn healthcheck(config: &Config, url: &str, service: &str) -> anyhow::Result<()> {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let timeout = Duration::from_secs(3);
    let channel = lifecycle::core_endpoint(config, url)?
        .connect_timeout(timeout)
        .timeout(timeout)
        .connect()
        .await
        .with_context(|| format!("nothing answers at {url}"))?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer =
        HealthClient::new(channel).check(request).await.map_err(|status| anyhow!("{}", status.message()))?;
    match answer.into_inner().status() {
        ServingStatus::Serving => {
            say("serving");
            Ok(())
        }
        _ => bail!("not serving"),
    }
}

fn spinner(show: bool, message: &'static str) -> ProgressBar {
    if !show {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Prints a line.
pub(crate) fn say(line: &str) {
    // Whoever reads may have gone, as `head` does; then there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a value as one line of JSON.
pub(crate) fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    say(&serde_json::to_string(value)?);
    Ok(())
}
