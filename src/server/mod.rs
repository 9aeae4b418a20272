//! The accept loop: connections in, with a limit on how many and how long; at the end, a drain with a deadline.
//!
//! Our own, since `axum::serve` knows neither header time-outs nor connection limits. Every wait for a peer has an end: the
//! handshake, the [first head](Limits::header_timeout), the [next one](Limits::idle_timeout), the [taking of an
//! answer](Limits::answer_timeout); a body's is its endpoint's. And nobody keeps others out by waiting: when all places are taken, who
//! only waits (`seats`) makes room.
//!
//! **A stop loses no request that has come.** What the system has accepted meanwhile is still served; what comes on a connection that
//! is open is answered, and told that it was the last; then those who are silent go, and running requests finish.

mod connection;
mod crowds;
mod door;
mod files;
mod handshake;
mod queued;
mod seats;
mod stream;
mod untaken;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::metrics::PortMetrics;
use crate::tls::Tls;
use door::Door;
pub use files::{TooFewFiles, ensure_open_files};
use seats::{Seat, Seats};
pub use untaken::Untaken;

/// What a port allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; for a further one, somebody who only waits has to go.
    pub max_connections: u32,
    /// The longest wait for a TLS handshake.
    pub handshake_timeout: Duration,
    /// The longest wait for the head of a connection's first request.
    pub header_timeout: Duration,
    /// The longest wait for the head of a later one: how long a connection may be idle.
    pub idle_timeout: Duration,
    /// How long a peer may take for an answer that the system does not take at once.
    pub answer_timeout: Duration,
}

/// A port: what it answers, to whom and how.
#[derive(Clone, Debug)]
pub struct Port {
    /// What it answers.
    pub router: Router,
    /// What it allows.
    pub limits: Limits,
    /// Its certificate; without one it speaks plain HTTP.
    pub tls: Option<Tls>,
    /// Who makes room only when nobody else is left to.
    pub trusted_proxies: Arc<[IpNet]>,
    /// What is counted.
    pub metrics: PortMetrics,
    /// What clients have not taken of their answers, at all ports.
    pub untaken: Untaken,
}

/// How a port stands to its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Open,
    /// It still takes connections, but every answer is its connection's last: whoever asks again, comes anew, and perhaps elsewhere.
    Leaving,
    /// It takes no more, and by this time everything has ended.
    Closed(Instant),
}

/// Tells of the [`Phase`]; the sender gone is the end.
pub type Stop = watch::Receiver<Phase>;

/// What the system may keep of answers that a client does not take, in bytes for each connection; Linux doubles it. Its own choice is up
/// to 4 MiB, and several hundred clients could fill the memory.
const SEND_BUFFER: u32 = 32 * 1024;
/// How many connections may wait to be accepted.
const WAITING_TO_BE_ACCEPTED: u32 = 1024;

/// Listens at an address.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?; // also while connections of a process that has ended are closing
    socket.set_send_buffer_size(SEND_BUFFER)?; // the connections have what the listener has
    socket.bind(address)?;
    socket.listen(WAITING_TO_BE_ACCEPTED)
}

/// How long a silent connection may still ask at the end; beyond an ocean a request is as long under way.
const LAST_CALL: Duration = Duration::from_millis(250);

/// Serves until `stop` says that it is closed, then takes no more connections, lets running requests finish until the time that comes
/// with it, and returns. What is still running then is cut off, as it is when this future is dropped.
pub async fn serve(listener: TcpListener, port: Port, stop: Stop) {
    let seats = Seats::new(port.limits.max_connections, Arc::clone(&port.trusted_proxies), port.metrics.clone());
    let mut door = Door::new(listener, port.metrics.clone());
    // Nothing is ever sent: connections see that this end is gone.
    let (alive, cut_off) = watch::channel(());
    let admit = |(stream, peer): (TcpStream, SocketAddr), seat: Seat| {
        let (port, stop, mut cut_off) = (port.clone(), stop.clone(), cut_off.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection::serve(stream, peer, &seat, port, stop) => {}
                _ = cut_off.changed() => {}
            }
        });
    };
    let (mut told, mut told_late) = (stop.clone(), stop.clone());
    let (deadline, waits) = loop {
        let came = tokio::select! {
            biased;
            deadline = closed(&mut told) => break (deadline, None),
            came = door.accept() => came,
        };
        tokio::select! {
            biased;
            // When everybody is asking something, it is a moment until one of them is answered.
            seat = seats.take(came.1.ip()) => admit(came, seat),
            deadline = closed(&mut told_late) => break (deadline, Some(came)),
        }
    };
    for came in waits.into_iter().chain(door.close()) {
        let Ok(seat) = timeout_at(deadline, seats.take(came.1.ip())).await else { break };
        admit(came, seat);
    }
    if timeout_at(deadline, seats.all_free()).await.is_err() {
        tracing::warn!("stopped with requests still running");
        drop(alive);
        // They end at their next turn, and say so in the log.
        let _ = timeout(LAST_CALL, seats.all_free()).await;
    }
}

/// Completes when it is time to close, with the time by which everything has ended.
async fn closed(stop: &mut Stop) -> Instant {
    match stop.wait_for(|phase| matches!(phase, Phase::Closed(_))).await.as_deref() {
        Ok(Phase::Closed(deadline)) => *deadline,
        // When nobody is left to say so, it is time as well.
        _ => Instant::now(),
    }
}
