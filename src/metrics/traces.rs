//! Trace spans by outcome.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Metrics;
use crate::traces::SpanCounters;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

pub(super) struct TraceFigures {
    counters: SpanCounters,
}

impl TraceFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let spans = Family::<Outcome, Counter>::default();
        let help = "Trace spans by outcome: ended, and of these exported or failed. Growth of failed means that the \
                    collector does not accept them";
        registry.register("spans", help, spans.clone());
        let counter = |outcome| spans.get_or_create(&Outcome { outcome }).clone();
        let counters =
            SpanCounters { ended: counter("ended"), exported: counter("exported"), failed: counter("failed") };
        Self { counters }
    }
}

impl Metrics {
    /// The counters of spans.
    #[must_use]
    pub fn spans(&self) -> SpanCounters {
        self.0.traces.counters.clone()
    }
}
