//! Time and randomness come in from outside, so that every step that depends on them can be tested.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use rand::Rng;

/// Where "now" comes from. Cloning is cheap.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::from_fn(system_now)
    }

    /// A clock that tells what `now` returns.
    pub fn from_fn(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The current time, UTC, to the microsecond (what Postgres keeps).
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)().trunc_subsecs(6)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
fn system_now() -> DateTime<Utc> {
    Utc::now()
}

/// The machine's source of randomness, seeded by the operating system.
#[allow(clippy::disallowed_methods, reason = "the one place that asks for randomness")]
pub fn system_rng() -> impl Rng {
    rand::rng()
}
