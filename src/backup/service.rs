//! Backups that are asked for over the API or by the schedule, and made by a worker.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgPool;
use tokio::time::Instant;

use super::store::{self, Run};
use super::{Backup, BackupError, Backups, Depth, Id, Progress, Pruned, Restored, Target};
use crate::admin::audit::audit;
use crate::admin::store as admin;
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::jobs::kinds::{CREATE_BACKUP, Kind, RESTORE_BACKUP, VERIFY_BACKUP};
use crate::jobs::store as jobs;
use crate::telemetry;

/// How often a worker tells how far it is.
const TELL: Duration = Duration::from_secs(1);
/// Who asks for what nobody asked for.
const SCHEDULE: &str = "schedule";
/// How many of the newest backups are looked at for a verified one.
const LOOK_BACK: usize = 20;

/// Backups, and what is being done with them. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct BackupService {
    /// Where what is being done is kept.
    pub db: PgPool,
    /// The backups.
    pub backups: Backups,
}

/// A backup as far as storage and the runs know it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its name.
    pub id: Id,
    /// As it is in storage; none when it is not there.
    pub backup: Option<Backup>,
    /// What was last done with it.
    pub run: Option<Run>,
}

impl BackupService {
    /// Asks for a backup.
    pub async fn create(&self, caller: &Caller, request_id: &str) -> Result<Shown> {
        let (now, id) = (self.now(), self.backups.next_id().await?);
        let mut tx = self.db.begin().await?;
        store::lock(&mut tx).await?;
        let (action, name) = ("backups.create", format!("backups/{id}"));
        if let Some(before) =
            admin::created_before(&mut tx, caller, action, request_id, id.as_str(), now).await?
        {
            drop(tx);
            return self.get(&before.parse::<Id>()?).await;
        }
        if let Some(open) = store::open(&mut *tx, "create", None, now).await? {
            return Err(Error::AlreadyExists(format!("backups/{} is being made: it", open.backup)));
        }
        let run = store::insert(&mut *tx, "create", &id, "", &caller.actor, now).await?;
        jobs::enqueue(&mut *tx, &CREATE_BACKUP, json!({ "run_id": run })).await?;
        audit(&mut *tx, caller, action, &name, now).await?;
        tx.commit().await?;
        self.get(&id).await
    }

    /// Asks for a verification.
    pub async fn verify(&self, caller: &Caller, id: &Id, depth: Depth) -> Result<Shown> {
        self.ask(caller, id, &VERIFY_BACKUP, ("verify", depth.as_str())).await
    }

    /// Asks for a restore into a new database.
    pub async fn restore(&self, caller: &Caller, id: &Id, database: &str) -> Result<Shown> {
        let database = match database {
            "" => super::command::new_name(id),
            database => database.to_owned(),
        };
        self.ask(caller, id, &RESTORE_BACKUP, ("restore", &database)).await
    }

    async fn ask(
        &self,
        caller: &Caller,
        id: &Id,
        kind: &Kind,
        (operation, argument): (&str, &str),
    ) -> Result<Shown> {
        let backup = self.backups.get(id).await?;
        let now = self.now();
        let mut tx = self.db.begin().await?;
        store::lock(&mut tx).await?;
        if store::open(&mut *tx, operation, Some(id), now).await?.is_some() {
            return Err(Error::AlreadyExists(format!("a run of `{operation}` for backups/{id}")));
        }
        let run = store::insert(&mut *tx, operation, id, argument, &caller.actor, now).await?;
        jobs::enqueue(&mut *tx, kind, json!({ "run_id": run })).await?;
        audit(&mut *tx, caller, &format!("backups.{operation}"), &format!("backups/{id}"), now).await?;
        let run = store::get(&mut *tx, run, now).await?;
        tx.commit().await?;
        Ok(Shown { id: id.clone(), backup: Some(backup), run })
    }

    /// Removes a backup.
    pub async fn delete(&self, caller: &Caller, id: &Id) -> Result<()> {
        let mut tx = self.db.begin().await?;
        audit(&mut *tx, caller, "backups.delete", &format!("backups/{id}"), self.now()).await?;
        self.backups.delete(id).await?;
        tx.commit().await?;
        Ok(())
    }

