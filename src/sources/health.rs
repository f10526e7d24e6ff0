//! How a source does, from counts alone. The formulas, with a worked example: `docs/SOURCES.md`.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Utc, Weekday};
use sqlx::PgPool;

use crate::error::Result;
use crate::sources::store;

/// Days that the expectation looks back on.
const WINDOW_DAYS: i32 = 28;
/// Observed days without which nothing is expected.
const MIN_DAYS: usize = 7;
/// Failures in a row from which a feed counts as failing.
const FAILURES: i32 = 3;
/// What chance explains less often than this is silence.
const SILENT_CHANCE: f64 = 0.001;
/// What chance explains less often than this is quiet.
const QUIET_CHANCE: f64 = 0.01;
/// Share of days left out at each end, as a divisor.
const TRIM: usize = 10;

/// How a source does, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A feed failed again and again.
    Failing = 1,
    /// No article for longer than chance explains.
    Silent = 2,
    /// Far fewer articles than expected.
    Quiet = 3,
    /// Too few days are known.
    New = 4,
    /// As expected.
    Healthy = 5,
    /// Not fetched.
    Paused = 6,
}

/// Articles received on a full UTC day on which the source was fetched.
#[derive(Clone, Copy, Debug)]
pub struct Day {
    /// The day.
    pub date: NaiveDate,
    /// Articles.
    pub count: i64,
}

/// What is known of a source.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Not fetched.
    pub paused: bool,
    /// Failed fetches in a row, a number a feed.
    pub failures: Vec<i32>,
    /// When it was last fetched without failure.
    pub last_success: Option<DateTime<Utc>>,
    /// When its last article was received.
    pub last_article: Option<DateTime<Utc>>,
    /// Articles received in the last 24 hours.
    pub received: i64,
    /// The days observed before the day of the last article, or before today when there was none.
    pub days: Vec<Day>,
}

/// How a source does, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// How.
    pub state: State,
    /// Why, in one sentence.
    pub reason: String,
    /// Articles expected in the last 24 hours; none while too few days are known.
    pub expected: Option<f64>,
}

/// A source with its health and what that was judged by.
#[derive(Debug)]
pub struct Judged {
    /// Its slug.
    pub slug: String,
    /// Its name for people.
    pub display_name: String,
    /// What is known of it.
    pub counts: Counts,
    /// How it does.
    pub health: Health,
}

impl Judged {
    /// Its place in the list: by state, then by slug.
    pub fn place(&self) -> (i64, &str) {
        (self.health.state as i64, &self.slug)
    }
}

/// The health of one source, or of all, the worst first.
pub async fn all(db: &PgPool, slug: Option<&str>, now: DateTime<Utc>) -> Result<Vec<Judged>> {
    let rows = store::health(db, slug, WINDOW_DAYS, now).await?;
    let mut found: Vec<Judged> = rows
        .into_iter()
        .map(|row| {
            let days = row.days.into_iter().zip(row.counts);
            let counts = Counts {
                paused: row.paused,
                failures: row.failures,
                last_success: row.last_success,
                last_article: row.last_article,
                received: row.received,
                days: days.map(|(date, count)| Day { date, count }).collect(),
            };
            let health = judge(&counts, now);
            Judged { slug: row.slug, display_name: row.display_name, counts, health }
        })
        .collect();
    found.sort_by(|one, other| one.place().cmp(&other.place()));
    Ok(found)
}

/// Judges a source by its counts.
pub fn judge(counts: &Counts, now: DateTime<Utc>) -> Health {
    let rate = (counts.days.len() >= MIN_DAYS).then(|| Rate::of(&counts.days));
    let expected = rate.map(|rate| rate.expected(now - TimeDelta::days(1), now));
    let (state, reason) = state(counts, rate, expected);
    Health { state, reason, expected }
}

