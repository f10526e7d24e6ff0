//! A gRPC service made of a function, with the edge in front of it.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use euhub_edge::{
    http::{EdgeConfig, RateLimit, RouteClass, Upstream, router},
    plan::Plan,
};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use serde_json::Value as Json;
use tokio::sync::Notify;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::{BoxError, ServiceExt, service_fn};

static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([here.join("tests/proto"), here.join("../proto")]).unwrap();
    compiler.include_imports(true).include_source_info(true).open_file("http_test.proto").unwrap();
    Arc::new(Plan::compile(&compiler.encode_file_descriptor_set()).unwrap())
});

pub fn plan() -> Arc<Plan> {
    PLAN.clone()
}

/// What the service has seen.
#[derive(Default)]
pub struct Seen {
    pub metadata: Mutex<HeaderMap>,
    pub healthy: std::sync::atomic::AtomicBool,
    /// Whether checks of health get no answer.
    pub hanging: std::sync::atomic::AtomicBool,
    /// Calls that were dropped before they had ended.
    pub cancelled: Notify,
    pub calls: std::sync::atomic::AtomicUsize,
}

struct OnDrop(Arc<Seen>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.cancelled.notify_one();
    }
}

pub fn config() -> EdgeConfig {
    EdgeConfig {
        rate_limit: RateLimit::OFF,
        route_classes: vec![
            RouteClass::new("admin", RateLimit::OFF, &["* /v1/admin/*"]).cache_control("no-store"),
        ],
        max_body_bytes: 1000,
        max_upload_bytes: 5000,
        heartbeat: Duration::from_millis(20),
        error_domain: "test.example".to_owned(),
        ..EdgeConfig::default()
    }
}

pub fn app_with(config: EdgeConfig) -> (Router, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let shared = seen.clone();
    let service = service_fn(move |request| serve(shared.clone(), request));
    (router(plan(), Upstream::new(service), config).unwrap(), seen)
}

/// The service itself, as gRPC over HTTP/2.
pub fn service() -> Router {
    let seen = Arc::new(Seen::default());
    let service = service_fn(move |request: Request<Body>| {
        let request = request.map(tonic::body::Body::new);
        let answer = serve(seen.clone(), request);
        async { Ok::<_, std::convert::Infallible>(answer.await.unwrap().map(Body::new)) }
    });
    Router::new().fallback_service(service)
}

pub fn app() -> Router {
    app_with(config()).0
}

/// The edge of a service that nobody can reach.
pub fn app_without_upstream() -> Router {
    let refused = |_: Request<tonic::body::Body>| async {
        Err::<Response<tonic::body::Body>, BoxError>("connection to 10.1.2.3:50051 refused".into())
    };
    router(plan(), Upstream::new(service_fn(refused)), config()).unwrap()
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Reason, message and first named field of an error.
    pub fn error(&self) -> (String, String, String) {
        let json = self.json();
        assert_eq!(json["error"]["code"], self.status.as_u16(), "{json}");
        let detail = |name: &str| {
            let details = json["error"]["details"].as_array().unwrap();
            details.iter().find(|d| d["@type"] == format!("type.googleapis.com/google.rpc.{name}")).cloned()
        };
        let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
        (
            detail("ErrorInfo").map(|info| text(&info["reason"])).unwrap_or_default(),
            text(&json["error"]["message"]),
            detail("BadRequest").map(|bad| text(&bad["fieldViolations"][0]["field"])).unwrap_or_default(),
        )
    }
}

