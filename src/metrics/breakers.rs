//! The circuit breakers of the backends. While a breaker is open, only checks and an occasional scan use its
//! backend.

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
        let help = "1 while the circuit breaker of this backend is open: the backend did not answer, so only checks and \
                    an occasional scan use it; else 0. Other scans that need it fail";
        registry.register("breaker_open", help, open.clone());
        Self { open }
    }

    /// Updates one line for each backend in use.
    pub(super) fn show(&self, database: Option<&Database>, directory: &Directory) {
        let backends = [
            ("database", database.map(|database| !database.accepts_queries())),
            ("identity_backend", directory.remote().map(Remote::is_circuit_open)),
        ];
        for (backend, is_open) in backends {
            if let Some(is_open) = is_open {
                self.open.get_or_create(&Backend { backend }).set(is_open.into());
            }
        }
    }
}
