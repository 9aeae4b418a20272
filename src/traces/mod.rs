//! Traces: what became of a request, step by step, for whoever collects spans over OTLP. Off unless an endpoint is configured.
//!
//! A scan never waits for the exporter: what has ended goes into a bounded queue, which a thread of its own empties, and is dropped when
//! there is no room. Spans carry names, words and ids that the log has as well, never a key, a token or a text that a stranger chose.
//!
//! The caller's trace is joined wherever a request is traced. Whether it is, is for us to say: by chance
//! ([`Settings::sample_ratio`]), or because the caller's trace is sampled, but that only so often ([`Settings::callers_wishes`]), since
//! whoever can reach the port can wish. Chance is our own and not the trace id's, which the caller chooses.

mod export;
mod parent;
mod step;

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use governor::clock::MonotonicClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanKind, Status, TraceContextExt as _, TraceId, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use secrecy::SecretString;

pub use export::{SpanCounters, TracesError};
pub use step::{carry, step};

/// Where spans go, and which.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL that they are posted to.
    pub endpoint: String,
    /// Headers that go with them, which may be secrets.
    pub headers: Vec<(String, SecretString)>,
    /// Which share of requests is traced, 0 to 1.
    pub sample_ratio: f64,
    /// How many requests a second are traced because their caller's trace is.
    pub callers_wishes: u32,
    /// What this service is called.
    pub service_name: String,
}

/// The traces of a connector: clones share them.
#[derive(Clone, Debug)]
pub struct Traces(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sample_ratio: f64,
    wishes: Option<RateLimiter<NotKeyed, InMemoryState, MonotonicClock>>,
}

impl Traces {
    /// Starts the exporter; whether anybody takes what it sends is not asked for.
    ///
    /// # Errors
    /// When there can be no exporter.
    pub async fn start(settings: Settings, counters: SpanCounters) -> Result<Self, TracesError> {
        let (sample_ratio, wishes) = (settings.sample_ratio, NonZeroU32::new(settings.callers_wishes));
        let wishes = wishes.map(|number| RateLimiter::direct_with_clock(Quota::per_second(number), MonotonicClock));
        let provider = export::provider(settings, counters).await?;
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok(Self(Arc::new(Inner { provider, tracer, sample_ratio, wishes })))
    }

    /// What is traced of a request with these headers: a span of the server's, begun now, if it is to be one.
    #[must_use]
    pub fn request(&self, headers: &HeaderMap, method: &'static str, route: &str) -> Trace {
        let parent = parent::of(headers);
        let id = parent.as_ref().map(SpanContext::trace_id);
        let is_wish = parent.as_ref().is_some_and(SpanContext::is_sampled);
        if !self.is_sampled(is_wish) {
            return Trace { id, context: None };
        }
        let parent = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let attributes = [KeyValue::new("http.request.method", method), KeyValue::new("http.route", route.to_owned())];
        let span = self.0.tracer.span_builder(format!("{method} {route}")).with_kind(SpanKind::Server);
        let span = span.with_attributes(attributes).start_with_context(&self.0.tracer, &parent);
        let context = Context::new().with_value(self.0.tracer.clone()).with_span(span);
        Trace { id: Some(context.span().span_context().trace_id()), context: Some(context) }
    }

    fn is_sampled(&self, is_wish: bool) -> bool {
        let is_granted = || self.0.wishes.as_ref().is_some_and(|wishes| wishes.check().is_ok());
        rand::random::<f64>() < self.0.sample_ratio || is_wish && is_granted()
    }

    /// Sends what waits, as far as that can be done within `bound`. Nothing is traced afterwards.
    pub async fn finish(self, bound: Duration) {
        let finished = tokio::task::spawn_blocking(move || self.0.provider.shutdown_with_timeout(bound)).await;
        if !matches!(finished, Ok(Ok(()))) {
            tracing::warn!("stopped before every span was exported");
        }
    }
}

/// What is traced of a request; nothing by default.
#[derive(Debug, Default)]
pub struct Trace {
    id: Option<TraceId>,
    context: Option<Context>,
}

impl Trace {
    /// The trace that the request belongs to: the caller's, or the one that begins with it.
    #[must_use]
    pub fn id(&self) -> Option<TraceId> {
        self.id
    }

    /// Runs `work` so that its [steps](step) belong to it.
    pub async fn around<F: Future>(&self, work: F) -> F::Output {
        match &self.context {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }

    /// Ends it: a fault of ours has a name.
    pub fn end(&mut self, attributes: impl FnOnce() -> Vec<KeyValue>, fault: Option<&'static str>) {
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