fn state(counts: &Counts, rate: Option<Rate>, expected: Option<f64>) -> (State, String) {
    if counts.paused {
        return (State::Paused, "The source is paused and not fetched.".into());
    }
    let failing = counts.failures.iter().filter(|failures| **failures >= FAILURES).count();
    if failing > 0 {
        let (feeds, worst) =
            (counts.failures.len(), counts.failures.iter().max().copied().unwrap_or_default());
        let reason = format!(
            "{failing} of {feeds} feeds failed {FAILURES} times or more in a row, the worst {worst} times."
        );
        return (State::Failing, reason);
    }
    let days = counts.days.len();
    let (Some(rate), Some(expected)) = (rate, expected) else {
        return (
            State::New,
            format!(
                "Full days with a successful fetch: {days}; {MIN_DAYS} are needed to know what to expect."
            ),
        );
    };
    let Some(last_article) = counts.last_article else {
        return (State::Silent, format!("No article ever, in {days} full days with a successful fetch."));
    };
    // Only as far as it was fetched: what was not looked for is not missing.
    let until = counts.last_success.map_or(last_article, |time| time.max(last_article));
    let missed = rate.expected(last_article, until);
    let chance = (-missed).exp();
    if chance < SILENT_CHANCE {
        let hours = hours(until - last_article);
        let reason = format!(
            "No article for {hours:.1} hours in which {missed:.1} were expected: chance explains that in {:.3} % of cases.",
            chance * 100.0
        );
        return (State::Silent, reason);
    }
    let received = counts.received;
    let chance = at_most(received, expected);
    if float(received) < expected / 2.0 && chance < QUIET_CHANCE {
        let reason = format!(
            "{received} articles in the last 24 hours, {expected:.1} expected: chance explains that in {:.3} % of cases.",
            chance * 100.0
        );
        return (State::Quiet, reason);
    }
    (State::Healthy, format!("{received} articles in the last 24 hours, {expected:.1} expected."))
}

/// Articles a day: at weekends the press sleeps.
#[derive(Clone, Copy, Debug)]
struct Rate {
    weekday: f64,
    weekend: f64,
}

impl Rate {
    fn of(days: &[Day]) -> Self {
        let counts = |weekend: bool| {
            let of_kind = days.iter().filter(|day| is_weekend(day.date) == weekend);
            trimmed_mean(of_kind.map(|day| day.count).collect())
        };
        let (weekday, weekend) = (counts(false), counts(true));
        let any = weekday.or(weekend).unwrap_or_default();
        Self { weekday: weekday.unwrap_or(any), weekend: weekend.unwrap_or(any) }
    }

    /// Articles expected between two times.
    fn expected(self, from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
        let (mut expected, mut at) = (0.0, from);
        while at < to {
            let date = at.date_naive();
            let midnight =
                date.checked_add_days(Days::new(1)).map(|next| next.and_time(NaiveTime::MIN).and_utc());
            let end = midnight.map_or(to, |midnight| midnight.min(to));
            let rate = if is_weekend(date) { self.weekend } else { self.weekday };
            expected += rate * hours(end - at) / 24.0;
            at = end;
        }
        expected
    }
}

fn is_weekend(date: NaiveDate) -> bool {
    matches!(date.weekday(), Weekday::Sat | Weekday::Sun)
}

/// The mean without a tenth of the values, rounded up, at each end; none of no values.
fn trimmed_mean(mut counts: Vec<i64>) -> Option<f64> {
    counts.sort_unstable();
    let trim = counts.len().div_ceil(TRIM).min(counts.len().saturating_sub(1) / 2);
    let kept = counts.get(trim..counts.len() - trim).filter(|kept| !kept.is_empty())?;
    Some(float(kept.iter().sum()) / kept.len() as f64)
}

/// The probability of at most `n` events where `mean` are expected (Poisson).
fn at_most(n: i64, mean: f64) -> f64 {
    let (mut term, mut sum) = ((-mean).exp(), 0.0);
    for k in 0..=n {
        sum += term;
        term *= mean / float(k + 1);
    }
    sum
}

fn hours(time: TimeDelta) -> f64 {
    float(time.num_milliseconds()) / 3_600_000.0
}

