//! Which origins' scripts may call.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may keep a preflight answer; two hours is the most that Chromium does.
const PREFLIGHT_TTL: Duration = Duration::from_secs(7200);

/// CORS for exactly these origins; the wrong one of them when one is no origin (`https://host[:port]`).
pub(crate) fn cors(origins: &[String]) -> Result<CorsLayer, String> {
    let exact = origins
        .iter()
        .map(|origin| {
            let uri: Uri = origin.parse().map_err(|_| origin.clone())?;
            let plain = uri
                .scheme()
                .zip(uri.authority())
                .map(|(scheme, authority)| format!("{scheme}://{authority}"));
            // A trailing slash or a path would never equal what browsers send.
            if plain.as_ref() == Some(origin) {
                HeaderValue::from_str(origin).map_err(|_| origin.clone())
            } else {
                Err(origin.clone())
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let credentials = !exact.is_empty();
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(exact))
        .allow_credentials(credentials)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::ACCEPT,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            HeaderName::from_static("grpc-timeout"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("x-grpc-web"),
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("x-request-timeout"),
            HeaderName::from_static("x-user-agent"),
        ])
        .expose_headers([
            header::CONTENT_DISPOSITION,
            header::ETAG,
            header::RETRY_AFTER,
            HeaderName::from_static("grpc-message"),
            HeaderName::from_static("grpc-status"),
            HeaderName::from_static("grpc-status-details-bin"),
            HeaderName::from_static("x-ratelimit-after"),
            HeaderName::from_static("x-ratelimit-limit"),
            HeaderName::from_static("x-ratelimit-remaining"),
            HeaderName::from_static("x-request-id"),
        ])
        .max_age(PREFLIGHT_TTL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact() {
        for good in ["https://app.example", "http://localhost:3000"] {
            assert!(cors(&[good.to_owned()]).is_ok(), "{good}");
        }
        for bad in ["*", "https://app.example/", "app.example", "", "null"] {
            assert!(cors(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
