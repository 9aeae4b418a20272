//! Metrics of the look-up requests to the identity backend.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::Remote;
use crate::directory::Directory;
use crate::observe::metrics::{metrics, readings};

/// Upper bounds in seconds: fine for normal answer times, and up to the longest time-out.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.2];

/// The outcome of a look-up request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Found,
    NotFound,
    Refused,
    Malformed,
    Unavailable,
    Timeout,
    /// The backend answered 429.
    Busy,
    /// All permits (`directory.max_in_flight`) were in use.
    Full,
    /// The circuit breaker was open.
    NotAsked,
    /// The scan ended before the answer came.
    Abandoned,
    /// The request had a key that the connector made up; with or without an answer.
    MadeUp,
}

/// The label of the counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    outcome: &'static str,
}

metrics! {
    #[derive(Debug)]
    pub(super) struct RemoteMetrics {
        /// Requests to the identity backend, by outcome. Growth of refused or malformed without growth of found means
        /// that gates that need it do not open.
        identity_backend_questions: Family<OutcomeLabel, Counter>,
        /// Seconds from sending a request to the identity backend to the end of its answer or of the wait. Values near
        /// directory.timeout mean a slow backend.
        identity_backend_seconds: Histogram = Histogram::new(BUCKETS),
        /// Keys and tokens answered from earlier answers of the identity backend (directory.cache_for), without a
        /// request.
        identity_backend_remembered: Counter,
    }
}

/// Adds the metrics of the identity backend, if the directory has one, to a registry.
pub(crate) fn register(directory: &Arc<Directory>, registry: &mut Registry) {
    let Some(remote) = directory.remote() else { return };
    remote.metrics.register(registry);
    readings! { registry, directory = directory;
        /// Requests to the identity backend in flight. When this equals directory.max_in_flight, further scans that
        /// need the backend get 429.
        gauge identity_backend_in_flight = directory.remote().map(Remote::in_flight);
        /// 1 while the identity backend answers, as far as is known; 0 after repeated requests without an answer, until
        /// one is answered.
        gauge identity_backend_up = directory.remote().map(Remote::is_up);
    }
}

impl RemoteMetrics {
    /// Counts a look-up that is answered from the cache.
    pub(super) fn answered_from_cache(&self) {
        self.identity_backend_remembered.inc();
    }

    /// Counts a request that is not sent, or that has ended.
    pub(super) fn count(&self, outcome: Outcome) {
        self.identity_backend_questions.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// Starts the timer of a request that is sent now.
    pub(super) fn sent(&self) -> Sent<'_> {
        Sent { metrics: self, at: Instant::now(), outcome: Outcome::Abandoned }
    }

    /// Starts the timer of a request with a made-up key that is sent now.
    pub(super) fn made_up(&self) -> Sent<'_> {
        Sent { metrics: self, at: Instant::now(), outcome: Outcome::MadeUp }
    }
}

/// A request in flight. It is counted when this is dropped.
pub(super) struct Sent<'a> {
    metrics: &'a RemoteMetrics,
    at: Instant,
    outcome: Outcome,
}

impl Sent<'_> {
    pub(super) fn finish(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let took: Duration = self.at.elapsed();
        self.metrics.identity_backend_seconds.observe(took.as_secs_f64());
        self.metrics.count(self.outcome);
    }
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::NotAsked => "not_asked",
            Self::Abandoned => "abandoned",
            Self::MadeUp => "made_up",
        }
    }
}
