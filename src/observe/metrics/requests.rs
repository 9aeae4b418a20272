//! Metrics of requests: answers, decisions, faults and limits.
//!
//! Labels are bounded: decisions are only made for stores of the directory, and only the first [`STORES`] of them get
//! their own label.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::TimeDelta;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::domain::decision::Decision;
use crate::domain::ids::StoreId;
use crate::domain::store::{GateDefault, Store};
use crate::observe::metrics::metrics;

/// The maximum number of stores with their own label.
const STORES: usize = 200;
/// The label of all other stores, and of a store with this id.
const OTHER: &str = "other";
/// The visitor type of a denied decision, for which the visitor may be unknown.
const NO_VISITOR: &str = "none";

/// Upper bounds of the latency buckets in seconds: fine for usual answers, and with the connector's deadline (1.5 s)
/// and Amazon's time-out (2 s).
const LATENCY_BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0];
/// Upper bounds of the buckets of the connector's time minus the event's time, in seconds. Below zero, the connector's
/// clock is behind or the gate's clock is ahead.
const LAG_BUCKETS: [f64; 16] =
    [-3600.0, -300.0, -60.0, -15.0, -5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 3600.0, 86400.0];
/// Upper bounds of the buckets of a code's age, in seconds. A code is valid from 15 s before the event until 15 s after
/// its window, which is 30 to 90 s.
const AGE_BUCKETS: [f64; 17] =
    [-60.0, -15.0, -5.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0, 105.0, 300.0, 3600.0];

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

