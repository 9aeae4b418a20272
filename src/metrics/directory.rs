//! The cache in front of the directory's database.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::gauge;
use crate::directory::Directory;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

pub(super) struct DirectoryFigures {
    cached: Family<Kind, Gauge>,
}

impl DirectoryFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let cached = Family::<Kind, Gauge>::default();
        let help = "Entries in the cache in front of the directory's database, by kind: stores (store), keys and \
                    tokens (key). At about 100000 entries of a kind, each new entry evicts another one";
        registry.register("directory_cached", help, cached.clone());
        Self { cached }
    }

    pub(super) fn show(&self, directory: &Directory) {
        let (stores, registrations) = directory.cached();
        for (kind, number) in [("store", stores), ("key", registrations)] {
            self.cached.get_or_create(&Kind { kind }).set(gauge(number));
        }
    }
}
