//! Builds the connector from its configuration and runs it. The binary and the tests use the same functions: [`build`]
//! opens the storage and binds the ports, [`App::run`] serves until it is stopped.

mod bind;
mod files;
mod maintenance;
mod open;
mod reload;
mod shoppers;
mod stores;
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
pub use files::WatchedFiles;
pub use open::read_source;
pub use reload::Reload;
pub use warnings::{CODES_REFUSED, NO_STORE};

use bind::Bound;
use maintenance::Maintenance;
use shoppers::Shared;

use crate::administration::Administration;
use crate::callers::Callers;
use crate::carts::CartStore;
use crate::cause::file_error;
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

/// The maximum time at the end to export spans, and to close the ledger. Answered scans are already committed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The connection limit of the management port: enough for scrapers, probes and operators.
const MANAGEMENT_CONNECTIONS: u32 = 32;

/// Why the connector does not start.
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
    #[error("directory.file: {path}: {what}", path = .path.display(), what = file_error(.path, .error))]
    DirectoryUnreadable {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The directory file is invalid.
    #[error(transparent)]
    DirectoryFile(#[from] DirectoryFileError),
    /// Addresses cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The demo's identity provider cannot be set up.
    #[error(transparent)]
    DemoIssuer(#[from] DemoIssuerError),
    /// The TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The limit of open files is too low.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// The exporter of traces cannot be created.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The operating system provides no random numbers.
    #[error("the operating system provides no random numbers: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// A connector that has bound its ports and is not running yet.
#[derive(Debug)]
pub struct App {
    api: Port,
    management: Port,
    /// The shopper API, if it has a separate port.
    shoppers: Option<Port>,
    carts: Arc<CartStore>,
    maintenance: Maintenance,
    reload: Reload,
    readiness: Readiness,
    tls: Option<Tls>,
    stop_delay: Duration,
    grace_period: Duration,
    traces: Option<Traces>,
}

/// A bound port and its service.
#[derive(Debug)]
struct Port {
    bound: Bound,
    service: server::Port,
}

/// Raises the process's limit of open files, if this configuration needs more. `check-config` does so too.
///
/// # Errors
/// If the limit cannot be raised far enough.
pub fn raise_open_file_limit(config: &Config) -> Result<(), TooFewFiles> {
    let shoppers = config.commerce.as_ref().filter(|commerce| commerce.bind.is_some());
    let shoppers = shoppers.map(|commerce| commerce.max_connections);
    let ports = [config.server.max_connections, MANAGEMENT_CONNECTIONS].into_iter().chain(shoppers);
    server::raise_open_file_limit(&ports.collect::<Vec<_>>())
}

/// Opens the storage and the files of the configuration, and binds the ports.
///
/// # Errors
/// If a file or database cannot be used, or an address cannot be bound.
pub async fn build(config: Config) -> Result<App, StartError> {
    build_with(config, Clock::System, Faults::default()).await
}

/// Like [`build`], with another clock, and with the switch that makes the directory of a demo fail. `serve` ignores the
/// switch.
///
/// # Errors
/// As for [`build`].
pub async fn build_with(config: Config, clock: Clock, faults: Faults) -> Result<App, StartError> {
    let shoppers_bind = config.commerce.as_ref().and_then(|commerce| commerce.bind);
    let shoppers_connections = config.commerce.as_ref().map_or(0, |commerce| commerce.max_connections);
    raise_open_file_limit(&config)?;
    let tls = config.tls.clone().map(|settings| Tls::load(settings, clock.clone())).transpose()?;
    let (database, directory, ledger) = open::open(&config, faults.clone(), clock.now()).await?;
    let hash_key = directory.hash_key().clone();
    let carts = Arc::new(open::carts(&config, database.as_ref(), &hash_key).await?);
    warnings::warn(&config, &directory).await?;
    let (api_port, management_port, shoppers_port) =
        bind::bind(config.server.bind, config.management.bind, shoppers_bind)?;
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
        // The demo's page and identity provider use plain HTTP.
        Mode::Demo | Mode::PublishedDemo if config.commerce.is_some() && tls.is_none() => {
            Some(shoppers::demo(administration.clone(), api_port.address, faults, config.demo_key)?)
        }
        Mode::Demo | Mode::PublishedDemo | Mode::Serve => None,
    };
    let shoppers = config.commerce.map(|commerce| {
        let shared = Shared { administration: &administration, trusted_proxies: &trusted_proxies, metrics: &metrics };
        shared.shoppers(commerce, config.scan_key.clone(), demo.as_ref())
    });
    let providers = shoppers.as_ref().map(|shoppers| shoppers.commerce.providers.clone()).unwrap_or_default();
    let maintenance = Maintenance {
        directory: Arc::clone(&directory),
        ledger: Arc::clone(&ledger),
        limits: limits.clone(),
        failures: failures.clone(),
        shoppers: shoppers.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    let (on_api_port, shoppers_port) = match (shoppers, shoppers_port) {
        (Some(shoppers), Some(bound)) => {
            let router = traced(http::shoppers(shoppers.clone(), readiness.clone()));
            let limits = Limits { max_connections: shoppers_connections, ..port_limits };
            let service = port("shoppers", router, limits, tls.clone().map(Tls::without_client_certificates));
            // The demo's page calls the shopper API on the API's port, from which the page itself comes.
            (demo.is_some().then_some(shoppers), Some(Port { bound, service }))
        }
        (shoppers, _) => (shoppers, None),
    };

    let connector = Connector {
        directory: Arc::clone(&directory),
        ledger: Arc::clone(&ledger),
        hash_key,
        scan_key: config.scan_key,
        single_use: config.single_use,
        include_payment_source: config.payment_source,
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
    let management_limits = Limits { max_connections: MANAGEMENT_CONNECTIONS, ..port_limits };
    let api = traced(http::api(api, on_api_port, demo, readiness.clone(), metrics.clone()));
    let management = traced(http::management(management, readiness.clone()));
    Ok(App {
        api: Port { bound: api_port, service: port("api", api, port_limits, tls.clone()) },
        // Without TLS: off loopback it requires a token, and it must never be published.
        management: Port { bound: management_port, service: port("management", management, management_limits, None) },
        shoppers: shoppers_port,
        carts,
        maintenance,
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
        server::serve(self.bound.listener, self.service, stop)
    }
}

impl App {
    /// The address of the API.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.api.bound.address
    }

    /// The address of metrics and administration.
    #[must_use]
    pub fn management_address(&self) -> SocketAddr {
        self.management.bound.address
    }

    /// The address of the shopper API, if it is enabled.
    #[must_use]
    pub fn shoppers_address(&self) -> Option<SocketAddr> {
        let separate = self.shoppers.as_ref().map(|port| port.bound.address);
        separate.or_else(|| self.maintenance.shoppers.is_some().then(|| self.api_address()))
    }

    /// The parts that can be reloaded while the connector runs.
    #[must_use]
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// The TLS certificates, if TLS is configured. They can be reloaded while the connector runs.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Runs until `stop` completes. Then `/readyz` returns 503. After the stop delay, no more connections are accepted,
    /// and running requests finish within the grace period.
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
            // The management port stops last, so that the drain can be monitored, but with the same deadline as the
            // API.
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
        let (ledger, carts) = (Arc::clone(&self.maintenance.ledger), self.carts);
        let mut background = self.maintenance.start();
        tokio::join!(signal, api, self.management.serve(management_stops));
        background.shutdown().await;
        if let Some(traces) = self.traces {
            traces.finish(CLOSE_TIMEOUT).await;
        }
        let closing = async {
            let closed = ledger.close().await;
            carts.close().await; // last, because the database may be the same
            closed
        };
        match timeout(CLOSE_TIMEOUT, closing).await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::warn!(%error, "stopped, but the ledger was not closed cleanly"),
            Err(_) => {
                tracing::warn!(
                    "stopped, but the databases did not close within 1 s; no decision whose answer was sent is lost"
                );
            }
        }
    }
}
