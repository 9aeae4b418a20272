//! The breakers in front of what the connector stands on: while one is open, what lies behind it is not asked.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::directory::{Directory, Remote};
use crate::storage::Database;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Backend {
    backend: &'static str,
}

pub(super) struct Breakers {
    open: Family<Backend, Gauge>,
}

impl Breakers {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let open = Family::<Backend, Gauge>::default();
        registry.register("breaker_open", "1 while that backend is not asked, because it did not answer", open.clone());
        Self { open }
    }

    /// There is a line for each backend that is in use.
    pub(super) fn show(&self, database: Option<&Database>, directory: &Directory) {
        let backends = [
            ("database", database.map(|database| !database.is_asked())),
            ("identity_backend", directory.remote().map(Remote::is_circuit_open)),
        ];
        for (backend, is_open) in backends {
            if let Some(is_open) = is_open {
                self.open.get_or_create(&Backend { backend }).set(is_open.into());
            }
        }
    }
}
