//! What a span says of a request: nothing that the log does not say, and of a route what is written in the code.

use axum::extract::Request;
use axum::http::Method;
use opentelemetry::KeyValue;

use super::error::Why;
use super::wire::Named;
use crate::traces::{Trace, Traces};

/// Begins it, where requests are traced.
pub(super) fn begin(request: &Request, route: &str) -> Trace {
    let traces = request.extensions().get::<Traces>();
    traces.map_or_else(Trace::default, |traces| traces.request(request.headers(), method_name(request.method()), route))
}

/// A method by a name that is known, which a caller cannot choose.
fn method_name(method: &Method) -> &'static str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    let names = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    known.iter().zip(names).find(|(known, _)| *known == method).map_or("_OTHER", |(_, name)| name)
}

/// What a span tells of an answer: what the log line does, less the cause.
pub(super) fn attributes(status: Option<u16>, why: &Why, caller: Option<&str>, named: Option<&Named>) -> Vec<KeyValue> {
    let texts = [
        ("connector.caller", caller.map(str::to_owned)),
        ("connector.decision", why.decision.map(str::to_owned)),
        ("connector.reason", Some(why.reason.to_owned())),
        ("connector.session", why.session.map(str::to_owned)),
        ("connector.request_id", named.and_then(|named| named.request_id).map(|id| id.to_string())),
        ("connector.auth_event_id", named.and_then(|named| named.event_id).map(|id| id.to_string())),
        ("connector.store_id", named.and_then(|named| named.store_id.as_ref()).map(|id| id.as_str().to_owned())),
    ];
    let status = status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)));
    let replay = why.replay.then(|| KeyValue::new("connector.replay", true));
    let texts = texts.into_iter().filter_map(|(name, text)| Some(KeyValue::new(name, text?)));
    texts.chain(status).chain(replay).collect()
}
