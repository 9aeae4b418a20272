//! Metrics of the look-up requests to the identity backend.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

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
pub struct OutcomeLabel {
    outcome: &'static str,
}

/// The metrics; clones share them.
#[derive(Clone, Debug)]
pub struct RemoteMetrics {
    /// Requests by outcome.
    pub requests: Family<OutcomeLabel, Counter>,
    /// The duration of requests that were sent, in seconds.
    pub seconds: Histogram,
    /// Look-ups answered from the cache.
    pub remembered: Counter,
}

impl RemoteMetrics {
    pub(super) fn new() -> Self {
        Self { requests: Family::default(), seconds: Histogram::new(BUCKETS), remembered: Counter::default() }
    }

    /// Counts a request that is not sent, or that has ended.
    pub(super) fn count(&self, outcome: Outcome) {
        self.requests.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
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
        self.metrics.seconds.observe(took.as_secs_f64());
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
