//! Everything put together: `build(config)`, ask for the addresses, `run(stop)`. The binary and the tests run the same.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::administration::Administration;
use crate::carts::CartStore;
use crate::clock::Clock;
use crate::commerce::{CodeSettings, Commerce, Provider};
use crate::config::{Config, DirectorySource, Mode, Storage};
use crate::connector::Connector;
use crate::demo_issuer::{DemoIssuer, DemoIssuerError};
use crate::digest::HashKey;
use crate::directory::file::{self, Content, DirectoryFileError, Loaded};
use crate::directory::{Directory, DirectoryError, Faults, FaultsByKey, Kind};
use crate::domain::ids::Issuer;
use crate::http::{self, Admission, Api, Demo, Management, Readiness, Shoppers};
use crate::ledger::{Ledger, LedgerError, MemoryLedger, SqlLedger};
use crate::metrics::Metrics;
use crate::rate_limit::RateLimits;
use crate::server::{self, Limits, Stop};
use crate::storage::{Database, StorageError};

const DEMO_DATA: &str = include_str!("../config/demo-data.json");

/// What to say of recognition tokens without a prefix.
pub const CODES_REFUSED: &str =
    "there are recognition tokens, but scan_key.customer_prefix is not set: every Scan Key Code is refused";

/// What to say where phones and gates share a port that others can reach.
const SHARED_PORT: &str = "the shopper's side shares the API's port and its connections: set commerce.bind, or let a proxy keep phones from \
     /v1/identity/identity-keys and from taking every connection";

/// What to say of codes that anybody can write who has seen one.
const UNSIGNED: &str =
    "scan_key.signing_keys is not set: whoever sees a code can write others with its token for commerce.code_lifetime";

/// What to say of a shopper's side without codes.
const NO_CODES: &str = "scan_key.customer_prefix is not set: the shopper's side makes no Scan Key Codes";

/// What to say of a directory without a store.
pub const NO_STORE: &str =
    "the directory has no store: every scan is refused; set directory.file, import one, or use the administration";

/// How long the ledger may take to close at the end. What was answered is kept in any case.
const CLOSE: Duration = Duration::from_secs(1);

/// How many connections the management port takes at once: scrapers, probes, a person or two.
const MANAGEMENT_CONNECTIONS: u32 = 64;

/// How often what is past its time is let go.
const SWEEP: Duration = Duration::from_secs(10);

/// How often one looks at what others have changed.
const REFRESH: Duration = Duration::from_secs(1);

