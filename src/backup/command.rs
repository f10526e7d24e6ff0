//! `euhub backup`.

use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Subcommand;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Backup, Backups, Check, Depth, Id, Manifest, Progress, Restored, Target};
use crate::cli::{say, say_json};
use crate::clock::Clock;
use crate::config::Config;
use crate::lifecycle::Server;

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Makes a backup now, and restores it to see that it can be done.
    Create {
        /// Leaves the restoring and comparing to a later `verify`.
        #[arg(long)]
        no_verify: bool,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Lists the backups, newest first.
    List {
        /// One JSON object a backup instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Proves that a backup is what its manifest says; exit code 1 when it is not.
    Verify {
        /// Its id, or `latest`.
        backup: String,
        /// How far to go: `full` restores it into a database of its own and compares every table.
        #[arg(long, value_enum, default_value = "full")]
        depth: Depth,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Restores a backup, all or nothing, and compares every table with its manifest.
    Restore {
        /// Its id, or `latest`.
        backup: String,
        /// Name of the new database; `euhub_` and the id when left out.
        #[arg(long, conflicts_with = "into_live")]
        into: Option<String>,
        /// In place of the database of `DATABASE_URL`, which is kept under another name. Nothing may use it.
        #[arg(long)]
        into_live: bool,
        /// Goes ahead with --into-live.
        #[arg(long, requires = "into_live")]
        yes: bool,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Removes backups that are past their time, and files that belong to none.
    Prune {
        /// Only says what would go.
        #[arg(long)]
        dry_run: bool,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// Runs a command, with the private server where there is no other.
pub async fn run(config: &Config, command: BackupCommand) -> anyhow::Result<()> {
    let server = Server::open(config).await?;
    let result = async {
        let backups = Backups::open(config, server.url.clone(), Clock::system())?;
        match command {
            BackupCommand::Create { no_verify, json } => create(&backups, !no_verify, json).await,
            BackupCommand::List { json } => list(&backups, json).await,
            BackupCommand::Verify { backup, depth, json } => verify(&backups, &backup, depth, json).await,
            BackupCommand::Restore { backup, into, into_live, yes, json } => {
                let target = match (into, into_live) {
                    (_, true) if !yes => bail!(
                        "--into-live puts the backup in place of the database that is there, which is kept under another name: stop \
                         everything that uses it, then add --yes"
                    ),
                    (_, true) => Some(Target::Live),
                    (into, _) => into.map(Target::New),
                };
                restore(&backups, &backup, target, json).await
            }
            BackupCommand::Prune { dry_run, json } => prune(&backups, dry_run, json).await,
        }
    }
    .await;
    server.close().await?;
    // The text of an error of ours holds that of its cause.
    result.map_err(|error| anyhow!("{error}"))
}

async fn create(backups: &Backups, verify_it: bool, json: bool) -> anyhow::Result<()> {
    let id = backups.next_id().await?;
    let manifest = shown(json, async |progress| backups.create(&id, "command-line", progress).await).await?;
    if !json {
        say(&format!("backup {id}: {}, in {}", size(&manifest), backups.storage().place()));
    }
    let check = match verify_it {
        true => Some(shown(json, async |progress| backups.verify(&id, Depth::Full, progress).await).await?),
        false => None,
    };
    if json {
        let backup = Backup { id: id.clone(), manifest: Ok(manifest), check: check.clone() };
        say_json(&form(&backup))?;
    }
    match check {
        Some(check) => judged(&id.to_string(), &check, json),
        None => Ok(()),
    }
}

async fn list(backups: &Backups, json: bool) -> anyhow::Result<()> {
    let all = backups.list(None, usize::MAX).await?;
    if all.is_empty() && !json {
        say(&format!("{} holds no backup; `euhub backup create` makes one", backups.storage().place()));
    }
    for backup in &all {
        if json {
            say_json(&form(backup))?;
            continue;
        }
        let state = match (backup.problem(), backup.is_verified()) {
            (Some(problem), _) => format!("BROKEN: {problem}"),
            (None, true) => "verified".into(),
            (None, false) => "not verified".into(),
        };
        let size = backup.manifest.as_ref().map(size).unwrap_or_default();
        say(&format!("{}  {size:<42}  {state}", backup.id));
    }
    Ok(())
}

async fn verify(backups: &Backups, name: &str, depth: Depth, json: bool) -> anyhow::Result<()> {
    let backup = backups.find(name).await?;
    let check = shown(json, async |progress| backups.verify(&backup.id, depth, progress).await).await?;
    if json {
        say_json(&json!({ "backup": backup.id, "depth": check.depth, "problems": check.problems }))?;
    }
    judged(backup.id.as_str(), &check, json)
}

async fn restore(backups: &Backups, name: &str, target: Option<Target>, json: bool) -> anyhow::Result<()> {
    let backup = backups.find(name).await?;
    let target = target.unwrap_or_else(|| Target::New(new_name(&backup.id)));
    let restored: Restored =
        shown(json, async |progress| backups.restore(&backup, &target, progress).await).await?;
    if json {
        return say_json(&restored);
    }
    say(&format!(
        "backup {} is in database {}: {} tables, {} rows, every one compared, in {:.1} s",
        restored.backup, restored.database, restored.tables, restored.rows, restored.seconds
    ));
    if let Some(previous) = restored.previous {
        say(&format!("the database that was there is now {previous}; drop it when it is no longer wanted"));
    }
    Ok(())
}

async fn prune(backups: &Backups, dry: bool, json: bool) -> anyhow::Result<()> {
    let pruned = backups.prune(dry).await?;
    if json {
        return say_json(&pruned);
    }
    let verb = if dry { "would go" } else { "removed" };
    for id in &pruned.removed {
        say(&format!("{verb}  {id}"));
    }
    for name in &pruned.orphans {
        say(&format!("{verb}  {name}, which belongs to no backup"));
    }
    for (id, why) in &pruned.kept {
        say(&format!("kept     {id}, {why}"));
    }
    say(&format!(
        "{verb}: {} backups, {} other files, {}",
        pruned.removed.len(),
        pruned.orphans.len(),
        HumanBytes(pruned.bytes)
    ));
    Ok(())
}

/// The name of the database that a backup goes to when none is given.
pub(super) fn new_name(id: &Id) -> String {
    format!("euhub_{}", id.as_str().to_ascii_lowercase().replace('-', "_"))
}

/// Says how a verification ended; what is not right is an error.
fn judged(id: &str, check: &Check, json: bool) -> anyhow::Result<()> {
    if !check.problems.is_empty() {
        bail!("backup {id} is NOT good: {}", check.problems.join("; "));
    }
    if !json {
        say(match check.depth {
            Depth::Checksum => "verified: every byte is the one that was stored",
            Depth::Listing => "verified: the archive is whole and names every table",
            Depth::Full => {
                "verified: restored into a database of its own, every table compared, and dropped again"
            }
        });
    }
    Ok(())
}

fn size(manifest: &Manifest) -> String {
    let rows: i64 = manifest.tables.iter().map(|table| table.rows).sum();
    let sealed = if manifest.key_id.is_some() { ", encrypted" } else { "" };
    format!("{} tables, {rows} rows, {}{sealed}", manifest.tables.len(), HumanBytes(manifest.size))
}

fn form(backup: &Backup) -> Value {
    json!({
        "backup": backup.id,
        "verified": backup.is_verified(),
        "problem": backup.problem(),
        "manifest": backup.manifest.as_ref().ok(),
        "check": backup.check,
    })
}

/// Runs long work with its steps on the terminal; Ctrl-C ends it, and what it began is cleared.
async fn shown<T>(json: bool, work: impl AsyncFnOnce(&Progress) -> super::Result<T>) -> anyhow::Result<T> {
    let progress = Progress::default();
    let bar = if json { None } else { Some(bar(&progress)?) };
    let done = tokio::select! {
        done = work(&progress) => done.map_err(Into::into),
        _ = tokio::signal::ctrl_c() => Err(anyhow!("stopped")),
    };
    if let Some((bar, task)) = bar {
        task.abort();
        bar.finish_and_clear();
    }
    done
}

fn bar(progress: &Progress) -> anyhow::Result<(ProgressBar, JoinHandle<()>)> {
    let bar = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {bytes:>10}  {bytes_per_sec:>12}  {wide_msg}")?);
    bar.enable_steady_tick(Duration::from_millis(120));
    let (mut steps, shown) = (progress.subscribe(), bar.clone());
    let task = tokio::spawn(async move {
        while steps.changed().await.is_ok() {
            let step = steps.borrow_and_update().clone();
            shown.set_position(step.bytes);
            shown.set_message(step.what);
        }
    });
    Ok((bar, task))
}
