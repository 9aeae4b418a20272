//! Connections, by port.

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

/// The metrics of one port.
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
        let help = "Open connections, by port. At the limit of the port, idle connections are closed to \
                    admit new ones";
        registry.register("connections", help, open.clone());
        let opened = Family::default();
        let help = "Connections accepted, by port. Many for few requests mean that clients do not reuse connections";
        registry.register("connections_opened", help, opened.clone());
        let evicted = Family::default();
        let help = "Idle connections closed to admit new ones at the connection limit, by port. Growth means that the \
                    limit (server.max_connections, commerce.max_connections) is too low, or that clients flood the port";
        registry.register("connections_turned_out", help, evicted.clone());
        let accept_errors = Family::default();
        let help = "Failures to accept a connection, by port. Growth usually means that the process has too many open \
                    files: compare process_open_fds with process_max_fds";
        registry.register("accept_errors", help, accept_errors.clone());
        let answers_not_taken = Family::default();
        let help = "Connections closed because the client did not read its answer, by port and reason: not within \
                    server.answer_timeout (timeout), or too many unread answers (memory). Many mean an attack with \
                    slow clients";
        registry.register("answers_not_taken", help, answers_not_taken.clone());
        let handshake_failures = Family::default();
        let help = "Failed TLS handshakes, by port and reason. Port scanners cause some; a reason that begins with \
                    certificate_ means that a client certificate was refused";
        registry.register("tls_handshake_failures", help, handshake_failures.clone());
        let certificate_expires = Gauge::default();
        let help = "Unix time in seconds at which tls.certificate expires; 0 without a certificate. TLS clients refuse \
                    an expired one";
        registry.register("tls_certificate_expires_seconds", help, certificate_expires.clone());
        let tls = OnceLock::new();
        Self { open, opened, evicted, accept_errors, answers_not_taken, handshake_failures, certificate_expires, tls }
    }

    pub(super) fn show(&self) {
        self.certificate_expires.set(self.tls.get().map_or(0, |tls| tls.expires().timestamp()));
    }
}

impl Metrics {
    /// Creates the metrics of the port with this name, all zero.
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

    /// Sets the certificate whose expiry is shown.
    pub fn show_certificate_of(&self, tls: Tls) {
        let _ = self.0.connections.tls.set(tls); // once, at the start
    }
}

impl PortMetrics {
    /// The name of the port.
    #[must_use]
    pub fn port(&self) -> &'static str {
        self.port
    }

    /// Counts a connection as open, until [`PortMetrics::connection_closed`] is called.
    pub fn connection_opened(&self) {
        self.opened.inc();
        self.open.inc();
    }

    /// Counts a connection as closed.
    pub fn connection_closed(&self) {
        self.open.dec();
    }

    /// Counts an idle connection that was closed to admit a new one.
    pub fn connection_evicted(&self) {
        self.evicted.inc();
    }

    /// Counts a failure to accept a connection.
    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }

    /// Counts a connection that was closed because its client did not read an answer in time, or because its unread
    /// answer took too much memory.
    pub fn answer_not_taken(&self, reason: &'static str) {
        self.answers_not_taken.get_or_create(&Failure { port: self.port, reason }).inc();
    }

    /// Counts a failed TLS handshake.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshake_failures.get_or_create(&Failure { port: self.port, reason }).inc();
    }
}
