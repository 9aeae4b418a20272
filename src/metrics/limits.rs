//! What was refused because it was too much.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Metrics, gauge};
use crate::rate_limit::RateLimits;

pub(super) struct Limits {
    rate_limited: Counter,
    shared: Gauge,
    failures: Counter,
    callers: Gauge,
}

impl Limits {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let rate_limited = Counter::default();
        registry.register("rate_limited", "Requests refused by the rate limit", rate_limited.clone());
        let shared = Gauge::default();
        let help = "1 while rate limits hold across replicas, 0 while each limits on its own";
        registry.register("rate_limit_shared", help, shared.clone());
        let failures = Counter::default();
        let help = "Failures of the server that rate limits are shared by";
        registry.register("rate_limit_failures", help, failures.clone());
        let callers = Gauge::default();
        registry.register("rate_limit_callers", "Callers that this replica tells apart", callers.clone());
        Self { rate_limited, shared, failures, callers }
    }

    pub(super) fn show(&self, limits: &RateLimits) {
        self.shared.set(limits.is_shared().into());
        self.callers.set(gauge(limits.callers()));
        self.failures.inner().store(limits.failures(), Ordering::Relaxed); // the limits count, this shows
    }
}

impl Metrics {
    /// A request that the rate limit refused.
    pub fn rate_limited(&self) {
        self.0.limits.rate_limited.inc();
    }
}
