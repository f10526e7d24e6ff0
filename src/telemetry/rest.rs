//! Every REST request, as the edge tells of it: measured, logged and traced.

use std::borrow::Cow;

use euhub_edge::http::{Begun, Ended, Observed, Observer};
use http::HeaderValue;
use opentelemetry::{Context, KeyValue};

use super::access::Access;
use super::metrics::metrics;
use super::trace;

/// Sees REST requests.
#[derive(Clone, Copy, Debug)]
pub struct Requests;

/// One of them, by its span, or by its caller's where there is no tracing.
struct Request(Context);

fn labels(method: &str, route: &str) -> [KeyValue; 2] {
    [KeyValue::new("http.request.method", method.to_owned()), KeyValue::new("http.route", route.to_owned())]
}

impl Observer for Requests {
    fn begun(&self, request: &Begun<'_>) -> Box<dyn Observed> {
        metrics().http_active.add(1, &labels(request.method, request.route));
        Box::new(Request(trace::begin(request.headers, || {
            let name = Cow::Owned(format!("{} {}", request.method, request.route));
            let mut attributes = labels(request.method, request.route).to_vec();
            attributes.push(KeyValue::new("url.path", request.path.to_owned()));
            (name, attributes)
        })))
    }
}

impl Observed for Request {
    fn traceparent(&self) -> Option<HeaderValue> {
        trace::traceparent(&self.0)
    }

    fn ended(&self, request: &Ended<'_>) {
        let metrics = metrics();
        let labels = labels(request.method, request.route);
        metrics.http_active.add(-1, &labels);
        metrics.http_request_size.record(request.request_bytes, &labels);
        metrics.http_response_size.record(request.response_bytes, &labels);
        if let Some(class) = request.class {
            let decision = if request.limited { "refused" } else { "granted" };
            metrics
                .rate_limited
                .add(1, &[KeyValue::new("class", class.to_owned()), KeyValue::new("decision", decision)]);
        }
        let [method, route] = labels;
        let status = KeyValue::new("http.response.status_code", i64::from(request.status));
        metrics.http_duration.record(request.duration.as_secs_f64(), &[method, route, status.clone()]);
        trace::end(&self.0, status, request.status >= 500);
        let access = Access {
            protocol: "http",
            method: request.method,
            route: request.route,
            status: request.status.into(),
            duration: request.duration,
            request_bytes: request.request_bytes,
            response_bytes: request.response_bytes,
            client: &request.client.to_string(),
            request_id: request.request_id,
            actor: request.actor,
        };
        access.log(&self.0);
    }
}
