//! New articles as they are analysed: one listener a process wakes every watcher.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::articles::filter::Filter;
use crate::articles::store::{self, Analyzed, EXCERPT};
use crate::error::{Error, Result};
use crate::page::{Cursor, Page};
use crate::proto::WatchArticlesResponse;
use crate::telemetry;

/// Channel that analysis notifies.
pub const CHANNEL: &str = "articles_analyzed";
/// Most watchers of one process.
const MAX_WATCHERS: usize = 1000;
/// How long a watcher waits for a notification before it looks by itself: a notification may be lost with its connection, and articles
/// appear only once every older transaction has ended.
const POLL: Duration = Duration::from_secs(1);
/// Articles read at once.
pub const BATCH: i64 = 100;

/// Wakes watchers.
#[derive(Clone, Debug)]
pub struct NewArticles {
    changed: watch::Receiver<()>,
    slots: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl NewArticles {
    /// Listens until `stopping`; connects again when the connection is lost.
    pub fn listen(db: PgPool, stopping: CancellationToken) -> Self {
        let (sender, changed) = watch::channel(());
        let stop = stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = listen(db, sender) => {}
            }
        });
        Self { changed, slots: Arc::new(Semaphore::new(MAX_WATCHERS)), stopping }
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
        let mut at = match &page.after {
            Some(cursor) => Analyzed { id: cursor.id, transaction: cursor.number },
            None => Analyzed { id: i64::MAX, transaction: store::watch_start(&db).await? },
        };
        let (sender, receiver) = mpsc::channel(16);
        let mut changed = self.changed.clone();
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let end = tokio::select! {
                () = stopping.cancelled() => Err(Error::Stopping),
                () = sender.closed() => Ok(()),
                end = follow(&db, &filter, &page, &mut at, &mut changed, &sender) => end,
            };
            if let Err(error) = end {
                // The watcher may be gone by now; then there is nobody to tell.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(ReceiverStream::new(receiver))
    }
}

async fn follow(
    db: &PgPool,
    filter: &Filter,
    page: &Page,
    at: &mut Analyzed,
    changed: &mut watch::Receiver<()>,
    sender: &mpsc::Sender<Result<WatchArticlesResponse, Status>>,
) -> Result<()> {
    loop {
        changed.mark_unchanged();
        loop {
            let batch = store::analyzed_after(db, filter, at, BATCH).await?;
            let ids: Vec<i64> = batch.iter().map(|place| place.id).collect();
            for article in store::by_ids(db, &ids, EXCERPT).await? {
                let Some(place) = batch.iter().find(|place| place.id == article.id) else { continue };
                let cursor = Cursor { id: place.id, number: place.transaction, ..Cursor::default() };
                let message =
                    WatchArticlesResponse { article: Some(article.into()), resume_token: page.token(cursor) };
                if sender.send(Ok(message)).await.is_err() {
                    return Ok(());
                }
            }
            match batch.into_iter().next_back() {
                Some(last) => *at = last,
                None => break,
            }
        }
        // An error means that the listener ended with the process; the poll goes on until `stopping`.
        let _ = tokio::time::timeout(POLL, changed.changed()).await;
    }
}

async fn listen(db: PgPool, sender: watch::Sender<()>) {
    loop {
        if let Err(error) = forward(&db, &sender).await {
            telemetry::degraded("watch", &error);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn forward(db: &PgPool, sender: &watch::Sender<()>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(db).await?;
    listener.listen(CHANNEL).await?;
    loop {
        listener.recv().await?;
        sender.send_replace(());
    }
}
