//! The spans of the steps of a traced request. If the request is not traced, a step costs one check of a thread-local.

use std::future::Future;

use opentelemetry::Context;
use opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry_sdk::trace::SdkTracer;

/// Runs `work` as a step of that name. An error is recorded without its text, which may contain personal data.
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