metrics! {
    /// The metrics of requests.
    #[derive(Debug)]
    pub struct Table {
        /// Answers to VerifyIdentityKeys requests, by HTTP status and reason. Growth of status 500 means faults of the
        /// connector, its database or the identity backend. Requests that a stop cut off have no status.
        answers: Family<Answer, Counter>,
        /// Answers to requests of shopper apps, by HTTP status and reason. Growth of 5xx means that the database or an
        /// identity provider fails.
        shopper_answers: Family<Answer, Counter>,
        /// Seconds from the head of a VerifyIdentityKeys request to its answer. The deadline is 1.5; after 2 the gate
        /// stops waiting and tries again.
        answer_seconds: Histogram = Histogram::new(LATENCY_BUCKETS),
        /// VerifyIdentityKeys requests being answered. A high value means slow answers: see connector_answer_seconds.
        pub(crate) in_flight: Gauge,
        /// VerifyIdentityKeys requests that got a 500 or no answer, by the default gate decision of their store. open:
        /// a shopper may have entered without a check. unknown: the store is unknown, or the request was not read.
        faults: Family<StoreDefault, Counter>,
        /// Stores in the directory, by their default gate decision. With no store every scan gets a 400.
        stores: Family<StoreDefault, Gauge>,
        /// New decisions, without replays, by store, visitor type and result. Stores after the first 200 are counted as
        /// other; the visitor type of a denial is none.
        decisions: Family<DecisionLabels, Counter>,
        /// Seconds from authEvent.timestamp to the connector's clock at new decisions. Large values mean late events or
        /// a wrong clock, negative values a wrong clock.
        event_lag_seconds: Histogram = Histogram::new(LAG_BUCKETS),
        /// Age in seconds of well-formed Scan Key Codes at their event, expired ones included. Many values over the
        /// window of the store, or below zero, mean wrong clocks on phones or shared screenshots.
        pub(crate) code_age_seconds: Histogram = Histogram::new(AGE_BUCKETS),
        /// VerifyIdentityKeys requests of each configured caller, answered or cut off. A caller whose count stops
        /// growing has wrong credentials or cannot reach the connector.
        caller_requests: Family<CallerName, Counter>,
        /// 1 while the last reload of this setting failed, so that the previous version stays in effect, else 0. Fix it
        /// before the next start, which would fail.
        reload_failed: Family<Setting, Gauge>,
        /// VerifyIdentityKeys requests refused with 429 by the rate limit. Growth means that a caller sends too many,
        /// or that rate_limit.requests_per_second is too low.
        pub(crate) rate_limited: Counter,
        /// The maximum number of VerifyIdentityKeys requests in progress (server.max_in_flight).
        pub(crate) places: Gauge,
        /// VerifyIdentityKeys requests in progress, including those whose client has disconnected. When this equals
        /// connector_places, further requests get 429.
        pub(crate) places_taken: Gauge,
        /// VerifyIdentityKeys requests refused with 429 because server.max_in_flight was reached. Growth means that
        /// scans take too long, or that too many arrive: check the database, raise the limit or add a replica.
        pub(crate) overloaded: Counter,
        /// Retries answered with the recorded decision while server.max_in_flight was reached. Growth means that gates
        /// retry during overload.
        pub(crate) recalled_overloaded: Counter,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    status: Option<u16>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreDefault {
    store_default: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    store: String,
    visitor_type: &'static str,
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallerName {
    caller: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Setting {
    setting: &'static str,
}

/// The metrics of requests. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    table: Table,
    /// The counters of each store that has its own label, by visitor type. A scan finds its counter here with one lock
    /// and without allocating labels.
    decisions: RwLock<HashMap<StoreId, HashMap<&'static str, Counter>>>,
    /// Each store's default gate decision: the directory cannot be asked, since it may be the cause of a fault.
    defaults: RwLock<HashMap<StoreId, GateDefault>>,
}

/// A metric that needs no method of its own is used through the table: `metrics.rate_limited.inc()`.
impl Deref for Metrics {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.0.table
    }
}

impl Metrics {
    /// Creates all metrics with the value zero.
    pub fn new() -> Self {
        let metrics = Self(Arc::default());
        for (status, reason) in ALERTED {
            drop(metrics.answers.get_or_create(&Answer { status: Some(status), reason }));
        }
        // Present from the start, so that Prometheus sees the first fault as an increase.
        for store_default in ["open", "closed", "unknown"] {
            drop(metrics.faults.get_or_create(&StoreDefault { store_default }));
        }
        for setting in ["server.callers", "tls", "directory.file"] {
            drop(metrics.reload_failed.get_or_create(&Setting { setting }));
        }
        metrics
    }

    /// Counts a `VerifyIdentityKeys` request that is answered, or cut off by a stop (no status).
    pub(crate) fn answered(&self, status: Option<u16>, reason: &'static str, took: Duration) {
        self.answers.get_or_create(&Answer { status, reason }).inc();
        self.answer_seconds.observe(took.as_secs_f64());
        self.in_flight.dec();
    }

    /// Counts a request of a shopper app that is answered, or cut off by a stop (no status).
    pub(crate) fn shopper_answered(&self, status: Option<u16>, reason: &'static str) {
        self.shopper_answers.get_or_create(&Answer { status, reason }).inc();
    }

    /// Replaces the list of stores.
    pub(crate) fn set_stores(&self, stores: &[Store]) {
        let defaults = stores.iter().map(|store| (store.id.clone(), store.default_gate_decision)).collect();
        for default in [GateDefault::Open, GateDefault::Closed] {
            let number = stores.iter().filter(|store| store.default_gate_decision == default).count();
            let stores = self.stores.get_or_create(&StoreDefault { store_default: default.as_str() });
            stores.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        *self.0.defaults.write().unwrap_or_else(PoisonError::into_inner) = defaults;
    }

    /// Counts a request without a decision; `store` is `None` if the request was not read.
    pub(crate) fn faulted(&self, store: Option<&StoreId>) {
        let defaults = self.0.defaults.read().unwrap_or_else(PoisonError::into_inner);
        let default = store.and_then(|store| defaults.get(store));
        let store_default = default.map_or("unknown", |default| default.as_str());
        self.faults.get_or_create(&StoreDefault { store_default }).inc();
    }

    /// Counts a new decision for a store of the directory, `lag` after its event.
    pub(crate) fn decided(&self, store: &StoreId, decision: &Decision, lag: TimeDelta) {
        self.event_lag_seconds.observe(lag.as_seconds_f64());
        let (visitor_type, decision) = match decision {
            Decision::Accepted(grant) => (grant.visitor.kind.as_str(), "accepted"),
            Decision::Denied { .. } => (NO_VISITOR, "denied"),
        };
        let counter = |store: &str| {
            let labels = DecisionLabels { store: store.to_owned(), visitor_type, decision };
            self.decisions.get_or_create(&labels).clone()
        };
        let stores = self.0.decisions.read().unwrap_or_else(PoisonError::into_inner);
        match stores.get(store).map(|counters| counters.get(visitor_type)) {
            Some(Some(counter)) => {
                counter.inc();
            }
            None if stores.len() >= STORES => {
                counter(OTHER).inc();
            }
            _ => {
                drop(stores);
                let mut stores = self.0.decisions.write().unwrap_or_else(PoisonError::into_inner);
                if stores.len() >= STORES && !stores.contains_key(store) {
                    counter(OTHER).inc();
                } else {
                    let counters = stores.entry(store.clone()).or_default();
                    counters.entry(visitor_type).or_insert_with(|| counter(store.as_str())).inc();
                }
            }
        }
    }

    /// Counts a request of a configured caller that is answered or cut off. The configuration bounds the number of
    /// names.
    pub(crate) fn caller_answered(&self, caller: &Arc<str>) {
        self.caller_requests.get_or_create(&CallerName { caller: Arc::clone(caller) }).inc();
    }

    /// Sets whether the last reload of the setting failed.
    pub(crate) fn reloaded(&self, setting: &'static str, failed: bool) {
        self.reload_failed.get_or_create(&Setting { setting }).set(failed.into());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::Denial;

    #[test]
    fn store_labels_are_bounded_and_stable() {
        let metrics = Metrics::new();
        let store = |number: usize| StoreId::parse(&format!("S{number}")).expect("an id");
        let denied = Decision::refuse_unknown(Denial::KeyNotFound);
        for number in (0..STORES.saturating_mul(2)).chain(0..STORES) {
            metrics.decided(&store(number), &denied, TimeDelta::zero());
        }
        let count_of = |store: &str| {
            let made = DecisionLabels { store: store.to_owned(), visitor_type: NO_VISITOR, decision: "denied" };
            metrics.decisions.get_or_create(&made).get()
        };
        assert_eq!((count_of("S0"), count_of("S199"), count_of(OTHER)), (2, 2, 200));
    }
}
