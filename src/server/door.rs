//! Where connections come in.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::metrics::PortMetrics;

/// How long to rest when no connection can be accepted, as when the process has no file left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

pub(super) struct Door {
    listener: TcpListener,
    metrics: PortMetrics,
    /// Whether the present trouble has been logged: once, not at every turn.
    warned: bool,
}

impl Door {
    pub(super) fn new(listener: TcpListener, metrics: PortMetrics) -> Self {
        Self { listener, metrics, warned: false }
    }

    /// Waits for a connection, whatever goes wrong meanwhile. Cancelled, it has lost none.
    pub(super) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(came) => {
                    self.warned = false;
                    return came;
                }
                Err(error) => {
                    self.metrics.accept_failed();
                    if !is_the_peers(&error) {
                        if !std::mem::replace(&mut self.warned, true) {
                            tracing::warn!(port = self.metrics.port(), "connections cannot be accepted: {error}");
                        }
                        sleep(ACCEPT_BACKOFF).await; // trying again at once would only spin
                    }
                }
            }
        }
    }

    /// Takes no more, and returns those whom the system has let in already.
    pub(super) fn close(self) -> Vec<(TcpStream, SocketAddr)> {
        // Asked of the system itself: the runtime may not have heard of them yet.
        let Ok(listener) = self.listener.into_std() else { return Vec::new() };
        let mut came = Vec::new();
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    came.extend(stream.ok().map(|stream| (stream, peer)));
                }
                Err(error) if is_the_peers(&error) => {}
                Err(_) => return came,
            }
        }
    }
}

/// Whether a connection has failed, and not the accepting of connections.
fn is_the_peers(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}
