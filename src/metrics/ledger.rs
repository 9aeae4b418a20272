//! What the ledger keeps.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::gauge;
use crate::ledger::Ledger;

pub(super) struct LedgerFigures {
    records: Gauge,
    evictions: Counter,
    cached: Gauge,
}

impl LedgerFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let records = Gauge::default();
        registry.register("ledger_records", "Decisions remembered", records.clone());
        let evictions = Counter::default();
        let help = "Decisions forgotten before their retention ended, because the ledger was full";
        registry.register("ledger_evictions", help, evictions.clone());
        let cached = Gauge::default();
        registry.register("ledger_cached", "Decisions remembered in front of the database", cached.clone());
        Self { records, evictions, cached }
    }

    pub(super) fn show(&self, ledger: &Ledger) {
        self.records.set(gauge(ledger.records()));
        self.evictions.inner().store(ledger.evictions(), Ordering::Relaxed); // the ledger counts, this shows
        self.cached.set(gauge(ledger.cached()));
    }
}
