//! Size and evictions of the ledger.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::gauge;
use crate::ledger::Ledger;

pub(super) struct LedgerFigures {
    records: Gauge,
    evictions: Counter,
    cached: Gauge,
    batch_sizes: BatchSizes,
}

impl LedgerFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let records = Gauge::default();
        let help = "Decisions in the ledger; with PostgreSQL the total of all replicas, which is an estimate beyond \
                    ten thousand";
        registry.register("ledger_records", help, records.clone());
        let evictions = Counter::default();
        let help = "Decisions evicted before ledger.retention ended, because the in-memory ledger was full. A retry of \
                    an evicted event is decided again: raise ledger.capacity";
        registry.register("ledger_evictions", help, evictions.clone());
        let cached = Gauge::default();
        let help = "Decisions in the cache in front of the database, at most ledger.cache";
        registry.register("ledger_cached", help, cached.clone());
        let batch_sizes = BatchSizes::default();
        registry.register_collector(Box::new(batch_sizes.clone()));
        Self { records, evictions, cached, batch_sizes }
    }

    pub(super) fn show(&self, ledger: &Ledger) {
        self.records.set(gauge(ledger.records()));
        self.evictions.inner().store(ledger.evictions(), Ordering::Relaxed); // the ledger counts
        self.cached.set(gauge(ledger.cached()));
        if let Some(batch_sizes) = ledger.batch_sizes() {
            self.batch_sizes.0.get_or_init(|| batch_sizes.clone());
        }
    }
}

/// The ledger's own histogram, if it has one.
#[derive(Clone, Debug, Default)]
struct BatchSizes(Arc<OnceLock<Histogram>>);

impl Collector for BatchSizes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(batch_sizes) = self.0.get() else { return Ok(()) };
        let help = "Decisions committed to the database in one transaction. Values that stay near 256 mean that \
                    commits are too slow for the traffic.";
        batch_sizes.encode(encoder.encode_descriptor("ledger_batch_records", help, None, MetricType::Histogram)?)
    }
}
