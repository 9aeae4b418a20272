//! Traces: the spans of a request, exported by OTLP. Off unless an endpoint is configured.
//!
//! A scan never waits for the exporter: ended spans go into a bounded queue, which a separate thread exports, and are
//! dropped when the queue is full. Spans contain only names, reasons and ids that the log has too, never a key, a token
//! or a text that a client chose.
//!
//! A traced request joins the caller's trace. The connector decides which requests are traced: a random share
//! ([`Settings::sample_ratio`]), and in addition requests whose caller samples its trace, up to
//! [`Settings::callers_traces_per_second`], because any client can claim that. The random number is independent of the
//! trace id, which the caller chooses.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use governor::clock::MonotonicClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanKind, Status, TraceContextExt as _, TraceId, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use secrecy::SecretString;

use crate::observe::otlp;
pub(crate) use crate::observe::otlp::{SpanCounters, TracesError};

/// The header with the caller's trace (W3C Trace Context). `tracestate` is ignored, because it is free text of the
/// caller that every span would contain.
const TRACEPARENT: &str = "traceparent";
/// The length of `00-`, 32 digits, `-`, 16 digits, `-01`. Later versions may append `-` and more.
const TRACEPARENT_LENGTH: usize = 55;

/// `telemetry.*`: the collector, and which requests are traced.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL that spans are posted to.
    pub endpoint: String,
    /// The headers of each export request; they may be secrets.
    pub headers: Vec<(String, SecretString)>,
    /// The share of requests that is traced, 0 to 1.
    pub sample_ratio: f64,
    /// The number of requests a second that are traced in addition because their caller samples its trace.
    pub callers_traces_per_second: u32,
    pub service_name: String,
}

/// The tracer of a connector. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Traces(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sample_ratio: f64,
    callers_limit: Option<RateLimiter<NotKeyed, InMemoryState, MonotonicClock>>,
}

impl Traces {
    /// Starts the exporter. It does not connect to the collector yet.
    ///
    /// # Errors
    /// If the exporter cannot be created.
    pub(crate) async fn start(settings: Settings, counters: SpanCounters) -> Result<Self, TracesError> {
        let (sample_ratio, limit) = (settings.sample_ratio, NonZeroU32::new(settings.callers_traces_per_second));
        let callers_limit =
            limit.map(|number| RateLimiter::direct_with_clock(Quota::per_second(number), MonotonicClock));
        let provider = otlp::provider(settings, counters).await?;
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok(Self(Arc::new(Inner { provider, tracer, sample_ratio, callers_limit })))
    }

    /// Begins the trace of a request with these headers: a server span that begins now, if the request is sampled.
    pub(crate) fn request(&self, headers: &HeaderMap, method: &'static str, route: &str) -> Trace {
        let parent = parent_span(headers);
        let id = parent.as_ref().map(SpanContext::trace_id);
        let caller_samples = parent.as_ref().is_some_and(SpanContext::is_sampled);
        if !self.is_sampled(caller_samples) {
            return Trace { id, context: None };
        }
        let parent = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let attributes = [KeyValue::new("http.request.method", method), KeyValue::new("http.route", route.to_owned())];
        let span = self.0.tracer.span_builder(format!("{method} {route}")).with_kind(SpanKind::Server);
        let span = span.with_attributes(attributes).start_with_context(&self.0.tracer, &parent);
        let context = Context::new().with_value(self.0.tracer.clone()).with_span(span);
        Trace { id: Some(context.span().span_context().trace_id()), context: Some(context) }
    }

    fn is_sampled(&self, caller_samples: bool) -> bool {
        let is_within_limit = || self.0.callers_limit.as_ref().is_some_and(|limit| limit.check().is_ok());
        rand::random::<f64>() < self.0.sample_ratio || caller_samples && is_within_limit()
    }

    /// Exports the waiting spans within `bound`, as many as possible. Nothing is traced afterwards.
    pub(crate) async fn finish(self, bound: Duration) {
        let finished = tokio::task::spawn_blocking(move || self.0.provider.shutdown_with_timeout(bound)).await;
        if !matches!(finished, Ok(Ok(()))) {
            tracing::warn!("stopped before every span was exported");
        }
    }
}

