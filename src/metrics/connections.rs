//! Connections, by the port that they have come to.

use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use crate::tls::Tls;

pub(super) struct Connections {
    open: Family<PortName, Gauge>,
    opened: Family<PortName, Counter>,
    evicted: Family<PortName, Counter>,
    accept_errors: Family<PortName, Counter>,
    answers_not_taken: Family<Failure, Counter>,
    handshake_failures: Family<Failure, Counter>,
    certificate_expires: Gauge,
    tls: OnceLock<Tls>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortName {
    port: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    port: &'static str,
    reason: &'static str,
}

/// What is counted of one port.
#[derive(Clone, Debug)]
pub struct PortMetrics {
    port: &'static str,
    open: Gauge,
    opened: Counter,
    evicted: Counter,
    accept_errors: Counter,
    answers_not_taken: Family<Failure, Counter>,
    handshake_failures: Family<Failure, Counter>,
}

impl Connections {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let open = Family::default();
        registry.register("connections", "Connections that are open", open.clone());
        let opened = Family::default();
        registry.register("connections_opened", "Connections accepted", opened.clone());
        let evicted = Family::default();
        let help = "Connections that waited and had to go, because others came and all places were taken";
        registry.register("connections_turned_out", help, evicted.clone());
        let accept_errors = Family::default();
        let help = "Times that a connection could not be accepted, as for want of a file";
        registry.register("accept_errors", help, accept_errors.clone());
        let answers_not_taken = Family::default();
        let help = "Connections closed because their clients did not take their answers, by reason";
        registry.register("answers_not_taken", help, answers_not_taken.clone());
        let handshake_failures = Family::default();
        let help = "TLS handshakes that failed, by reason";
        registry.register("tls_handshake_failures", help, handshake_failures.clone());
        let certificate_expires = Gauge::default();
        let help = "When tls.certificate expires, in Unix time; 0 without one";
        registry.register("tls_certificate_expires_seconds", help, certificate_expires.clone());
        let tls = OnceLock::new();
        Self { open, opened, evicted, accept_errors, answers_not_taken, handshake_failures, certificate_expires, tls }
    }

    pub(super) fn show(&self) {
        self.certificate_expires.set(self.tls.get().map_or(0, |tls| tls.expires().timestamp()));
    }
}

impl Metrics {
    /// What is counted of a port by this name, all at zero.
    #[must_use]
    pub fn port(&self, port: &'static str) -> PortMetrics {
        let (all, name) = (&self.0.connections, PortName { port });
        for reason in ["timeout", "memory"] {
            drop(all.answers_not_taken.get_or_create(&Failure { port, reason }));
        }
        PortMetrics {
            port,
            open: all.open.get_or_create(&name).clone(),
            opened: all.opened.get_or_create(&name).clone(),
            evicted: all.evicted.get_or_create(&name).clone(),
            accept_errors: all.accept_errors.get_or_create(&name).clone(),
            answers_not_taken: all.answers_not_taken.clone(),
            handshake_failures: all.handshake_failures.clone(),
        }
    }

    /// Whose certificate's end is shown.
    pub fn show_certificate_of(&self, tls: Tls) {
        let _ = self.0.connections.tls.set(tls); // once, at the start
    }
}

impl PortMetrics {
    /// What the port is called.
    #[must_use]
    pub fn port(&self) -> &'static str {
        self.port
    }

    /// A connection has a place; [`PortMetrics::connection_closed`] ends it.
    pub fn connection_opened(&self) {
        self.opened.inc();
        self.open.inc();
    }

    /// It has ended.
    pub fn connection_closed(&self) {
        self.open.dec();
    }

    /// One had to go for another.
    pub fn connection_evicted(&self) {
        self.evicted.inc();
    }

    /// None could be accepted.
    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }

    /// A connection was closed because its client did not take an answer: in time, or soon enough for memory.
    pub fn answer_not_taken(&self, reason: &'static str) {
        self.answers_not_taken.get_or_create(&Failure { port: self.port, reason }).inc();
    }

    /// A handshake failed.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshake_failures.get_or_create(&Failure { port: self.port, reason }).inc();
    }
}
