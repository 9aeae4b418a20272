//! The HTTP server of a port: accepts connections up to a limit, and drains them with a deadline at the end.
//!
//! It replaces `axum::serve`, which has neither header time-outs nor connection limits.
//!
//! - Every wait for a peer has a time-out: the TLS handshake, the [first head](Limits::header_timeout), the [next
//!   head](Limits::idle_timeout), the [reading of an answer](Limits::answer_timeout). The endpoint limits the time for
//!   a body.
//! - Idle connections cannot keep new ones out: when the limit is reached, one of them is evicted (`connection_limit`).
//! - **A stop loses no request that was sent.** Connections in the accept queue are still served. Requests that arrive
//!   on open connections are answered, with `Connection: close`. Then idle connections are closed, and running requests
//!   finish.
//!
//! It knows nothing of the endpoints: a [`Port`] contains its router.

mod connection;
mod connection_limit;
mod stream;

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::observe::metrics::PortMetrics;
use crate::tls::Tls;
use connection_limit::{ConnectionLimit, Slot};
pub(crate) use connection_limit::{TooFewFiles, raise_open_file_limit};
pub(crate) use stream::UnreadAnswers;

/// The limits of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The maximum number of connections. When the limit is reached, an idle connection is evicted.
    pub max_connections: u32,
    /// The longest wait for a TLS handshake.
    pub handshake_timeout: Duration,
    /// The longest wait for the head of a connection's first request.
    pub header_timeout: Duration,
    /// The longest wait for the head of a later request, so how long a connection may be idle.
    pub idle_timeout: Duration,
    /// How long a client may take to read an answer that does not fit the operating system's send buffer.
    pub answer_timeout: Duration,
}

/// A port to serve.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub router: Router,
    pub limits: Limits,
    /// Its TLS configuration; `None` for plain HTTP.
    pub tls: Option<Tls>,
    /// Networks whose connections are evicted only when no other connection is idle.
    pub trusted_proxies: Arc<[IpNet]>,
    pub metrics: PortMetrics,
    pub unread_answers: UnreadAnswers,
}

/// The arrival of a request, set by its connection.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// When the head was complete. Every deadline counts from here.
    pub(crate) at: Instant,
    /// The peer address of the connection.
    pub(crate) peer: IpAddr,
    /// The subject of the client's certificate, if it is valid now, in the form of RFC 4514: `CN=gateway,O=Example`.
    /// That form escapes special characters, so that subjects can be compared as text.
    pub(crate) certificate: Option<Arc<str>>,
}

/// For a request without a connection: now, from the unspecified address.
impl Default for Arrival {
    fn default() -> Self {
        Self { at: Instant::now(), peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED), certificate: None }
    }
}

/// The phase of a port's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The port serves.
    Open,
    /// The port still accepts connections, but closes each after its next answer, so that clients reconnect, perhaps to
    /// another replica.
    Draining,
    /// The port accepts no connections, and running requests must end by this time.
    Closed(Instant),
}

/// Receives the [`Phase`]. When the sender is dropped, the port closes immediately.
pub(crate) type Stop = watch::Receiver<Phase>;

/// How long an idle connection may still send a request after its port has closed. This covers the travel time of a
/// request between continents.
const LAST_REQUEST_WAIT: Duration = Duration::from_millis(250);
/// How long to pause when no connection can be accepted, for example because the process has no file descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// The operating system's send buffer for each connection, in bytes; Linux doubles it. Without this setting, Linux lets
/// it grow to 4 MiB, and several hundred clients that do not read could fill the memory.
const SEND_BUFFER: u32 = 32 * 1024;
/// The length of the accept queue.
const ACCEPT_QUEUE: u32 = 1024;