/// Why a connector does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The ledger in it cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The directory in it cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The directory file cannot be read.
    #[error("directory.file: {path}: {error}")]
    DirectoryUnreadable {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The directory file is wrong.
    #[error(transparent)]
    DirectoryFile(#[from] DirectoryFileError),
    /// An address cannot be bound.
    #[error("{setting} = {address}: {error}")]
    Bind {
        /// The setting.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The demo's identity provider cannot be set up.
    #[error(transparent)]
    DemoIssuer(#[from] DemoIssuerError),
    /// The operating system has no randomness to give.
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// A connector that is bound to its ports and not running yet.
#[derive(Debug)]
pub struct App {
    api: Port,
    management: Port,
    /// The shopper's side, where it has a port of its own.
    shoppers: Option<Port>,
    upkeep: Upkeep,
    readiness: Readiness,
    grace_period: Duration,
}

/// A port that is bound, and what it will answer.
#[derive(Debug)]
struct Port {
    bound: Bound,
    router: Router,
    limits: Limits,
}

/// A port that is bound: where, is known before what it answers.
#[derive(Debug)]
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Opens what the configuration names and binds the ports.
///
/// # Errors
/// When a file cannot be used or an address not be bound.
pub async fn build(config: Config) -> Result<App, StartError> {
    build_with(config, Clock::System, Faults::default()).await
}

/// As [`build`], with another clock, and the switch by which a demo's directory fails on command.
///
/// # Errors
/// As [`build`].
pub async fn build_with(config: Config, clock: Clock, faults: Faults) -> Result<App, StartError> {
    let (database, directory, ledger) = open(&config, faults, clock.now()).await?;
    let hash_key = directory.hash_key().clone();
    if config.scan_key.is_none() && !directory.registrations(Kind::RecognitionToken, None, 1).await?.is_empty() {
        tracing::warn!("{CODES_REFUSED}");
    }
    if let (Some(commerce), Mode::Serve) = (&config.commerce, config.mode) {
        if commerce.bind.is_none() && !config.server.bind.ip().is_loopback() {
            tracing::warn!("{SHARED_PORT}");
        }
        match &config.scan_key {
            None => tracing::warn!("{NO_CODES}"),
            Some(format) if !format.is_signed() => tracing::warn!("{UNSIGNED}"),
            Some(_) => {}
        }
    }
    if directory.stores(None, 1).await?.is_empty() {
        tracing::warn!("{NO_STORE}");
    }
    let api_port = Bound::bind("server.bind", config.server.bind).await?;
    let management_port = Bound::bind("management.bind", config.management.bind).await?;
    let limits = RateLimits::new(config.rate_limit, config.shared_rate_limit);
    let metrics = Metrics::new();
    let readiness = Readiness::new(database.clone());
    let port_limits = Limits {
        max_connections: config.server.max_connections,
        header_timeout: config.server.header_timeout,
        idle_timeout: config.server.idle_timeout,
    };

    let trusted_proxies: Arc<[IpNet]> = config.server.trusted_proxies.into();
    let own_port = config.commerce.as_ref().and_then(|commerce| commerce.bind);
    let own_connections = config.commerce.as_ref().map_or(0, |commerce| commerce.max_connections);
    let anonymous_carts = config.commerce.as_ref().map_or(0, |commerce| commerce.anonymous_carts);
    let carts = Arc::new(match &database {
        None => CartStore::in_memory(hash_key.clone(), anonymous_carts),
        Some(database) => CartStore::in_database(database.for_shoppers(), anonymous_carts),
    });
    let administration = Administration {
        directory: Arc::clone(&directory),
        carts: Arc::clone(&carts),
        ledger: Arc::clone(&ledger),
        clock: clock.clone(),
    };
    let demo = match config.mode {
        Mode::Demo if config.commerce.is_some() => Some(demo(administration.clone(), api_port.address)?),
        Mode::Demo | Mode::Serve => None,
    };
    let shoppers = config.commerce.map(|commerce| {
        let codes = config.scan_key.clone().map(|format| CodeSettings {
            format,
            lifetime: commerce.code_lifetime,
            per_shopper: commerce.codes_per_shopper,
        });
        let demo = demo.iter().map(|demo| demo.issuer.settings());
        let providers = commerce.providers.into_iter().chain(demo);
        let use_cases = Commerce {
            directory: Arc::clone(&directory),
            carts: Arc::clone(&carts),
            authorization_keys: commerce.authorization_keys,
            tokens: commerce.tokens,
            contexts: commerce.contexts,
            codes,
            providers: providers.map(|provider| Arc::new(Provider::new(provider))).collect(),
        };
        Shoppers {
            commerce: Arc::new(use_cases),
            clock: clock.clone(),
            limits: RateLimits::new(commerce.allowance, None),
            failures: RateLimits::per_minute(commerce.failures_per_minute, commerce.allowance.max_callers),
            in_flight: Arc::new(Semaphore::new(commerce.max_in_flight as usize)),
            trusted_proxies: Arc::clone(&trusted_proxies),
            allowed_origins: commerce.allowed_origins.into(),
            metrics: metrics.clone(),
        }
    });
    let providers = shoppers.as_ref().map(|shoppers| shoppers.commerce.providers.clone()).unwrap_or_default();
    let upkeep = Upkeep {
        directory: Arc::clone(&directory),
        ledger: Arc::clone(&ledger),
        limits: limits.clone(),
        shoppers: shoppers.clone(),
        clock: clock.clone(),
    };
    let (beside, own_port) = match (shoppers, own_port) {
        (Some(shoppers), Some(address)) => {
            let bound = Bound::bind("commerce.bind", address).await?;
            let router = http::shoppers(shoppers.clone(), readiness.clone());
            // The demo's page asks where it comes from.
            let limits = Limits { max_connections: own_connections, ..port_limits };
            (demo.is_some().then_some(shoppers), Some(Port { bound, router, limits }))
        }
        (shoppers, _) => (shoppers, None),
    };

    let connector = Connector {
        directory: Arc::clone(&directory),
        ledger: Arc::clone(&ledger),
        hash_key,
        scan_key: config.scan_key,
        single_use: config.single_use,
        tell_payment_source: config.tell_payment_source,
    };
    let api = Api { connector: Arc::new(connector), clock: clock.clone() };
    let admission = Admission { limits: limits.clone(), trusted_proxies };
    let management = Management {
        administration,
        database,
        limits,
        providers,
        metrics: metrics.clone(),
        token: config.management.token,
    };
    let few = Limits { max_connections: MANAGEMENT_CONNECTIONS, ..port_limits };
    Ok(App {
        api: Port {
            bound: api_port,
            router: http::api(api, admission, beside, demo, readiness.clone(), metrics),
            limits: port_limits,
        },
        management: Port {
            bound: management_port,
            router: http::management(management, readiness.clone()),
            limits: few,
        },
        shoppers: own_port,
        upkeep,
        readiness,
        grace_period: config.server.grace_period,
    })
}

/// What the demo's page needs.
fn demo(administration: Administration, api: SocketAddr) -> Result<Demo, StartError> {
    let issuer = Issuer::parse(&format!("http://{api}/demo")).map_err(|_| DemoIssuerError)?;
    Ok(Demo { administration, issuer: Arc::new(DemoIssuer::new(issuer)?) })
}

/// Opens what is kept, and brings what the configuration names into the directory.
async fn open(
    config: &Config,
    faults: Faults,
    now: DateTime<Utc>,
) -> Result<(Option<Database>, Arc<Directory>, Arc<Ledger>), StartError> {
    let (database, directory, ledger) = match &config.storage {
        Storage::Memory => {
            let hash_key = config.hash_key.clone().map_or_else(HashKey::random, Ok)?;
            (None, Directory::in_memory(hash_key), Ledger::Memory(MemoryLedger::new(config.ledger)))
        }
        Storage::Database(location) => {
            let database = Database::open(location, config.hash_key.clone()).await?;
            let ledger = SqlLedger::open(database.clone(), config.ledger).await?;
            (Some(database.clone()), Directory::in_database(database), Ledger::Sql(ledger))
        }
    };
    let directory = match read_source(&config.directory, directory.hash_key())? {
        Some(Loaded { changes, faults: by_key, content }) => {
            let changed = directory.apply_all(changes, now).await?;
            let Content { stores, shoppers, identity_keys, recognition_tokens, customers, .. } = content;
            tracing::info!(
                stores,
                shoppers,
                identity_keys,
                recognition_tokens,
                customers,
                changed,
                "directory file imported"
            );
            directory.with_faults(FaultsByKey::new(faults, by_key))
        }
        None => directory,
    };
    Ok((database, Arc::new(directory), Arc::new(ledger)))
}

/// Reads what a configuration brings into the directory, if anything: also what `check-config` does with it.
///
/// # Errors
/// When the file cannot be read or is wrong.
pub fn read_source(source: &DirectorySource, hash_key: &HashKey) -> Result<Option<Loaded>, StartError> {
    Ok(match source {
        DirectorySource::Kept => None,
        DirectorySource::DemoData => Some(file::parse(DEMO_DATA, "demo-data.json", hash_key, true)?),
        DirectorySource::File { path, may_have_faults } => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| StartError::DirectoryUnreadable { path: name.clone(), error })?;
            Some(file::parse(&text, &name, hash_key, *may_have_faults)?)
        }
    })
}

impl Bound {
    async fn bind(setting: &'static str, address: SocketAddr) -> Result<Self, StartError> {
        let refuse = |error| StartError::Bind { setting, address, error };
        let listener = TcpListener::bind(address).await.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        Ok(Self { listener, address })
    }
}

impl Port {
    fn serve(self, stop: Stop) -> impl Future<Output = ()> {
        server::serve(self.bound.listener, self.router, self.limits, stop)
    }
}

impl App {
    /// Where the API listens.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.api.bound.address
    }

    /// Where metrics and administration listen.
    #[must_use]
    pub fn management_address(&self) -> SocketAddr {
        self.management.bound.address
    }

    /// Where the shopper's side listens, if it is there.
    #[must_use]
    pub fn shoppers_address(&self) -> Option<SocketAddr> {
        let own = self.shoppers.as_ref().map(|port| port.bound.address);
        own.or_else(|| self.upkeep.shoppers.is_some().then(|| self.api_address()))
    }

    /// Runs until `stop` completes; then it is not ready any more, takes no more connections, and finishes what is running
    /// within the grace period.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stop_api, api_stops) = watch::channel(None);
        let (stop_management, management_stops) = watch::channel(None);
        let readiness = self.readiness.clone();
        readiness.set(true);
        let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("CONNECTOR_COMMIT"));
        let (api, management) = (self.api_address(), self.management_address());
        let shoppers = self.shoppers_address().map(tracing::field::display);
        tracing::info!(%api, %management, shoppers, version, commit, "ready");
        let shoppers = async {
            if let Some(port) = self.shoppers {
                port.serve(api_stops.clone()).await;
            }
        };
        let api = async {
            tokio::join!(self.api.serve(api_stops.clone()), shoppers);
            // To the last, so that the drain can be watched, but no longer than the API itself might have taken.
            stop_management.send_replace(*api_stops.borrow());
        };
        let signal = async {
            stop.await;
            readiness.set(false);
            tracing::info!("stopping");
            let now = Instant::now();
            stop_api.send_replace(Some(now.checked_add(self.grace_period).unwrap_or(now)));
        };
        let ledger = Arc::clone(&self.upkeep.ledger);
        let mut background = self.upkeep.begin();
        tokio::join!(signal, api, self.management.serve(management_stops));
        background.shutdown().await;
        match timeout(CLOSE, ledger.close()).await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::warn!(%error, "stopped, but the ledger was not closed cleanly"),
            Err(_) => tracing::warn!("stopped, but the ledger took too long to close"),
        }
    }
}

