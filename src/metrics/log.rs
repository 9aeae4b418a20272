//! Log lines that were dropped.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use crate::telemetry;

pub(super) struct LogFigures {
    dropped: Counter,
}

impl LogFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let dropped = Counter::default();
        let help = "Log lines dropped because the reader of the log was too slow. Growth means gaps in the log; scans \
                    are not delayed";
        registry.register("log_lines_dropped", help, dropped.clone());
        Self { dropped }
    }

    pub(super) fn show(&self) {
        self.dropped.inner().store(telemetry::dropped_lines(), Ordering::Relaxed);
    }
}
