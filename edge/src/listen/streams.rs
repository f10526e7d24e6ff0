//! Streams of HTTP/2 whose client leaves its window closed.
//!
//! Such a client reads its socket, so that the connection looks well; but an answer that it lets wait holds memory here, and
//! whatever the handler keeps open for the body. A stream is reset for it, not the connection: a proxy's other streams are
//! other people's.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::InFlight;

/// Largest piece of a body that is handed over at once: a client that takes as much has made progress.
const PIECE: usize = 64 * 1024;

tokio::task_local! {
    /// When this stream's body gave its last piece, if hyper has not come back for more: it waits for the client.
    static GIVEN: Cell<Option<Instant>>;
}

/// Runs streams, each until its client has taken nothing for so long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    pub patience: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(GIVEN.scope(Cell::new(None), until_stalled(stream, self.patience)));
    }
}

async fn until_stalled(stream: impl Future<Output = ()>, patience: Duration) {
    let mut stream = pin!(stream);
    let mut alarm: Option<Pin<Box<Sleep>>> = None;
    poll_fn(move |cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(given) = GIVEN.with(Cell::get) else { return Poll::Pending };
        let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(given + patience)));
        while alarm.as_mut().poll(cx).is_ready() {
            if given + patience <= Instant::now() {
                tracing::debug!("reset a stream: the client does not take its data");
                return Poll::Ready(());
            }
            alarm.as_mut().reset(given + patience);
        }
        Poll::Pending
    })
    .await;
}

/// The body of an answer; over HTTP/2 in pieces.
#[derive(Debug)]
pub(super) struct Answer {
    body: axum::body::Body,
    piece: usize,
    rest: Bytes,
    _in_flight: InFlight,
}

impl Answer {
    pub fn new(body: axum::body::Body, version: Version, in_flight: InFlight) -> Self {
        let piece = if version == Version::HTTP_2 { PIECE } else { usize::MAX };
        Self { body, piece, rest: Bytes::new(), _in_flight: in_flight }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(self.piece));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = self.poll_piece(cx);
        // HTTP/1 has no streams, and needs none: its client stops the socket itself.
        let _ = GIVEN.try_with(|given| given.set(frame.is_ready().then(Instant::now)));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let hint = self.body.size_hint();
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole.set_lower(hint.lower() + rest);
        whole
    }
}
