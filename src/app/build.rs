//! Builds the connector: opens files and databases, binds the ports, and connects the parts.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::bind::{self, BindError, Bound};
use super::maintenance::Maintenance;
use super::{App, Port, Reload};
use crate::admin::{self, Administration, Management};
use crate::callers::Callers;
use crate::cause::file_error;
use crate::clock::Clock;
use crate::config::{self, Config, DirectorySource, Mode};
use crate::demo::issuer::{DemoIssuer, DemoIssuerError};
use crate::demo::{self, Demo};
use crate::digest::HashKey;
use crate::directory::file::{self, Content, DirectoryFileError, Loaded};
use crate::directory::{Directory, DirectoryError, Faults, FaultsByKey, IdentityBackend, Kind};
use crate::domain::ids::Issuer;
use crate::gate_api::{self, Admission, Api, InFlight};
use crate::http::{self, Readiness};
use crate::ledger::{Ledger, LedgerError, MemoryLedger, SqlLedger};
use crate::observe::logs;
use crate::observe::metrics::{ConnectionMetrics, Exposition, Metrics, readings};
use crate::observe::traces::{SpanCounters, Traces, TracesError};
use crate::outgoing::reachable;
use crate::rate_limit::RateLimits;
use crate::server::{self, Limits, TooFewFiles, UnreadAnswers};
use crate::shopper::carts::CartStore;
use crate::shopper::http::Shoppers;
use crate::shopper::{self, CodeSettings, Commerce, Provider};
use crate::storage::{self, Database, StorageError};
use crate::tls::{Tls, TlsError};
use crate::verify::Connector;

/// The connection limit of the management port: enough for scrapers, probes and operators.
const MANAGEMENT_CONNECTIONS: u32 = 32;

const DEMO_DATA: &str = include_str!("../../config/demo-data.json");
/// Recognition tokens without a prefix.
pub const CODES_REFUSED: &str =
    "the directory has recognition tokens, but scan_key.customer_prefix is not set: every Scan Key Code is refused";

const UNSIGNED: &str = "scan_key.signing_keys is not set: anyone who sees a code can create others with its token for \
                        commerce.code_lifetime";

const NO_CODES: &str = "scan_key.customer_prefix is not set: the shopper API creates no Scan Key Codes";

/// A directory without a store.
pub const NO_STORE: &str = "the directory has no store: every scan is refused; set directory.file, import a file, or add \
                            a store by administration";

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

/// Raises the process's limit of open files, if this configuration needs more. `check-config` does so too.
pub fn raise_open_file_limit(config: &Config) -> Result<(), TooFewFiles> {
    let shoppers = config.commerce.as_ref().filter(|commerce| commerce.bind.is_some());
    let shoppers = shoppers.map(|commerce| commerce.max_connections);
    let ports = [config.server.max_connections, MANAGEMENT_CONNECTIONS].into_iter().chain(shoppers);
    server::raise_open_file_limit(&ports.collect::<Vec<_>>())
}

/// Opens the storage and the files of the configuration, and binds the ports.
pub async fn build(config: Config) -> Result<App, StartError> {
    build_with(config, Clock::System, Faults::default()).await
}

