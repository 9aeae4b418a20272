//! What becomes of the spans of traces.

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
        registry.register("spans", "Spans of traces that ended, that were exported, that could not be", spans.clone());
        let of = |outcome| spans.get_or_create(&Outcome { outcome }).clone();
        let counters = SpanCounters { ended: of("ended"), exported: of("exported"), failed: of("failed") };
        Self { counters }
    }
}

impl Metrics {
    /// Where spans are counted.
    #[must_use]
    pub fn spans(&self) -> SpanCounters {
        self.0.traces.counters.clone()
    }
}
