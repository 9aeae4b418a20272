//! The metrics of the identity backend; absent if none is configured.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Metrics, gauge};
use crate::directory::Directory;

/// The directory whose identity backend is shown, once it is set. Clones share it.
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
    /// Sets the directory whose identity backend is shown, if it has one.
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
        let help = "Requests to the identity backend, by outcome. Growth of refused or malformed without growth of \
                    found means that gates that need it do not open.";
        show("identity_backend_questions", help, &metrics.requests)?;
        let help = "Seconds from sending a request to the identity backend to the end of its answer or of the wait. \
                    Values near directory.timeout mean a slow backend.";
        show("identity_backend_seconds", help, &metrics.seconds)?;
        let help = "Keys and tokens answered from earlier answers of the identity backend (directory.cache_for), \
                    without a request.";
        show("identity_backend_remembered", help, &metrics.remembered)?;
        let help = "Requests to the identity backend in flight. When this equals directory.max_in_flight, further scans \
                    that need the backend get 429.";
        show("identity_backend_in_flight", help, &ConstGauge::new(gauge(remote.in_flight())))?;
        let help = "1 while the identity backend answers, as far as is known; 0 after repeated requests without an \
                    answer, until one is answered.";
        show("identity_backend_up", help, &ConstGauge::new(i64::from(remote.is_up())))
    }
}
