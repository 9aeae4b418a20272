//! The listener of a port. It keeps accepting connections after any error of `accept`.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::observe::metrics::PortMetrics;

/// How long to pause when no connection can be accepted, for example because the process has no file descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// The operating system's send buffer for each connection, in bytes; Linux doubles it. Without this setting, Linux lets
/// it grow to 4 MiB, and several hundred clients that do not read could fill the memory.
const SEND_BUFFER: u32 = 32 * 1024;
/// The length of the accept queue.
const ACCEPT_QUEUE: u32 = 1024;

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

pub(super) struct Listener {
    tcp: TcpListener,
    metrics: PortMetrics,
    /// Whether the current failure is logged already. It is logged once, not at every attempt.
    warned: bool,
}

impl Listener {
    pub(super) fn new(tcp: TcpListener, metrics: PortMetrics) -> Self {
        Self { tcp, metrics, warned: false }
    }

    /// Waits for a connection, and tries again after an error. Cancel safe.
    pub(super) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.tcp.accept().await {
                Ok(accepted) => {
                    self.warned = false;
                    return accepted;
                }
                Err(error) => {
                    self.metrics.accept_failed();
                    if !is_connection_error(&error) {
                        if !std::mem::replace(&mut self.warned, true) {
                            tracing::warn!(
                                port = self.metrics.port(),
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
    pub(super) fn close(self) -> Vec<(TcpStream, SocketAddr)> {
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
