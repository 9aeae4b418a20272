//! Whether what the connector stands on answers, and how much room it has.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::storage::{Database, Disk};

pub(super) struct DatabaseFigures {
    up: Gauge,
    slow: Gauge,
    failures: Counter,
    disk: DiskFigures,
}

impl DatabaseFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let up = Gauge::default();
        let help = "1 while the database answers, 0 while scans get a 500 because it does not; 1 without one";
        registry.register("database_up", help, up.clone());
        let slow = Gauge::default();
        let help = "1 while the disk of the SQLite file takes longer for a commit than a scan may wait";
        registry.register("database_slow", help, slow.clone());
        let failures = Counter::default();
        let help = "Times that the database did not answer, or not in time";
        registry.register("database_failures", help, failures.clone());
        let disk = DiskFigures::default();
        registry.register_collector(Box::new(disk.clone()));
        Self { up, slow, failures, disk }
    }

    pub(super) fn show(&self, database: Option<&Database>, disk: Option<Disk>) {
        self.up.set(database.is_none_or(Database::is_up).into());
        self.slow.set(database.is_some_and(Database::is_slow).into());
        self.failures.inner().store(database.map_or(0, Database::failures), Ordering::Relaxed);
        *self.disk.0.lock().unwrap_or_else(PoisonError::into_inner) = disk;
    }
}

/// Only where there is a SQLite file: a 0 would look like a full disk.
#[derive(Clone, Debug, Default)]
struct DiskFigures(Arc<Mutex<Option<Disk>>>);

impl Collector for DiskFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(Disk { free, log }) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        let mut show = |name: &str, help: &str, bytes: u64| {
            let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        show("database_free_bytes", "Bytes that the file system of the SQLite file has free", free)?;
        show("database_log_bytes", "Bytes of the write-ahead log of the SQLite file", log)
    }
}