/// Like [`build`], with another clock, and with the switch that makes the directory of a demo fail. `serve` ignores the
/// switch.
pub async fn build_with(config: Config, clock: Clock, faults: Faults) -> Result<App, StartError> {
    raise_open_file_limit(&config)?;
    let parts = Parts::open(config, clock, faults).await?;
    let config = &parts.config;
    let shoppers_bind = config.commerce.as_ref().and_then(|commerce| commerce.bind);
    let (api_port, management_port, shoppers_port) =
        bind::bind(config.server.bind, config.management.bind, shoppers_bind)?;
    let traces = match config.traces.clone() {
        Some(settings) => Some(Traces::start(settings, parts.spans.clone()).await?),
        None => None,
    };
    let demo = parts.demo(api_port.address)?;
    let shoppers = parts.shoppers(demo.as_ref());
    // The demo's page calls the shopper API on the API's port, from which the page itself comes.
    let on_api_port = shoppers.clone().filter(|_| shoppers_port.is_none() || demo.is_some());
    let (readiness, metrics) = (parts.readiness.clone(), parts.metrics.clone());
    let others = on_api_port.map_or_else(Router::new, shopper::http::routes);
    let others = others.merge(demo.map_or_else(Router::new, demo::routes));
    let api = gate_api::router(parts.api(), others, readiness.clone(), metrics);
    let management = admin::router(parts.management(shoppers.as_ref()), readiness.clone());
    let port = |name, bound, router, max_connections, tls| {
        parts.port(name, bound, http::traced(router, traces.as_ref()), max_connections, tls)
    };
    Ok(App {
        api: port("api", api_port, api, config.server.max_connections, parts.tls.clone()),
        // Without TLS: on an address other than loopback it requires a token, and it must never be published.
        management: port("management", management_port, management, MANAGEMENT_CONNECTIONS, None),
        shoppers: shoppers_port.zip(shoppers.clone()).zip(config.commerce.as_ref()).map(
            |((bound, shoppers), commerce)| {
                let tls = parts.tls.clone().map(Tls::without_client_certificates);
                port(
                    "shoppers",
                    bound,
                    shopper::http::router(shoppers, readiness.clone()),
                    commerce.max_connections,
                    tls,
                )
            },
        ),
        carts: Arc::clone(&parts.carts),
        maintenance: parts.maintenance(shoppers),
        reload: parts.reload(),
        readiness,
        tls: parts.tls.clone(),
        stop_delay: config.server.stop_delay,
        grace_period: config.server.grace_period,
        traces,
    })
}

/// The parts that several others use.
struct Parts {
    config: Config,
    clock: Clock,
    faults: Faults,
    tls: Option<Tls>,
    database: Option<Database>,
    directory: Arc<Directory>,
    ledger: Arc<Ledger>,
    carts: Arc<CartStore>,
    metrics: Metrics,
    connections: ConnectionMetrics,
    spans: SpanCounters,
    readiness: Readiness,
    callers: Callers,
    limits: RateLimits,
    failures: RateLimits,
    trusted_proxies: Arc<[IpNet]>,
    unread_answers: UnreadAnswers,
}

impl Parts {
    /// Opens the files and databases, and imports the directory file or the demo data.
    async fn open(config: Config, clock: Clock, faults: Faults) -> Result<Self, StartError> {
        let tls = config.tls.clone().map(|settings| Tls::load(settings, clock.clone())).transpose()?;
        // The file is checked before a database is created or gets this key, so that a failed start leaves nothing
        // behind.
        let checked = config.hash_key.as_ref().map(|hash_key| read_source(&config.directory, hash_key)).transpose()?;
        let (database, mut directory, ledger) = match &config.storage {
            config::Storage::Memory => {
                let hash_key = config.hash_key.clone().map_or_else(HashKey::random, Ok)?;
                (None, Directory::in_memory(hash_key), Ledger::Memory(MemoryLedger::new(config.ledger)))
            }
            config::Storage::Database(location) => {
                let database = Database::open(location, config.hash_key.clone()).await?;
                let ledger = SqlLedger::open(database.clone(), config.ledger).await?;
                (Some(database.clone()), Directory::in_database(database), Ledger::Sql(ledger))
            }
        };
        let loaded = checked.map_or_else(|| read_source(&config.directory, directory.hash_key()), Ok)?;
        let mut faults_by_key = HashMap::new();
        if let Some(mut loaded) = loaded {
            faults_by_key = std::mem::take(&mut loaded.faults);
            import(&directory, loaded, clock.now()).await?;
        }
        if config.mode.is_demo() {
            directory = directory.with_faults(FaultsByKey::new(faults.clone(), faults_by_key));
        }
        if let Some(settings) = config.identity_backend.clone() {
            directory = directory.with_backend(IdentityBackend::new(settings));
        }
        let anonymous_carts = config.commerce.as_ref().map_or(0, |commerce| commerce.anonymous_carts);
        let carts = match &database {
            Some(database) => CartStore::in_database(database.open_carts().await?, anonymous_carts),
            None => CartStore::in_memory(directory.hash_key().clone(), anonymous_carts),
        };
        warn(&config, &directory).await?;
        let directory = Arc::new(directory);
        Ok(Self {
            readiness: Readiness::new(database.clone()).with_directory(Arc::clone(&directory)),
            callers: Callers::new(config.server.callers.clone()),
            limits: RateLimits::new(config.rate_limit, config.shared_rate_limit.clone()),
            failures: RateLimits::per_minute(config.failures_per_minute, config.rate_limit.max_callers),
            trusted_proxies: config.server.trusted_proxies.clone().into(),
            unread_answers: UnreadAnswers::default(),
            config,
            clock,
            faults,
            tls,
            database,
            directory,
            ledger: Arc::new(ledger),
            carts: Arc::new(carts),
            metrics: Metrics::new(),
            connections: ConnectionMetrics::default(),
            spans: SpanCounters::default(),
        })
    }

