//! The circuit breakers of the backends. While a breaker is open, the connector does not use its backend, except for
//! checks and a scan now and then.

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
        let help = "1 while the connector does not use this backend because it did not answer, except for checks and a \
                    scan now and then; else 0. Scans that need it fail meanwhile";
        registry.register("breaker_open", help, open.clone());
        Self { open }
    }

    /// Updates one line for each backend in use.
    pub(super) fn show(&self, database: Option<&Database>, directory: &Directory) {
        let backends = [
            ("database", database.map(|database| !database.accepts_queries())),
            ("identity_backend", directory.remote().map(Remote::is_given_up)),
        ];
        for (backend, is_open) in backends {
            if let Some(is_open) = is_open {
                self.open.get_or_create(&Backend { backend }).set(is_open.into());
            }
        }
    }
}
