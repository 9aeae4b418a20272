//! The figures of the identity backend. Where there is none, there are none.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Metrics, gauge};
use crate::directory::Directory;

/// Whose figures are shown, once that is known: clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct IdentityBackend(Arc<OnceLock<Arc<Directory>>>);

impl IdentityBackend {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let shown = Self::default();
        registry.register_collector(Box::new(shown.clone()));
        shown
    }
}

impl Metrics {
    /// Shows from now on what the directory's identity backend does, if it has one.
    pub fn show_identity_backend_of(&self, directory: &Arc<Directory>) {
        let IdentityBackend(shown) = &self.0.identity_backend;
        let _ = shown.set(Arc::clone(directory)); // a connector has one directory
    }
}

impl Collector for IdentityBackend {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(remote) = self.0.get().and_then(|directory| directory.remote()) else { return Ok(()) };
        let mut show = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let metrics = remote.metrics();
        let help = "Questions to the identity backend by what came of them";
        show("identity_backend_questions", help, &metrics.questions)?;
        let help = "Seconds from a question to the identity backend to the end of its answer, or of the wait";
        show("identity_backend_seconds", help, &metrics.seconds)?;
        let help = "Keys and tokens that were answered from what the identity backend had said before";
        show("identity_backend_remembered", help, &metrics.remembered)?;
        let help = "Questions to the identity backend that are under way";
        show("identity_backend_in_flight", help, &ConstGauge::new(gauge(remote.in_flight())))?;
        let help = "1 while the identity backend answers, as far as is known; 0 while it does not";
        show("identity_backend_up", help, &ConstGauge::new(i64::from(remote.is_up())))
    }
}
