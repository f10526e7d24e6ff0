//! Jobs as messages.

use chrono::{DateTime, TimeDelta, Utc};
use prost_types::Duration;

use crate::articles::convert::{count, timestamp};
use crate::jobs::kinds::Kind;
use crate::jobs::store::Status;
use crate::proto::{Job, JobOutcome, JobRun};

/// A kind of job as it stands at `now`.
pub fn job(kind: &Kind, status: Status, now: DateTime<Utc>) -> Job {
    let scheduled = kind.schedule.map(|schedule| schedule.next(now));
    let next = scheduled.into_iter().chain(status.run_time).min();
    Job {
        name: format!("jobs/{}", kind.slug()),
        description: kind.description.into(),
        schedule: kind.schedule.map(|schedule| schedule.words()).unwrap_or_default(),
        next_run_time: next.map(timestamp),
        last_run: run(status.start_time, status.end_time, status.error),
        last_failure: run(status.failure_start_time, status.failure_end_time, status.failure_error),
        queued_count: count(status.queued),
        running_count: count(status.running),
        failed_count: count(status.failed),
        run_count: status.run_count,
        failed_run_count: status.failed_run_count,
        max_attempts: i32::from(kind.max_attempts),
    }
}

fn run(start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>, error: String) -> Option<JobRun> {
    let (start, end) = start.zip(end)?;
    let outcome = if error.is_empty() { JobOutcome::Succeeded } else { JobOutcome::Failed };
    Some(JobRun {
        outcome: outcome.into(),
        start_time: Some(timestamp(start)),
        end_time: Some(timestamp(end)),
        duration: Some(duration(end - start)),
        error,
    })
}

fn duration(span: TimeDelta) -> Duration {
    Duration { seconds: span.num_seconds(), nanos: span.subsec_nanos() }
}
