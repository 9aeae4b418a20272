//! Who calls, and whether what was read again of the configuration could be used.

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
        let help = "VerifyIdentityKeys requests of each configured caller that were answered or cut off";
        registry.register("caller_requests", help, requests.clone());
        let reload_failed = Family::<Setting, Gauge>::default();
        let help = "1 while what stands there now cannot be used, so that what was read before goes on counting";
        registry.register("reload_failed", help, reload_failed.clone());
        for setting in ["server.callers", "tls", "directory.file"] {
            drop(reload_failed.get_or_create(&Setting { setting }));
        }
        Self { requests, reload_failed }
    }
}

impl Metrics {
    /// A request of a caller who is configured, by that name: there are no more names than the configuration has had.
    pub fn called(&self, caller: &str) {
        self.0.callers.requests.get_or_create(&CallerName { caller: caller.to_owned() }).inc();
    }

    /// Something was read again, and could be used or not.
    pub fn read_again(&self, setting: &'static str, failed: bool) {
        self.0.callers.reload_failed.get_or_create(&Setting { setting }).set(failed.into());
    }
}