pub async fn send(app: &Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

pub fn request(method: Method, uri: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

pub async fn get(app: &Router, uri: &str) -> Answer {
    send(app, request(Method::GET, uri, &[], Body::empty())).await
}

pub async fn get_with(app: &Router, uri: &str, headers: &[(&str, &str)]) -> Answer {
    send(app, request(Method::GET, uri, headers, Body::empty())).await
}

pub async fn send_json(app: &Router, method: Method, uri: &str, body: &str) -> Answer {
    send(app, request(method, uri, &[("content-type", "application/json")], body.to_owned())).await
}

async fn serve(
    seen: Arc<Seen>,
    request: Request<tonic::body::Body>,
) -> Result<Response<tonic::body::Body>, BoxError> {
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.headers()["te"], "trailers");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    *seen.metadata.lock().unwrap() = request.headers().clone();
    seen.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = request.uri().path().to_owned();
    let hanging = seen.hanging.load(std::sync::atomic::Ordering::Relaxed) && path.ends_with("/Check");
    if hanging || path.ends_with("/Hang") {
        let _guard = OnDrop(seen);
        std::future::pending::<()>().await;
        unreachable!();
    }
    let Ok(collected) = request.into_body().collect().await else {
        return Ok(Status::cancelled("the request broke off").into_http());
    };
    let messages = split(&collected.to_bytes());
    Ok(match path.rsplit('/').next().unwrap() {
        "Echo" => reply(messages, Status::new(Code::Ok, "")),
        "Check" if seen.healthy.load(std::sync::atomic::Ordering::Relaxed) => {
            reply(vec![vec![8, 1]], Status::new(Code::Ok, ""))
        }
        "Check" => reply(vec![vec![8, 2]], Status::new(Code::Ok, "")),
        "Fail" => fail(&decode("test.v1.FailRequest", &messages[0])),
        "Watch" => watch(seen, &decode("test.v1.WatchRequest", &messages[0])),
        "Download" => reply(vec![http_body("text/csv", &b"a,b\n"[..])], Status::new(Code::Ok, "")),
        "Export" => reply(
            vec![http_body("text/csv; charset=utf-8", &b"a,b\n"[..]), http_body("", &b"1,2\n"[..])],
            Status::new(Code::Ok, ""),
        ),
        "Upload" | "UploadStream" => upload(&messages),
        _ => Status::unimplemented("no such method").into_http(),
    })
}

fn fail(request: &DynamicMessage) -> Response<tonic::body::Body> {
    let code = Code::from_i32(request.get_field_by_name("code").unwrap().as_i32().unwrap());
    let mut details = ErrorDetails::new();
    let field = request.get_field_by_name("bad_field").unwrap().as_str().unwrap().to_owned();
    if !field.is_empty() {
        details.add_bad_request_violation(&field, "Must be better.");
        let message = format!("{field}: Must be better.");
        return Status::with_error_details(Code::InvalidArgument, message, details).into_http();
    }
    if request.get_field_by_name("details").unwrap().as_bool().unwrap() {
        details
            .set_error_info(
                "NO_SUCH_SHELF",
                "library.example",
                HashMap::from([("shelf".to_owned(), "7".to_owned())]),
            )
            .add_bad_request_violation("nested.id", "must be a word")
            .set_retry_info(Some(Duration::from_millis(2500)))
            .set_debug_info(vec!["secret stack".to_owned()], "secret")
            .set_localized_message("de-DE", "Kein solches Regal");
    }
    let status = Status::with_error_details(code, "as \u{e4}sked", details);
    if request.get_field_by_name("late").unwrap().as_bool().unwrap() {
        reply(Vec::new(), status)
    } else {
        status.into_http()
    }
}

fn watch(seen: Arc<Seen>, request: &DynamicMessage) -> Response<tonic::body::Body> {
    let count = request.get_field_by_name("count").unwrap().as_i32().unwrap();
    let token = request.get_field_by_name("resume_token").unwrap().as_str().unwrap().parse().unwrap_or(0);
    let flag = |name| request.get_field_by_name(name).unwrap().as_bool().unwrap();
    let events = (token..token + count).map(|number| {
        let mut event = message("test.v1.Event");
        event.set_field_by_name("text", Value::String(format!("event {number}\nof many")));
        event.set_field_by_name("resume_token", Value::String((number + 1).to_string()));
        Ok(http_body::Frame::data(framed(&encode(&event))))
    });
    let end = if flag("fail") { Status::data_loss("lost the thread") } else { Status::new(Code::Ok, "") };
    let mut trailers = HeaderMap::new();
    end.add_header(&mut trailers).unwrap();
    let events = stream::iter(events.collect::<Vec<_>>());
    if flag("stay") {
        let guard = OnDrop(seen);
        let endless = stream::once(async move {
            let _guard = guard;
            std::future::pending().await
        });
        return respond(StreamBody::new(events.chain(endless)));
    }
    respond(StreamBody::new(events.chain(stream::iter([Ok(http_body::Frame::trailers(trailers))]))))
}

fn upload(messages: &[Vec<u8>]) -> Response<tonic::body::Body> {
    let requests: Vec<_> = messages.iter().map(|message| decode("test.v1.UploadRequest", message)).collect();
    let part = |request: &DynamicMessage, name| {
        request
            .get_field_by_name("file")
            .unwrap()
            .as_message()
            .unwrap()
            .get_field_by_name(name)
            .unwrap()
            .into_owned()
    };
    let size: usize = requests.iter().map(|request| part(request, "data").as_bytes().unwrap().len()).sum();
    let mut result = message("test.v1.UploadResult");
    result.set_field_by_name("name", requests[0].get_field_by_name("name").unwrap().into_owned());
    result.set_field_by_name("content_type", part(&requests[0], "content_type"));
    result.set_field_by_name("size", Value::I32(size as i32));
    result.set_field_by_name("messages", Value::I32(messages.len() as i32));
    reply(vec![encode(&result)], Status::new(Code::Ok, ""))
}

fn message(name: &str) -> DynamicMessage {
    DynamicMessage::new(PLAN.pool().get_message_by_name(name).unwrap())
}

fn decode(name: &str, bytes: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(message(name).descriptor(), bytes).unwrap()
}

fn encode(message: &DynamicMessage) -> Vec<u8> {
    prost_reflect::prost::Message::encode_to_vec(message)
}

pub fn http_body(content_type: &str, data: impl Into<Bytes>) -> Vec<u8> {
    let mut body = message("google.api.HttpBody");
    body.set_field_by_name("content_type", Value::String(content_type.to_owned()));
    body.set_field_by_name("data", Value::Bytes(data.into()));
    encode(&body)
}

pub fn framed(message: &[u8]) -> Bytes {
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed.into()
}

fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
        messages.push(rest[..length].to_vec());
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty());
    messages
}

fn reply(messages: Vec<Vec<u8>>, status: Status) -> Response<tonic::body::Body> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    let data = messages.into_iter().map(|message| Ok(http_body::Frame::data(framed(&message))));
    let frames: Vec<_> = data.chain([Ok(http_body::Frame::trailers(trailers))]).collect();
    respond(StreamBody::new(stream::iter(frames)))
}

pub fn respond<S>(body: StreamBody<S>) -> Response<tonic::body::Body>
where
    S: futures_util::Stream<Item = Result<http_body::Frame<Bytes>, Status>> + Send + 'static,
{
    Response::builder()
        .header("content-type", "application/grpc")
        .header("content-disposition", "attachment; filename=\"x.csv\"")
        .header("x-internal", "not for clients")
        .body(tonic::body::Body::new(body))
        .unwrap()
}
