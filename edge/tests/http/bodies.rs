//! Raw bodies by `google.api.HttpBody`, and compressed ones.

use std::io::Read;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use euhub_edge::http::{EdgeConfig, Upstream, router};
use futures_util::{Stream, StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use tonic::{Code, Status};
use tower::{BoxError, ServiceExt, service_fn};

use crate::support::*;

const CSV: (&str, &str) = ("content-type", "text/csv");

#[tokio::test]
async fn http_body_answers_are_raw() {
    let answer = get_with(&app(), "/v1/download", &[("accept", "text/csv")]).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "a,b\n"));
    assert_eq!(answer.header("content-type"), "text/csv");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn http_body_streams_are_raw_and_typed_by_their_first_message() {
    let answer = get(&app(), "/v1/export").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "a,b\n1,2\n"));
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"x.csv\"");
}

#[tokio::test]
async fn http_body_requests_are_raw() {
    let answer = send(&app(), request(Method::POST, "/v1/files/7:put", &[CSV], "a,b\n1,2\n")).await;
    let json = answer.json();
    assert_eq!((&json["name"], &json["contentType"]), (&"files/7".into(), &"text/csv".into()));
    assert_eq!((&json["size"], &json["messages"]), (&8.into(), &1.into()));
}

#[tokio::test]
async fn http_body_requests_stream() {
    let chunks = ["first,", "second,", "third"].map(Ok::<_, std::io::Error>);
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let json = send(&app(), request(Method::POST, "/v1/files/7:upload", &[CSV], body)).await.json();
    assert_eq!((&json["name"], &json["contentType"]), (&"files/7".into(), &"text/csv".into()));
    assert_eq!((&json["size"], &json["messages"]), (&18.into(), &3.into()));
    let empty = send(&app(), request(Method::POST, "/v1/files/7:upload", &[CSV], Body::empty())).await.json();
    assert_eq!((&empty["name"], &empty["messages"]), (&"files/7".into(), &1.into()));
}

#[tokio::test]
async fn a_raw_body_over_its_limit_is_413() {
    for verb in ["put", "upload"] {
        let uri = format!("/v1/files/7:{verb}");
        let at = send(&app(), request(Method::POST, &uri, &[CSV], vec![b'x'; 5000])).await;
        assert_eq!((at.status, &at.json()["size"]), (StatusCode::OK, &5000.into()), "{verb}");
        let past = send(&app(), request(Method::POST, &uri, &[CSV], vec![b'x'; 5001])).await;
        assert_eq!(past.status, StatusCode::PAYLOAD_TOO_LARGE, "{verb}");
        let chunks = [vec![b'x'; 3000], vec![b'x'; 3000]].map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        let undeclared = send(&app(), request(Method::POST, &uri, &[CSV], body)).await;
        assert_eq!(
            (undeclared.status, undeclared.error().0.as_str()),
            (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE")
        );
    }
}

fn decompressed(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap()),
        "br" => brotli::BrotliDecompress(&mut &*body, &mut plain).unwrap(),
        _ => plain = zstd::decode_all(body).unwrap(),
    }
    plain
}

#[tokio::test]
async fn answers_are_compressed_when_asked() {
    let uri = format!("/v1/plain/{}", "x".repeat(500));
    let app = app();
    let plain = get(&app, &uri).await;
    for coding in ["gzip", "br", "zstd", "gzip"] {
        let answer = get_with(&app, &uri, &[("accept-encoding", coding)]).await;
        assert_eq!(answer.header("content-encoding"), coding);
        assert_eq!(answer.header("vary"), "accept-encoding");
        assert_eq!(decompressed(coding, &answer.body), plain.body);
        assert_eq!(answer.header("etag"), plain.header("etag"));
        // For one caller alone: compressed too, but not kept.
        let private = [("accept-encoding", coding), ("authorization", "Bearer x")];
        let private = get_with(&app, &uri, &private).await;
        assert_eq!(private.header("content-encoding"), coding);
        assert_eq!(decompressed(coding, &private.body), plain.body);
    }
    let stream = get_with(&app, "/v1/events:watch?count=9", &[("accept-encoding", "gzip")]).await;
    assert!(!stream.headers.contains_key("content-encoding"));
}

