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
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt as _;

use crate::http::{Arrival, LingeringBody, Peer};

/// What a port allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the system's queue.
    pub max_connections: u32,
    /// The longest wait for the head of a request, on a new connection as on an idle one.
    pub idle_timeout: Duration,
    /// The longest wait for running requests at the end.
    pub grace_period: Duration,
}

/// How long to rest when no connection can be accepted, as when the process has no file left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// How long a connection that has not asked anything yet may still do so at the end.
const LAST_CALL: Duration = Duration::from_millis(250);
/// The longest head of a request, in bytes, and what a connection buffers.
const MAX_HEAD: usize = 64 * 1024;

/// Serves until `stop` says so, then takes no more connections, lets running requests finish within the grace period, and
/// returns. What is still running then is cut off, as it is when this future is dropped.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(limits.max_connections as usize));
    // Nothing is ever sent: connections see that this end is gone.
    let (alive, cut_off) = watch::channel(());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let connection = connect(stream, peer, router.clone(), limits.idle_timeout, stop.clone());
        let mut cut_off = cut_off.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = connection => {}
                _ = cut_off.changed() => {}
            }
            drop(permit);
        });
    }
    drop(listener);
    // Every connection holds a permit: whoever has all of them is alone.
    if timeout(limits.grace_period, permits.acquire_many(limits.max_connections)).await.is_err() {
        tracing::warn!(grace_period = ?limits.grace_period, "stopped with requests still running");
    }
    drop(alive);
}

/// Waits for room, then for a connection. `None` after a failure, which is slept on: trying again at once would only spin.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept connections");
            sleep(ACCEPT_BACKOFF).await;
            None
        }
    }
}

/// Completes when it is time to stop, or nobody is left to say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection, from its first request to its last.
async fn connect(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    idle_timeout: Duration,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
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
        .header_read_timeout(idle_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            // hyper closes what is idle and finishes what is running, but waits for a first request as long as ever.
            connection.as_mut().graceful_shutdown();
            match timeout(LAST_CALL, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) if has_asked.load(Ordering::Relaxed) => connection.await,
                Err(_) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        // The peer's doing: a broken request, a time-out, a reset.
        tracing::debug!(%peer, %error, "connection ended");
    }
}
