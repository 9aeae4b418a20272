//! The rate limit.

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
        let help = "VerifyIdentityKeys requests refused with 429 by the rate limit. Growth means that a caller sends \
                    too many, or that rate_limit.requests_per_second is too low";
        registry.register("rate_limited", help, rate_limited.clone());
        let shared = Gauge::default();
        let help = "1 while replicas share rate limits through rate_limit.url, 0 while each replica limits on its own";
        registry.register("rate_limit_shared", help, shared.clone());
        let failures = Counter::default();
        let help = "Failed requests to the Redis at rate_limit.url. Growth means that replicas limit on their own; no \
                    scan fails";
        registry.register("rate_limit_failures", help, failures.clone());
        let callers = Gauge::default();
        let help = "Callers with their own allowance in this replica. At rate_limit.max_callers further callers share \
                    one allowance";
        registry.register("rate_limit_callers", help, callers.clone());
        Self { rate_limited, shared, failures, callers }
    }

    pub(super) fn show(&self, limits: &RateLimits) {
        self.shared.set(limits.is_shared().into());
        self.callers.set(gauge(limits.callers()));
        self.failures.inner().store(limits.failures(), Ordering::Relaxed); // the rate limiter counts
    }
}

impl Metrics {
    /// Counts a request that the rate limit refused.
    pub fn rate_limited(&self) {
        self.0.limits.rate_limited.inc();
    }
}