/// The trace of a request; by default the request is not traced.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    id: Option<TraceId>,
    context: Option<Context>,
}

impl Trace {
    /// The id of the caller's trace, or of the trace that begins with this request.
    pub(crate) fn id(&self) -> Option<TraceId> {
        self.id
    }

    /// Runs `work` so that its [steps](step()) belong to this trace.
    pub(crate) async fn around<F: Future>(&self, work: F) -> F::Output {
        match &self.context {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }

    /// Ends the span. `fault` is the reason of a fault of the connector.
    pub(crate) fn end(&mut self, attributes: impl FnOnce() -> Vec<KeyValue>, fault: Option<&'static str>) {
        let Some(context) = self.context.take() else { return };
        let span = context.span();
        span.set_attributes(attributes());
        if let Some(fault) = fault {
            span.set_attribute(KeyValue::new("error.type", fault));
            span.set_status(Status::error(fault));
        }
        span.end();
    }
}

/// Runs `work` as a step of that name, with a span if the request is traced; else this costs one check of a
/// thread-local. An error is recorded without its text, which may contain personal data.
///
/// # Errors
/// The errors of `work`.
pub(crate) async fn step<T, E>(name: &'static str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let Some(context) = Context::map_current(|parent| begin(name, parent)) else { return work.await };
    let done = work.with_context(context.clone()).await;
    if done.is_err() {
        context.span().set_status(Status::error(""));
    }
    context.span().end(); // if this future is dropped before, the span ends with the context
    done
}

fn begin(name: &'static str, parent: &Context) -> Option<Context> {
    let tracer = parent.get::<SdkTracer>()?;
    let span = tracer.span_builder(name).with_kind(SpanKind::Internal).start_with_context(tracer, parent);
    Some(parent.with_span(span))
}

/// Wraps work that is spawned as a task, so that its steps belong to the current request.
pub(crate) fn in_current_trace<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let context = Context::map_current(|context| context.get::<SdkTracer>().map(|_| context.clone()));
    async move {
        match context {
            Some(context) => work.with_context(context).await,
            None => work.await,
        }
    }
}

/// The caller's span, if exactly one valid header is present.
fn parent_span(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (known, more) = value.split_at_checked(TRACEPARENT_LENGTH)?;
    let is_plain = known.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let has_valid_end = more.is_empty() || more.starts_with('-') && !known.starts_with("00-");
    if !is_plain || !has_valid_end {
        return None;
    }
    let header = HashMap::from([(TRACEPARENT.to_owned(), known.to_owned())]);
    let context = TraceContextPropagator::new().extract(&header);
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn parent(values: &[&str]) -> Option<(String, String, bool)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).expect("a header"));
        }
        parent_span(&headers)
            .map(|parent| (parent.trace_id().to_string(), parent.span_id().to_string(), parent.is_sampled()))
    }

    #[test]
    fn only_a_single_valid_header_is_accepted() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let valid = format!("00-{trace}-{span}-01");
        assert_eq!(parent(&[&valid]), Some((trace.to_owned(), span.to_owned(), true)));
        let later = valid.replace("00-4", "cc-4");
        for later in [later.clone(), format!("{later}-"), format!("{later}-later members")] {
            assert_eq!(parent(&[&later]), Some((trace.to_owned(), span.to_owned(), true)), "{later}");
        }
        assert_eq!(parent(&[&valid.replace("-01", "-00")]).map(|(.., is_sampled)| is_sampled), Some(false));
        for wrong in [
            String::new(),
            valid.to_uppercase(),
            valid.replace("00-4", "ff-4"),
            valid.replace(span, "0000000000000000"),
            valid.replace(trace, "00000000000000000000000000000000"),
            valid.replace("4bf9", "+bf9"),
            valid.replace("4bf9", "-bf9"),
            format!("{valid}-more"),
            format!("{later}more"),
            format!("{}-more", valid.replace("00-4", "ff-4")),
            valid.replace("-01", "-1"),
        ] {
            assert_eq!(parent(&[&wrong]), None, "{wrong}");
        }
        assert_eq!(parent(&[&valid, &valid]), None, "two headers");
        assert_eq!(parent(&[]), None);
    }
}
