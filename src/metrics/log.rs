//! Whether what is logged reaches anybody.

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
        registry.register("log_lines_dropped", "Log lines dropped because nobody took them", dropped.clone());
        Self { dropped }
    }

    pub(super) fn show(&self) {
        self.dropped.inner().store(telemetry::dropped_lines(), Ordering::Relaxed);
    }
}
