//! What was decided, where and for whom; and how events and codes stood to the clocks then.
//!
//! Labels are bounded: a decision is only ever made about a store that the directory knows, and of those the first
//! [`STORES`] have a label of their own.

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

/// How many stores have a label of their own.
const STORES: usize = 200;
/// What the others share. A store that is really called so shares it with them.
const OTHER: &str = "other";
/// The visitor type where nobody was let in: it may not be known who it was.
const NOBODY: &str = "none";

/// Upper bounds of the buckets of our clock minus an event's, in seconds. Below zero we are behind, or the event is ahead.
const LAG_BUCKETS: [f64; 16] =
    [-3600.0, -300.0, -60.0, -15.0, -5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 3600.0, 86400.0];
/// Upper bounds of the buckets of a code's age, in seconds: a code passes up to 15 s before the event and up to 15 s past its window, which is
/// 30 to 90 s.
const AGE_BUCKETS: [f64; 17] =
    [-60.0, -15.0, -5.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0, 105.0, 300.0, 3600.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Made {
    store: String,
    visitor_type: &'static str,
    decision: &'static str,
}

pub(super) struct Decisions {
    made: Family<Made, Counter>,
    labelled: RwLock<HashSet<StoreId>>,
    lag: Histogram,
    code_age: Histogram,
}

impl Decisions {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let made = Family::<Made, Counter>::default();
        let help = "Decisions that were new, by store and visitor type; stores beyond the first 200 are other";
        registry.register("decisions", help, made.clone());
        let lag = Histogram::new(LAG_BUCKETS);
        let help = "Our clock minus authEvent.timestamp at decisions that were new";
        registry.register("event_lag_seconds", help, lag.clone());
        let code_age = Histogram::new(AGE_BUCKETS);
        let help = "Age of well-formed Scan Key Codes at their event, expired ones included";
        registry.register("code_age_seconds", help, code_age.clone());
        Self { made, labelled: RwLock::default(), lag, code_age }
    }

    fn label(&self, store: &StoreId) -> String {
        let has_room = |labelled: &HashSet<StoreId>| labelled.len() < STORES;
        let labelled = self.labelled.read().unwrap_or_else(PoisonError::into_inner);
        match labelled.contains(store) {
            true => return store.as_str().to_owned(),
            false if !has_room(&labelled) => return OTHER.to_owned(),
            false => drop(labelled),
        }
        let mut labelled = self.labelled.write().unwrap_or_else(PoisonError::into_inner);
        if labelled.contains(store) || has_room(&labelled) && labelled.insert(store.clone()) {
            return store.as_str().to_owned();
        }
        OTHER.to_owned()
    }
}

impl Metrics {
    /// A decision that is new, at a store that the directory knows, made so long after its event.
    pub fn decided(&self, store: &StoreId, decision: &Decision, lag: TimeDelta) {
        let (visitor_type, decision) = match decision {
            Decision::Accepted(grant) => (grant.visitor.kind.as_str(), "accepted"),
            Decision::Denied(_) => (NOBODY, "denied"),
        };
        let decisions = &self.0.decisions;
        let made = Made { store: decisions.label(store), visitor_type, decision };
        decisions.made.get_or_create(&made).inc();
        decisions.lag.observe(lag.as_seconds_f64());
    }

    /// A Scan Key Code of that age.
    pub fn code_read(&self, age: TimeDelta) {
        self.0.decisions.code_age.observe(age.as_seconds_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::Denial;

    #[test]
    fn labels_are_bounded_and_a_store_keeps_its_own() {
        let metrics = Metrics::new();
        let store = |number: usize| StoreId::parse(&format!("S{number}")).expect("an id");
        let denied = Decision::Denied(Denial::KeyNotFound);
        for number in (0..STORES.saturating_mul(2)).chain(0..STORES) {
            metrics.decided(&store(number), &denied, TimeDelta::zero());
        }
        let decisions = &metrics.0.decisions;
        let of = |store: &str| {
            let made = Made { store: store.to_owned(), visitor_type: NOBODY, decision: "denied" };
            decisions.made.get_or_create(&made).get()
        };
        assert_eq!((of("S0"), of("S199"), of(OTHER)), (2, 2, 200));
        assert_eq!(decisions.label(&store(0)), "S0");
        assert_eq!(decisions.label(&store(STORES)), OTHER);
    }
}
