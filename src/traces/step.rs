//! The steps of a request that is traced. Where none is, they cost a look at what the thread is at.

use std::future::Future;

use opentelemetry::Context;
use opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry_sdk::trace::SdkTracer;

/// Runs `work` as a step of that name. Of an error it is told that it was one: its words may be about somebody.
///
/// # Errors
/// As `work`.
pub async fn step<T, E>(name: &'static str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let Some(context) = Context::map_current(|parent| begin(name, parent)) else { return work.await };
    let done = work.with_context(context.clone()).await;
    if done.is_err() {
        context.span().set_status(Status::error(""));
    }
    context.span().end(); // when it is dropped half way, it ends with the context
    done
}

fn begin(name: &'static str, parent: &Context) -> Option<Context> {
    let tracer = parent.get::<SdkTracer>()?;
    let span = tracer.span_builder(name).with_kind(SpanKind::Internal).start_with_context(tracer, parent);
    Some(parent.with_span(span))
}

/// The same work, to be spawned: its steps belong to the request that spawns it.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let context = Context::map_current(|context| context.get::<SdkTracer>().map(|_| context.clone()));
    async move {
        match context {
            Some(context) => work.with_context(context).await,
            None => work.await,
        }
    }
}
