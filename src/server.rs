//! The accept loop: connections in, with a limit on how many and how long; at the end, a drain with a deadline.
//!
//! Our own, since `axum::serve` knows neither header time-outs nor connection limits.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

use crate::http::{Arrival, LingeringBody, Peer};

/// What a port allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the system's queue.
    pub max_connections: u32,
    /// The longest wait for the head of a connection's first request.
    pub header_timeout: Duration,
    /// The longest wait for the head of a later one: how long a connection may be idle.
    pub idle_timeout: Duration,
}

/// When to stop: by the time given, whatever runs. `None` until then.
pub type Stop = watch::Receiver<Option<Instant>>;

/// How long to rest when no connection can be accepted, as when the process has no file left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// How long a peer may take none of what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection that has not asked anything yet may still do so at the end.
const LAST_CALL: Duration = Duration::from_millis(250);
/// What a connection buffers of a head, in bytes: somewhat more passes, twice as much does not.
const HEAD_BUFFER: usize = 16 * 1024;

/// Serves until `stop` says so, then takes no more connections, lets running requests finish until the time that `stop` gives,
/// and returns. What is still running then is cut off, as it is when this future is dropped.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, mut stop: Stop) {
    let mut door = Door { permits: Arc::new(Semaphore::new(limits.max_connections as usize)), warned: false };
    // Nothing is ever sent: connections see that this end is gone.
    let (alive, cut_off) = watch::channel(());
    let deadline = loop {
        let (stream, peer, permit) = tokio::select! {
            biased;
            deadline = stopped(&mut stop) => break deadline,
            accepted = door.accept(&listener) => accepted,
        };
        let connection = connect(stream, peer, router.clone(), limits, stop.clone());
        let mut cut_off = cut_off.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = connection => {}
                _ = cut_off.changed() => {}
            }
            drop(permit);
        });
    };
    drop(listener);
    // Every connection holds a permit: whoever has all of them is alone.
    let alone = || door.permits.acquire_many(limits.max_connections);
    if timeout_at(deadline, alone()).await.is_err() {
        tracing::warn!("stopped with requests still running");
        drop(alive);
        // They end at their next turn, and say so in the log.
        let _ = timeout(LAST_CALL, alone()).await;
    }
}

/// Where connections come in, no more than there are permits.
struct Door {
    permits: Arc<Semaphore>,
    /// Whether the present trouble has been logged: once, not at every turn.
    warned: bool,
}

impl Door {
    /// Waits for room, then for a connection.
    async fn accept(&mut self, listener: &TcpListener) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let permits = Arc::clone(&self.permits);
            let permit = match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    self.warn(
                        "every connection is taken: new ones wait; raise server.max_connections if they are wanted",
                    );
                    let Ok(permit) = permits.acquire_owned().await else { return std::future::pending().await };
                    permit
                }
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    self.warned &= self.permits.available_permits() == 0;
                    return (stream, peer, permit);
                }
                Err(error) => {
                    self.warn(&format!("connections cannot be accepted: {error}"));
                    sleep(ACCEPT_BACKOFF).await; // trying again at once would only spin
                }
            }
        }
    }

    fn warn(&mut self, trouble: &str) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!("{trouble}");
        }
    }
}

/// Completes when it is time to stop, with the time by which that must be done.
async fn stopped(stop: &mut Stop) -> Instant {
    // When nobody is left to say so, it is time as well.
    stop.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline).unwrap_or_else(Instant::now)
}

/// One connection, from its first request to its last.
async fn connect(stream: TcpStream, peer: SocketAddr, router: Router, limits: Limits, mut stop: Stop) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let has_asked = AtomicBool::new(false);
    let service = service_fn(|mut request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        let extensions = request.extensions_mut();
        extensions.insert(Arrival(Instant::now()));
        extensions.insert(Peer(peer));
        let answer = router.clone().oneshot(request.map(|body| Body::new(LingeringBody::new(body))));
        async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .half_close(true) // whoever has said all and closes that half still hears the answer
        .max_buf_size(HEAD_BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let has_asked = || has_asked.load(Ordering::Relaxed);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = never_asks(limits.header_timeout, has_asked) => Ok(()),
        _ = stopped(&mut stop) => {
            // hyper closes what is idle and finishes what is running, but waits for a first request as long as ever.
            connection.as_mut().graceful_shutdown();
            match timeout(LAST_CALL, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) if has_asked() => connection.await,
                Err(_) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        // The peer's doing: a broken request, a time-out, a reset.
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Completes when a connection has been there for `patience` and has not asked anything.
async fn never_asks(patience: Duration, has_asked: impl Fn() -> bool) {
    sleep(patience).await;
    if has_asked() {
        std::future::pending::<()>().await;
    }
}
