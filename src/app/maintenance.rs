//! Background tasks: they delete expired records, check for changes by other replicas, and keep connections alive. No
//! request waits for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::directory::{Directory, DirectoryError};
use crate::domain::store::Store;
use crate::ledger::Ledger;
use crate::observe::metrics::Metrics;
use crate::rate_limit::RateLimits;
use crate::shopper::http::Shoppers;

/// The interval in which expired records are deleted.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The interval of checks for changes by other replicas.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The interval in which the list of stores is refreshed.
const STORES_INTERVAL: Duration = Duration::from_secs(10);
/// The number of stores in one query.
const PAGE: usize = 500;
/// The maximum number of stores, to bound memory. It is far more than any retailer has.
const MAX_STORES: usize = 100_000;

/// The parts of the connector that have background tasks.
#[derive(Clone, Debug)]
pub(super) struct Maintenance {
    pub(super) directory: Arc<Directory>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) limits: RateLimits,
    pub(super) failures: RateLimits,
    pub(super) shoppers: Option<Shoppers>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

impl Maintenance {
    /// Starts all tasks. They end when the set is dropped.
    pub(super) fn start(self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.limits.clone().stay_connected());
        tasks.spawn(self.clone().sweep());
        for provider in self.shoppers.iter().flat_map(|shoppers| &shoppers.commerce.providers) {
            tasks.spawn(Arc::clone(provider).refresh_keys());
        }
        tasks.spawn(self.clone().check_identity_backend());
        tasks.spawn(self.clone().refresh_stores());
        tasks.spawn(self.refresh());
        tasks
    }

    /// Deletes expired records every [`SWEEP_INTERVAL`]. Never returns.
    async fn sweep(self) {
        let mut ticks = every(SWEEP_INTERVAL);
        loop {
            ticks.tick().await;
            if let Err(error) = self.ledger.sweep(self.clock.now()).await {
                // At level debug, because the storage logs a warning when the database does not answer.
                tracing::debug!(%error, "could not delete expired decisions and sessions");
            }
            if let Err(error) = self.directory.sweep(self.clock.now()).await {
                tracing::debug!(%error, "could not delete expired recognition tokens");
            }
            self.limits.sweep();
            self.failures.sweep();
            if let Some(shoppers) = &self.shoppers {
                if let Err(error) = shoppers.commerce.carts.sweep(self.clock.now()).await {
                    tracing::debug!(%error, "could not delete expired carts");
                }
                shoppers.limits.sweep();
                shoppers.failures.sweep();
            }
        }
    }

    /// Checks whether the identity backend answers. Returns only if there is none.
    async fn check_identity_backend(self) {
        if let Some(backend) = self.directory.backend() {
            backend.run_checks(&self.directory).await;
        }
    }

    /// Checks for changes of the directory by other replicas every [`REFRESH_INTERVAL`]. Never returns.
    async fn refresh(self) {
        let mut ticks = every(REFRESH_INTERVAL);
        loop {
            ticks.tick().await;
            match self.directory.refresh().await {
                Ok(true) => self.ledger.forget(), // a shopper was erased, and the cache may contain their records
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "could not check for changes by other replicas"),
            }
        }
    }

    /// Keeps the default gate decision of every store for the metrics, since it cannot be looked up while the directory
    /// fails. The list is refreshed every [`STORES_INTERVAL`]. Never returns. While the directory does not answer, the
    /// previous list stays in effect.
    async fn refresh_stores(self) {
        let mut ticks = every(STORES_INTERVAL);
        loop {
            ticks.tick().await;
            match all_stores(&self.directory).await {
                Ok(stores) => self.metrics.set_stores(&stores),
                Err(error) => tracing::debug!(%error, "could not refresh the list of stores"),
            }
        }
    }
}

async fn all_stores(directory: &Directory) -> Result<Vec<Store>, DirectoryError> {
    let mut stores: Vec<Store> = Vec::new();
    loop {
        let page = directory.stores(stores.last().map(|store| store.id.clone()), PAGE).await?;
        let is_last = page.len() < PAGE;
        stores.extend(page);
        if is_last || stores.len() >= MAX_STORES {
            return Ok(stores);
        }
    }
}

/// Ticks at this interval, and not faster after a delay.
pub(super) fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::{Config, Mode, Sources};
    use crate::digest::HashKey;
    use crate::directory::IssuedToken;
    use crate::domain::customer::{AnonymousId, Customer};
    use crate::domain::ids::VisitorId;
    use crate::domain::scan::Location;
    use crate::domain::scan_key_code::RecognitionToken;
    use crate::ledger::MemoryLedger;
    use crate::rate_limit::{Allowance, Caller};

    /// On a paused clock, which advances to the next sweep.
    #[tokio::test(start_paused = true)]
    async fn expired_records_are_deleted_in_the_background() {
        let config = Config::load(Mode::Demo, &Sources::default()).expect("the demo's");
        let records = Arc::new(Ledger::Memory(MemoryLedger::new(config.ledger)));
        let per_second = NonZeroU32::new(1_000_000_000).expect("not zero");
        let limits = RateLimits::new(Allowance { per_second, burst: NonZeroU32::MIN, max_callers: 10 }, None);
        let clock = ManualClock::starting_at(DateTime::UNIX_EPOCH);
        let directory = Arc::new(Directory::in_memory(HashKey::new(&[0; 32])));
        let (shopper, token) = (VisitorId::parse("v").expect("an id"), RecognitionToken::parse(&"t".repeat(32)));
        let token = token.expect("a token");
        let customer = Customer::Anonymous(AnonymousId::from_random_bytes([7; 16]));
        directory.link_or_create(&customer, shopper.clone(), clock.now()).await.expect("a shopper");
        let maintenance = Maintenance {
            directory: Arc::clone(&directory),
            ledger: Arc::clone(&records),
            limits: limits.clone(),
            failures: limits.clone(),
            shoppers: None,
            clock: Clock::Manual(clock.clone()),
            metrics: Metrics::new(),
        };
        let sweeper = tokio::spawn(maintenance.sweep());
        tokio::time::sleep(SWEEP_INTERVAL / 2).await;

        records
            .record(
                crate::ledger::tests::accepted(0, Location::Entry),
                clock.now(),
                crate::ledger::tests::far_deadline(),
            )
            .await
            .expect("the decision is recorded");
        limits.count_request(&Caller::from(std::net::IpAddr::from([192, 0, 2, 1]))).await.expect("the first");
        let expires_at = clock.now().checked_add_signed(TimeDelta::seconds(60)).expect("in range");
        let digest = directory.hash_key().recognition_token(&token);
        let token = IssuedToken { digest, shopper, device: None, promised_until: expires_at, expires_at };
        directory.issue(token, 1, clock.now()).await.expect("the token is issued");
        assert!(format!("{directory:?}").contains("issued: 1"));
        assert_eq!((records.records(), limits.callers()), (1, 1));
        clock.advance(Duration::from_secs(8 * 24 * 60 * 60));
        tokio::time::sleep(SWEEP_INTERVAL).await;
        assert_eq!((records.records(), limits.callers()), (0, 0));
        assert!(format!("{directory:?}").contains("issued: 0"));
        sweeper.abort();
    }
}
