//! One connection: its TLS handshake, its requests with their bodies, and its last answer.

use std::convert::Infallible;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, CertificateError, PeerIncompatible};
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;

use super::connection_limit::{PendingBody, Slot};
use super::stream::{CurrentAnswer, DeferredWrites, Stream};
use super::{Arrival, LAST_REQUEST_WAIT, Phase, Port, Stop, closed};
use crate::observe::logs::Samples;
use crate::tls::{Client, Tls};

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

/// The maximum number of bytes of an unread body that are drained.
const DRAIN_BYTES: usize = 1024 * 1024;
/// The maximum time for which an unread body is drained.
const DRAIN_TIME: Duration = Duration::from_secs(1);

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
                // Port scanners present no certificate, so an operator should know of a refused one.
                if failure.reason.starts_with("certificate_") {
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
        let (active, pending) = slot.begin_request();
        let (client, current_answer) = (client.as_ref(), &current_answer);
        let valid = client.zip(port.tls.as_ref()).filter(|(client, tls)| tls.is_still_valid(client));
        // A client whose certificate is no longer valid must reconnect, perhaps with another certificate.
        let is_last = *phase.borrow() != Phase::Open || client.is_some() != valid.is_some();
        let certificate = valid.map(|(client, _)| Arc::clone(client.subject()));
        request.extensions_mut().insert(Arrival { at: Instant::now(), peer: peer.ip(), certificate });
        let request = request.map(|body| Body::new(RequestBody { body: Some(body), pending }));
        let answer = port.router.clone().oneshot(request);
        async move {
            let mut answer = answer.await.unwrap_or_else(|never| match never {});
            if is_last {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            current_answer.begin(answer.body().size_hint().lower());
            // The request is active until its answer is written: the body owns `active`.
            Ok::<_, Infallible>(answer.map(|body| {
                body.map_err(move |error| {
                    let _active = &active;
                    error
                })
            }))
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

/// A TLS connection, and the client that its certificate names, if it presented one.
type Secured = (TlsStream<Stream>, Option<Arc<Client>>);

/// A failed handshake: one of a few reasons, for the metric, and the error, for the log.
struct Failure {
    reason: &'static str,
    error: String,
}

/// Performs the handshake.
///
/// # Errors
/// When it is not complete within `limit`, or either side rejects the other.
async fn handshake(stream: Stream, tls: &Tls, limit: Duration) -> Result<Secured, Failure> {
    let accepting = TlsAcceptor::from(tls.server_config()).accept(stream);
    match timeout(limit, accepting).await {
        Ok(Ok(stream)) => {
            let client = tls.client(stream.get_ref().1).map(Arc::new);
            Ok((stream, client))
        }
        Ok(Err(error)) => Err(Failure { reason: handshake_failure(&error), error: error.to_string() }),
        Err(_) => Err(Failure {
            reason: "timeout",
            error: "the handshake was not complete within server.handshake_timeout".to_owned(),
        }),
    }
}

/// The reason of a failed handshake.
fn handshake_failure(error: &Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            ErrorKind::TimedOut => "timeout",
            _ => "hung_up",
        };
    };
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
            CertificateError::UnknownIssuer => "certificate_of_unknown_authority",
            _ => "certificate_invalid",
        },
        rustls::Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "version",
        rustls::Error::PeerIncompatible(_) => "nothing_in_common",
        rustls::Error::NoApplicationProtocol => "alpn",
        rustls::Error::InvalidMessage(_) => "not_tls",
        // The client sent an alert, for example because it does not accept the connector's certificate.
        rustls::Error::AlertReceived(_) => "refused_by_peer",
        _ => "other",
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
///
/// A body that is dropped unread is drained in the background, for at most 1 MiB and 1 s. Without this, an answer
/// before the end of the body (such as 400, 404 or 429) would close a connection on which the sender is still writing.
/// The sender's system would then reset the connection and discard the answer.
struct RequestBody {
    /// `None` after its end.
    body: Option<Incoming>,
    pending: PendingBody,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        match frame {
            Poll::Pending => self.pending.set_awaited(true),
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => {
                self.body = None;
                self.pending.set_awaited(false);
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| !body.is_end_stream());
        // Without a runtime the process is ending, and no answer will be sent.
        if let (Some(body), Ok(runtime)) = (unread, tokio::runtime::Handle::try_current()) {
            runtime.spawn(drain(body));
        }
    }
}

async fn drain(body: Incoming) {
    let mut rest = Limited::new(body, DRAIN_BYTES);
    // Ends with the body, or when a limit is reached.
    let _ = timeout(DRAIN_TIME, async { while let Some(Ok(_)) = rest.frame().await {} }).await;
}
