//! The limit of concurrent scans, and the scans beyond it.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

pub(super) struct Overload {
    limit: Gauge,
    taken: Gauge,
    refused: Counter,
    recalled: Counter,
}

impl Overload {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let limit = Gauge::default();
        let help = "VerifyIdentityKeys requests that may be processed at once (server.max_in_flight)";
        registry.register("places", help, limit.clone());
        let taken = Gauge::default();
        let help = "VerifyIdentityKeys requests that are processed now, including those whose caller hung up. At the \
                    value of connector_places further ones get a 429";
        registry.register("places_taken", help, taken.clone());
        let refused = Counter::default();
        let help = "VerifyIdentityKeys requests refused with 429 because server.max_in_flight was reached. Growth \
                    means that scans are too slow or too many: check the database, raise the limit or add a replica";
        registry.register("overloaded", help, refused.clone());
        let recalled = Counter::default();
        let help = "VerifyIdentityKeys requests answered from their record while server.max_in_flight was reached. \
                    Growth means that gates retry during overload";
        registry.register("recalled_overloaded", help, recalled.clone());
        Self { limit, taken, refused, recalled }
    }
}

impl Metrics {
    /// Sets how many scans may be processed at once.
    pub fn set_permits(&self, permits: u32) {
        self.0.overload.limit.set(permits.into());
    }

    /// A scan took a permit; [`Metrics::permit_released`] ends it.
    pub fn permit_taken(&self) {
        self.0.overload.taken.inc();
    }

    /// A permit is free again.
    pub fn permit_released(&self) {
        self.0.overload.taken.dec();
    }

    /// A request was refused because no permit was free.
    pub fn overloaded(&self) {
        self.0.overload.refused.inc();
    }

    /// A request was answered from its record while no permit was free.
    pub fn recalled_overloaded(&self) {
        self.0.overload.recalled.inc();
    }
}
