//! One log line and one measurement a request, whatever becomes of it: an answer, a panic, a time-out, the end of the process.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::KeyValue;
use tokio::time::Instant;

use super::error::Why;
use super::wire::Named;
use super::{IDENTITY_KEYS, LIVEZ, METRICS, READYZ, shopper};
use crate::domain::ids::StoreId;
use crate::metrics::Metrics;
use crate::traces::{Trace, Traces};

/// What a probe is called in the log.
const PROBE: &str = "probe";
/// What a path is called that is none.
const UNMATCHED: &str = "unmatched";
/// What a scraper is called.
const MANAGEMENT: &str = "management";

/// When the head of a request was complete: every deadline counts from here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival(pub(crate) Instant);

/// What the line is to name, handed up as soon as the body is read, so that even a request that is cut off is known by it.
#[derive(Clone, Debug, Default)]
pub(super) struct LogNames(Arc<OnceLock<Named>>);

impl LogNames {
    pub(super) fn set(&self, named: Named) {
        let _ = self.0.set(named); // a request is read once
    }
}

/// The outermost layer.
pub(super) async fn log(State(metrics): State<Metrics>, mut request: Request, next: Next) -> Response {
    let Arrival(arrival) = *request.extensions_mut().get_or_insert_with(|| Arrival(Instant::now()));
    let path = request.extensions().get::<MatchedPath>().map_or(Cow::Borrowed(UNMATCHED), |path| match path.as_str() {
        IDENTITY_KEYS => IDENTITY_KEYS.into(),
        LIVEZ | READYZ => PROBE.into(),
        METRICS => MANAGEMENT.into(),
        // As the route is written: what stands in its place may be a shopper's name, or a key that does not belong there.
        template => template.trim_end_matches('/').to_owned().into(),
    });
    if path == IDENTITY_KEYS {
        metrics.begun();
    }
    let has_methods = !matches!(&*path, IDENTITY_KEYS | PROBE | MANAGEMENT | UNMATCHED);
    let method = has_methods.then(|| request.method().clone());
    let names = LogNames::default();
    let trace = begin_trace(&request, &path);
    request.extensions_mut().insert(names.clone());
    let mut line = Line { metrics, method, path, arrival, names, trace, outcome: None };
    let response = line.trace.around(next.run(request)).await;
    let why = response.extensions().get::<Why>().cloned().unwrap_or_else(|| Why::reason("ok"));
    line.outcome = Some((response.status(), why));
    response
}

/// What is traced of a request: whatever has a route and is not asked for again and again.
fn begin_trace(request: &Request, path: &str) -> Trace {
    match request.extensions().get::<Traces>() {
        Some(traces) if !matches!(path, PROBE | MANAGEMENT | UNMATCHED) => {
            traces.request(request.headers(), method_name(request.method()), path)
        }
        _ => Trace::default(),
    }
}

/// A method by a name that is known, which a caller cannot choose.
fn method_name(method: &Method) -> &'static str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    let names = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    known.iter().zip(names).find(|(known, _)| *known == method).map_or("_OTHER", |(_, name)| name)
}

/// Written when it is dropped, and dropped in any case: what is still running at the end of the grace period is cut off.
struct Line {
    metrics: Metrics,
    /// Where one path is asked in several ways.
    method: Option<Method>,
    path: Cow<'static, str>,
    arrival: Instant,
    names: LogNames,
    trace: Trace,
    outcome: Option<(StatusCode, Why)>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let took = self.arrival.elapsed();
        let (status, why) = match self.outcome.take() {
            Some((status, why)) => (Some(status.as_u16()), why),
            None => (None, Why::reason("cut_off")),
        };
        if self.path == IDENTITY_KEYS {
            self.metrics.answered(status, why.reason, took);
            if status.is_none_or(|status| status >= 500) {
                self.metrics.faulted(self.names.0.get().and_then(|named| named.store_id.as_ref()));
            }
        } else if shopper::is_path(&self.path) {
            self.metrics.shopper_answered(status, why.reason);
        }
        self.write(status, &why, took);
        let fault = status.is_none_or(|status| status >= 500).then_some(why.reason);
        let named = self.names.0.get();
        self.trace.end(|| attributes(status, &why, named), fault);
    }
}

/// What a span tells of an answer: what the log line does, less the cause.
fn attributes(status: Option<u16>, why: &Why, named: Option<&Named>) -> Vec<KeyValue> {
    let texts = [
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

impl Line {
    fn write(&self, status: Option<u16>, why: &Why, took: Duration) {
        let (path, method) = (&*self.path, self.method.as_ref().map(Method::as_str));
        let nobody = Named::default();
        let named = self.names.0.get().unwrap_or(&nobody);
        let ms = (took.as_secs_f64() * 1e6).round() / 1e3; // to the microsecond
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    method,
                    path,
                    status,
                    decision = why.decision,
                    reason = why.reason,
                    requestId = named.request_id.map(display),
                    authEventId = named.event_id.map(display),
                    storeId = named.store_id.as_ref().map(StoreId::as_str),
                    session = why.session,
                    replay = why.replay.then_some(true),
                    cause = why.cause.as_deref(),
                    traceId = self.trace.id().map(display),
                    ms,
                    "request"
                )
            };
        }
        match (path, status) {
            (_, Some(500..)) if path != PROBE => line!(error),
            (_, None) => line!(warn),
            (PROBE, _) => line!(debug),
            _ => line!(info),
        }
    }
}
