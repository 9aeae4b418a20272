//! Metrics in the Prometheus text format. Each running connector has its own; only the log is the process's.
//!
//! One file a subject. Each registers its own under the connector's prefix, and has the methods by which it is counted; figures that
//! others keep are taken over when somebody asks.

mod answers;
mod callers;
mod connections;
mod database;
mod ledger;
mod limits;
mod log;
mod overload;
mod shoppers;

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::carts::CartStore;
use crate::commerce::Provider;
use crate::ledger::Ledger;
use crate::rate_limit::RateLimits;
use crate::storage::Database;
pub use connections::PortMetrics;

/// What is counted: clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    answers: answers::Answers,
    callers: callers::CallerFigures,
    connections: connections::Connections,
    limits: limits::Limits,
    ledger: ledger::LedgerFigures,
    database: database::DatabaseFigures,
    log: log::LogFigures,
    overload: overload::Overload,
    shoppers: shoppers::ShopperFigures,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("connector");
        let answers = answers::Answers::register(&mut registry);
        let callers = callers::CallerFigures::register(&mut registry);
        let connections = connections::Connections::register(&mut registry);
        let limits = limits::Limits::register(&mut registry);
        let ledger = ledger::LedgerFigures::register(&mut registry);
        let database = database::DatabaseFigures::register(&mut registry);
        let log = log::LogFigures::register(&mut registry);
        let overload = overload::Overload::register(&mut registry);
        let shoppers = shoppers::ShopperFigures::register(&mut registry);
        Self(Arc::new(Inner {
            registry,
            answers,
            callers,
            connections,
            limits,
            ledger,
            database,
            log,
            overload,
            shoppers,
        }))
    }

    /// Everything, in the text format; the figures of the ledger, the database, the rate limits, the carts and the identity providers as they are now.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(
        &self,
        ledger: &Ledger,
        database: Option<&Database>,
        limits: &RateLimits,
        carts: &CartStore,
        providers: &[Arc<Provider>],
    ) -> Result<String, fmt::Error> {
        self.0.connections.show();
        self.0.limits.show(limits);
        self.0.ledger.show(ledger);
        self.0.database.show(database);
        self.0.log.show();
        self.0.shoppers.show(carts, providers);
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
