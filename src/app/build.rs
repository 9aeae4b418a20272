//! Builds the connector: opens files and databases, binds the ports, and connects the parts.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use ipnet::IpNet;
use tokio::sync::Semaphore;

use super::bind::{self, Bound};
use super::maintenance::Maintenance;
use super::open::{self, Storage};
use super::{App, Port, Reload, StartError, warnings};
use crate::admin::{self, Administration, Management};
use crate::callers::Callers;
use crate::clock::Clock;
use crate::config::Config;
use crate::demo::issuer::{DemoIssuer, DemoIssuerError};
use crate::demo::{self, Demo};
use crate::directory::{Directory, Faults, IdentityBackend};
use crate::domain::ids::Issuer;
use crate::gate_api::{self, Admission, Api, InFlight};
use crate::http::{self, Readiness};
use crate::ledger::Ledger;
use crate::loopback::reachable;
use crate::observe::logs;
use crate::observe::metrics::{ConnectionMetrics, Exposition, Metrics, readings};
use crate::observe::traces::{SpanCounters, Traces};
use crate::rate_limit::RateLimits;
use crate::server::{self, Limits, TooFewFiles, UnreadAnswers};
use crate::shopper::carts::CartStore;
use crate::shopper::http::Shoppers;
use crate::shopper::{self, CodeSettings, Commerce, Provider};
use crate::storage::{self, Database};
use crate::tls::Tls;
use crate::verify::Connector;

/// The connection limit of the management port: enough for scrapers, probes and operators.
const MANAGEMENT_CONNECTIONS: u32 = 32;

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
        // Without TLS: off loopback it requires a token, and it must never be published.
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
    /// Opens the files and databases.
    async fn open(config: Config, clock: Clock, faults: Faults) -> Result<Self, StartError> {
        let tls = config.tls.clone().map(|settings| Tls::load(settings, clock.clone())).transpose()?;
        let Storage { database, directory, ledger, carts } = open::open(&config, faults.clone(), clock.now()).await?;
        warnings::warn(&config, &directory).await?;
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
            ledger,
            carts,
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