    /// One backup.
    pub async fn get(&self, id: &Id) -> Result<Shown> {
        let backup = match self.backups.get(id).await {
            Ok(backup) => Some(backup),
            Err(BackupError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let run = self.last_run(id).await?;
        // What was made once and is gone is gone; what was only asked for is shown.
        let is_there = backup.is_some() || run.as_ref().is_some_and(|run| run.operation == "create");
        if !is_there {
            return Err(Error::NotFound(format!("backups/{id}")));
        }
        Ok(Shown { id: id.clone(), backup, run })
    }

    /// The backups before `before`, newest first, `limit` at most: those in storage, and those that were asked for and not made.
    pub async fn list(&self, before: Option<&Id>, limit: usize) -> Result<Vec<Shown>> {
        let stored = self.backups.list(before, limit).await?;
        let not_made = store::not_made(&self.db, before, i64::try_from(limit).unwrap_or(i64::MAX)).await?;
        let mut shown: Vec<Shown> = stored
            .into_iter()
            .map(|backup| Shown { id: backup.id.clone(), backup: Some(backup), run: None })
            .collect();
        for id in not_made {
            let id: Id = id.parse()?;
            if !shown.iter().any(|shown| shown.id == id) {
                shown.push(Shown { id, backup: None, run: None });
            }
        }
        shown.sort_by(|a, b| b.id.cmp(&a.id));
        shown.truncate(limit);
        let ids: Vec<String> = shown.iter().map(|shown| shown.id.to_string()).collect();
        for run in store::latest(&self.db, &ids, self.now()).await? {
            if let Some(shown) = shown.iter_mut().find(|shown| shown.id.as_str() == run.backup) {
                shown.run = Some(run);
            }
        }
        Ok(shown)
    }

    /// Makes the backup of a run, or, without one, of the schedule; then restores it and compares. A run that was cut off goes on where
    /// it can.
    pub(crate) async fn run_create(&self, run: Option<i64>, again: bool) -> Result<()> {
        let run = match run {
            Some(run) => self.run(run).await?,
            None => {
                let (now, id) = (self.now(), self.backups.next_id().await?);
                let run = store::insert(&self.db, "create", &id, "", SCHEDULE, now).await?;
                self.run(run).await?
            }
        };
        let id: Id = run.backup.parse()?;
        self.tracked(&run, again, async |progress| match self.backups.get(&id).await {
            Ok(_) => Ok(()),
            Err(BackupError::NotFound(_)) => self.backups.create(&id, &run.actor, progress).await.map(|_| ()),
            Err(error) => Err(error),
        })
        .await?;
        let now = self.now();
        let verify = store::insert(&self.db, "verify", &id, Depth::Full.as_str(), &run.actor, now).await?;
        self.run_verify(verify, false).await
    }

    /// Verifies the backup of a run. One that is not what it should be is an error.
    pub(crate) async fn run_verify(&self, run: i64, again: bool) -> Result<()> {
        let run = self.run(run).await?;
        let id: Id = run.backup.parse()?;
        let depth: Depth = serde_json::from_value(json!(run.argument))
            .map_err(|error| Error::Internal(format!("run {}: {error}", run.id)))?;
        self.tracked(&run, again, async |progress| {
            let check = self.backups.verify(&id, depth, progress).await?;
            if check.problems.is_empty() {
                return Ok(());
            }
            Err(BackupError::Corrupt { id: id.clone(), why: check.problems.join("; ") })
        })
        .await
    }

    /// Restores the backup of a run.
    pub(crate) async fn run_restore(&self, run: i64) -> Result<Restored> {
        let run = self.run(run).await?;
        let backup = self.backups.find(&run.backup).await?;
        let target = Target::New(run.argument.clone());
        self.tracked(&run, false, async |progress| self.backups.restore(&backup, &target, progress).await)
            .await
    }

    /// Removes what is past its time.
    pub(crate) async fn run_prune(&self) -> Result<Pruned> {
        let start = Instant::now();
        let pruned = self.backups.prune(false).await;
        telemetry::backup_ended("prune", start.elapsed(), pruned.is_err());
        store::forget(&self.db, self.now()).await?;
        self.observe().await?;
        Ok(pruned?)
    }

    /// Keeps the metrics of what is in storage.
    pub(crate) async fn observe(&self) -> Result<()> {
        let newest = self.backups.list(None, LOOK_BACK).await?;
        let good =
            newest.iter().find(|backup| backup.is_good()).and_then(|backup| backup.manifest.as_ref().ok());
        if let Some(manifest) = good {
            telemetry::newest_backup(manifest.end_time, manifest.size);
        }
        let verified =
            newest.iter().find(|backup| backup.is_verified()).and_then(|backup| backup.check.as_ref());
        if let Some(check) = verified {
            telemetry::verified_backup(check.time);
        }
        Ok(())
    }

    fn now(&self) -> DateTime<Utc> {
        self.backups.clock.now()
    }

    async fn run(&self, id: i64) -> Result<Run> {
        let run = store::get(&self.db, id, self.now()).await?;
        run.ok_or_else(|| Error::Internal(format!("backup run {id} does not exist")))
    }

    /// Does the work of a run, and keeps how it goes. `again`: a failure will be tried again.
    async fn tracked<T>(
        &self,
        run: &Run,
        again: bool,
        work: impl AsyncFnOnce(&Progress) -> super::Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        store::begin(&self.db, run.id, self.now()).await?;
        let progress = Progress::default();
        let tell = async {
            let mut tick = tokio::time::interval(TELL);
            loop {
                tick.tick().await;
                let step = progress.borrow().clone();
                telemetry::backup_progress(&run.operation, step.bytes);
                // The run goes on while the database cannot be told.
                if let Err(error) = store::advance(&self.db, run.id, &step, self.now()).await {
                    telemetry::degraded("backup", &error);
                }
            }
        };
        let done = tokio::select! {
            done = work(&progress) => done,
            () = tell => unreachable!("it tells for ever"),
        };
        telemetry::backup_progress(&run.operation, 0);
        telemetry::backup_ended(&run.operation, start.elapsed(), done.is_err());
        let error = done.as_ref().err().map(BackupError::told).unwrap_or_default();
        let step = progress.borrow().clone();
        store::end(&self.db, run.id, &step, &error, again, self.now()).await?;
        self.observe().await?;
        Ok(done?)
    }

    /// What was last done with a backup.
    pub(super) async fn last_run(&self, id: &Id) -> Result<Option<Run>> {
        Ok(store::latest(&self.db, &[id.to_string()], self.now()).await?.pop())
    }
}
