//! How many scans are worked on at once, and what becomes of those beyond.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

pub(super) struct Overload {
    places: Gauge,
    taken: Gauge,
    refused: Counter,
    recalled: Counter,
}

impl Overload {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let places = Gauge::default();
        registry.register("places", "VerifyIdentityKeys requests that may be worked on at once", places.clone());
        let taken = Gauge::default();
        let help = "VerifyIdentityKeys requests that are worked on, also for callers who have hung up";
        registry.register("places_taken", help, taken.clone());
        let refused = Counter::default();
        let help = "VerifyIdentityKeys requests refused because every place was taken";
        registry.register("overloaded", help, refused.clone());
        let recalled = Counter::default();
        let help = "VerifyIdentityKeys requests answered from their record while every place was taken";
        registry.register("recalled_overloaded", help, recalled.clone());
        Self { places, taken, refused, recalled }
    }
}

impl Metrics {
    /// How many places there are.
    pub fn has_places(&self, places: u32) {
        self.0.overload.places.set(places.into());
    }

    /// A place is taken; [`Metrics::place_left`] ends it.
    pub fn place_taken(&self) {
        self.0.overload.taken.inc();
    }

    /// A place is free again.
    pub fn place_left(&self) {
        self.0.overload.taken.dec();
    }

    /// A request that found every place taken, and was refused.
    pub fn overloaded(&self) {
        self.0.overload.refused.inc();
    }

    /// A request that found every place taken, and was answered from its record.
    pub fn recalled_overloaded(&self) {
        self.0.overload.recalled.inc();
    }
}
