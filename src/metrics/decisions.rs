//! New decisions by store and visitor type, and the age of events and Scan Key Codes at the decision.
//!
//! Labels are bounded: decisions are only made for stores of the directory, and only the first [`STORES`] of them get
//! their own label.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use chrono::TimeDelta;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Metrics;
use crate::domain::decision::Decision;
use crate::domain::ids::StoreId;

/// The maximum number of stores with their own label.
const STORES: usize = 200;
/// The label of all other stores, and of a store with this id.
const OTHER: &str = "other";
/// The visitor type of a denied decision, for which the visitor may be unknown.
const NO_VISITOR: &str = "none";

/// Upper bounds of the buckets of the connector's time minus the event's time, in seconds. Below zero, the connector's
/// clock is behind or the gate's clock is ahead.
const LAG_BUCKETS: [f64; 16] =
    [-3600.0, -300.0, -60.0, -15.0, -5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 3600.0, 86400.0];
/// Upper bounds of the buckets of a code's age, in seconds. A code is valid from 15 s before the event until 15 s after
/// its window, which is 30 to 90 s.
const AGE_BUCKETS: [f64; 17] =
    [-60.0, -15.0, -5.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0, 105.0, 300.0, 3600.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    store: String,
    visitor_type: &'static str,
    decision: &'static str,
}

pub(super) struct Decisions {
    made: Family<DecisionLabels, Counter>,
    labelled: RwLock<HashSet<StoreId>>,
    lag: Histogram,
    code_age: Histogram,
}

impl Decisions {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let made = Family::<DecisionLabels, Counter>::default();
        let help = "New decisions, without replays, by store, visitor type and result. Stores after the first 200 are \
                    counted as other; the visitor type of a denial is none";
        registry.register("decisions", help, made.clone());
        let lag = Histogram::new(LAG_BUCKETS);
        let help = "Seconds from authEvent.timestamp to the connector's clock at new decisions. Large values mean late \
                    events or a wrong clock, negative values a wrong clock";
        registry.register("event_lag_seconds", help, lag.clone());
        let code_age = Histogram::new(AGE_BUCKETS);
        let help = "Age in seconds of well-formed Scan Key Codes at their event, expired ones included. Many values \
                    over the window of the store, or below zero, mean wrong clocks on phones or shared screenshots";
        registry.register("code_age_seconds", help, code_age.clone());
        Self { made, labelled: RwLock::default(), lag, code_age }
    }

    fn label(&self, store: &StoreId) -> String {
        let has_capacity = |labelled: &HashSet<StoreId>| labelled.len() < STORES;
        let labelled = self.labelled.read().unwrap_or_else(PoisonError::into_inner);
        match labelled.contains(store) {
            true => return store.as_str().to_owned(),
            false if !has_capacity(&labelled) => return OTHER.to_owned(),
            false => drop(labelled),
        }
        let mut labelled = self.labelled.write().unwrap_or_else(PoisonError::into_inner);
        if labelled.contains(store) || has_capacity(&labelled) && labelled.insert(store.clone()) {
            return store.as_str().to_owned();
        }
        OTHER.to_owned()
    }
}

impl Metrics {
    /// Counts a new decision for a store of the directory, `lag` after its event.
    pub fn decided(&self, store: &StoreId, decision: &Decision, lag: TimeDelta) {
        let (visitor_type, decision) = match decision {
            Decision::Accepted(grant) => (grant.visitor.kind.as_str(), "accepted"),
            Decision::Denied(_) => (NO_VISITOR, "denied"),
        };
        let decisions = &self.0.decisions;
        let made = DecisionLabels { store: decisions.label(store), visitor_type, decision };
        decisions.made.get_or_create(&made).inc();
        decisions.lag.observe(lag.as_seconds_f64());
    }

    /// Counts a well-formed Scan Key Code of this age.
    pub fn code_read(&self, age: TimeDelta) {
        self.0.decisions.code_age.observe(age.as_seconds_f64());
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
        let decisions = &metrics.0.decisions;
        let count_of = |store: &str| {
            let made = DecisionLabels { store: store.to_owned(), visitor_type: NO_VISITOR, decision: "denied" };
            decisions.made.get_or_create(&made).get()
        };
        assert_eq!((count_of("S0"), count_of("S199"), count_of(OTHER)), (2, 2, 200));
        assert_eq!(decisions.label(&store(0)), "S0");
        assert_eq!(decisions.label(&store(STORES)), OTHER);
    }
}
