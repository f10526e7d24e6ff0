//! Weak entity tags and `If-None-Match` (RFC 9110, 8.8.3 and 13.1.2).

use axum::{body::Body, response::Response};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use xxhash_rust::xxh3::xxh3_128;

/// Tags a GET answer, and turns it into a 304 when the client has it already.
///
/// The tag is weak: a compressed body keeps it.
pub(crate) fn revalidate(request: &HeaderMap, bytes: &[u8], mut response: Response) -> Response {
    let tag = format!("W/\"{:032x}\"", xxh3_128(bytes));
    if matches(request, &tag[2..]) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_TYPE);
    }
    let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits are header-safe");
    response.headers_mut().insert(ETAG, tag);
    response
}

fn matches(request: &HeaderMap, opaque: &str) -> bool {
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .any(|candidate| candidate == "*" || candidate.strip_prefix("W/").unwrap_or(candidate) == opaque)
}
