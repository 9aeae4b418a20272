//! Counts and latency of answers.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Metrics;

/// Upper bounds of the latency buckets in seconds: fine for usual answers, and with the connector's deadline (1.5 s)
/// and Amazon's time-out (2 s).
const LATENCY_BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0];

/// Answers that alerts watch. They exist from the start with the value zero: a counter that first appears with the
/// value one has not increased for Prometheus.
const ALERTED: [(u16, &str); 11] = [
    (401, "unauthorized"),
    (429, "busy"),
    (429, "directory_silent"),
    (429, "ledger_full"),
    (429, "overloaded"),
    (429, "rate_limited"),
    (429, "unauthorized_limited"),
    (500, "deadline"),
    (500, "directory_unavailable"),
    (500, "ledger_unavailable"),
    (500, "panic"),
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    status: Option<u16>,
    reason: &'static str,
}

pub(super) struct Answers {
    gate: Family<Answer, Counter>,
    shoppers: Family<Answer, Counter>,
    latency: Histogram,
    in_flight: Gauge,
}

impl Answers {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let gate = Family::<Answer, Counter>::default();
        let help = "Answers to VerifyIdentityKeys requests, by HTTP status and reason. Growth of status 500 means \
                    faults of the connector, its database or the identity backend. Requests that a stop cut off have no status";
        registry.register("answers", help, gate.clone());
        for (status, reason) in ALERTED {
            drop(gate.get_or_create(&Answer { status: Some(status), reason }));
        }
        let shoppers = Family::<Answer, Counter>::default();
        let help = "Answers to requests of shopper apps, by HTTP status and reason. Growth of 5xx means that the \
                    database or an identity provider fails";
        registry.register("shopper_answers", help, shoppers.clone());
        let latency = Histogram::new(LATENCY_BUCKETS);
        let help = "Seconds from the head of a VerifyIdentityKeys request to its answer. The deadline is 1.5; after 2 \
                    the gate stops waiting and tries again";
        registry.register("answer_seconds", help, latency.clone());
        let in_flight = Gauge::default();
        let help = "VerifyIdentityKeys requests being answered. A high value means slow answers: see \
                    connector_answer_seconds";
        registry.register("in_flight", help, in_flight.clone());
        Self { gate, shoppers, latency, in_flight }
    }
}

impl Metrics {
    /// Counts a `VerifyIdentityKeys` request that is answered, or cut off by a stop (no status).
    pub fn answered(&self, status: Option<u16>, reason: &'static str, took: Duration) {
        let answers = &self.0.answers;
        answers.gate.get_or_create(&Answer { status, reason }).inc();
        answers.latency.observe(took.as_secs_f64());
        answers.in_flight.dec();
    }

    /// Counts a request of a shopper app that is answered, or cut off by a stop (no status).
    pub fn shopper_answered(&self, status: Option<u16>, reason: &'static str) {
        self.0.answers.shoppers.get_or_create(&Answer { status, reason }).inc();
    }

    /// Counts a `VerifyIdentityKeys` request as in progress, until [`Metrics::answered`] is called.
    pub fn request_begun(&self) {
        self.0.answers.in_flight.inc();
    }
}
