//! One connection, from its handshake to its last answer.

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

use super::handshake::{is_of_interest, shake_hands};
use super::queued::Queued;
use super::seats::{Busy, Owed, Seat};
use super::stream::Stream;
use super::untaken::Answers;
use super::{LAST_CALL, Phase, Port, Stop, closed};
use crate::http::{Arrival, LingeringBody};
use crate::telemetry::Samples;
use crate::tls::Client;

/// Client certificates that were refused, by the reason.
static REFUSED: LazyLock<Samples<&str>> = LazyLock::new(|| {
    Samples::new(|reason, count| {
        tracing::warn!(reason, count, "client certificates were refused beyond those with a line of their own");
    })
});

/// What a connection buffers of a head, in bytes: somewhat more passes, twice as much does not.
const HEAD_BUFFER: usize = 16 * 1024;
/// How often there and back a TLS connection's first request is under way: the connection itself, the handshake, the request.
const FIRST_OVER_TLS: u32 = 4;

/// Serves a connection until it ends, or has to go.
pub(super) async fn serve(tcp: TcpStream, peer: SocketAddr, seat: &Seat, port: Port, stop: Stop) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let answers = port.untaken.connection();
    let stream = Stream::new(tcp, port.limits.answer_timeout, answers.clone(), port.metrics.clone());
    let serving = async {
        let Some(tls) = &port.tls else {
            return converse(stream, answers, peer, None, seat, &port, stop).await;
        };
        match shake_hands(stream, tls, port.limits.handshake_timeout).await {
            Ok((stream, client)) => {
                if client.is_some() {
                    seat.trust();
                }
                converse(stream, answers, peer, client, seat, &port, stop).await;
            }
            Err(failure) => {
                port.metrics.handshake_failed(failure.reason);
                if is_of_interest(failure.reason) {
                    if REFUSED.admits(&failure.reason) {
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
        () = seat.has_to_go() => tracing::debug!(%peer, "connection made room for another"),
    }
}

/// Requests and answers, one after the other.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: Answers,
    peer: SocketAddr,
    client: Option<Arc<Client>>,
    seat: &Seat,
    port: &Port,
    mut stop: Stop,
) {
    let phase = stop.clone();
    let service = service_fn(|mut request: Request<Incoming>| {
        let busy = seat.ask();
        let (client, answers) = (client.as_ref(), &answers);
        let holds = client.zip(port.tls.as_ref()).filter(|(client, tls)| tls.is_still_valid(client));
        // A client who is not believed any more may come again with another certificate.
        let is_last = *phase.borrow() != Phase::Open || client.is_some() != holds.is_some();
        let certificate = holds.map(|(client, _)| Arc::clone(client.subject()));
        request.extensions_mut().insert(Arrival { at: Instant::now(), peer: peer.ip(), certificate });
        let owed = seat.owes();
        let request = request.map(|body| Body::new(OwedBody { body: LingeringBody::new(body), owed }));
        let answer = port.router.clone().oneshot(request);
        async move {
            let mut answer = answer.await.unwrap_or_else(|never| match never {});
            if is_last {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answers.begin(answer.body().size_hint().lower());
            Ok::<_, Infallible>(answer.map(|body| BusyBody { body, _busy: busy }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(port.limits.idle_timeout)
        .half_close(true) // whoever has said all and closes that half still hears the answer
        .max_buf_size(HEAD_BUFFER)
        .writev(false) // an answer is short: one piece is sent sooner than two
        .serve_connection(TokioIo::new(Queued::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = never_asks(port.limits.header_timeout, seat) => Ok(()),
        _ = closed(&mut stop) => {
            // What is under way is answered first; hyper would close an idle connection with its next request unread.
            let last_call = match (&port.tls, seat.has_asked()) {
                (Some(_), false) => LAST_CALL.saturating_mul(FIRST_OVER_TLS),
                _ => LAST_CALL,
            };
            match timeout(last_call, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => {
                    connection.as_mut().graceful_shutdown();
                    if seat.waits() {
                        // It closes what is idle, but would wait for a head that has begun as long as ever.
                        timeout(LAST_CALL, connection).await.unwrap_or(Ok(()))
                    } else {
                        connection.await
                    }
                }
            }
        }
    };
    if let Err(error) = ended {
        // The peer's doing: a broken request, a time-out, a reset.
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Completes when a connection has been there for `patience` and has not asked anything.
async fn never_asks(patience: Duration, seat: &Seat) {
    sleep(patience).await;
    if seat.has_asked() {
        std::future::pending::<()>().await;
    }
}

/// A request's body. While the peer owes some of it, the connection may have to make room.
struct OwedBody {
    body: LingeringBody,
    owed: Owed,
}

impl HttpBody for OwedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match frame {
            Poll::Pending => self.owed.is_waited_for(),
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => self.owed.is_settled(),
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

/// An answer's body. The request runs until it is written.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl HttpBody for BusyBody {
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
