//! The shopper's side: carts and identity providers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::gauge;
use crate::carts::CartStore;
use crate::commerce::Provider;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderName {
    provider: String,
}

pub(super) struct ShopperFigures {
    anonymous_carts: Gauge,
    provider_keys: Family<ProviderName, Gauge>,
    provider_failures: Family<ProviderName, Counter>,
}

impl ShopperFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let anonymous_carts = Gauge::default();
        let help =
            "Anonymous customers with carts, as of the last sweep. At commerce.anonymous_carts further ones get a 429";
        registry.register("anonymous_carts", help, anonymous_carts.clone());
        let provider_keys = Family::<ProviderName, Gauge>::default();
        let help = "Signing keys that the connector has from each identity provider. 0 means that tokens of its \
                    customers cannot be verified and get a 503";
        registry.register("identity_provider_keys", help, provider_keys.clone());
        let provider_failures = Family::<ProviderName, Counter>::default();
        let help = "Failed attempts to fetch the signing keys of an identity provider. The previous keys stay in use";
        registry.register("identity_provider_failures", help, provider_failures.clone());
        Self { anonymous_carts, provider_keys, provider_failures }
    }

    pub(super) fn show(&self, carts: &CartStore, providers: &[Arc<Provider>]) {
        self.anonymous_carts.set(gauge(carts.anonymous_owners()));
        for provider in providers {
            let name = ProviderName { provider: provider.settings().name.clone() };
            self.provider_keys.get_or_create(&name).set(gauge(provider.keys()));
            self.provider_failures.get_or_create(&name).inner().store(provider.failures(), Ordering::Relaxed);
        }
    }
}
