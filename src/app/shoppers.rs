//! Creates the shopper API and the demo page from the configuration.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use secrecy::SecretString;
use tokio::sync::Semaphore;

use super::StartError;
use crate::administration::Administration;
use crate::commerce::{CodeSettings, Commerce, Provider};
use crate::config;
use crate::demo_issuer::{DemoIssuer, DemoIssuerError};
use crate::directory::Faults;
use crate::domain::ids::Issuer;
use crate::domain::scan_key_code::ScanKeyFormat;
use crate::http::{Demo, Shoppers};
use crate::loopback::reachable;
use crate::metrics::Metrics;
use crate::rate_limit::RateLimits;

/// Creates the state of the demo page, including its token issuer.
pub(super) fn demo(
    administration: Administration,
    api: SocketAddr,
    faults: Faults,
    key: Option<SecretString>,
) -> Result<Demo, StartError> {
    let issuer = format!("http://{}/demo", reachable(api));
    let issuer = Issuer::parse(&issuer).map_err(|_| DemoIssuerError)?;
    Ok(Demo { administration, issuer: Arc::new(DemoIssuer::new(issuer)?), faults, key })
}

/// The parts of the connector that the shopper API uses too.
pub(super) struct Shared<'a> {
    pub(super) administration: &'a Administration,
    pub(super) trusted_proxies: &'a Arc<[IpNet]>,
    pub(super) metrics: &'a Metrics,
}

impl Shared<'_> {
    /// Creates the shopper API from the configuration. In demo mode, adds the demo identity provider.
    pub(super) fn shoppers(
        &self,
        config: config::Commerce,
        format: Option<ScanKeyFormat>,
        demo: Option<&Demo>,
    ) -> Shoppers {
        let providers = config.providers.into_iter().chain(demo.map(|demo| demo.issuer.settings()));
        let commerce = Commerce {
            directory: Arc::clone(&self.administration.directory),
            carts: Arc::clone(&self.administration.carts),
            authorization_keys: config.authorization_keys,
            tokens: config.tokens,
            contexts: config.contexts,
            codes: format.map(|format| CodeSettings {
                format,
                lifetime: config.code_lifetime,
                per_shopper: config.codes_per_shopper,
            }),
            providers: providers.map(|provider| Arc::new(Provider::new(provider))).collect(),
        };
        Shoppers {
            commerce: Arc::new(commerce),
            clock: self.administration.clock.clone(),
            limits: RateLimits::new(config.allowance, None),
            failures: RateLimits::per_minute(config.failures_per_minute, config.allowance.max_callers),
            in_flight: Arc::new(Semaphore::new(config.max_in_flight as usize)),
            trusted_proxies: Arc::clone(self.trusted_proxies),
            allowed_origins: config.allowed_origins.into(),
            metrics: self.metrics.clone(),
        }
    }
}
