//! How long the certificate holds that this connector shows.

use chrono::{DateTime, Utc};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

pub(super) struct TlsFigures {
    expires: Gauge,
}

impl TlsFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let expires = Gauge::default();
        let help = "When the TLS certificate of the API's port ends, since unix epoch in seconds; 0 where it has none";
        registry.register("tls_certificate_expires_timestamp_seconds", help, expires.clone());
        Self { expires }
    }
}

impl Metrics {
    /// The certificate that is shown from now on ends then.
    pub fn tls_certificate_expires(&self, at: DateTime<Utc>) {
        self.0.tls.expires.set(at.timestamp());
    }
}
