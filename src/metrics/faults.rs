//! Requests that got no decision, by what the gate does then.
//!
//! A fault may be the directory's own, so what each store's gate does is kept here, as it was when the directory last said.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Metrics, gauge};
use crate::domain::ids::StoreId;
use crate::domain::store::{GateDefault, Store};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreDefault {
    store_default: &'static str,
}

pub(super) struct Faults {
    faults: Family<StoreDefault, Counter>,
    known: Family<StoreDefault, Gauge>,
    defaults: RwLock<HashMap<StoreId, GateDefault>>,
}

impl Faults {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let faults = Family::<StoreDefault, Counter>::default();
        let help = "VerifyIdentityKeys requests that got a 500 or no answer, by the default gate decision of their store; unknown where \
                    the store is not known, or the request was not read";
        registry.register("faults", help, faults.clone());
        let known = Family::<StoreDefault, Gauge>::default();
        registry.register("stores", "Stores of the directory by their default gate decision", known.clone());
        // From the start, so that the first fault is an increase.
        for store_default in ["open", "closed", "unknown"] {
            drop(faults.get_or_create(&StoreDefault { store_default }));
        }
        Self { faults, known, defaults: RwLock::default() }
    }
}

impl Metrics {
    /// These are the stores that there are.
    pub fn stores_are(&self, stores: &[Store]) {
        let defaults = stores.iter().map(|store| (store.id.clone(), store.default_gate_decision)).collect();
        for default in [GateDefault::Open, GateDefault::Closed] {
            let number = stores.iter().filter(|store| store.default_gate_decision == default).count();
            self.0.faults.known.get_or_create(&StoreDefault { store_default: word(default) }).set(gauge(number));
        }
        *self.0.faults.defaults.write().unwrap_or_else(PoisonError::into_inner) = defaults;
    }

    /// A request that the gate gets no decision for, from that store as far as it is known.
    pub fn faulted(&self, store: Option<&StoreId>) {
        let faults = &self.0.faults;
        let default = {
            let defaults = faults.defaults.read().unwrap_or_else(PoisonError::into_inner);
            store.and_then(|store| defaults.get(store).copied())
        };
        let store_default = default.map_or("unknown", word);
        faults.faults.get_or_create(&StoreDefault { store_default }).inc();
    }
}

fn word(default: GateDefault) -> &'static str {
    match default {
        GateDefault::Open => "open",
        GateDefault::Closed => "closed",
    }
}
