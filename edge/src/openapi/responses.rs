//! What an operation may answer beside what it is asked for.

use serde_json::{Map, Value, json};

/// Its status, the name of its component, the headers that it alone has, and when it comes.
type Error = (&'static str, &'static str, &'static [&'static str], &'static str);

/// What any call may end in.
const ANY: [Error; 12] = [
    ("400", "BadRequest", &[], "The request breaks a rule; the details name the field or parameter."),
    ("401", "Unauthenticated", &["WWW-Authenticate"], "Credentials are missing or do not hold."),
    ("403", "PermissionDenied", &[], "The caller may not do this."),
    ("404", "NotFound", &[], "There is no such resource."),
    ("409", "Conflict", &[], "The resource exists already, or was changed meanwhile."),
    ("414", "UriTooLong", &[], "Path and query are longer than allowed."),
    (
        "429",
        "TooManyRequests",
        &["Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-After"],
        "The client sent too many requests, or has used up a quota.",
    ),
    ("500", "Internal", &[], "The service failed."),
    ("501", "Unimplemented", &[], "The service does not offer this."),
    ("502", "BadGateway", &[], "The service gave no valid answer."),
    ("503", "Unavailable", &["Retry-After"], "The service cannot be reached at the moment."),
    ("504", "DeadlineExceeded", &[], "The call took longer than its deadline."),
];

/// What a call with a body may end in too.
const WITH_BODY: [Error; 3] = [
    ("408", "RequestTimeout", &[], "The request body did not arrive in time."),
    ("413", "ContentTooLarge", &[], "The request body is longer than allowed."),
    (
        "415",
        "UnsupportedMediaType",
        &["Accept", "Accept-Encoding"],
        "The request body is of another media type, or compressed.",
    ),
];

/// What a call whose answer has a fixed form may end in too.
const NEGOTIATED: Error =
    ("406", "NotAcceptable", &[], "`Accept` allows none of the forms that the answer comes in.");

/// Every header that an answer may have, and what it says.
const HEADERS: [(&str, &str); 9] = [
    ("Accept", "The media type that a request body has to be of."),
    ("Accept-Encoding", "The content codings that a request body may have."),
    ("ETag", "Names this state of the answer, for `If-None-Match`."),
    ("Retry-After", "Seconds after which to try again."),
    ("WWW-Authenticate", "The scheme of the credentials."),
    ("X-RateLimit-After", "Seconds until the next request may come."),
    ("X-RateLimit-Limit", "Requests that may come at once."),
    ("X-RateLimit-Remaining", "Requests that may still come now."),
    ("X-Request-Id", "The id of the request: the caller's own, or a new one."),
];

const GRPC_CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What an operation may answer, the good answer given.
pub(super) fn responses(mut good: Value, revalidates: bool, negotiated: bool, body: bool) -> Value {
    let own: &[&str] = if revalidates { &["ETag"] } else { &[] };
    good["headers"] = headers(&[own, &["X-RateLimit-Limit", "X-RateLimit-Remaining"]].concat());
    let mut responses = Map::from_iter([("200".to_owned(), good), ("default".to_owned(), response("Error"))]);
    if revalidates {
        responses.insert("304".to_owned(), response("NotModified"));
    }
    let errors = ANY.iter().chain(WITH_BODY.iter().filter(|_| body)).chain(negotiated.then_some(&NEGOTIATED));
    responses.extend(errors.map(|(status, name, ..)| ((*status).to_owned(), response(name))));
    responses.into()
}

fn response(name: &str) -> Value {
    json!({"$ref": format!("#/components/responses/{name}")})
}

fn headers(names: &[&str]) -> Value {
    let names = names.iter().chain(&["X-Request-Id"]);
    names.map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}))).collect()
}

/// The responses that operations refer to.
pub(super) fn components() -> Value {
    let error = |own: &[&str], description: &str| {
        json!({
            "description": description,
            "headers": headers(own),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        })
    };
    let mut all = Map::new();
    for (_, name, own, description) in ANY.iter().chain(&WITH_BODY).chain([&NEGOTIATED]) {
        all.insert((*name).to_owned(), error(own, description));
    }
    all.insert("Error".to_owned(), error(&[], "Anything else that went wrong."));
    all.insert(
        "NotModified".to_owned(),
        json!({
            "description": "The answer is still the one that `If-None-Match` names.",
            "headers": headers(&["ETag"]),
        }),
    );
    all.into()
}

/// The headers that responses refer to.
pub(super) fn header_components() -> Value {
    let schema = |name: &str| match name {
        "Retry-After" | "X-RateLimit-After" | "X-RateLimit-Limit" | "X-RateLimit-Remaining" => {
            json!({"type": "integer", "minimum": 0})
        }
        _ => json!({"type": "string"}),
    };
    HEADERS
        .iter()
        .map(|(name, description)| {
            ((*name).to_owned(), json!({"description": description, "schema": schema(name)}))
        })
        .collect()
}

/// The JSON form of every error.
pub(super) fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "An error: the HTTP status, the gRPC code by name, a sentence for people, and `google.rpc` details.",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code", "status", "message", "details"],
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "status": {"type": "string", "enum": GRPC_CODES, "description": "The gRPC code by name."},
                "message": {"type": "string", "description": "One sentence for people."},
                "details": {
                    "type": "array",
                    "description": "Details as `google.rpc` messages, told apart by `@type`: `ErrorInfo` has `reason` and \
                        `domain`, `BadRequest` has `fieldViolations` with `field` and `description`, `RetryInfo` has \
                        `retryDelay`.",
                    "items": {
                        "type": "object",
                        "required": ["@type"],
                        "properties": {"@type": {"type": "string"}},
                    },
                },
            },
        }},
    })
}