/// Bytes of the bodies below: far more than may ever be held at once.
const HUGE: usize = 1 << 30;
const PIECE: usize = 64 * 1024;
/// What may be under way at once: a few pieces.
const HELD: usize = 8 * PIECE;

/// A body that is made as it is taken, counting into `made`.
fn pieces(made: Arc<AtomicUsize>) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    let piece = Bytes::from(vec![b'x'; PIECE]);
    stream::iter(0..HUGE / PIECE).map(move |_| {
        made.fetch_add(PIECE, Ordering::Relaxed);
        Ok(piece.clone())
    })
}

/// An edge whose upstream is `upstream`, with room for uploads of `limit` bytes.
fn streaming<F>(
    limit: usize,
    upstream: impl Fn(Request<tonic::body::Body>) -> F + Clone + Send + Sync + 'static,
) -> Router
where
    F: Future<Output = Result<Response<tonic::body::Body>, BoxError>> + Send + 'static,
{
    let config = EdgeConfig { max_upload_bytes: limit, ..config() };
    router(plan(), Upstream::new(service_fn(upstream)), config).unwrap()
}

#[tokio::test]
async fn a_huge_upload_passes_in_pieces() {
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    let app = streaming(HUGE, move |request| {
        let made = counted.clone();
        async move {
            let (mut body, mut taken) = (request.into_body(), 0);
            while let Some(frame) = body.frame().await {
                taken += frame?.into_data().unwrap().len();
                assert!(made.load(Ordering::Relaxed) <= taken + HELD);
            }
            assert!(taken > HUGE);
            Ok(Status::unimplemented("counted").into_http())
        }
    });
    let body = Body::from_stream(pieces(made.clone()));
    let answer = send(&app, request(Method::POST, "/v1/files/7:upload", &[CSV], body)).await;
    assert_eq!((answer.status, made.load(Ordering::Relaxed)), (StatusCode::NOT_IMPLEMENTED, HUGE));
}

#[tokio::test]
async fn a_huge_upload_over_the_limit_is_413_when_the_limit_is_reached() {
    const LIMIT: usize = 10 << 20;
    for verb in ["put", "upload"] {
        let made = Arc::new(AtomicUsize::new(0));
        let app = streaming(LIMIT, |request| async {
            let _ = request.into_body().collect().await;
            Ok(Status::cancelled("the request broke off").into_http())
        });
        let body = Body::from_stream(pieces(made.clone()));
        let uri = format!("/v1/files/7:{verb}");
        let answer = send(&app, request(Method::POST, &uri, &[CSV], body)).await;
        assert_eq!(
            (answer.status, answer.error().0.as_str()),
            (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE")
        );
        let made = made.load(Ordering::Relaxed);
        assert!((LIMIT..=LIMIT + HELD).contains(&made), "{verb}: {made}");
    }
}

#[tokio::test]
async fn a_huge_download_passes_in_pieces() {
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    let app = streaming(0, move |_| {
        let messages = pieces(counted.clone()).map(|piece| {
            let message = framed(&http_body("text/csv", piece.unwrap()));
            Ok::<_, Status>(http_body::Frame::data(message))
        });
        let mut trailers = http::HeaderMap::new();
        Status::new(Code::Ok, "").add_header(&mut trailers).unwrap();
        let end = stream::iter([Ok(http_body::Frame::trailers(trailers))]);
        async { Ok(respond(StreamBody::new(messages.chain(end)))) }
    });
    let request = request(Method::GET, "/v1/export", &[], Body::empty());
    let (mut body, mut taken) = (app.oneshot(request).await.unwrap().into_body(), 0);
    while let Some(frame) = body.frame().await {
        taken += frame.unwrap().into_data().unwrap().len();
        assert!(made.load(Ordering::Relaxed) <= taken + HELD);
    }
    assert_eq!(taken, HUGE);
}
