//! How the process and what it depends on are: looked at each second for `grpc.health.v1`, and in detail when asked.

use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::articles::convert::{count, timestamp};
use crate::clock::Clock;
use crate::jobs;
use crate::llm::{BreakerState, Llm};
use crate::operations::store;
use crate::proto::{
    BackupHealth, DatabaseHealth, DependencyHealth, DetailedHealth, HealthStatus, IngestHealth,
    JobQueueHealth, ModelHealth,
};
use crate::redis::Redis;
use crate::{server, telemetry};

/// How often readiness is looked at, and how long the database may take to answer.
const PROBE: Duration = Duration::from_secs(1);
/// Probes in a row that must fail before the process is not ready: one may be lost to a restart of the pooler or a busy moment.
const FAILURES: u32 = 3;
/// How old the last backup may be: one is made each day, and takes its time.
const BACKUP_AGE: TimeDelta = TimeDelta::hours(26);
/// How long one detailed look holds.
const HOLDS: Duration = Duration::from_secs(1);
/// A service of `grpc.health.v1` that serves as long as the process runs, whatever its database does: for probes that restart it.
pub const LIVENESS: &str = "liveness";

/// What the process depends on. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: PgPool,
    /// Connections of its own: a crowd of requests does not make the database look away.
    probes: PgPool,
    redis: Option<Redis>,
    model: Option<String>,
    llm: Option<Llm>,
    clock: Clock,
    started: Instant,
    database_error: Lock<&'static str>,
    redis_error: Lock<&'static str>,
    last: Mutex<Option<(Instant, DetailedHealth)>>,
}

impl Health {
    /// Of a process that begins now; `model` is the name of its embedding model.
    pub fn new(
        requests: PgPool,
        redis: Option<Redis>,
        model: Option<String>,
        llm: Option<Llm>,
        clock: Clock,
    ) -> Self {
        let probes = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(PROBE)
            .connect_lazy_with((*requests.connect_options()).clone());
        let started = Instant::now();
        let (database_error, redis_error, last) = Default::default();
        Self(Arc::new(Inner {
            requests,
            probes,
            redis,
            model,
            llm,
            clock,
            started,
            database_error,
            redis_error,
            last,
        }))
    }

    /// Keeps the health of every service at what the database answers.
    pub async fn watch(self, reporter: HealthReporter, stopping: CancellationToken) {
        let mut readiness = Readiness::default();
        loop {
            let answered = self.0.in_time(store::server(&self.0.probes)).await.is_ok();
            if stopping.is_cancelled() {
                return;
            }
            if let Some(ready) = readiness.probed(answered) {
                let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
                for service in server::SERVICES.into_iter().chain([""]) {
                    reporter.set_service_status(service, status).await;
                }
                telemetry::readiness(ready);
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = sleep(PROBE) => {}
            }
        }
    }

    /// How everything is, at most [`HOLDS`] ago, however many ask.
    pub async fn detailed(&self) -> DetailedHealth {
        let mut last = self.0.last.lock().await;
        if let Some((at, health)) = &*last
            && at.elapsed() < HOLDS
        {
            return health.clone();
        }
        let health = self.0.look().await;
        *last = Some((Instant::now(), health.clone()));
        health
    }
}

impl Inner {
    async fn look(&self) -> DetailedHealth {
        let ((database, job_queue, ingest, backup), redis) = tokio::join!(self.database(), self.redis());
        let model = self.model.as_ref().map(|name| (HealthStatus::Up, name.clone())).unwrap_or_default();
        let llm = self.llm.as_ref().map(|llm| {
            let closed = llm.stats().breaker == BreakerState::Closed;
            (if closed { HealthStatus::Up } else { HealthStatus::Down }, llm.model().to_owned())
        });
        let model_health =
            |(status, name): (HealthStatus, String)| ModelHealth { status: status.into(), name };
        let mut health = DetailedHealth {
            status: HealthStatus::Up.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime: prost_types::Duration::try_from(self.started.elapsed()).ok(),
            redis,
            job_queue: Some(job_queue),
            ingest: Some(ingest),
            backup: Some(backup),
            model: Some(model_health(model)),
            llm: llm.map(model_health),
            database: Some(database),
        };
        let optional = [
            health.redis.as_ref().map(DependencyHealth::status),
            health.job_queue.as_ref().map(JobQueueHealth::status),
            health.ingest.as_ref().map(IngestHealth::status),
            health.backup.as_ref().map(BackupHealth::status),
            health.llm.as_ref().map(ModelHealth::status),
        ];
        let bad = |status: &HealthStatus| matches!(status, HealthStatus::Degraded | HealthStatus::Down);
        let database = health.database.as_ref().and_then(|database| database.dependency.as_ref());
        if database.is_some_and(|database| database.status() == HealthStatus::Down) {
            health.set_status(HealthStatus::Down);
        } else if optional.iter().flatten().any(bad) {
            health.set_status(HealthStatus::Degraded);
        }
        health
    }

