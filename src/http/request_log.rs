//! One log line and one measurement a request, whatever becomes of it: an answer, a panic, a time-out, the end of the process.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use super::caller::Arrival;
use super::error::{INVALID_HOST, Why};
use super::in_flight::OVERLOADED;
use super::wire::Named;
use super::{IDENTITY_KEYS, LIVEZ, METRICS, READYZ, shopper, span};
use crate::domain::ids::StoreId;
use crate::metrics::Metrics;
use crate::telemetry::Samples;
use crate::traces::Trace;

/// What a probe is called in the log.
const PROBE: &str = "probe";
/// What a path is called that is none.
const UNMATCHED: &str = "unmatched";
/// What a scraper is called.
const MANAGEMENT: &str = "management";

/// Requests that are refused by their head alone. They cost the sender next to nothing, so there may be any number.
type Refused = (Cow<'static, str>, u16, &'static str);

static REFUSED: LazyLock<Samples<Refused>> = LazyLock::new(|| {
    Samples::new(|(path, status, reason), count| {
        tracing::warn!(
            path = &**path,
            status,
            reason,
            count,
            "requests were refused beyond those with a line of their own"
        );
    })
});

/// What the line is to name, handed up as soon as it is known, so that even a request that is cut off is known by it.
#[derive(Clone, Debug, Default)]
pub(super) struct LogNames(Arc<Names>);

#[derive(Debug, Default)]
struct Names {
    caller: OnceLock<Arc<str>>,
    named: OnceLock<Named>,
}

impl LogNames {
    /// Who calls.
    pub(super) fn set_caller(&self, name: Arc<str>) {
        let _ = self.0.caller.set(name); // found out once
    }

    /// What the body says.
    pub(super) fn set(&self, named: Named) {
        let _ = self.0.named.set(named); // a request is read once
    }
}

/// The outermost layer.
pub(super) async fn log(State(metrics): State<Metrics>, mut request: Request, next: Next) -> Response {
    let Arrival { at: arrival, certificate, .. } =
        request.extensions_mut().get_or_insert_with(Arrival::default).clone();
    let path = request.extensions().get::<MatchedPath>().map_or(Cow::Borrowed(UNMATCHED), |path| match path.as_str() {
        IDENTITY_KEYS => IDENTITY_KEYS.into(),
        LIVEZ | READYZ => PROBE.into(),
        METRICS => MANAGEMENT.into(),
        "/" => "/".into(),
        // As the route is written: what stands in its place may be a shopper's name, or a key that does not belong there.
        template => template.trim_end_matches('/').to_owned().into(),
    });
    if path == IDENTITY_KEYS {
        metrics.request_begun();
    }
    let has_methods = !matches!(&*path, IDENTITY_KEYS | PROBE | MANAGEMENT | UNMATCHED);
    let method = has_methods.then(|| request.method().clone());
    let names = LogNames::default();
    // Whatever has a route and is not asked for again and again.
    let is_traced = !matches!(&*path, PROBE | MANAGEMENT | UNMATCHED);
    let trace = if is_traced { span::begin(&request, &path) } else { Trace::default() };
    request.extensions_mut().insert(names.clone());
    let mut line = Line { metrics, method, path, arrival, names, certificate, trace, outcome: None };
    let mut response = line.trace.around(next.run(request)).await;
    let why = response.extensions_mut().remove().unwrap_or_else(|| Why::reason("ok"));
    line.outcome = Some((response.status(), why));
    response
}

/// Written when it is dropped, and dropped in any case: what is still running at the end of the grace period is cut off.
struct Line {
    metrics: Metrics,
    /// Where one path is asked in several ways.
    method: Option<Method>,
    path: Cow<'static, str>,
    arrival: Instant,
    names: LogNames,
    /// Who asks, where that is shown by a certificate.
    certificate: Option<Arc<str>>,
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
                self.metrics.faulted(self.names.0.named.get().and_then(|named| named.store_id.as_ref()));
            }
            if let Some(caller) = self.names.0.caller.get() {
                self.metrics.caller_answered(caller);
            }
        } else if shopper::is_path(&self.path) {
            self.metrics.shopper_answered(status, why.reason);
        }
        self.write(status, &why, took);
        let fault = status.is_none_or(|status| status >= 500).then_some(why.reason);
        let (caller, named) = (self.names.0.caller.get(), self.names.0.named.get());
        self.trace.end(|| span::attributes(status, &why, caller.map(|name| &**name), named), fault);
    }
}

impl Line {
    /// Whether there are so many like it that its line is left out, and it is counted instead.
    fn is_left_out(&self, status: u16, why: &Why) -> bool {
        let is_of_the_head = matches!(status, 401 | 404 | 405 | 429) || why.reason == INVALID_HOST;
        let is_of_the_head = is_of_the_head && why.decision.is_none();
        is_of_the_head && !REFUSED.admits(&(self.path.clone(), status, why.reason))
    }

    fn write(&self, status: Option<u16>, why: &Why, took: Duration) {
        let (path, method) = (&*self.path, self.method.as_ref().map(Method::as_str));
        let nobody = Named::default();
        let named = self.names.0.named.get().unwrap_or(&nobody);
        let caller = self.names.0.caller.get().map(|name| &**name);
        let ms = (took.as_secs_f64() * 1e6).round() / 1e3; // to the microsecond
        let certificate = self.certificate.as_deref();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    method,
                    path,
                    status,
                    decision = why.decision,
                    reason = why.reason,
                    caller,
                    requestId = named.request_id.map(display),
                    authEventId = named.event_id.map(display),
                    storeId = named.store_id.as_ref().map(StoreId::as_str),
                    clientCertificate = certificate,
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
            // There may be any number of them, and what they are refused for is that there is no time for each.
            _ if why.reason == OVERLOADED && path == IDENTITY_KEYS => line!(debug),
            (_, Some(status)) if self.is_left_out(status, why) => line!(debug),
            _ if why.cause.is_some() => line!(warn),
            _ => line!(info),
        }
    }
}
