//! Requests of each caller, and reloads of the configuration.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallerName {
    caller: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Setting {
    setting: &'static str,
}

pub(super) struct CallerFigures {
    requests: Family<CallerName, Counter>,
    reload_failed: Family<Setting, Gauge>,
}

impl CallerFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let requests = Family::<CallerName, Counter>::default();
        let help = "VerifyIdentityKeys requests of each configured caller, answered or cut off. A caller whose count \
                    stops growing has wrong credentials or cannot reach the connector";
        registry.register("caller_requests", help, requests.clone());
        let reload_failed = Family::<Setting, Gauge>::default();
        let help = "1 while the last reload of this setting failed, so that the previous version stays in effect, else \
                    0. Fix it before the next start, which would fail";
        registry.register("reload_failed", help, reload_failed.clone());
        for setting in ["server.callers", "tls", "directory.file"] {
            drop(reload_failed.get_or_create(&Setting { setting }));
        }
        Self { requests, reload_failed }
    }
}

impl Metrics {
    /// Counts a request of a configured caller that is answered or cut off. The configuration bounds the number of
    /// names.
    pub fn caller_answered(&self, caller: &str) {
        self.0.callers.requests.get_or_create(&CallerName { caller: caller.to_owned() }).inc();
    }

    /// Sets whether the last reload of the setting failed.
    pub fn reloaded(&self, setting: &'static str, failed: bool) {
        self.0.callers.reload_failed.get_or_create(&Setting { setting }).set(failed.into());
    }
}
