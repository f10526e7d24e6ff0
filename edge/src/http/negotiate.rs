//! What the client can take, what it sends, and how long it waits.

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE},
};
use tonic::Code;

use super::failure::Failure;

pub(crate) const JSON: &str = "application/json";
pub(crate) const NDJSON: &str = "application/x-ndjson";
pub(crate) const SSE: &str = "text/event-stream";

/// Header by which a caller asks for a shorter deadline.
pub(crate) const REQUEST_TIMEOUT: &str = "x-request-timeout";

/// How a server stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamForm {
    /// One JSON value a line.
    NdJson,
    /// Server-sent events (WHATWG HTML, 9.2).
    Sse,
}

/// A content coding that the edge writes (RFC 9110, 8.4.1; RFC 7932; RFC 8878), the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    /// Its name in headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }
}

/// The coding that the client likes best; `None` when it likes the plain body as much.
pub(crate) fn coding(headers: &HeaderMap) -> Option<Coding> {
    let mut best: Option<(Coding, u16)> = None;
    let liked = |name: &str| {
        let mut any = 0;
        for value in headers.get_all(ACCEPT_ENCODING) {
            for item in value.to_str().unwrap_or_default().split(',') {
                let mut parts = item.split(';').map(str::trim);
                match parts.next().unwrap_or_default() {
                    coding if coding.eq_ignore_ascii_case(name) => return weight(parts),
                    "*" => any = weight(parts),
                    _ => {}
                }
            }
        }
        any
    };
    for coding in [Coding::Brotli, Coding::Zstd, Coding::Gzip] {
        let liked = liked(coding.name());
        if liked > best.map_or(0, |(_, most)| most) {
            best = Some((coding, liked));
        }
    }
    best.map(|(coding, _)| coding)
}

/// The `q` among the parameters of an item, in thousandths.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> u16 {
    parameters
        .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
        .map_or(1000, |q| q.parse::<f32>().map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16))
}

/// How much a media range of `Accept` likes a type: quality in thousandths, then how exactly it names the type.
fn quality(headers: &HeaderMap, media: &str) -> (u16, u8) {
    let mut best: Option<(u8, u16)> = None;
    for value in headers.get_all(ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let exactness = match name.split_once('/') {
                Some(("*", "*")) => 1,
                Some((kind, "*"))
                    if media.split('/').next().is_some_and(|own| own.eq_ignore_ascii_case(kind)) =>
                {
                    2
                }
                Some(_) if name.eq_ignore_ascii_case(media) => 3,
                _ => continue,
            };
            let weight = weight(parts);
            if best.is_none_or(|(exact, _)| exactness > exact) {
                best = Some((exactness, weight));
            }
        }
    }
    match best {
        Some((exactness, weight)) => (weight, exactness),
        None if headers.contains_key(ACCEPT) => (0, 0),
        None => (1000, 0),
    }
}

/// Whether the client takes JSON.
pub(crate) fn accept_json(headers: &HeaderMap) -> Result<(), Failure> {
    if quality(headers, JSON).0 > 0 { Ok(()) } else { Err(not_acceptable(&[JSON])) }
}

/// The form of a stream that the client likes best; NDJSON when it has no preference.
pub(crate) fn accept_stream(headers: &HeaderMap) -> Result<StreamForm, Failure> {
    let lines = quality(headers, NDJSON).max(quality(headers, JSON));
    let events = quality(headers, SSE);
    match (lines.0, events.0) {
        (0, 0) => Err(not_acceptable(&[NDJSON, SSE])),
        _ if events > lines => Ok(StreamForm::Sse),
        _ => Ok(StreamForm::NdJson),
    }
}

fn not_acceptable(offered: &[&str]) -> Failure {
    let message = format!("the answer comes as {} only", offered.join(" or "));
    Failure::new(StatusCode::NOT_ACCEPTABLE, Code::InvalidArgument, "NOT_ACCEPTABLE", message)
}

