//! What a connection is doing, and how long it may go on so.
//!
//! hyper's own header timeout also ends an HTTP/1 connection that waits for its next request, and it has none for HTTP/2
//! and no idle timeout at all. So the connection's bytes and requests are watched here, for both protocols alike.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// What every HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection that must make room may take to end, so that HTTP/2 clients are told which requests were not read.
const EVICTION: Duration = Duration::from_secs(1);

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub header: Duration,
    pub write: Duration,
    pub idle: Duration,
}

/// One connection, as its task, its streams and the listener see it.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    task: AtomicWaker,
}

#[derive(Debug)]
struct State {
    protocol: Protocol,
    /// In flight: from the head of the request to the end of the response's body.
    requests: usize,
    /// Since when none is in flight.
    quiet: Instant,
    /// Since when the head of a request, a preface or a handshake is awaited.
    head: Option<Instant>,
    /// Since when the client takes no bytes.
    blocked: Option<Instant>,
    order: Option<Order>,
    /// Since when the connection only finishes what it has begun.
    closing: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// So many bytes of HTTP/2's preface have come.
    Unknown(usize),
    Http1,
    Http2,
}

/// Why a connection should end soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The server stops.
    Stop,
    /// Others wait for its place.
    Evict,
}

/// What its task should do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again at this time at the latest; `None`: when something happens.
    Wait(Option<Instant>),
    /// Let it finish what it has begun.
    Close,
    /// Drop it, for this reason.
    Cut(&'static str),
}

impl Activity {
    pub fn new() -> Self {
        let now = Instant::now();
        let state = State {
            protocol: Protocol::Unknown(0),
            requests: 0,
            quiet: now,
            head: Some(now),
            blocked: None,
            order: None,
            closing: None,
        };
        Self { state: Mutex::new(state), task: AtomicWaker::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task to wake when the verdict may have changed outside of it.
    pub fn register(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }

    /// The TLS handshake is done; the first request has the same time again.
    pub fn secured(&self) {
        self.state().head = Some(Instant::now());
    }

    /// The client sent these bytes.
    pub fn received(&self, bytes: &[u8]) {
        let mut state = self.state();
        match state.protocol {
            Protocol::Unknown(matched) => {
                let rest = &PREFACE[matched..];
                if bytes.starts_with(rest) {
                    state.protocol = Protocol::Http2;
                    state.head = None;
                    state.quiet = Instant::now();
                } else if rest.starts_with(bytes) {
                    state.protocol = Protocol::Unknown(matched + bytes.len());
                } else {
                    state.protocol = Protocol::Http1;
                }
            }
            Protocol::Http1 if state.requests == 0 && state.head.is_none() => {
                state.head = Some(Instant::now());
            }
            Protocol::Http1 | Protocol::Http2 => {}
        }
    }

    /// Whether the client lets bytes wait.
    pub fn blocked(&self, blocked: bool) {
        self.state().blocked = blocked.then(Instant::now);
    }

    /// A request has come; it is in flight until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.state();
        state.requests += 1;
        state.head = None;
        drop(state);
        InFlight(Arc::clone(self))
    }

    /// Asks the connection to end.
    pub fn order(&self, order: Order) {
        self.state().order = Some(order);
        self.task.wake();
    }

    /// Since when the connection does nothing that anyone waits for; `None` when it does, or is about to end.
    pub fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        let idle = state.requests == 0 && state.blocked.is_none();
        (idle && state.order.is_none() && state.closing.is_none()).then_some(state.quiet)
    }

    pub fn verdict(&self, patience: &Patience, now: Instant) -> Verdict {
        let mut state = self.state();
        let due = |since: Instant, limit: Duration, then: Verdict| {
            let at = since + limit;
            if now >= at { then } else { Verdict::Wait(Some(at)) }
        };
        if let (Some(order), None) = (state.order, state.closing) {
            let nothing_asked = matches!(state.protocol, Protocol::Unknown(_));
            if nothing_asked || (order == Order::Evict && state.head.is_some()) {
                return Verdict::Cut("it had not asked for anything yet");
            }
            state.closing = Some(now);
            return Verdict::Close;
        }
        if let Some(since) = state.blocked {
            return due(since, patience.write, Verdict::Cut("the client does not read"));
        }
        if state.requests > 0 {
            return Verdict::Wait(None);
        }
        if let Some(since) = state.head {
            return due(since, patience.header, Verdict::Cut("no whole request came in time"));
        }
        if let Some(since) = state.closing {
            let limit = if state.order == Some(Order::Evict) { EVICTION } else { patience.header };
            return due(since.max(state.quiet), limit, Verdict::Cut("the client does not close"));
        }
        let verdict = due(state.quiet, patience.idle, Verdict::Close);
        if verdict == Verdict::Close {
            state.closing = Some(now);
        }
        verdict
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        if state.requests > 0 {
            return;
        }
        state.quiet = Instant::now();
        // A stream of HTTP/2 ends in a task of its own.
        let elsewhere = state.protocol == Protocol::Http2;
        drop(state);
        if elsewhere {
            self.0.task.wake();
        }
    }
}

/// A future and its connection's verdict, whichever is first.
///
/// `close` lets the future finish what it has begun. An error is the reason why it must be dropped.
pub(super) async fn watch<F: Future>(
    activity: &Activity,
    patience: &Patience,
    future: F,
    mut close: impl FnMut(Pin<&mut F>),
) -> Result<F::Output, &'static str> {
    let mut future = pin!(future);
    let mut alarm = pin!(tokio::time::sleep(patience.header));
    poll_fn(move |cx| {
        activity.register(cx);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            loop {
                match activity.verdict(patience, Instant::now()) {
                    Verdict::Cut(reason) => return Poll::Ready(Err(reason)),
                    Verdict::Close => break close(future.as_mut()),
                    Verdict::Wait(None) => return Poll::Pending,
                    Verdict::Wait(Some(at)) => {
                        // A deadline mostly moves away: an alarm that rings early is cheaper than one set for each request.
                        if at < alarm.deadline() || alarm.is_elapsed() {
                            alarm.as_mut().reset(at);
                        }
                        if alarm.as_mut().poll(cx).is_pending() {
                            return Poll::Pending;
                        }
                    }
                }
            }
        }
    })
    .await
}