/// Serves until the phase is [`Phase::Closed`]. Then accepts no more connections, lets running requests finish until
/// the deadline, and returns. Requests that are still running at the deadline, or when this future is dropped, are cut
/// off.
pub(crate) async fn serve(listener: TcpListener, port: Port, stop: Stop) {
    let connections =
        ConnectionLimit::new(port.limits.max_connections, Arc::clone(&port.trusted_proxies), port.metrics.clone());
    let mut listener = Listener::new(listener, port.metrics.clone());
    // Nothing is ever sent: dropping the sender cuts off all connections.
    let (cut_off_sender, cut_off) = watch::channel(());
    let admit = |(stream, peer): (TcpStream, SocketAddr), slot: Slot| {
        let (port, stop, mut cut_off) = (port.clone(), stop.clone(), cut_off.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection::serve(stream, peer, &slot, port, stop) => {}
                _ = cut_off.changed() => {}
            }
        });
    };
    let (mut stop_accepting, mut stop_admitting) = (stop.clone(), stop.clone());
    let (deadline, not_admitted) = loop {
        let accepted = tokio::select! {
            biased;
            deadline = closed(&mut stop_accepting) => break (deadline, None),
            accepted = listener.accept() => accepted,
        };
        tokio::select! {
            biased;
            // When no slot is free and no connection is idle, this waits for the next answer.
            slot = connections.acquire(accepted.1.ip()) => admit(accepted, slot),
            deadline = closed(&mut stop_admitting) => break (deadline, Some(accepted)),
        }
    };
    for accepted in not_admitted.into_iter().chain(listener.close()) {
        let Ok(slot) = timeout_at(deadline, connections.acquire(accepted.1.ip())).await else { break };
        admit(accepted, slot);
    }
    if timeout_at(deadline, connections.all_closed()).await.is_err() {
        tracing::warn!("requests were cut off at the end of server.grace_period: they get no answer, and gates retry");
        drop(cut_off_sender);
        // Each connection ends when its task runs next, and its request logs that it was cut off.
        let _ = timeout(LAST_REQUEST_WAIT, connections.all_closed()).await;
    }
}

/// Completes when the port closes, with the deadline for running requests.
async fn closed(stop: &mut Stop) -> Instant {
    match stop.wait_for(|phase| matches!(phase, Phase::Closed(_))).await.as_deref() {
        Ok(Phase::Closed(deadline)) => *deadline,
        // The sender is dropped.
        _ => Instant::now(),
    }
}

/// Listens at an address.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?; // also while connections of an earlier process are closing
    socket.set_send_buffer_size(SEND_BUFFER)?; // accepted connections inherit this size
    socket.bind(address)?;
    socket.listen(ACCEPT_QUEUE)
}

/// A listener that keeps accepting connections after any error of `accept`.
struct Listener {
    tcp: TcpListener,
    metrics: PortMetrics,
    /// Whether the current failure is logged already. It is logged once, not at every attempt.
    warned: bool,
}

impl Listener {
    fn new(tcp: TcpListener, metrics: PortMetrics) -> Self {
        Self { tcp, metrics, warned: false }
    }

    /// Waits for a connection, and tries again after an error. Cancel safe.
    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.tcp.accept().await {
                Ok(accepted) => {
                    self.warned = false;
                    return accepted;
                }
                Err(error) => {
                    self.metrics.accept_errors.inc();
                    if !is_connection_error(&error) {
                        if !std::mem::replace(&mut self.warned, true) {
                            tracing::warn!(
                                port = self.metrics.port,
                                %error,
                                "cannot accept new connections, open ones are still served; if too many files are open, raise ulimit -n"
                            );
                        }
                        sleep(ACCEPT_BACKOFF).await; // without a pause the loop would spin
                    }
                }
            }
        }
    }

    /// Stops listening, and returns the connections that are in the accept queue.
    fn close(self) -> Vec<(TcpStream, SocketAddr)> {
        // Asks the operating system directly: the runtime may not know of these connections yet.
        let Ok(listener) = self.tcp.into_std() else { return Vec::new() };
        let mut accepted = Vec::new();
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    accepted.extend(stream.ok().map(|stream| (stream, peer)));
                }
                Err(error) if is_connection_error(&error) => {}
                Err(_) => return accepted,
            }
        }
    }
}

/// Whether a single connection failed, and the next one can be accepted.
fn is_connection_error(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}
