//! The limit of concurrent scans, and the scans beyond it.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

pub(super) struct Overload {
    limit: Gauge,
    taken: Gauge,
    refused: Counter,
    replayed: Counter,
}

impl Overload {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let limit = Gauge::default();
        let help = "The maximum number of VerifyIdentityKeys requests in progress (server.max_in_flight)";
        registry.register("places", help, limit.clone());
        let taken = Gauge::default();
        let help = "VerifyIdentityKeys requests in progress, including those whose client has disconnected. When this \
                    equals connector_places, further requests get 429";
        registry.register("places_taken", help, taken.clone());
        let refused = Counter::default();
        let help = "VerifyIdentityKeys requests refused with 429 because server.max_in_flight was reached. Growth \
                    means that scans take too long, or that too many arrive: check the database, raise the limit or \
                    add a replica";
        registry.register("overloaded", help, refused.clone());
        let replayed = Counter::default();
        let help = "Retries answered with the recorded decision while server.max_in_flight was reached. Growth means \
                    that gates retry during overload";
        registry.register("recalled_overloaded", help, replayed.clone());
        Self { limit, taken, refused, replayed }
    }
}

impl Metrics {
    /// Sets the maximum number of scans in progress.
    pub fn set_permits(&self, permits: u32) {
        self.0.overload.limit.set(permits.into());
    }

    /// Counts a permit in use, until [`Metrics::permit_released`] is called.
    pub fn permit_taken(&self) {
        self.0.overload.taken.inc();
    }

    /// Counts a permit as free again.
    pub fn permit_released(&self) {
        self.0.overload.taken.dec();
    }

    /// Counts a request that was refused because no permit was free.
    pub fn overloaded(&self) {
        self.0.overload.refused.inc();
    }

    /// Counts a retry that was answered with the recorded decision while no permit was free.
    pub fn replayed_while_overloaded(&self) {
        self.0.overload.replayed.inc();
    }
}
