//! One connection, from its TLS handshake to its last answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt as _;

use super::arrival::Arrival;
use super::connection_limit::{ActiveRequest, PendingBody, Slot};
use super::deferred_writes::DeferredWrites;
use super::drain::DrainOnDrop;
use super::handshake::{handshake, is_certificate_failure};
use super::unread_answers::{CurrentAnswer, Stream};
use super::{LAST_REQUEST_WAIT, Phase, Port, Stop, closed};
use crate::observe::logs::Samples;
use crate::tls::Client;

/// Samples the log lines about refused client certificates, by reason.
static REFUSED_CERTIFICATES: LazyLock<Samples<&str>> = LazyLock::new(|| {
    Samples::new(|reason, count| {
        tracing::warn!(reason, count, "further refused client certificates not logged individually");
    })
});

/// The buffer for a request's head, in bytes. hyper accepts a head that is somewhat longer, but not one of twice this
/// size.
const HEAD_BUFFER: usize = 16 * 1024;
/// Multiplies the wait for a new TLS connection: the TCP and TLS handshakes need round trips before the first request.
const TLS_WAIT_FACTOR: u32 = 4;

/// Serves a connection until it ends or is evicted.
pub(super) async fn serve(tcp: TcpStream, peer: SocketAddr, slot: &Slot, port: Port, stop: Stop) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let current_answer = CurrentAnswer::default();
    let stream = Stream::new(tcp, current_answer.clone(), &port);
    let serving = async {
        let Some(tls) = &port.tls else {
            return serve_requests(stream, current_answer, peer, None, slot, &port, stop).await;
        };
        match handshake(stream, tls, port.limits.handshake_timeout).await {
            Ok((stream, client)) => {
                if client.is_some() {
                    slot.mark_trusted();
                }
                serve_requests(stream, current_answer, peer, client, slot, &port, stop).await;
            }
            Err(failure) => {
                port.metrics.handshake_failed(failure.reason);
                if is_certificate_failure(failure.reason) {
                    if REFUSED_CERTIFICATES.admits(&failure.reason) {
                        tracing::info!(%peer, error = failure.error, "client certificate refused");
                    }
                } else {
                    tracing::debug!(%peer, error = failure.error, "TLS handshake failed");
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = serving => {}
        () = slot.evicted() => tracing::debug!(%peer, "closed an idle connection to admit a new one"),
    }
}

/// Serves the requests of a connection, one after the other.
async fn serve_requests(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    current_answer: CurrentAnswer,
    peer: SocketAddr,
    client: Option<Arc<Client>>,
    slot: &Slot,
    port: &Port,
    mut stop: Stop,
) {
    let phase = stop.clone();
    let service = service_fn(|mut request: Request<Incoming>| {
        let active = slot.begin_request();
        let (client, current_answer) = (client.as_ref(), &current_answer);
        let valid = client.zip(port.tls.as_ref()).filter(|(client, tls)| tls.is_still_valid(client));
        // A client whose certificate is no longer valid must reconnect, perhaps with another certificate.
        let is_last = *phase.borrow() != Phase::Open || client.is_some() != valid.is_some();
        let certificate = valid.map(|(client, _)| Arc::clone(client.subject()));
        request.extensions_mut().insert(Arrival { at: Instant::now(), peer: peer.ip(), certificate });
        let pending = slot.pending_body();
        let request = request.map(|body| Body::new(RequestBody { body: DrainOnDrop::new(body), pending }));
        let answer = port.router.clone().oneshot(request);
        async move {
            let mut answer = answer.await.unwrap_or_else(|never| match never {});
            if is_last {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            current_answer.begin(answer.body().size_hint().lower());
            Ok::<_, Infallible>(answer.map(|body| AnswerBody { body, _active: active }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(port.limits.idle_timeout)
        .half_close(true) // a client that shuts down its sending side still gets the answer
        .max_buf_size(HEAD_BUFFER)
        .writev(false) // an answer is short: one buffer is sent faster than two
        .serve_connection(TokioIo::new(DeferredWrites::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = first_request_timeout(port.limits.header_timeout, slot) => Ok(()),
        _ = closed(&mut stop) => {
            // Waits for a request in progress: hyper closes an idle connection without reading its next request.
            let wait = match (&port.tls, slot.has_sent_request()) {
                (Some(_), false) => LAST_REQUEST_WAIT.saturating_mul(TLS_WAIT_FACTOR),
                _ => LAST_REQUEST_WAIT,
            };
            match timeout(wait, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => {
                    connection.as_mut().graceful_shutdown();
                    if slot.is_between_requests() {
                        // hyper closes an idle connection, but would wait for the rest of an incomplete head until the
                        // idle time-out.
                        timeout(LAST_REQUEST_WAIT, connection).await.unwrap_or(Ok(()))
                    } else {
                        connection.await
                    }
                }
            }
        }
    };
    if let Err(error) = ended {
        // Caused by the peer: a malformed request, a time-out, a reset.
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Completes after `limit` if no request has begun by then; otherwise never.
async fn first_request_timeout(limit: Duration, slot: &Slot) {
    sleep(limit).await;
    if slot.has_sent_request() {
        std::future::pending::<()>().await;
    }
}

/// A request's body. While the server waits for the rest of the body, the connection counts as idle and may be evicted.
struct RequestBody {
    body: DrainOnDrop,
    pending: PendingBody,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match frame {
            Poll::Pending => self.pending.set_awaited(true),
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => self.pending.set_awaited(false),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body. The request is active until its answer is written.
struct AnswerBody {
    body: Body,
    _active: ActiveRequest,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
