//! Every kind of job: what it does, when it runs by itself, how often it is tried and before whom. The queue, the schedule and the list for
//! administrators are all made from this table.

use chrono::{DateTime, TimeDelta, Utc, Weekday};
use graphile_worker::{Crontab, CrontabFill, CrontabTimer};

/// Before all others: what a person waits for.
pub const ASKED: i16 = -10;
/// News on its way in.
pub const PIPELINE: i16 = 0;
/// Work over the whole archive.
pub const BULK: i16 = 5;
/// What asks a slow model.
pub const MODEL: i16 = 10;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 1970-01-05, the first Monday of Unix time.
const FIRST_MONDAY: i64 = 4 * DAY;

/// A kind of job.
#[derive(Debug)]
pub struct Kind {
    /// Its name in the queue.
    pub task: &'static str,
    /// What it does, for people.
    pub description: &'static str,
    /// When it runs by itself; none for a job that only follows from something else.
    pub schedule: Option<Schedule>,
    /// How often it is tried. The n-th delay is e^n seconds: 3 tries span 10 s, 5 a minute and a half, 8 half an hour, 12 half a day.
    pub max_attempts: i16,
    /// Lower ones run first.
    pub priority: i16,
}

/// Puts the feeds that are due in the queue.
pub const ENQUEUE_DUE_FEEDS: Kind = Kind {
    task: "enqueue_due_feeds",
    description: "Puts a fetch in the queue for each feed that is due.",
    schedule: Some(Schedule::EveryMinute),
    // The next minute tries again.
    max_attempts: 1,
    priority: PIPELINE,
};
/// Fetches one feed.
pub const INGEST_FEED: Kind = Kind {
    task: "ingest_feed",
    description: "Fetches one feed. A fetch that fails is a failed run with its own delay; only a fault of ours fails the job.",
    schedule: None,
    // The feed stays due.
    max_attempts: 3,
    priority: PIPELINE,
};
/// Analyses some articles.
pub const ANALYZE_ARTICLES: Kind = Kind {
    task: "analyze_articles",
    description: "Analyses new articles: tone, embedding, wire copies, keyword links and aggregates.",
    schedule: None,
    max_attempts: 8,
    priority: PIPELINE,
};
/// Asks the language model for the tone of one article.
pub const LLM_SCORE: Kind = Kind {
    task: "llm_score",
    description: "Asks the language model for the tone of one article.",
    schedule: None,
    max_attempts: 12,
    priority: MODEL,
};
/// Analyses what was left over.
pub const ANALYZE_LEFT_OVER: Kind = Kind {
    task: "analyze_left_over",
    description: "Analyses articles whose own job failed for good, and gives those without a vector or an answer of the loaded models one.",
    schedule: Some(Schedule::Hourly { minute: 15 }),
    max_attempts: 5,
    priority: BULK,
};
/// Makes the aggregates anew.
pub const REBUILD_AGGREGATES: Kind = Kind {
    task: "rebuild_aggregates",
    description: "Makes the daily aggregates of every keyword anew from its links.",
    schedule: Some(Schedule::Daily { hour: 0, minute: 30 }),
    max_attempts: 8,
    priority: BULK,
};
/// Gathers evidence for suggestions.
pub const EVALUATE_SUGGESTIONS: Kind = Kind {
    task: "evaluate_suggestions",
    description: "Gathers the evidence for suggestions that have none.",
    schedule: Some(Schedule::Daily { hour: 2, minute: 0 }),
    max_attempts: 8,
    priority: BULK,
};

/// Flags keywords that find nothing.
pub const REVIEW_KEYWORDS: Kind = Kind {
    task: "review_keywords",
    description: "Flags keywords without an article in 30 days, and takes flags back.",
    schedule: Some(Schedule::Weekly { weekday: Weekday::Mon, hour: 3, minute: 0 }),
    max_attempts: 8,
    priority: BULK,
};
/// Computes which keywords are covered together.
pub const RELATE_KEYWORDS: Kind = Kind {
    task: "relate_keywords",
    description: "Computes which keywords are covered together.",
    schedule: Some(Schedule::Daily { hour: 5, minute: 0 }),
    max_attempts: 8,
    priority: BULK,
};

/// Makes a backup.
pub const CREATE_BACKUP: Kind = Kind {
    task: "create_backup",
    description: "Makes a backup, restores it into a database of its own, and compares every table.",
    schedule: Some(Schedule::Daily { hour: 1, minute: 0 }),
    max_attempts: 8,
    priority: PIPELINE,
};
/// Verifies a backup.
pub const VERIFY_BACKUP: Kind = Kind {
    task: "verify_backup",
    description: "Proves that a backup is what its manifest says.",
    schedule: None,
    max_attempts: 3,
    priority: ASKED,
};
/// Restores a backup.
pub const RESTORE_BACKUP: Kind = Kind {
    task: "restore_backup",
    description: "Restores a backup into a new database.",
    schedule: None,
    // Whoever waits for it decides what comes next.
    max_attempts: 1,
    priority: ASKED,
};
/// Removes old backups.
pub const PRUNE_BACKUPS: Kind = Kind {
    task: "prune_backups",
    description: "Removes backups that are past their time, and files that belong to none.",
    schedule: Some(Schedule::Daily { hour: 4, minute: 0 }),
    max_attempts: 8,
    priority: BULK,
};

