//! Hears of every change of the database, whoever made it. While nothing is heard, the cache is passed by.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Kind};
use crate::error::{Error, Result};
use crate::telemetry;

/// Channel on which the triggers of the tables, and administrators, name the kinds that end.
pub const CHANNEL: &str = "euhub_cache";
/// How long silence is believed before the connection is asked whether it still holds, and how long it has to answer.
const BEAT: Duration = Duration::from_secs(2);

impl Cache {
    /// Listens until `stopping`; connects again when the connection is lost.
    pub fn listen(&self, db: PgPool, stopping: CancellationToken) {
        let cache = self.clone();
        tokio::spawn(stopping.run_until_cancelled_owned(async move {
            loop {
                let lost = cache.hear(&db).await;
                cache.0.listening.store(false, Ordering::Release);
                if let Err(error) = lost {
                    telemetry::degraded("cache", &error);
                    tokio::time::sleep(BEAT).await;
                }
            }
        }));
    }

    /// Ends what changes, until the connection is lost.
    async fn hear(&self, db: &PgPool) -> Result<()> {
        let mut listener = PgListener::connect_with(db).await?;
        // Connecting again unseen would lose what was told meanwhile.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        // Nobody heard what changed until here.
        self.invalidate(&Kind::STORED).await;
        self.0.listening.store(true, Ordering::Release);
        loop {
            match tokio::time::timeout(BEAT, listener.try_recv()).await {
                Ok(Ok(Some(told))) => match Kind::named(told.payload()) {
                    Some(kind) => self.invalidate(&[kind]).await,
                    // A newer release knows more kinds.
                    None => self.invalidate(&Kind::ALL).await,
                },
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    let alive = sqlx::query("SELECT 1").execute(&mut listener);
                    tokio::time::timeout(BEAT, alive).await.map_err(|_| Error::DeadlineExceeded)??;
                }
            }
        }
    }
}
