//! The layer that answers calls from the cache, and ends what other calls change. A kept answer passes as its bytes: nothing of it is read.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tonic::Status;

use super::{Cache, Class, Kind, key};
use crate::auth;
use crate::clock::Clock;
use crate::error::Error;

/// Longest request for a kept answer: its fields have limits of their own, far below.
const MAX_REQUEST: usize = 64 * 1024;
/// The methods whose answers are kept. They depend on the request, the database and the day, and on nothing else.
const KEPT: [(&str, Kind, Class); 9] = [
    ("/euhub.v1.ArticleService/GetArticle", Kind::Articles, Class::Entity),
    ("/euhub.v1.ArticleService/ListArticles", Kind::Articles, Class::List),
    ("/euhub.v1.KeywordService/GetKeyword", Kind::Keywords, Class::Entity),
    ("/euhub.v1.KeywordService/ListKeywordArticles", Kind::Articles, Class::List),
    ("/euhub.v1.KeywordService/ListKeywords", Kind::Keywords, Class::List),
    ("/euhub.v1.SearchService/Autocomplete", Kind::Completions, Class::Session),
    ("/euhub.v1.SentimentService/CompareSentiment", Kind::Sentiment, Class::List),
    ("/euhub.v1.SentimentService/GetKeywordSentiment", Kind::Sentiment, Class::Entity),
    ("/euhub.v1.SentimentService/GetSentimentTimeline", Kind::Sentiment, Class::Entity),
];

/// What the layer needs.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Where answers are kept.
    pub cache: Cache,
    /// The day.
    pub clock: Clock,
}

/// Answers a call from the cache where that holds. Ends cached answers before a call that may have changed them is answered, so that
/// its caller reads what it wrote; the database tells of everybody else's changes.
pub async fn answer(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if let Some((method, kind, class)) = KEPT.into_iter().find(|(method, ..)| *method == path) {
        return match answers.kept(method, kind, class, request, next).await {
            Ok(message) => reply(message),
            Err(status) => status.into_http(),
        };
    }
    let changes = auth::may_change(path);
    let response = next.run(request).await;
    if changes {
        answers.cache.invalidate(&Kind::STORED).await;
    }
    response
}

impl Answers {
    async fn kept(
        &self,
        method: &str,
        kind: Kind,
        class: Class,
        request: Request,
        next: Next,
    ) -> Result<Bytes, Status> {
        let (head, body) = request.into_parts();
        let asked = Limited::new(body, MAX_REQUEST).collect().await;
        let asked = asked.map_err(|error| match error.is::<LengthLimitError>() {
            true => Error::ResourceExhausted("the request is longer than 64 KiB").into(),
            false => Status::cancelled("the request broke off"),
        })?;
        let asked = asked.to_bytes();
        let day = self.clock.now().date_naive();
        let key = key(kind, &format!("{method}/{day}"), &asked);
        let load = async { message(next.run(Request::from_parts(head, Body::from(asked))).await).await };
        self.cache.bytes(kind, class, &key, load).await
    }
}

/// The one message of an answer, with gRPC's five bytes in front.
async fn message(response: Response) -> Result<Bytes, Status> {
    let ok = |headers: &HeaderMap| match Status::from_header_map(headers) {
        Some(status) if status.code() != tonic::Code::Ok => Err(status),
        _ => Ok(()),
    };
    ok(response.headers())?;
    let body = response.into_body().collect().await.map_err(|error| Status::from_error(error.into()))?;
    body.trailers().map_or(Ok(()), ok)?;
    Ok(body.to_bytes())
}

fn reply(message: Bytes) -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

#[cfg(test)]
mod tests {
    use euhub_edge::plan::Plan;

    use super::*;
    use crate::proto::DESCRIPTOR_SET;

    #[test]
    fn what_is_kept_are_methods_that_answer_once_and_change_nothing() {
        let plan = Plan::compile(DESCRIPTOR_SET).unwrap();
        for (path, ..) in KEPT {
            let method = plan.methods().iter().find(|method| method.grpc_path.path() == path);
            assert!(method.is_some_and(|method| !method.server_streaming), "{path}");
            assert!(!auth::may_change(path), "{path}");
        }
    }
}