    fn administration(&self) -> Administration {
        Administration {
            directory: Arc::clone(&self.directory),
            carts: Arc::clone(&self.carts),
            ledger: Arc::clone(&self.ledger),
            clock: self.clock.clone(),
        }
    }

    /// The demo's page and identity provider, which use plain HTTP.
    fn demo(&self, api: SocketAddr) -> Result<Option<Demo>, StartError> {
        if !self.config.mode.is_demo() || self.config.commerce.is_none() || self.tls.is_some() {
            return Ok(None);
        }
        let issuer = Issuer::parse(&format!("http://{}/demo", reachable(api))).map_err(|_| DemoIssuerError)?;
        Ok(Some(Demo {
            administration: self.administration(),
            issuer: Arc::new(DemoIssuer::new(issuer)?),
            faults: self.faults.clone(),
            key: self.config.demo_key.clone(),
        }))
    }

    /// The shopper API, which in a demo also knows the demo's identity provider.
    fn shoppers(&self, demo: Option<&Demo>) -> Option<Shoppers> {
        let config = self.config.commerce.clone()?;
        let providers = config.providers.into_iter().chain(demo.map(|demo| demo.issuer.settings()));
        let commerce = Commerce {
            directory: Arc::clone(&self.directory),
            carts: Arc::clone(&self.carts),
            authorization_keys: config.authorization_keys,
            tokens: config.tokens,
            contexts: config.contexts,
            codes: self.config.scan_key.clone().map(|format| CodeSettings {
                format,
                lifetime: config.code_lifetime,
                per_shopper: config.codes_per_shopper,
            }),
            providers: providers.map(|provider| Arc::new(Provider::new(provider))).collect(),
        };
        Some(Shoppers {
            commerce: Arc::new(commerce),
            clock: self.clock.clone(),
            limits: RateLimits::new(config.allowance, None),
            failures: RateLimits::per_minute(config.failures_per_minute, config.allowance.max_callers),
            in_flight: Arc::new(Semaphore::new(config.max_in_flight as usize)),
            trusted_proxies: Arc::clone(&self.trusted_proxies),
            allowed_origins: config.allowed_origins.into(),
            metrics: self.metrics.clone(),
        })
    }

    fn api(&self) -> Api {
        let connector = Connector {
            directory: Arc::clone(&self.directory),
            ledger: Arc::clone(&self.ledger),
            hash_key: self.directory.hash_key().clone(),
            scan_key: self.config.scan_key.clone(),
            single_use: self.config.single_use,
            include_payment_source: self.config.payment_source,
            metrics: self.metrics.clone(),
        };
        let admission = Admission {
            callers: self.callers.clone(),
            limits: self.limits.clone(),
            failures: self.failures.clone(),
            trusted_proxies: Arc::clone(&self.trusted_proxies),
            metrics: self.metrics.clone(),
        };
        Api {
            connector: Arc::new(connector),
            clock: self.clock.clone(),
            admission,
            in_flight: InFlight::new(self.config.server.max_in_flight, self.metrics.clone()),
        }
    }

    fn management(&self, shoppers: Option<&Shoppers>) -> Management {
        Management {
            administration: self.administration(),
            database: self.database.clone(),
            metrics: self.metrics.clone(),
            exposition: Arc::new(self.exposition(shoppers)),
            token: self.config.management.token.clone(),
        }
    }

