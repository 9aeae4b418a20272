//! Everything put together: `build(config)`, ask for the addresses, `run(stop)`. The binary and the tests run the same.

mod bind;
mod files;
mod open;
mod reload;
mod shoppers;
mod stores;
mod upkeep;
mod warnings;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub use bind::BindError;
pub use files::Watch;
pub use open::read_source;
pub use reload::Reload;
pub use warnings::{CODES_REFUSED, NO_STORE};

use bind::Bound;
use shoppers::Around;
use upkeep::Upkeep;

use crate::administration::Administration;
use crate::callers::Callers;
use crate::carts::CartStore;
use crate::cause::of_file;
use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::connector::Connector;
use crate::demo_issuer::DemoIssuerError;
use crate::directory::file::DirectoryFileError;
use crate::directory::{DirectoryError, Faults};
use crate::http::{self, Admission, Api, InFlight, Management, Readiness};
use crate::ledger::LedgerError;
use crate::metrics::Metrics;
use crate::rate_limit::RateLimits;
use crate::server::{self, Limits, Phase, Stop, TooFewFiles, UnreadAnswers};
use crate::storage::StorageError;
use crate::tls::{Tls, TlsError};
use crate::traces::{Traces, TracesError};

/// How long the ledger may take to close at the end, and how long spans may take to be exported. What was answered is kept in any case.
const CLOSE: Duration = Duration::from_secs(1);

