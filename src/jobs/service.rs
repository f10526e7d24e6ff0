//! What administrators see of jobs, and may ask of them.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::admin::audit::audit;
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::jobs::kinds::Kind;
use crate::jobs::store::{self, Status};

/// Puts a scheduled job in the queue now. One that waits already is brought forward, not doubled.
pub async fn run(db: &PgPool, caller: &Caller, kind: &Kind, now: DateTime<Utc>) -> Result<Status> {
    let name = format!("jobs/{}", kind.slug());
    if kind.schedule.is_none() {
        return Err(Error::FailedPrecondition {
            reason: "JOB_NOT_SCHEDULED",
            message: format!(
                "{name} follows from something else, and cannot be asked for: only jobs with a schedule can"
            ),
        });
    }
    let mut tx = db.begin().await?;
    if !store::run_now(&mut tx, kind).await? {
        return Err(Error::FailedPrecondition {
            reason: "JOB_RUNNING",
            message: format!("{name} is running now: ask again when it has ended"),
        });
    }
    audit(&mut *tx, caller, "jobs.run", &name, now).await?;
    let status = store::status(&mut *tx, &[kind]).await?.pop();
    tx.commit().await?;
    status.ok_or(Error::NotFound(name))
}
