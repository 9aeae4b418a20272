//! Metrics in the Prometheus text format. Each running connector has its own; only the count of dropped log lines
//! belongs to the process.
//!
//! One file for each subject. A file registers its metrics under the connector's prefix and has the methods that count.
//! Figures that other modules keep are copied at each scrape. `docs/metrics.md` lists all metrics, and
//! `tests/service/metrics.rs` checks that.

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

/// All metrics of a connector. Clones share them.
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
    /// Creates all metrics with the value zero.
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

    /// Copies the figures that other modules keep, and returns the registry's text. [`Format::convert`] converts it to
    /// a text format.
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

/// Converts a number to a gauge's type.
fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
