//! The access log: one log line, one measurement and, if traces are on, one span for each request, also if the request
//! panics, times out, or is cut off by the end of the process.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use opentelemetry::KeyValue;
use tokio::time::Instant;

use super::error::{INVALID_HOST, OVERLOADED, Outcome, Refused};
use super::headers::has_valid_host;
use super::{COMMERCE_API, IDENTITY_KEYS, LIVEZ, METRICS, READYZ, SCAN_KEY_CODES};
use crate::domain::ids::{EventId, RequestId, StoreId};
use crate::observe::logs::Samples;
use crate::observe::metrics::Metrics;
use crate::observe::traces::{Trace, Traces};
use crate::server::Arrival;

/// The logged path of a probe.
const PROBE: &str = "probe";
/// The logged path of a request without a route.
const UNMATCHED: &str = "unmatched";
/// The logged path of a metrics scrape.
const MANAGEMENT: &str = "management";

/// Path, status and reason of a request that was refused by its head alone. Such requests cost the sender almost
/// nothing, so there may be a flood of them.
type SampleKey = (Cow<'static, str>, u16, &'static str);

static REFUSED: LazyLock<Samples<SampleKey>> = LazyLock::new(|| {
    Samples::new(|(path, status, reason), count| {
        tracing::warn!(path = &**path, status, reason, count, "further refused requests not logged individually");
    })
});

/// Log fields that handlers set as soon as they know them, so that the line of a request that is cut off has them too.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogFields(Arc<Fields>);

#[derive(Debug, Default)]
struct Fields {
    caller: OnceLock<Arc<str>>,
    ids: OnceLock<LogIds>,
}

impl LogFields {
    /// Sets the name of the caller.
    pub(crate) fn set_caller(&self, name: Arc<str>) {
        let _ = self.0.caller.set(name); // set once a request
    }

    /// Sets the ids from the body.
    pub(crate) fn set_ids(&self, ids: LogIds) {
        let _ = self.0.ids.set(ids); // set once a request
    }
}

/// The valid ids of a request, which may be invalid as a whole, for its log line. Never the identity key.
#[derive(Debug, Default)]
pub(crate) struct LogIds {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) event_id: Option<EventId>,
    pub(crate) store_id: Option<StoreId>,
}

/// Logs and measures a request. Refuses it if its `Host` is not valid, so that such requests are logged too without
/// another layer.
pub(crate) async fn log(State(metrics): State<Metrics>, mut request: Request, next: Next) -> Response {
    let Arrival { at: arrival, certificate, .. } =
        request.extensions_mut().get_or_insert_with(Arrival::default).clone();
    let path = request.extensions().get::<MatchedPath>().map_or(Cow::Borrowed(UNMATCHED), |path| match path.as_str() {
        IDENTITY_KEYS => IDENTITY_KEYS.into(),
        LIVEZ | READYZ => PROBE.into(),
        METRICS => MANAGEMENT.into(),
        "/" => "/".into(),
        // The route's template, not the path itself: that may contain a shopper's id, or a key by mistake.
        template => template.trim_end_matches('/').to_owned().into(),
    });
    if path == IDENTITY_KEYS {
        metrics.in_flight.inc();
    }
    let has_methods = !matches!(&*path, IDENTITY_KEYS | PROBE | MANAGEMENT | UNMATCHED);
    let method = has_methods.then(|| request.method().clone());
    let fields = LogFields::default();
    // Probes and scrapes are not traced, since they are frequent; nor are requests without a route.
    let is_traced = !matches!(&*path, PROBE | MANAGEMENT | UNMATCHED);
    let trace = if is_traced { begin_span(&request, &path) } else { Trace::default() };
    request.extensions_mut().insert(fields.clone());
    let mut line = Line { metrics, method, path, arrival, fields, certificate, trace, answer: None };
    let answer = async {
        if has_valid_host(&request) { next.run(request).await } else { Refused::invalid_host().into_response() }
    };
    let mut response = line.trace.around(answer).await;
    let outcome = response.extensions_mut().remove().unwrap_or_else(|| Outcome::reason("ok"));
    line.answer = Some((response.status(), outcome));
    response
}