/// Refuses a body that is not plain UTF-8 JSON.
pub(crate) fn json_body(headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default()).unwrap_or_default();
    let mut parts = given.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let json = media == JSON || (media.starts_with("application/") && media.ends_with("+json"));
    let utf8 = parts.all(|part| match part.split_once('=') {
        Some((name, charset)) if name.eq_ignore_ascii_case("charset") => {
            charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if json && utf8 {
        return Ok(());
    }
    let given = if given.is_empty() { "no Content-Type" } else { given };
    let message = format!("the request body must be {JSON} in UTF-8, not {given}");
    Err(unsupported(message).with(http::header::ACCEPT, http::HeaderValue::from_static(JSON)))
}

/// Refuses a body under a content coding.
pub(crate) fn plain_coding(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get(CONTENT_ENCODING) {
        Some(coding) if coding != "identity" => {
            Err(unsupported("a compressed request body is not supported".to_owned())
                .with(ACCEPT_ENCODING, http::HeaderValue::from_static("identity")))
        }
        _ => Ok(()),
    }
}

fn unsupported(message: String) -> Failure {
    Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", message)
}

/// The deadline that the caller asked for.
pub(crate) fn request_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else { return Ok(None) };
    value.to_str().ok().and_then(parse_duration).map(Some).ok_or_else(|| {
        Failure::invalid(
            "INVALID_TIMEOUT",
            "X-Request-Timeout",
            "must be a positive time such as 5, 0.5, 500ms or 1m30s",
        )
    })
}

/// Seconds (`5`, `0.25`) or a sum of numbers with units (`1m30s`, `500ms`); positive.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    // Long enough for any sensible time; keeps the arithmetic below exact enough.
    if text.is_empty() || text.len() > 32 {
        return None;
    }
    let seconds = match decimal(text) {
        Some(seconds) => seconds,
        None => {
            let (mut rest, mut sum) = (text, 0.0);
            while !rest.is_empty() {
                let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
                let number = decimal(&rest[..unit])?;
                rest = &rest[unit..];
                let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
                sum += number
                    * match &rest[..end] {
                        "ns" => 1e-9,
                        "us" | "µs" => 1e-6,
                        "ms" => 1e-3,
                        "s" => 1.0,
                        "m" => 60.0,
                        "h" => 3600.0,
                        _ => return None,
                    };
                rest = &rest[end..];
            }
            sum
        }
    };
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

fn decimal(text: &str) -> Option<f64> {
    let plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, http::HeaderValue::from_static(value))])
    }

    #[test]
    fn accept_is_read_with_its_weights() {
        for good in [
            "*/*",
            "application/*",
            "text/html, application/json;q=0.5",
            "text/html,*/*;q=0.8",
            "Application/JSON",
        ] {
            assert!(accept_json(&accept(good)).is_ok(), "{good}");
        }
        for bad in ["text/html", "application/json;q=0, */*", "application/xml", "image/*", ""] {
            assert!(accept_json(&accept(bad)).is_err(), "{bad}");
        }
        assert!(accept_json(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn the_coding_is_the_one_that_is_liked_best() {
        let best =
            |value| coding(&HeaderMap::from_iter([(ACCEPT_ENCODING, http::HeaderValue::from_static(value))]));
        assert_eq!(best("gzip, deflate, br, zstd"), Some(Coding::Brotli));
        assert_eq!(best("gzip, zstd"), Some(Coding::Zstd));
        assert_eq!(best("br;q=0.5, GZIP;q=0.8"), Some(Coding::Gzip));
        assert_eq!(best("*"), Some(Coding::Brotli));
        assert_eq!(best("br;q=0, *;q=0.1"), Some(Coding::Zstd));
        for none in ["", "identity", "deflate", "gzip;q=0", "gzip;q=x"] {
            assert_eq!(best(none), None, "{none}");
        }
    }

    #[test]
    fn a_stream_takes_the_form_that_is_liked_best() {
        let form = |value| accept_stream(&accept(value)).ok();
        assert_eq!(form("*/*"), Some(StreamForm::NdJson));
        assert_eq!(form("application/json"), Some(StreamForm::NdJson));
        assert_eq!(form("text/event-stream"), Some(StreamForm::Sse));
        assert_eq!(form("text/event-stream, */*"), Some(StreamForm::Sse));
        assert_eq!(form("application/x-ndjson, text/event-stream;q=0.9"), Some(StreamForm::NdJson));
        assert_eq!(form("text/html"), None);
        assert_eq!(accept_stream(&HeaderMap::new()).ok(), Some(StreamForm::NdJson));
    }

    #[test]
    fn timeouts_are_seconds_or_go_durations() {
        let millis = |text| parse_duration(text).map(|time| time.as_millis());
        assert_eq!(millis("5"), Some(5000));
        assert_eq!(millis("0.25"), Some(250));
        assert_eq!(millis("500ms"), Some(500));
        assert_eq!(millis("1m30s"), Some(90_000));
        assert_eq!(millis("1.5h"), Some(5_400_000));
        for bad in ["", "0", "-1", "5x", "s", "1e9", "nan", "1..2", "99999999999999999999999", "5 s"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }
}
