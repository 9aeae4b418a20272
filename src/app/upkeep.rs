//! What goes on beside the requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::stores;
use crate::clock::Clock;
use crate::directory::Directory;
use crate::http::Shoppers;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::rate_limit::RateLimits;

/// How often what is past its time is let go.
const SWEEP: Duration = Duration::from_secs(10);

/// How often one looks at what others have changed.
const REFRESH: Duration = Duration::from_secs(1);

/// What goes on beside the requests, in tasks of its own which none of them waits for.
#[derive(Clone, Debug)]
pub(super) struct Upkeep {
    pub(super) directory: Arc<Directory>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) limits: RateLimits,
    pub(super) failures: RateLimits,
    pub(super) shoppers: Option<Shoppers>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

impl Upkeep {
    /// Begins all of it; it ends when the set is dropped.
    pub(super) fn begin(self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.limits.clone().stay_connected());
        tasks.spawn(self.clone().sweep());
        for provider in self.shoppers.iter().flat_map(|shoppers| &shoppers.commerce.providers) {
            tasks.spawn(Arc::clone(provider).refresh_keys());
        }
        tasks.spawn(self.clone().check_identity_backend());
        tasks.spawn(stores::keep_known(Arc::clone(&self.directory), self.metrics.clone()));
        tasks.spawn(self.refresh());
        tasks
    }

    /// Lets go of what is past its time, for ever.
    async fn sweep(self) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.ledger.sweep(self.clock.now()).await {
                // That the database does not answer is said once, where it is found out.
                tracing::debug!(%error, "what has expired is still there");
            }
            if let Err(error) = self.directory.sweep(self.clock.now()).await {
                tracing::debug!(%error, "what has expired is still there");
            }
            self.limits.sweep();
            self.failures.sweep();
            if let Some(shoppers) = &self.shoppers {
                if let Err(error) = shoppers.commerce.carts.sweep(self.clock.now()).await {
                    tracing::debug!(%error, "what has expired is still there");
                }
                shoppers.limits.sweep();
                shoppers.failures.sweep();
            }
        }
    }

    /// Checks whether the identity backend answers, for ever; returns if there is none.
    async fn check_identity_backend(self) {
        if let Some(remote) = self.directory.remote() {
            remote.keep_checking(&self.directory).await;
        }
    }

    /// Looks at what other connectors have changed in the directory, for ever.
    async fn refresh(self) {
        let mut ticks = interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.directory.refresh().await {
                Ok(true) => self.ledger.forget(), // somebody was erased, and may stand in what is remembered
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "what others have changed is not known"),
            }
        }
    }
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

    /// On a paused clock, which leaps to the next sweep.
    #[tokio::test(start_paused = true)]
    async fn what_is_past_its_time_is_swept_without_being_asked_for() {
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
        let upkeep = Upkeep {
            directory: Arc::clone(&directory),
            ledger: Arc::clone(&records),
            limits: limits.clone(),
            failures: limits.clone(),
            shoppers: None,
            clock: Clock::Manual(clock.clone()),
            metrics: Metrics::new(),
        };
        let sweeper = tokio::spawn(upkeep.sweep());
        tokio::time::sleep(SWEEP / 2).await;

        records
            .record(
                crate::ledger::tests::accepted(0, Location::Entry),
                clock.now(),
                crate::ledger::tests::far_deadline(),
            )
            .await
            .expect("recorded");
        limits.charge(&Caller::from(std::net::IpAddr::from([192, 0, 2, 1]))).await.expect("the first");
        let expires_at = clock.now().checked_add_signed(TimeDelta::seconds(60)).expect("in range");
        let digest = directory.hash_key().recognition_token(&token);
        let token = IssuedToken { digest, shopper, device: None, promised_until: expires_at, expires_at };
        directory.issue(token, 1, clock.now()).await.expect("issued");
        assert!(format!("{directory:?}").contains("issued: 1"));
        assert_eq!((records.records(), limits.callers()), (1, 1));
        clock.advance(Duration::from_secs(8 * 24 * 60 * 60));
        tokio::time::sleep(SWEEP).await;
        assert_eq!((records.records(), limits.callers()), (0, 0));
        assert!(format!("{directory:?}").contains("issued: 0"));
        sweeper.abort();
    }
}
