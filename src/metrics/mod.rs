//! Metrics in the Prometheus text format. Each running connector has its own; only the log is the process's.
//!
//! One file a subject. Each registers its own under the connector's prefix, and has the methods by which it is counted; figures that
//! others keep are taken over when somebody asks. All of them stand in `docs/metrics.md`, as `tests/service/metrics.rs` checks.

mod answers;
mod breakers;
mod callers;
mod connections;
mod database;
mod decisions;
mod directory;
mod faults;
mod format;
mod identity_backend;
mod ledger;
mod limits;
mod log;
mod overload;
mod process;
mod shoppers;
mod traces;

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::carts::CartStore;
use crate::commerce::Provider;
use crate::directory::Directory;
use crate::ledger::Ledger;
use crate::rate_limit::RateLimits;
use crate::storage::{Database, Disk};
pub use connections::PortMetrics;
pub use format::Format;

/// What is counted: clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    answers: answers::Answers,
    faults: faults::Faults,
    decisions: decisions::Decisions,
    callers: callers::CallerFigures,
    connections: connections::Connections,
    limits: limits::Limits,
    ledger: ledger::LedgerFigures,
    database: database::DatabaseFigures,
    breakers: breakers::Breakers,
    directory: directory::DirectoryFigures,
    identity_backend: identity_backend::IdentityBackend,
    log: log::LogFigures,
    overload: overload::Overload,
    shoppers: shoppers::ShopperFigures,
    traces: traces::TraceFigures,
    process: process::ProcessFigures,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut root = Registry::default();
        let process = process::ProcessFigures::register(&mut root);
        let registry = root.sub_registry_with_prefix("connector");
        process::register_build(registry);
        let inner = Inner {
            answers: answers::Answers::register(registry),
            faults: faults::Faults::register(registry),
            decisions: decisions::Decisions::register(registry),
            callers: callers::CallerFigures::register(registry),
            connections: connections::Connections::register(registry),
            limits: limits::Limits::register(registry),
            ledger: ledger::LedgerFigures::register(registry),
            database: database::DatabaseFigures::register(registry),
            breakers: breakers::Breakers::register(registry),
            directory: directory::DirectoryFigures::register(registry),
            identity_backend: identity_backend::IdentityBackend::register(registry),
            log: log::LogFigures::register(registry),
            overload: overload::Overload::register(registry),
            shoppers: shoppers::ShopperFigures::register(registry),
            traces: traces::TraceFigures::register(registry),
            process,
            registry: root,
        };
        Self(Arc::new(inner))
    }

    /// Everything, as the registry writes it: [`Format::of`] makes a text format of it. What others count is as it is now.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(
        &self,
        directory: &Directory,
        ledger: &Ledger,
        (database, disk): (Option<&Database>, Option<Disk>),
        limits: &RateLimits,
        carts: &CartStore,
        providers: &[Arc<Provider>],
    ) -> Result<String, fmt::Error> {
        self.0.connections.show();
        self.0.limits.show(limits);
        self.0.ledger.show(ledger);
        self.0.database.show(database, disk);
        self.0.breakers.show(database, directory);
        self.0.directory.show(directory);
        self.0.log.show();
        self.0.shoppers.show(carts, providers);
        self.0.process.show();
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// A number as a gauge has it.
fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