/// Whether a path is one of the shopper's side.
fn is_shopper_path(path: &str) -> bool {
    [COMMERCE_API, SCAN_KEY_CODES].iter().any(|prefix| path.starts_with(prefix))
}

/// The log line of a request. It is written on drop, so that a request that is cut off at the end of the grace period
/// is logged too.
struct Line {
    metrics: Metrics,
    /// Only for paths with several methods.
    method: Option<Method>,
    path: Cow<'static, str>,
    arrival: Instant,
    fields: LogFields,
    /// The subject of the client certificate.
    certificate: Option<Arc<str>>,
    trace: Trace,
    answer: Option<(StatusCode, Outcome)>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let took = self.arrival.elapsed();
        let (status, outcome) = match self.answer.take() {
            Some((status, outcome)) => (Some(status.as_u16()), outcome),
            None => (None, Outcome::reason("cut_off")),
        };
        let is_fault = status.is_none_or(|status| status >= 500);
        let (caller, ids) = (self.fields.0.caller.get(), self.fields.0.ids.get());
        if self.path == IDENTITY_KEYS {
            self.metrics.answered(status, outcome.reason, took);
            if is_fault {
                self.metrics.faulted(ids.and_then(|ids| ids.store_id.as_ref()));
            }
            if let Some(caller) = caller {
                self.metrics.caller_answered(caller);
            }
        } else if is_shopper_path(&self.path) {
            self.metrics.shopper_answered(status, outcome.reason);
        }
        self.write(status, &outcome, took);
        let fault = is_fault.then_some(outcome.reason);
        self.trace.end(|| span_attributes(status, &outcome, caller.map(|name| &**name), ids), fault);
    }
}

impl Line {
    /// Whether a refused request is only counted, since enough requests like it have a line already.
    fn is_only_counted(&self, status: u16, outcome: &Outcome) -> bool {
        let is_refused_by_head =
            outcome.decision.is_none() && (matches!(status, 401 | 404 | 405 | 429) || outcome.reason == INVALID_HOST);
        is_refused_by_head && !REFUSED.admits(&(self.path.clone(), status, outcome.reason))
    }

    fn write(&self, status: Option<u16>, outcome: &Outcome, took: Duration) {
        let (path, method) = (&*self.path, self.method.as_ref().map(Method::as_str));
        let no_ids = LogIds::default();
        let ids = self.fields.0.ids.get().unwrap_or(&no_ids);
        let caller = self.fields.0.caller.get().map(|name| &**name);
        let ms = (took.as_secs_f64() * 1e6).round() / 1e3; // rounded to microseconds
        let certificate = self.certificate.as_deref();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    method,
                    path,
                    status,
                    decision = outcome.decision,
                    reason = outcome.reason,
                    caller,
                    requestId = ids.request_id.map(display),
                    authEventId = ids.event_id.map(display),
                    storeId = ids.store_id.as_ref().map(StoreId::as_str),
                    clientCertificate = certificate,
                    session = outcome.session,
                    replay = outcome.replay.then_some(true),
                    cause = outcome.cause.as_deref(),
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
            // Under overload there may be a flood of them; one line a second counts them (see `gate_api::in_flight`).
            _ if outcome.reason == OVERLOADED && path == IDENTITY_KEYS => line!(debug),
            (_, Some(status)) if self.is_only_counted(status, outcome) => line!(debug),
            _ if outcome.cause.is_some() => line!(warn),
            _ => line!(info),
        }
    }
}

/// Begins the span of a request, if requests are traced. Its name is the route's template, never a path.
fn begin_span(request: &Request, route: &str) -> Trace {
    let traces = request.extensions().get::<Traces>();
    traces.map_or_else(Trace::default, |traces| traces.request(request.headers(), method_name(request.method()), route))
}

/// The name of a standard method, else `_OTHER`: a caller cannot choose the span's text.
fn method_name(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// The attributes of the span of an answered request: those of its log line without the cause.
fn span_attributes(
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