    /// The metrics of all parts.
    fn exposition(&self, shoppers: Option<&Shoppers>) -> Exposition {
        let mut exposition = Exposition::new();
        let registry = exposition.registry();
        storage::register(self.database.as_ref(), registry);
        self.directory.register(registry);
        self.ledger.register(registry);
        readings! { registry, backends = &(self.database.clone(), Arc::clone(&self.directory));
            /// 1 while the circuit breaker of this backend is open: the backend did not answer, so only checks and an
            /// occasional scan use it; else 0. Other scans that need it fail.
            gauge breaker_open(backend) = [
                ("database", backends.0.as_ref().map(|database| !database.accepts_queries())),
                ("identity_backend", backends.1.backend().map(IdentityBackend::is_circuit_open)),
            ];
        }
        self.carts.register(registry);
        self.metrics.register(registry);
        self.connections.register(registry);
        self.spans.register(registry);
        self.limits.register(registry);
        Tls::register(self.tls.as_ref(), registry);
        logs::register(registry);
        shoppers.iter().for_each(|shoppers| shoppers.commerce.register(registry));
        exposition
    }

    fn maintenance(&self, shoppers: Option<Shoppers>) -> Maintenance {
        Maintenance {
            directory: Arc::clone(&self.directory),
            ledger: Arc::clone(&self.ledger),
            limits: self.limits.clone(),
            failures: self.failures.clone(),
            shoppers,
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        }
    }

    fn reload(&self) -> Reload {
        Reload {
            callers: self.callers.clone(),
            tls: self.tls.clone(),
            directory: Arc::clone(&self.directory),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        }
    }

    fn port(&self, name: &'static str, bound: Bound, router: Router, max_connections: u32, tls: Option<Tls>) -> Port {
        let server = &self.config.server;
        let limits = Limits {
            max_connections,
            handshake_timeout: server.handshake_timeout,
            header_timeout: server.header_timeout,
            idle_timeout: server.idle_timeout,
            answer_timeout: server.answer_timeout,
        };
        let service = server::Port {
            router,
            limits,
            tls,
            trusted_proxies: Arc::clone(&self.trusted_proxies),
            metrics: self.connections.port(name),
            unread_answers: self.unread_answers.clone(),
        };
        Port { bound, service }
    }
}

/// Imports the content of a directory file.
///
/// # Errors
/// If the directory cannot be changed. A part of the content may be imported then.
pub(super) async fn import(directory: &Directory, loaded: Loaded, now: DateTime<Utc>) -> Result<(), DirectoryError> {
    let changed = directory.apply_all(loaded.changes, now).await?;
    let Content { stores, shoppers, identity_keys, recognition_tokens, customers, .. } = loaded.content;
    tracing::info!(stores, shoppers, identity_keys, recognition_tokens, customers, changed, "directory file imported");
    Ok(())
}

/// Reads the directory file or the demo data, if there is one. `check-config` does so too.
pub fn read_source(source: &DirectorySource, hash_key: &HashKey) -> Result<Option<Loaded>, StartError> {
    Ok(match source {
        DirectorySource::Unchanged => None,
        DirectorySource::DemoData => Some(file::parse(DEMO_DATA, "demo-data.json", hash_key, true)?),
        DirectorySource::File { path, may_have_faults } => {
            let loaded = file::load(path, hash_key, *may_have_faults);
            Some(loaded.map_err(|error| StartError::DirectoryUnreadable { path: path.clone(), error })??)
        }
    })
}

/// Logs warnings about a configuration that is valid but may contain a mistake.
async fn warn(config: &Config, directory: &Directory) -> Result<(), StartError> {
    if config.scan_key.is_none() && !directory.registrations(Kind::RecognitionToken, None, 1).await?.is_empty() {
        tracing::warn!("{CODES_REFUSED}");
    }
    if let (Some(_), Mode::Serve) = (&config.commerce, config.mode) {
        match &config.scan_key {
            None => tracing::warn!("{NO_CODES}"),
            Some(format) if !format.is_signed() => tracing::warn!("{UNSIGNED}"),
            Some(_) => {}
        }
    }
    if directory.stores(None, 1).await?.is_empty() {
        tracing::warn!("{NO_STORE}");
    }
    Ok(())
}
