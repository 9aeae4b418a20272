//! The figures of the identity backend. Where there is none, there are none.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

use crate::directory::Directory;

/// Whose figures are shown, once that is known: clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct IdentityBackend(Arc<OnceLock<Arc<Directory>>>);

impl IdentityBackend {
    pub(super) fn is_that_of(&self, directory: &Arc<Directory>) {
        let _ = self.0.set(Arc::clone(directory)); // a connector has one directory
    }
}

impl Collector for IdentityBackend {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(remote) = self.0.get().and_then(|directory| directory.remote()) else { return Ok(()) };
        let mut show = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let figures = remote.figures();
        let help = "Questions to the identity backend by what came of them";
        show("identity_backend_questions", help, &figures.questions)?;
        let help = "Seconds from a question to the identity backend to the end of its answer, or of the wait";
        show("identity_backend_seconds", help, &figures.seconds)?;
        let help = "Keys and tokens that were answered from what the identity backend had said before";
        show("identity_backend_remembered", help, &figures.remembered)?;
        let in_flight = i64::try_from(remote.in_flight()).unwrap_or(i64::MAX);
        let help = "Questions to the identity backend that are under way";
        show("identity_backend_in_flight", help, &ConstGauge::new(in_flight))?;
        let help = "1 while the identity backend answers, as far as is known; 0 while it does not";
        show("identity_backend_up", help, &ConstGauge::new(i64::from(remote.is_up())))
    }
}