fn float(n: i64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// 28 days before Wednesday 2026-06-24: so many articles on weekdays and at weekends.
    fn days(weekday: i64, weekend: i64) -> Vec<Day> {
        let last: NaiveDate = "2026-06-23".parse().unwrap();
        let dates = (0..28).map(|back| last.checked_sub_days(Days::new(back)).unwrap());
        dates.map(|date| Day { date, count: if is_weekend(date) { weekend } else { weekday } }).collect()
    }

    fn counts() -> Counts {
        Counts {
            failures: vec![0, 0],
            last_success: Some(at("2026-06-24T12:00:00Z")),
            last_article: Some(at("2026-06-24T11:00:00Z")),
            received: 12,
            days: days(12, 4),
            ..Counts::default()
        }
    }

    fn judged(counts: &Counts) -> State {
        judge(counts, at("2026-06-24T12:00:00Z")).state
    }

    #[test]
    fn states_follow_the_counts() {
        let none = Counts { last_article: None, ..counts() };
        let table = [
            (counts(), State::Healthy),
            (Counts { paused: true, failures: vec![9], ..counts() }, State::Paused),
            (Counts { failures: vec![0, 2], ..counts() }, State::Healthy),
            (Counts { failures: vec![0, 3], ..counts() }, State::Failing),
            (Counts { days: days(12, 4)[..6].to_vec(), ..counts() }, State::New),
            (Counts { days: days(12, 4)[..7].to_vec(), ..counts() }, State::Healthy),
            (none.clone(), State::Silent),
            (Counts { days: Vec::new(), ..none }, State::New),
            // Of 12, P(at most 4) = 0.8 %, P(at most 5) = 2.0 %.
            (Counts { received: 4, ..counts() }, State::Quiet),
            (Counts { received: 5, ..counts() }, State::Healthy),
            // Of 100, 60 is no chance either, but more than half.
            (Counts { received: 60, days: days(100, 100), ..counts() }, State::Healthy),
            (Counts { received: 49, days: days(100, 100), ..counts() }, State::Quiet),
        ];
        for (counts, expected) in table {
            assert_eq!(judged(&counts), expected, "{counts:?}");
        }
    }

    /// e to the minus 6.9 is above one in a thousand, to the minus 7 below it.
    #[test]
    fn silence_begins_where_chance_ends() {
        let last_article = Some(at("2026-06-23T22:12:00Z"));
        let silent = Counts { last_article, ..counts() };
        assert_eq!(judged(&silent), State::Healthy, "13.8 hours, 6.9 expected");
        let silent = Counts { last_article: Some(at("2026-06-23T22:00:00Z")), ..counts() };
        assert_eq!(judged(&silent), State::Silent, "14 hours, 7.0 expected");
        let not_fetched = Counts { last_success: last_article, ..silent };
        assert_eq!(judged(&not_fetched), State::Healthy, "what was not looked for is not missing");
    }

    #[test]
    fn weekends_are_expected_to_be_slow() {
        let weekend = Counts {
            last_article: Some(at("2026-06-26T20:00:00Z")),
            last_success: Some(at("2026-06-29T00:00:00Z")),
            received: 0,
            days: days(12, 0),
            ..counts()
        };
        let health = judge(&weekend, at("2026-06-29T00:00:00Z"));
        assert_eq!((health.state, health.expected), (State::Healthy, Some(0.0)));
        let later = Counts { last_success: Some(at("2026-06-29T12:00:00Z")), ..weekend };
        assert_eq!(judge(&later, at("2026-06-29T12:00:00Z")).state, State::Silent);
    }

    #[test]
    fn odd_days_do_not_move_the_expectation() {
        let mut odd = counts();
        odd.days[0].count = 900;
        odd.days[1].count = 0;
        assert_eq!(judge(&odd, at("2026-06-24T12:00:00Z")).expected, Some(12.0));
        assert_eq!(trimmed_mean(vec![]), None);
        assert_eq!(trimmed_mean(vec![5]), Some(5.0));
        assert_eq!(trimmed_mean(vec![2, 4]), Some(3.0));
        assert_eq!(trimmed_mean(vec![900, 1, 3]), Some(3.0));
        // One a week, on Tuesdays: less than one is expected a day, but not nothing.
        assert_eq!(trimmed_mean([vec![0; 16], vec![1; 4]].concat()), Some(2.0 / 16.0));
    }

    /// The worked example of `docs/SOURCES.md` has these numbers and sentences.
    #[test]
    fn the_worked_example_of_the_documentation_holds() {
        let page = include_str!("../../docs/SOURCES.md");
        let example = Counts { last_article: Some(at("2026-06-23T20:00:00Z")), received: 3, ..counts() };
        let health = judge(&example, at("2026-06-24T12:00:00Z"));
        assert_eq!((health.state, health.expected), (State::Silent, Some(12.0)));
        assert!(page.contains(&health.reason), "{}", health.reason);
        let example = Counts { received: 3, ..counts() };
        let health = judge(&example, at("2026-06-24T12:00:00Z"));
        assert_eq!(health.state, State::Quiet);
        assert!(page.contains(&health.reason), "{}", health.reason);
    }
}