/// What goes on beside the requests, in tasks of its own which none of them waits for.
#[derive(Clone, Debug)]
struct Upkeep {
    directory: Arc<Directory>,
    ledger: Arc<Ledger>,
    limits: RateLimits,
    shoppers: Option<Shoppers>,
    clock: Clock,
}

impl Upkeep {
    /// Begins all of it; it ends when the set is dropped.
    fn begin(self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.limits.clone().stay_connected());
        tasks.spawn(self.clone().sweep());
        for provider in self.shoppers.iter().flat_map(|shoppers| &shoppers.commerce.providers) {
            tasks.spawn(Arc::clone(provider).keep_up());
        }
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
            if let Some(shoppers) = &self.shoppers {
                if let Err(error) = shoppers.commerce.carts.sweep(self.clock.now()).await {
                    tracing::debug!(%error, "what has expired is still there");
                }
                shoppers.limits.sweep();
                shoppers.failures.sweep();
            }
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

    use chrono::TimeDelta;

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::{Mode, Sources};
    use crate::domain::customer::{AnonymousId, Customer};
    use crate::domain::ids::VisitorId;
    use crate::domain::scan::Location;
    use crate::domain::scan_key_code::RecognitionToken;
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
            shoppers: None,
            clock: Clock::Manual(clock.clone()),
        };
        let sweeper = tokio::spawn(upkeep.sweep());
        tokio::time::sleep(SWEEP / 2).await;

        records
            .record(crate::ledger::tests::accepted(0, Location::Entry), clock.now(), crate::ledger::tests::soon())
            .await
            .expect("recorded");
        limits.charge(Caller::from(std::net::IpAddr::from([192, 0, 2, 1]))).await.expect("the first");
        let expires_at = clock.now().checked_add_signed(TimeDelta::seconds(60)).expect("in range");
        directory.issue(&token, &shopper, None, expires_at, 1, clock.now()).await.expect("issued");
        assert!(format!("{directory:?}").contains("issued: 1"));
        assert_eq!((records.records(), limits.callers()), (1, 1));
        clock.advance(Duration::from_secs(8 * 24 * 60 * 60));
        tokio::time::sleep(SWEEP).await;
        assert_eq!((records.records(), limits.callers()), (0, 0));
        assert!(format!("{directory:?}").contains("issued: 0"));
        sweeper.abort();
    }
}