    async fn database(&self) -> (DatabaseHealth, JobQueueHealth, IngestHealth, BackupHealth) {
        let begun = Instant::now();
        let server = self.in_time(store::server(&self.probes)).await.ok();
        let dependency = dependency(server.is_some(), begun.elapsed(), &self.database_error);
        let idle = u32::try_from(self.requests.num_idle()).unwrap_or(u32::MAX);
        let connections = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let role = server.as_ref().map(|server| if server.replica { "replica" } else { "primary" });
        let mut queue = JobQueueHealth { status: HealthStatus::Down.into(), ..Default::default() };
        let mut ingest = IngestHealth { status: HealthStatus::Down.into(), ..Default::default() };
        let mut backup = BackupHealth { status: HealthStatus::Down.into(), ..Default::default() };
        if server.is_some() {
            if let Ok(Ok(jobs)) = timeout(PROBE, jobs::store::queue(&self.probes, self.clock.now())).await {
                let age = Duration::try_from_secs_f64(jobs.oldest_seconds).unwrap_or_default();
                queue = JobQueueHealth {
                    status: HealthStatus::Up.into(),
                    waiting_count: count(jobs.waiting),
                    running_count: count(jobs.running),
                    failed_count: count(jobs.failed),
                    oldest_age: prost_types::Duration::try_from(age).ok(),
                };
            }
            if let Ok(feeds) = self.in_time(store::feeds(&self.probes)).await {
                let none_works = feeds.all > 0 && feeds.failing == feeds.all;
                let status = if none_works { HealthStatus::Degraded } else { HealthStatus::Up };
                ingest = IngestHealth {
                    status: status.into(),
                    last_success_time: feeds.last_success.map(timestamp),
                    feed_count: count(feeds.all),
                    failing_feed_count: count(feeds.failing),
                };
            }
            if let Ok(store::Backups { made, verified }) = self.in_time(store::backups(&self.probes)).await {
                let status = match made {
                    None => HealthStatus::Unspecified,
                    Some(made) if self.clock.now() - made > BACKUP_AGE => HealthStatus::Degraded,
                    Some(_) => HealthStatus::Up,
                };
                backup = BackupHealth {
                    status: status.into(),
                    last_success_time: made.map(timestamp),
                    last_verify_time: verified.map(timestamp),
                };
            }
        }
        let database = DatabaseHealth {
            dependency: Some(dependency),
            role: role.unwrap_or_default().into(),
            version: server.map(|server| server.version).unwrap_or_default(),
            connections_used: connections(self.requests.size().saturating_sub(idle)),
            connections_idle: connections(idle),
            connections_max: connections(self.requests.options().get_max_connections()),
        };
        (database, queue, ingest, backup)
    }

    async fn redis(&self) -> Option<DependencyHealth> {
        let redis = self.redis.as_ref()?;
        let begun = Instant::now();
        let answer = redis.ping().await;
        if let Err(class) = answer {
            note(&self.redis_error, class);
        }
        Some(dependency(answer.is_ok(), begun.elapsed(), &self.redis_error))
    }

    /// What the database answers within [`PROBE`]; why it does not is noted.
    async fn in_time<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, ()> {
        let class = match timeout(PROBE, query).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error_class(&error),
            Err(_) => "timeout",
        };
        note(&self.database_error, class);
        Err(())
    }
}

fn note(kept: &Lock<&'static str>, class: &'static str) {
    *kept.lock().unwrap_or_else(PoisonError::into_inner) = class;
}

fn dependency(up: bool, latency: Duration, error: &Lock<&'static str>) -> DependencyHealth {
    let status = if up { HealthStatus::Up } else { HealthStatus::Down };
    let last_error = error.lock().unwrap_or_else(PoisonError::into_inner).to_owned();
    DependencyHealth { status: status.into(), latency_ms: telemetry::milliseconds(latency), last_error }
}

/// Why the database did not answer, in a word that tells nothing of where it is.
fn error_class(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => {
            "unreachable"
        }
        // Classes 28 (authorization), 53 (resources) and 57 (shutting down, starting up).
        sqlx::Error::Database(error)
            if error
                .code()
                .is_some_and(|code| ["28", "53", "57"].iter().any(|class| code.starts_with(class))) =>
        {
            "refused"
        }
        _ => "error",
    }
}

/// Readiness with hysteresis: lost after [`FAILURES`] failed probes in a row, regained with the first good one.
#[derive(Debug, Default)]
struct Readiness {
    known: Option<bool>,
    failures: u32,
}

impl Readiness {
    /// Whether the process is ready after a probe, when that is news.
    fn probed(&mut self, answered: bool) -> Option<bool> {
        self.failures = if answered { 0 } else { self.failures.saturating_add(1) };
        if !answered && self.failures < FAILURES {
            return None;
        }
        (self.known.replace(answered) != Some(answered)).then_some(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_lost_after_three_failures_in_a_row_and_regained_at_once() {
        let mut readiness = Readiness::default();
        let mut news =
            |answers: &[bool]| answers.iter().map(|answer| readiness.probed(*answer)).collect::<Vec<_>>();
        assert_eq!(news(&[true, true]), [Some(true), None]);
        assert_eq!(news(&[false, false, true, false, false]), [None; 5], "never three in a row");
        assert_eq!(news(&[false, false, false]), [Some(false), None, None]);
        assert_eq!(news(&[true]), [Some(true)]);
    }

    #[test]
    fn a_process_that_never_reached_its_database_says_so() {
        let mut readiness = Readiness::default();
        let news: Vec<_> = [false; 4].into_iter().map(|answer| readiness.probed(answer)).collect();
        assert_eq!(news, [None, None, Some(false), None]);
    }

    #[test]
    fn an_error_is_told_by_its_class() {
        assert_eq!(error_class(&sqlx::Error::PoolTimedOut), "unreachable");
        assert_eq!(error_class(&sqlx::Error::RowNotFound), "error");
    }
}
