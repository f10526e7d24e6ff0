//! Server streams: NDJSON lines, server-sent events, raw bytes. Nothing is read from the upstream before the client
//! has taken what came earlier, and dropping the body drops the call.

use std::{convert::Infallible, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use prost::Message as _;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Edge,
    failure::Failure,
    frame::Frames,
    negotiate::StreamForm,
    wire::{self, HttpBody},
};
use crate::codec;

/// Messages that have arrived together leave together, up to about this many bytes.
const CHUNK: usize = 16 * 1024;

/// The messages of a stream in JSON, ended by an error frame if it fails.
pub(crate) fn messages(
    edge: Arc<Edge>,
    route: usize,
    form: StreamForm,
    headers: HeaderMap,
    frames: Frames,
    end: Option<Instant>,
) -> Body {
    let stream = Messages { edge, route, form, source: Source { headers, frames, end }, open: true };
    Body::from_stream(stream::unfold(stream, |mut stream| async {
        let chunk = stream.next().await?;
        Some((Ok::<_, Infallible>(chunk), stream))
    }))
}

/// The bytes of a stream of `HttpBody`; a failure breaks the connection off, since bytes have no error frame.
pub(crate) fn raw(
    edge: Arc<Edge>,
    headers: HeaderMap,
    first: Bytes,
    frames: Frames,
    end: Option<Instant>,
) -> Body {
    let source = Source { headers, frames, end };
    Body::from_stream(stream::try_unfold((edge, source, Some(first)), |(edge, mut source, first)| async {
        if let Some(first) = first.filter(|first| !first.is_empty()) {
            return Ok(Some((first, (edge, source, None))));
        }
        match source.next(&edge).await {
            Ok(Some(message)) => match HttpBody::decode(message) {
                Ok(body) => Ok(Some((body.data, (edge, source, None)))),
                Err(error) => Err(std::io::Error::other(error)),
            },
            Ok(None) => Ok(None),
            Err(_) => Err(std::io::Error::other("the stream failed")),
        }
    }))
}

struct Source {
    headers: HeaderMap,
    frames: Frames,
    end: Option<Instant>,
}

impl Source {
    /// The next message; `None` at a good end. May be dropped while waiting, and called again.
    async fn next(&mut self, edge: &Edge) -> Result<Option<Bytes>, Failure> {
        let next = match self.end {
            None => self.frames.next().await,
            Some(end) => tokio::select! {
                biased;
                next = self.frames.next() => next,
                () = sleep_until(end) => return Err(Failure::deadline()),
            },
        };
        match next {
            Ok(Some(message)) => Ok(Some(message)),
            Ok(None) => edge.finished(&self.headers, &self.frames).map(|()| None),
            Err(broken) => Err(edge.broken(broken)),
        }
    }
}

struct Messages {
    edge: Arc<Edge>,
    route: usize,
    form: StreamForm,
    source: Source,
    open: bool,
}

impl Messages {
    async fn next(&mut self) -> Option<Bytes> {
        if !self.open {
            return None;
        }
        let mut message = match self.form {
            StreamForm::NdJson => self.source.next(&self.edge).await,
            StreamForm::Sse => {
                match timeout(self.edge.config.heartbeat, self.source.next(&self.edge)).await {
                    Ok(message) => message,
                    Err(_) => return Some(Bytes::from_static(b": keep-alive\n\n")),
                }
            }
        };
        let mut out = Vec::new();
        loop {
            match message
                .and_then(|message| message.map(|message| self.write(&message, &mut out)).transpose())
            {
                Ok(Some(())) => {}
                Ok(None) => {
                    self.open = false;
                    break;
                }
                Err(failure) => {
                    self.open = false;
                    self.write_failure(&failure, &mut out);
                    break;
                }
            }
            if out.len() >= CHUNK {
                break;
            }
            message = match self.source.frames.buffered() {
                Ok(None) => break,
                Ok(next) => Ok(next),
                Err(broken) => Err(self.edge.broken(broken)),
            };
        }
        if out.is_empty() { None } else { Some(out.into()) }
    }

    fn write(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let route = &self.edge.routes[self.route];
        let start = out.len();
        if self.form == StreamForm::Sse {
            let token =
                route.resume_number.and_then(|number| wire::last_bytes(message, number)).unwrap_or_default();
            // An id must stay on its line, and a NUL would make the client ignore it.
            if !token.is_empty() && !token.iter().any(u8::is_ascii_control) {
                out.extend_from_slice(b"id: ");
                out.extend_from_slice(token);
                out.push(b'\n');
            }
            out.extend_from_slice(b"data: ");
        }
        let plan = &self.edge.plan;
        let written = match &route.binding.response_body {
            None => codec::to_json(plan, route.output, message, out),
            Some(field) => codec::field_to_json(plan, route.output, field, message, out),
        };
        if let Err(error) = written {
            tracing::error!(%error, path = %route.grpc_path, "upstream's message has no JSON form");
            out.truncate(start);
            return Err(Failure::bad_gateway());
        }
        self.end_frame(out);
        Ok(())
    }

    fn write_failure(&self, failure: &Failure, out: &mut Vec<u8>) {
        if self.form == StreamForm::Sse {
            out.extend_from_slice(b"event: error\ndata: ");
        }
        out.extend_from_slice(&failure.json(&self.edge.config.error_domain));
        self.end_frame(out);
    }

    fn end_frame(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.form {
            StreamForm::NdJson => b"\n",
            StreamForm::Sse => b"\n\n",
        });
    }
}