/// Every kind of job, in the order of the pipeline.
pub static KINDS: [Kind; 13] = [
    ENQUEUE_DUE_FEEDS,
    INGEST_FEED,
    ANALYZE_ARTICLES,
    LLM_SCORE,
    ANALYZE_LEFT_OVER,
    REBUILD_AGGREGATES,
    EVALUATE_SUGGESTIONS,
    REVIEW_KEYWORDS,
    RELATE_KEYWORDS,
    CREATE_BACKUP,
    VERIFY_BACKUP,
    RESTORE_BACKUP,
    PRUNE_BACKUPS,
];

/// The kinds that follow the one with this task; all of them when there is none.
pub fn after(task: Option<&str>) -> Vec<&'static Kind> {
    let start = task.and_then(|task| KINDS.iter().position(|kind| kind.task == task)).map_or(0, |at| at + 1);
    KINDS.iter().skip(start).collect()
}

impl Kind {
    /// The kind with this slug.
    pub fn of_slug(slug: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.slug() == slug)
    }

    /// Whether the next one does what one that failed was for.
    pub fn repeats(&self) -> bool {
        self.schedule.is_some() || self.task == INGEST_FEED.task
    }

    /// Its name in resource names.
    pub fn slug(&self) -> String {
        self.task.replace('_', "-")
    }

    /// Its entry in the schedule. A waiting one is never doubled, and one runs at a time.
    pub fn crontab(&self) -> anyhow::Result<Option<Crontab>> {
        let Some(schedule) = self.schedule else { return Ok(None) };
        let mut crontab = Crontab::new(schedule.timer()?, self.task);
        crontab.options.max = Some(u16::try_from(self.max_attempts)?);
        crontab.options.priority = Some(self.priority);
        crontab.options.job_key = Some(self.task.into());
        crontab.options.queue = Some(self.task.into());
        // A whole period back and no more: however many times were missed, it runs once.
        crontab.options.fill = match schedule {
            Schedule::EveryMinute => None,
            schedule => Some(CrontabFill::seconds(u32::try_from(schedule.period())?)),
        };
        crontab.payload = Some(serde_json::json!({}));
        Ok(Some(crontab))
    }
}

/// When a job runs by itself, UTC.
#[derive(Clone, Copy, Debug)]
pub enum Schedule {
    /// Each minute.
    EveryMinute,
    /// Each hour, at a minute.
    Hourly {
        /// 0 to 59.
        minute: u32,
    },
    /// Each day, at a time.
    Daily {
        /// 0 to 23.
        hour: u32,
        /// 0 to 59.
        minute: u32,
    },
    /// Each week, at a time.
    Weekly {
        /// The day.
        weekday: Weekday,
        /// 0 to 23.
        hour: u32,
        /// 0 to 59.
        minute: u32,
    },
}

impl Schedule {
    /// In the five fields of cron.
    pub fn words(self) -> String {
        match self {
            Self::EveryMinute => "* * * * *".into(),
            Self::Hourly { minute } => format!("{minute} * * * *"),
            Self::Daily { hour, minute } => format!("{minute} {hour} * * *"),
            Self::Weekly { weekday, hour, minute } => {
                format!("{minute} {hour} * * {}", weekday.number_from_monday())
            }
        }
    }

    /// The first time after `now`.
    pub fn next(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let (offset, seconds) = (self.offset(), now.timestamp());
        let wait = self.period() - (seconds - offset).rem_euclid(self.period());
        DateTime::from_timestamp(seconds, 0).unwrap_or(now) + TimeDelta::seconds(wait)
    }

    fn timer(self) -> anyhow::Result<CrontabTimer> {
        Ok(match self {
            Self::EveryMinute => CrontabTimer::every_minute(),
            Self::Hourly { minute } => CrontabTimer::hourly_at(minute)?,
            Self::Daily { hour, minute } => CrontabTimer::daily_at(hour, minute)?,
            Self::Weekly { weekday, hour, minute } => CrontabTimer::weekly_on(weekday, hour, minute)?,
        })
    }

    /// Seconds from one time to the next.
    fn period(self) -> i64 {
        match self {
            Self::EveryMinute => MINUTE,
            Self::Hourly { .. } => HOUR,
            Self::Daily { .. } => DAY,
            Self::Weekly { .. } => 7 * DAY,
        }
    }

    /// Seconds from the beginning of Unix time to the first time.
    fn offset(self) -> i64 {
        match self {
            Self::EveryMinute => 0,
            Self::Hourly { minute } => i64::from(minute) * MINUTE,
            Self::Daily { hour, minute } => i64::from(hour) * HOUR + i64::from(minute) * MINUTE,
            Self::Weekly { weekday, hour, minute } => {
                FIRST_MONDAY
                    + i64::from(weekday.num_days_from_monday()) * DAY
                    + Self::Daily { hour, minute }.offset()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_the_one_at_which_the_queue_fires() {
        for schedule in KINDS.iter().filter_map(|kind| kind.schedule) {
            for start in ["2026-02-28T23:59:59.5Z", "2026-03-02T03:00:00Z", "2026-03-02T02:59:00Z"] {
                let now: DateTime<Utc> = start.parse().unwrap();
                let timer = schedule.timer().unwrap();
                let mut minute = DateTime::from_timestamp(now.timestamp() / 60 * 60, 0).unwrap();
                let fires = loop {
                    minute += TimeDelta::minutes(1);
                    if timer.should_run_at(&minute.naive_utc()) {
                        break minute;
                    }
                };
                assert_eq!(schedule.next(now), fires, "{} after {now}", schedule.words());
            }
        }
    }

    #[test]
    fn every_kind_has_a_slug_that_leads_back_to_it() {
        for kind in &KINDS {
            assert_eq!(Kind::of_slug(&kind.slug()).map(|kind| kind.task), Some(kind.task));
        }
    }
}
