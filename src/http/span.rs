//! The span of a request. Its attributes are a part of the log line's fields; its name is the route's template, never a
//! path.

use axum::extract::Request;
use axum::http::Method;
use opentelemetry::KeyValue;

use super::error::Outcome;
use super::request_log::LogIds;
use crate::observe::traces::{Trace, Traces};

/// Begins the span, if requests are traced.
pub(crate) fn begin(request: &Request, route: &str) -> Trace {
    let traces = request.extensions().get::<Traces>();
    traces.map_or_else(Trace::default, |traces| traces.request(request.headers(), method_name(request.method()), route))
}

/// The name of a standard method, else `_OTHER`: a caller cannot choose the span's text.
fn method_name(method: &Method) -> &'static str {
    let standard_methods =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    let names = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    standard_methods.iter().zip(names).find(|(standard, _)| *standard == method).map_or("_OTHER", |(_, name)| name)
}

/// The attributes of an answered request: those of its log line without the cause.
pub(crate) fn attributes(
    status: Option<u16>,
    outcome: &Outcome,
    caller: Option<&str>,
    ids: Option<&LogIds>,
) -> Vec<KeyValue> {
    let texts = [
        ("connector.caller", caller.map(str::to_owned)),
        ("connector.decision", outcome.decision.map(str::to_owned)),
        ("connector.reason", Some(outcome.reason.to_owned())),
        ("connector.session", outcome.session.map(str::to_owned)),
        ("connector.request_id", ids.and_then(|ids| ids.request_id).map(|id| id.to_string())),
        ("connector.auth_event_id", ids.and_then(|ids| ids.event_id).map(|id| id.to_string())),
        ("connector.store_id", ids.and_then(|ids| ids.store_id.as_ref()).map(|id| id.as_str().to_owned())),
    ];
    let status = status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)));
    let replay = outcome.replay.then(|| KeyValue::new("connector.replay", true));
    let texts = texts.into_iter().filter_map(|(name, text)| Some(KeyValue::new(name, text?)));
    texts.chain(status).chain(replay).collect()
}