/// How many connections the management port takes at once: scrapers, probes, a person or two.
const MANAGEMENT_CONNECTIONS: u32 = 32;

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
    #[error("directory.file: {path}: {what}", path = .path.display(), what = of_file(.path, .error))]
    DirectoryUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The directory file is wrong.
    #[error(transparent)]
    DirectoryFile(#[from] DirectoryFileError),
    /// Addresses cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The demo's identity provider cannot be set up.
    #[error(transparent)]
    DemoIssuer(#[from] DemoIssuerError),
    /// The files of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The process may open too few files.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
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
    carts: Arc<CartStore>,
    upkeep: Upkeep,
    reload: Reload,
    readiness: Readiness,
    tls: Option<Tls>,
    stop_delay: Duration,
    grace_period: Duration,
    traces: Option<Traces>,
}

/// A port that is bound, and what it will answer.
#[derive(Debug)]
struct Port {
    bound: Bound,
    serves: server::Port,
}

/// Sees to it that the process may open as many files as this configuration needs: also for `check-config`.
///
/// # Errors
/// When its limit cannot be raised that far.
pub fn ensure_open_files(config: &Config) -> Result<(), TooFewFiles> {
    let own_port = config.commerce.as_ref().filter(|commerce| commerce.bind.is_some());
    let own_port = own_port.map(|commerce| commerce.max_connections);
    let ports = [config.server.max_connections, MANAGEMENT_CONNECTIONS].into_iter().chain(own_port);
    server::ensure_open_files(&ports.collect::<Vec<_>>())
}

/// Opens what the configuration names and binds the ports.
///
/// # Errors
/// When a file cannot be used or an address not be bound.
pub async fn build(config: Config) -> Result<App, StartError> {
    build_with(config, Clock::System, Faults::default()).await
}

/// As [`build`], with another clock, and the switch by which a demo's directory fails on command. `serve` ignores the switch.
///
/// # Errors
/// As [`build`].
pub async fn build_with(config: Config, clock: Clock, faults: Faults) -> Result<App, StartError> {
    let own_port = config.commerce.as_ref().and_then(|commerce| commerce.bind);
    let own_connections = config.commerce.as_ref().map_or(0, |commerce| commerce.max_connections);
    ensure_open_files(&config)?;
    let tls = config.tls.clone().map(|settings| Tls::load(settings, clock.clone())).transpose()?;
    let (database, directory, ledger) = open::open(&config, faults.clone(), clock.now()).await?;
    let hash_key = directory.hash_key().clone();
    let carts = Arc::new(open::carts(&config, database.as_ref(), &hash_key).await?);
    warnings::warn(&config, &directory).await?;
    let (api_port, management_port, own_port) = bind::bind(config.server.bind, config.management.bind, own_port)?;
    let limits = RateLimits::new(config.rate_limit, config.shared_rate_limit);
    let failures = RateLimits::per_minute(config.failures_per_minute, config.rate_limit.max_callers);
    let callers = Callers::new(config.server.callers);
    let metrics = Metrics::new();
    metrics.show_identity_backend_of(&directory);
    tls.iter().for_each(|tls| metrics.show_certificate_of(tls.clone()));
    let traces = match config.traces {
        Some(settings) => Some(Traces::start(settings, metrics.spans()).await?),
        None => None,
    };
    let traced = |router| http::traced(router, traces.as_ref());
    let readiness = Readiness::new(database.clone()).with_directory(Arc::clone(&directory));
    let port_limits = Limits {
        max_connections: config.server.max_connections,
        handshake_timeout: config.server.handshake_timeout,
        header_timeout: config.server.header_timeout,
        idle_timeout: config.server.idle_timeout,
        answer_timeout: config.server.answer_timeout,
    };

    let trusted_proxies: Arc<[IpNet]> = config.server.trusted_proxies.into();
    let unread_answers = UnreadAnswers::default();
    let port = |name, router, limits, tls| server::Port {
        unread_answers: unread_answers.clone(),
        router,
        limits,
        tls,
        trusted_proxies: Arc::clone(&trusted_proxies),
        metrics: metrics.port(name),
    };
    let administration = Administration {
        directory: Arc::clone(&directory),
        carts: Arc::clone(&carts),
        ledger: Arc::clone(&ledger),
        clock: clock.clone(),
    };
    let demo = match config.mode {
        // Its page and its identity provider speak plain HTTP.
        Mode::Demo | Mode::PublishedDemo if config.commerce.is_some() && tls.is_none() => {
            Some(shoppers::demo(administration.clone(), api_port.address, faults, config.demo_key)?)
        }
        Mode::Demo | Mode::PublishedDemo | Mode::Serve => None,
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
        failures: failures.clone(),
        shoppers: shoppers.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    let (beside, own_port) = match (shoppers, own_port) {
        (Some(shoppers), Some(bound)) => {
            let router = traced(http::shoppers(shoppers.clone(), readiness.clone()));
            // The demo's page asks where it comes from.
            let limits = Limits { max_connections: own_connections, ..port_limits };
            let serves = port("shoppers", router, limits, tls.clone().map(Tls::not_asking));
            (demo.is_some().then_some(shoppers), Some(Port { bound, serves }))
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
        metrics: metrics.clone(),
    };
    let in_flight = InFlight::new(config.server.max_in_flight, metrics.clone());
    let admission = Admission {
        callers: callers.clone(),
        limits: limits.clone(),
        failures,
        trusted_proxies: Arc::clone(&trusted_proxies),
        metrics: metrics.clone(),
    };
    let api = Api { connector: Arc::new(connector), clock: clock.clone(), admission, in_flight };
    let reload = Reload { callers, tls: tls.clone(), directory, clock, metrics: metrics.clone() };
    let management = Management {
        administration,
        database,
        limits,
        providers,
        metrics: metrics.clone(),
        token: config.management.token,
    };
    let few = Limits { max_connections: MANAGEMENT_CONNECTIONS, ..port_limits };
    let api = traced(http::api(api, beside, demo, readiness.clone(), metrics.clone()));
    let management = traced(http::management(management, readiness.clone()));
    Ok(App {
        api: Port { bound: api_port, serves: port("api", api, port_limits, tls.clone()) },
        // Plain: off loopback it demands a token, and is never published.
        management: Port { bound: management_port, serves: port("management", management, few, None) },
        shoppers: own_port,
        carts,
        upkeep,
        reload,
        readiness,
        tls,
        stop_delay: config.server.stop_delay,
        grace_period: config.server.grace_period,
        traces,
    })
}

impl Port {
    fn serve(self, stop: Stop) -> impl Future<Output = ()> {
        server::serve(self.bound.listener, self.serves, stop)
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

    /// What can be read again while it runs.
    #[must_use]
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// The certificate and the authorities, if it speaks TLS; they may be read again while it runs.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Runs until `stop` completes; then it is not ready any more; after the stop delay it takes no more connections, and finishes
    /// what is running within the grace period.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stop_api, api_stops) = watch::channel(Phase::Open);
        let (stop_management, management_stops) = watch::channel(Phase::Open);
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
            if !self.stop_delay.is_zero() {
                stop_api.send_replace(Phase::Draining);
                sleep(self.stop_delay).await;
            }
            let now = Instant::now();
            stop_api.send_replace(Phase::Closed(now.checked_add(self.grace_period).unwrap_or(now)));
        };
        let (ledger, carts) = (Arc::clone(&self.upkeep.ledger), self.carts);
        let mut background = self.upkeep.begin();
        tokio::join!(signal, api, self.management.serve(management_stops));
        background.shutdown().await;
        if let Some(traces) = self.traces {
            traces.finish(CLOSE).await;
        }
        let closing = async {
            let closed = ledger.close().await;
            carts.close().await; // last: what may be the same database
            closed
        };
        match timeout(CLOSE, closing).await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::warn!(%error, "stopped, but the ledger was not closed cleanly"),
            Err(_) => tracing::warn!("stopped, but the ledger took too long to close"),
        }
    }
}
