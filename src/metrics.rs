//! Metrics in the Prometheus text format. Each running connector has its own; only the log is the process's.

mod identity_backend;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::carts::CartStore;
use crate::commerce::Provider;
use crate::directory::Directory;
use crate::ledger::Ledger;
use crate::rate_limit::RateLimits;
use crate::storage::Database;
use crate::telemetry;
use identity_backend::IdentityBackend;

/// What is counted: clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    answers: Family<Answer, Counter>,
    shopper_answers: Family<Answer, Counter>,
    latency: Histogram,
    in_flight: Gauge,
    rate_limited: Counter,
    rate_limit_shared: Gauge,
    rate_limit_failures: Counter,
    records: Gauge,
    evictions: Counter,
    cached: Gauge,
    database_up: Gauge,
    database_failures: Counter,
    dropped_lines: Counter,
    anonymous_carts: Gauge,
    provider_keys: Family<ProviderName, Gauge>,
    provider_failures: Family<ProviderName, Counter>,
    identity_backend: IdentityBackend,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderName {
    provider: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    status: Option<u16>,
    reason: &'static str,
}

/// Upper bounds of the latency buckets in seconds: fine where answers should be, and the promises at 1.5 s and 2 s.
const LATENCY_BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0];

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("connector");
        let answers = Family::<Answer, Counter>::default();
        registry.register(
            "answers",
            "Answers to VerifyIdentityKeys by status and reason; no status where one was cut off at the end",
            answers.clone(),
        );
        let shopper_answers = Family::<Answer, Counter>::default();
        let help = "Answers of the shopper's side by status and reason";
        registry.register("shopper_answers", help, shopper_answers.clone());
        let latency = Histogram::new(LATENCY_BUCKETS);
        let help = "Seconds from the head of a VerifyIdentityKeys request to its answer";
        registry.register("answer_seconds", help, latency.clone());
        let in_flight = Gauge::default();
        registry.register("in_flight", "VerifyIdentityKeys requests that are running", in_flight.clone());
        let rate_limited = Counter::default();
        registry.register("rate_limited", "Requests refused by the rate limit", rate_limited.clone());
        let rate_limit_shared = Gauge::default();
        let help = "1 while rate limits hold across replicas, 0 while each limits on its own";
        registry.register("rate_limit_shared", help, rate_limit_shared.clone());
        let rate_limit_failures = Counter::default();
        let help = "Failures of the server that rate limits are shared by";
        registry.register("rate_limit_failures", help, rate_limit_failures.clone());
        let records = Gauge::default();
        registry.register("ledger_records", "Decisions remembered", records.clone());
        let evictions = Counter::default();
        let help = "Decisions forgotten before their retention ended, because the ledger was full";
        registry.register("ledger_evictions", help, evictions.clone());
        let cached = Gauge::default();
        registry.register("ledger_cached", "Decisions remembered in front of the database", cached.clone());
        let database_up = Gauge::default();
        let help = "1 while the database answers, 0 while scans get a 500 because it does not; 1 without one";
        registry.register("database_up", help, database_up.clone());
        let database_failures = Counter::default();
        let help = "Times that the database did not answer, or not in time";
        registry.register("database_failures", help, database_failures.clone());
        let dropped_lines = Counter::default();
        let help = "Log lines dropped because nobody took them";
        registry.register("log_lines_dropped", help, dropped_lines.clone());
        let anonymous_carts = Gauge::default();
        let help = "Customers with carts who have not signed in, as of the last sweep";
        registry.register("anonymous_carts", help, anonymous_carts.clone());
        let provider_keys = Family::<ProviderName, Gauge>::default();
        let help = "Keys of each identity provider that are known; 0 while its customers cannot be told from strangers";
        registry.register("identity_provider_keys", help, provider_keys.clone());
        let provider_failures = Family::<ProviderName, Counter>::default();
        let help = "Times that the keys of an identity provider could not be fetched";
        registry.register("identity_provider_failures", help, provider_failures.clone());
        let identity_backend = IdentityBackend::default();
        registry.register_collector(Box::new(identity_backend.clone()));
        Self(Arc::new(Inner {
            registry,
            answers,
            shopper_answers,
            latency,
            in_flight,
            rate_limited,
            rate_limit_shared,
            rate_limit_failures,
            records,
            evictions,
            cached,
            database_up,
            database_failures,
            dropped_lines,
            anonymous_carts,
            provider_keys,
            provider_failures,
            identity_backend,
        }))
    }

    /// Shows from now on what the directory's identity backend does, if it has one.
    pub fn show_directory(&self, directory: &Arc<Directory>) {
        self.0.identity_backend.is_that_of(directory);
    }

    /// An answer to `VerifyIdentityKeys`, or none because it was cut off at the end, and how long it took.
    pub fn answered(&self, status: Option<u16>, reason: &'static str, took: Duration) {
        self.0.answers.get_or_create(&Answer { status, reason }).inc();
        self.0.latency.observe(took.as_secs_f64());
        self.0.in_flight.dec();
    }

    /// An answer of the shopper's side, or none because it was cut off at the end.
    pub fn shopper_answered(&self, status: Option<u16>, reason: &'static str) {
        self.0.shopper_answers.get_or_create(&Answer { status, reason }).inc();
    }

    /// A request that has begun; [`Metrics::answered`] ends it.
    pub fn begun(&self) {
        self.0.in_flight.inc();
    }

    /// A request that the rate limit refused.
    pub fn rate_limited(&self) {
        self.0.rate_limited.inc();
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
        self.0.records.set(i64::try_from(ledger.records()).unwrap_or(i64::MAX));
        self.0.evictions.inner().store(ledger.evictions(), Ordering::Relaxed); // the ledger counts, this shows
        self.0.cached.set(i64::try_from(ledger.cached()).unwrap_or(i64::MAX));
        self.0.database_up.set(database.is_none_or(Database::is_up).into());
        self.0.database_failures.inner().store(database.map_or(0, Database::failures), Ordering::Relaxed);
        self.0.rate_limit_shared.set(i64::from(limits.is_shared()));
        self.0.rate_limit_failures.inner().store(limits.failures(), Ordering::Relaxed);
        self.0.dropped_lines.inner().store(telemetry::dropped_lines(), Ordering::Relaxed);
        self.0.anonymous_carts.set(i64::try_from(carts.anonymous()).unwrap_or(i64::MAX));
        for provider in providers {
            let name = ProviderName { provider: provider.settings().name.clone() };
            let keys = i64::try_from(provider.keys()).unwrap_or(i64::MAX);
            self.0.provider_keys.get_or_create(&name).set(keys);
            self.0.provider_failures.get_or_create(&name).inner().store(provider.failures(), Ordering::Relaxed);
        }
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
