//! What requests count: answers, decisions, faults and limits.
//!
//! Labels are bounded: decisions are only made for stores of the directory, and only the first [`STORES`] of them get
//! their own label.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::TimeDelta;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

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
    #[derive(Debug)]
    struct Table {
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
        in_flight: Gauge,
        /// VerifyIdentityKeys requests that got a 500 or no answer, by the default gate decision of their store. open: a
        /// shopper may have entered without a check. unknown: the store is unknown, or the request was not read.
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
        code_age_seconds: Histogram = Histogram::new(AGE_BUCKETS),
        /// VerifyIdentityKeys requests of each configured caller, answered or cut off. A caller whose count stops
        /// growing has wrong credentials or cannot reach the connector.
        caller_requests: Family<CallerName, Counter>,
        /// 1 while the last reload of this setting failed, so that the previous version stays in effect, else 0. Fix it
        /// before the next start, which would fail.
        reload_failed: Family<Setting, Gauge>,
        /// VerifyIdentityKeys requests refused with 429 by the rate limit. Growth means that a caller sends too many, or
        /// that rate_limit.requests_per_second is too low.
        rate_limited: Counter,
        /// The maximum number of VerifyIdentityKeys requests in progress (server.max_in_flight).
        places: Gauge,
        /// VerifyIdentityKeys requests in progress, including those whose client has disconnected. When this equals
        /// connector_places, further requests get 429.
        places_taken: Gauge,
        /// VerifyIdentityKeys requests refused with 429 because server.max_in_flight was reached. Growth means that
        /// scans take too long, or that too many arrive: check the database, raise the limit or add a replica.
        overloaded: Counter,
        /// Retries answered with the recorded decision while server.max_in_flight was reached. Growth means that gates
        /// retry during overload.
        recalled_overloaded: Counter,
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
    caller: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Setting {
    setting: &'static str,
}

/// The metrics of requests. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Table,
    /// The stores that have their own label.
    labelled: RwLock<HashSet<StoreId>>,
    /// Each store's default gate decision: the directory cannot be asked, since it may be the cause of a fault.
    defaults: RwLock<HashMap<StoreId, GateDefault>>,
}

impl Metrics {
    /// Creates all metrics with the value zero.
    #[must_use]
    pub fn new() -> Self {
        let table = Table::default();
        for (status, reason) in ALERTED {
            drop(table.answers.get_or_create(&Answer { status: Some(status), reason }));
        }
        // Present from the start, so that Prometheus sees the first fault as an increase.
        for store_default in ["open", "closed", "unknown"] {
            drop(table.faults.get_or_create(&StoreDefault { store_default }));
        }
        for setting in ["server.callers", "tls", "directory.file"] {
            drop(table.reload_failed.get_or_create(&Setting { setting }));
        }
        Self(Arc::new(Inner { table, labelled: RwLock::default(), defaults: RwLock::default() }))
    }

