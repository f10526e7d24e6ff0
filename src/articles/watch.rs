//! New articles as they are analysed: one listener a process learns of them, and wakes every watcher.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::articles::filter::Filter;
use crate::articles::store::{self, EXCERPT};
use crate::error::{Error, Result};
use crate::page::{Cursor, Page};
use crate::proto::WatchArticlesResponse;
use crate::telemetry;

/// Channel that analysis notifies.
pub const CHANNEL: &str = "articles_analyzed";
/// Most watchers of one process.
const MAX_WATCHERS: usize = 1000;
/// How long the listener waits for a notification before it looks by itself: one may be lost with its connection.
const POLL: Duration = Duration::from_secs(2);
/// The place of the article that was analysed last; none while the database does not tell.
type Last = Option<i64>;

/// Articles read at once.
pub const BATCH: i64 = 100;

/// Wakes watchers: holds the place of the article that was analysed last, or that the database is away.
#[derive(Clone, Debug)]
pub struct NewArticles {
    last: watch::Receiver<Last>,
    slots: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl NewArticles {
    /// Listens until `stopping`; connects again when the connection is lost.
    pub fn listen(db: PgPool, stopping: CancellationToken) -> Self {
        let (sender, last) = watch::channel(Some(0));
        let stop = stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = listen(db, sender) => {}
            }
        });
        Self { last, slots: Arc::new(Semaphore::new(MAX_WATCHERS)), stopping }
    }

    /// Streams the articles of `filter` that are analysed after the page's cursor, or from now on.
    pub async fn stream(
        &self,
        db: PgPool,
        filter: Filter,
        page: Page,
    ) -> Result<ReceiverStream<Result<WatchArticlesResponse, Status>>> {
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| Error::ResourceExhausted("too many watchers; close one or try again later"))?;
        let after = match &page.after {
            Some(cursor) => cursor.number,
            None => store::last_analyzed(&db).await?,
        };
        let (sender, receiver) = mpsc::channel(16);
        let last = self.last.clone();
        let stopping = self.stopping.clone();
        tokio::spawn(telemetry::within_call(async move {
            let _slot = slot;
            let end = tokio::select! {
                () = stopping.cancelled() => Err(Error::Stopping),
                () = sender.closed() => Ok(()),
                end = follow(&db, &filter, &page, after, last, &sender) => end,
            };
            if let Err(error) = end {
                // The watcher may be gone by now; then there is nobody to tell.
                let _ = sender.send(Err(error.into())).await;
            }
        }));
        Ok(ReceiverStream::new(receiver))
    }
}

async fn follow(
    db: &PgPool,
    filter: &Filter,
    page: &Page,
    mut after: i64,
    mut last: watch::Receiver<Last>,
    sender: &mpsc::Sender<Result<WatchArticlesResponse, Status>>,
) -> Result<()> {
    loop {
        // The client continues by its token once the database is back.
        let known = last.borrow_and_update().ok_or(Error::Database(sqlx::Error::PoolTimedOut))?;
        while after < known {
            let batch = store::analyzed_after(db, filter, after, known, BATCH).await?;
            let ids: Vec<i64> = batch.iter().map(|place| place.id).collect();
            for article in store::by_ids(db, &ids, EXCERPT).await? {
                let Some(place) = batch.iter().find(|place| place.id == article.id) else { continue };
                let cursor = Cursor { id: place.id, number: place.position, ..Cursor::default() };
                let message =
                    WatchArticlesResponse { article: Some(article.into()), resume_token: page.token(cursor) };
                if sender.send(Ok(message)).await.is_err() {
                    return Ok(());
                }
            }
            // Nothing between the last match and `known` passes the filter: it need not be looked at again.
            after = match batch.last() {
                Some(place) if i64::try_from(batch.len()) == Ok(BATCH) => place.position,
                _ => known,
            };
        }
        if last.changed().await.is_err() {
            return Err(Error::Stopping);
        }
    }
}

async fn listen(db: PgPool, sender: watch::Sender<Last>) {
    loop {
        if let Err(error) = forward(&db, &sender).await {
            telemetry::degraded("watch", &error);
            sender.send_replace(None);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn forward(db: &PgPool, sender: &watch::Sender<Last>) -> Result<()> {
    let mut listener = PgListener::connect_with(db).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let last = Some(store::last_analyzed(db).await?);
        sender.send_if_modified(|known| std::mem::replace(known, last) != last);
        if let Ok(notified) = tokio::time::timeout(POLL, listener.recv()).await {
            notified?;
        }
    }
}
