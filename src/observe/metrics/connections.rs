//! Metrics of connections, by port.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::observe::metrics::metrics;

metrics! {
    /// The metrics of all ports.
    #[derive(Debug)]
    pub(crate) struct ConnectionMetrics {
        /// Open connections, by port. At the limit of the port, idle connections are closed to admit new ones.
        connections: Family<PortName, Gauge>,
        /// Connections accepted, by port. Many for few requests mean that clients do not reuse connections.
        connections_opened: Family<PortName, Counter>,
        /// Idle connections closed to admit new ones at the connection limit, by port. Growth means that the limit
        /// (server.max_connections, commerce.max_connections) is too low, or that clients flood the port.
        connections_turned_out: Family<PortName, Counter>,
        /// Failures to accept a connection, by port. Growth usually means that the process has too many open files:
        /// compare process_open_fds with process_max_fds.
        accept_errors: Family<PortName, Counter>,
        /// Connections closed because the client did not read its answer, by port and reason: not within
        /// server.answer_timeout (timeout), or too many unread answers (memory). Many mean an attack with slow clients.
        answers_not_taken: Family<Failure, Counter>,
        /// Failed TLS handshakes, by port and reason. Port scanners cause some; a reason that begins with certificate_
        /// means that a client certificate was refused.
        tls_handshake_failures: Family<Failure, Counter>,
    }
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
pub(crate) struct PortMetrics {
    pub(crate) port: &'static str,
    pub(crate) open: Gauge,
    pub(crate) opened: Counter,
    pub(crate) evicted: Counter,
    pub(crate) accept_errors: Counter,
    answers_not_taken: Family<Failure, Counter>,
    handshake_failures: Family<Failure, Counter>,
}

impl ConnectionMetrics {
    /// Creates the metrics of the port with this name, all zero.
    pub(crate) fn port(&self, port: &'static str) -> PortMetrics {
        let name = PortName { port };
        for reason in ["timeout", "memory"] {
            drop(self.answers_not_taken.get_or_create(&Failure { port, reason }));
        }
        PortMetrics {
            port,
            open: self.connections.get_or_create(&name).clone(),
            opened: self.connections_opened.get_or_create(&name).clone(),
            evicted: self.connections_turned_out.get_or_create(&name).clone(),
            accept_errors: self.accept_errors.get_or_create(&name).clone(),
            answers_not_taken: self.answers_not_taken.clone(),
            handshake_failures: self.tls_handshake_failures.clone(),
        }
    }
}

impl PortMetrics {
    /// Counts a connection that was closed because its client did not read an answer in time, or because its unread
    /// answer took too much memory.
    pub(crate) fn answer_not_taken(&self, reason: &'static str) {
        self.answers_not_taken.get_or_create(&Failure { port: self.port, reason }).inc();
    }

    /// Counts a failed TLS handshake.
    pub(crate) fn handshake_failed(&self, reason: &'static str) {
        self.handshake_failures.get_or_create(&Failure { port: self.port, reason }).inc();
    }
}
