//! Every REST request, as the edge tells of it.

use euhub_edge::http::{Ended, Observer};
use opentelemetry::KeyValue;

use super::metrics::metrics;

/// Measures REST requests.
#[derive(Clone, Copy, Debug)]
pub struct Requests;

fn labels(method: &str, route: &str) -> [KeyValue; 2] {
    [KeyValue::new("http.request.method", method.to_owned()), KeyValue::new("http.route", route.to_owned())]
}

impl Observer for Requests {
    fn begun(&self, method: &str, route: &str) {
        metrics().http_active.add(1, &labels(method, route));
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
        metrics.http_duration.record(request.duration.as_secs_f64(), &[method, route, status]);
    }
}