    /// Adds all metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.0.table.register(registry);
    }

    /// Counts a `VerifyIdentityKeys` request as in progress, until [`Metrics::answered`] is called.
    pub fn request_begun(&self) {
        self.0.table.in_flight.inc();
    }

    /// Counts a `VerifyIdentityKeys` request that is answered, or cut off by a stop (no status).
    pub fn answered(&self, status: Option<u16>, reason: &'static str, took: Duration) {
        let table = &self.0.table;
        table.answers.get_or_create(&Answer { status, reason }).inc();
        table.answer_seconds.observe(took.as_secs_f64());
        table.in_flight.dec();
    }

    /// Counts a request of a shopper app that is answered, or cut off by a stop (no status).
    pub fn shopper_answered(&self, status: Option<u16>, reason: &'static str) {
        self.0.table.shopper_answers.get_or_create(&Answer { status, reason }).inc();
    }

    /// Replaces the list of stores.
    pub fn set_stores(&self, stores: &[Store]) {
        let defaults = stores.iter().map(|store| (store.id.clone(), store.default_gate_decision)).collect();
        for default in [GateDefault::Open, GateDefault::Closed] {
            let number = stores.iter().filter(|store| store.default_gate_decision == default).count();
            let stores = self.0.table.stores.get_or_create(&StoreDefault { store_default: label(default) });
            stores.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        *self.0.defaults.write().unwrap_or_else(PoisonError::into_inner) = defaults;
    }

    /// Counts a request without a decision; `store` is `None` if the request was not read.
    pub fn faulted(&self, store: Option<&StoreId>) {
        let default = {
            let defaults = self.0.defaults.read().unwrap_or_else(PoisonError::into_inner);
            store.and_then(|store| defaults.get(store).copied())
        };
        let store_default = default.map_or("unknown", label);
        self.0.table.faults.get_or_create(&StoreDefault { store_default }).inc();
    }

    /// Counts a new decision for a store of the directory, `lag` after its event.
    pub fn decided(&self, store: &StoreId, decision: &Decision, lag: TimeDelta) {
        let (visitor_type, decision) = match decision {
            Decision::Accepted(grant) => (grant.visitor.kind.as_str(), "accepted"),
            Decision::Denied(_) => (NO_VISITOR, "denied"),
        };
        let made = DecisionLabels { store: self.store_label(store), visitor_type, decision };
        self.0.table.decisions.get_or_create(&made).inc();
        self.0.table.event_lag_seconds.observe(lag.as_seconds_f64());
    }

    fn store_label(&self, store: &StoreId) -> String {
        let has_capacity = |labelled: &HashSet<StoreId>| labelled.len() < STORES;
        let labelled = self.0.labelled.read().unwrap_or_else(PoisonError::into_inner);
        match labelled.contains(store) {
            true => return store.as_str().to_owned(),
            false if !has_capacity(&labelled) => return OTHER.to_owned(),
            false => drop(labelled),
        }
        let mut labelled = self.0.labelled.write().unwrap_or_else(PoisonError::into_inner);
        if labelled.contains(store) || has_capacity(&labelled) && labelled.insert(store.clone()) {
            return store.as_str().to_owned();
        }
        OTHER.to_owned()
    }

    /// Counts a well-formed Scan Key Code of this age.
    pub fn code_read(&self, age: TimeDelta) {
        self.0.table.code_age_seconds.observe(age.as_seconds_f64());
    }

    /// Counts a request of a configured caller that is answered or cut off. The configuration bounds the number of
    /// names.
    pub fn caller_answered(&self, caller: &str) {
        self.0.table.caller_requests.get_or_create(&CallerName { caller: caller.to_owned() }).inc();
    }

    /// Sets whether the last reload of the setting failed.
    pub fn reloaded(&self, setting: &'static str, failed: bool) {
        self.0.table.reload_failed.get_or_create(&Setting { setting }).set(failed.into());
    }

    /// Counts a request that the rate limit refused.
    pub fn rate_limited(&self) {
        self.0.table.rate_limited.inc();
    }

    /// Sets the maximum number of scans in progress.
    pub fn set_permits(&self, permits: u32) {
        self.0.table.places.set(permits.into());
    }

    /// Counts a permit in use, until [`Metrics::permit_released`] is called.
    pub fn permit_taken(&self) {
        self.0.table.places_taken.inc();
    }

    /// Counts a permit as free again.
    pub fn permit_released(&self) {
        self.0.table.places_taken.dec();
    }

    /// Counts a request that was refused because no permit was free.
    pub fn overloaded(&self) {
        self.0.table.overloaded.inc();
    }

    /// Counts a retry that was answered with the recorded decision while no permit was free.
    pub fn replayed_while_overloaded(&self) {
        self.0.table.recalled_overloaded.inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn label(default: GateDefault) -> &'static str {
    match default {
        GateDefault::Open => "open",
        GateDefault::Closed => "closed",
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
        let denied = Decision::Denied(Denial::KeyNotFound);
        for number in (0..STORES.saturating_mul(2)).chain(0..STORES) {
            metrics.decided(&store(number), &denied, TimeDelta::zero());
        }
        let count_of = |store: &str| {
            let made = DecisionLabels { store: store.to_owned(), visitor_type: NO_VISITOR, decision: "denied" };
            metrics.0.table.decisions.get_or_create(&made).get()
        };
        assert_eq!((count_of("S0"), count_of("S199"), count_of(OTHER)), (2, 2, 200));
        assert_eq!(metrics.store_label(&store(0)), "S0");
        assert_eq!(metrics.store_label(&store(STORES)), OTHER);
    }
}
