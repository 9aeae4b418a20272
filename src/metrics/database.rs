//! Health of the database, and its disk space.

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
        let help = "1 while the database answers, or none is configured; 0 while it does not, so that scans get a 500";
        registry.register("database_up", help, up.clone());
        let slow = Gauge::default();
        let help = "1 while the disk of the SQLite file takes longer for a commit than a scan may wait, so that scans \
                    get a 500 and only their retries get the decision; else 0";
        registry.register("database_slow", help, slow.clone());
        let failures = Counter::default();
        let help = "Requests to the database that failed or timed out. Growth means that the database is overloaded or \
                    about to fail";
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

/// Present only with a SQLite file: a 0 would look like a full disk.
#[derive(Clone, Debug, Default)]
struct DiskFigures(Arc<Mutex<Option<Disk>>>);

impl Collector for DiskFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(Disk { free, log }) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        let mut show = |name: &str, help: &str, bytes: u64| {
            let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        show(
            "database_free_bytes",
            "Free bytes of the file system that holds the SQLite file. When it is full, no scan can be recorded.",
            free,
        )?;
        show(
            "database_log_bytes",
            "Bytes of the write-ahead log of the SQLite file. A log that keeps growing fills the disk.",
            log,
        )
    }
}
