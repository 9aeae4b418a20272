//! Everything put together: `build(config)`, ask for the addresses, `run(stop)`. The binary and the tests run the same.

mod open;
mod shoppers;
mod upkeep;
mod warnings;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ipnet::IpNet;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

pub use open::read_source;
pub use warnings::{CODES_REFUSED, NO_STORE};

use shoppers::Around;
use upkeep::Upkeep;

use crate::administration::Administration;
use crate::carts::CartStore;
use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::connector::Connector;
use crate::demo_issuer::DemoIssuerError;
use crate::directory::file::DirectoryFileError;
use crate::directory::{DirectoryError, Faults};
use crate::http::{self, Admission, Api, Management, Readiness};
use crate::ledger::LedgerError;
use crate::metrics::Metrics;
use crate::rate_limit::RateLimits;
use crate::server::{self, Limits, Stop};
use crate::storage::StorageError;

/// How long the ledger may take to close at the end. What was answered is kept in any case.
const CLOSE: Duration = Duration::from_secs(1);

/// How many connections the management port takes at once: scrapers, probes, a person or two.
const MANAGEMENT_CONNECTIONS: u32 = 64;

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
    let (database, directory, ledger) = open::open(&config, faults, clock.now()).await?;
    let hash_key = directory.hash_key().clone();
    warnings::warn(&config, &directory).await?;
    let api_port = Bound::bind("server.bind", config.server.bind).await?;
    let management_port = Bound::bind("management.bind", config.management.bind).await?;
    let limits = RateLimits::new(config.rate_limit, config.shared_rate_limit);
    let metrics = Metrics::new();
    metrics.show_directory(&directory);
    let readiness = Readiness::new(database.clone()).with_directory(Arc::clone(&directory));
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
        Mode::Demo if config.commerce.is_some() => Some(shoppers::demo(administration.clone(), api_port.address)?),
        Mode::Demo | Mode::Serve => None,
    };
    let shoppers = config.commerce.map(|commerce| {
        let around = Around { administration: &administration, trusted_proxies: &trusted_proxies, metrics: &metrics };
        around.shoppers(commerce, config.scan_key.clone(), demo.as_ref())
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
