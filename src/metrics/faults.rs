//! Requests that got no decision, by what the gate does then.
//!
//! The directory may be the cause of a fault, so this module keeps its own copy of each store's default gate decision.

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
    stores: Family<StoreDefault, Gauge>,
    defaults: RwLock<HashMap<StoreId, GateDefault>>,
}

impl Faults {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let faults = Family::<StoreDefault, Counter>::default();
        let help = "VerifyIdentityKeys requests that got a 500 or no answer, by the default gate decision of their \
                    store. open: a shopper may have entered without a check. unknown: the store is unknown, or the \
                    request was not read";
        registry.register("faults", help, faults.clone());
        let stores = Family::<StoreDefault, Gauge>::default();
        let help = "Stores in the directory, by their default gate decision. With no store every scan gets a 400";
        registry.register("stores", help, stores.clone());
        // Present from the start, so that Prometheus sees the first fault as an increase.
        for store_default in ["open", "closed", "unknown"] {
            drop(faults.get_or_create(&StoreDefault { store_default }));
        }
        Self { faults, stores, defaults: RwLock::default() }
    }
}

impl Metrics {
    /// Replaces the list of stores.
    pub fn set_stores(&self, stores: &[Store]) {
        let defaults = stores.iter().map(|store| (store.id.clone(), store.default_gate_decision)).collect();
        for default in [GateDefault::Open, GateDefault::Closed] {
            let number = stores.iter().filter(|store| store.default_gate_decision == default).count();
            self.0.faults.stores.get_or_create(&StoreDefault { store_default: label(default) }).set(gauge(number));
        }
        *self.0.faults.defaults.write().unwrap_or_else(PoisonError::into_inner) = defaults;
    }

    /// Counts a request without a decision; `store` is `None` if the request was not read.
    pub fn faulted(&self, store: Option<&StoreId>) {
        let faults = &self.0.faults;
        let default = {
            let defaults = faults.defaults.read().unwrap_or_else(PoisonError::into_inner);
            store.and_then(|store| defaults.get(store).copied())
        };
        let store_default = default.map_or("unknown", label);
        faults.faults.get_or_create(&StoreDefault { store_default }).inc();
    }
}

fn label(default: GateDefault) -> &'static str {
    match default {
        GateDefault::Open => "open",
        GateDefault::Closed => "closed",
    }
}
