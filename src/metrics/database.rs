//! Whether what the connector stands on answers.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::storage::Database;

pub(super) struct DatabaseFigures {
    up: Gauge,
    failures: Counter,
}

impl DatabaseFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let up = Gauge::default();
        let help = "1 while the database answers, 0 while scans get a 500 because it does not; 1 without one";
        registry.register("database_up", help, up.clone());
        let failures = Counter::default();
        let help = "Times that the database did not answer, or not in time";
        registry.register("database_failures", help, failures.clone());
        Self { up, failures }
    }

    pub(super) fn show(&self, database: Option<&Database>) {
        self.up.set(database.is_none_or(Database::is_up).into());
        self.failures.inner().store(database.map_or(0, Database::failures), Ordering::Relaxed);
    }
}
