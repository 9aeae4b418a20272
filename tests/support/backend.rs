//! An identity backend whose answers a test controls: valid, invalid, slow, endless, or none.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::select;
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::Server;
use super::postgres::listener;

/// The answer to a look-up request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This status and body.
    Status(u16, String),
    /// This status and body after a delay.
    After(Duration, u16, String),
    /// This status and body after [`Backend::release`].
    OnceReleased(u16, String),
    /// These bytes; then the connection is closed.
    Bytes(Vec<u8>),
    /// These bytes; then nothing more, while the connection stays open.
    Stalled(Vec<u8>),
    /// A valid head, and a body that never ends.
    Endless,
    /// No answer, for longer than any time-out.
    Silence,
}

impl Reply {
    pub(crate) fn json(json: &Value) -> Self {
        Self::Status(200, json.to_string())
    }

    pub(crate) fn not_found() -> Self {
        Self::Status(404, r#"{"message":"no such key"}"#.to_owned())
    }
}

/// A request that the backend received.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    /// Method and path.
    pub(crate) line: String,
    /// The headers in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl ReceivedRequest {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answerer = Arc<dyn Fn(&Value) -> Reply + Send + Sync>;

/// A backend on loopback. It stops when dropped.
pub(crate) struct Backend {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    state: Arc<State>,
    running: Mutex<Option<Running>>,
}

/// The task that accepts connections. It ends, after all tasks of connections have ended, when the sender is dropped.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct State {
    answerer: Mutex<Answerer>,
    requests: Mutex<Vec<ReceivedRequest>>,
    made_up: Mutex<Vec<(Instant, Value)>>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
    released: Notify,
}

impl Backend {
    /// A backend that finds no key.
    pub(crate) async fn start() -> Self {
        Self::start_with_tls(None).await
    }

    /// A backend that answers from the rows of this directory file.
    pub(crate) async fn start_with_directory(directory: Value) -> Self {
        let backend = Self::start().await;
        backend.answer_from_directory(directory);
        backend
    }

    /// A backend with TLS, if `tls` is given.
    pub(crate) async fn start_with_tls(tls: Option<TlsAcceptor>) -> Self {
        let state = State {
            answerer: Mutex::new(Arc::new(|_: &Value| Reply::not_found())),
            requests: Mutex::default(),
            made_up: Mutex::default(),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            max_in_flight: AtomicUsize::new(0),
            released: Notify::new(),
        };
        let (address, listener) = listener().await;
        let backend = Self { address, tls, state: Arc::new(state), running: Mutex::default() };
        backend.serve(listener);
        backend
    }

    /// Starts the backend again, on the same port.
    pub(crate) async fn resume(&self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    fn serve(&self, listener: TcpListener) {
        let (state, tls) = (Arc::clone(&self.state), self.tls.clone());
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let stream = select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = &mut stopped => break,
                };
                state.connections.fetch_add(1, Ordering::SeqCst);
                let (state, tls) = (Arc::clone(&state), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve_connection(stream, &state).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve_connection(stream, &state).await,
                            Err(_) => None, // the TLS handshake failed: client or server rejected the certificate
                        },
                    }
                });
            }
            drop(listener);
            // This waits for the tasks to end. One that is running just now would otherwise answer one more request.
            connections.shutdown().await;
        });
        *self.running.lock().unwrap() = Some(Running { stop, task });
    }

    /// Stops the backend: closes all connections and refuses new ones.
    pub(crate) async fn stop(&self) {
        let running = self.running.lock().unwrap().take();
        if let Some(Running { stop, task }) = running {
            drop(stop);
            task.await.unwrap();
        }
    }

    pub(crate) fn set_answerer(&self, answerer: impl Fn(&Value) -> Reply + Send + Sync + 'static) {
        *self.state.answerer.lock().unwrap() = Arc::new(answerer);
    }

    /// Answers every look-up request with `reply`.
    pub(crate) fn set_reply(&self, reply: Reply) {
        self.set_answerer(move |_| reply.clone());
    }

    /// Answers from the rows of this directory file.
    pub(crate) fn answer_from_directory(&self, directory: Value) {
        self.set_answerer(move |lookup| {
            answer_from(&directory, lookup).map_or_else(Reply::not_found, |json| Reply::json(&json))
        });
    }

    /// Sends all answers held back by [`Reply::OnceReleased`].
    pub(crate) fn release(&self) {
        self.state.released.notify_waiters();
    }

    /// All look-up requests for a key that the connector made up, with their times.
    pub(crate) fn made_up(&self) -> Vec<(Instant, Value)> {
        self.state.made_up.lock().unwrap().clone()
    }

    /// All other look-up requests.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The number of look-up requests in flight now.
    pub(crate) fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::SeqCst)
    }

    /// The largest number of look-up requests in flight at the same time so far.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.state.max_in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        match self.tls {
            None => format!("http://{}/identities", self.address),
            Some(_) => format!("https://localhost:{}/identities", self.address.port()),
        }
    }

    /// A connector that uses this backend, without a request limit.
    pub(crate) async fn connector(&self, settings: &[(&str, &str)]) -> Server {
        let url = self.url();
        let own = [
            ("directory.url", url.as_str()),
            ("rate_limit.requests_per_second", "1000000"),
            ("rate_limit.burst", "1000000"),
        ];
        Server::demo(&[&own[..], settings].concat()).await
    }
}

/// The answer from these rows; `None` for an unknown key.
pub(crate) fn answer_from(directory: &Value, lookup: &Value) -> Option<Value> {
    let (list, member) = match lookup["kind"].as_str().unwrap() {
        "identity_key" => ("identityKeys", "key"),
        "recognition_token" => ("recognitionTokens", "token"),
        kind => panic!("{kind}?"),
    };
    let row = directory[list].as_array()?.iter().find(|row| row[member] == lookup["value"])?;
    let shopper = directory["shoppers"].as_array()?.iter().find(|shopper| shopper["id"] == row["shopper"]);
    let mut answer = row.clone();
    let members = answer.as_object_mut().unwrap();
    members.remove(member);
    members.remove("shopper");
    if let Some(shopper) = shopper {
        let mut shopper = shopper.clone();
        shopper.as_object_mut().unwrap().remove("devices");
        members.insert("shopper".to_owned(), shopper);
    }
    Some(answer)
}

/// Answers all requests of a connection.
async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, state: &State) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let request = read_request(&mut stream, &mut read).await?;
        let lookup: Value = serde_json::from_slice(&request.body).unwrap_or(json!(null));
        match lookup["value"].as_str() {
            Some(key) if key.starts_with("connectorprobe") => {
                state.made_up.lock().unwrap().push((Instant::now(), lookup.clone()));
            }
            _ => state.requests.lock().unwrap().push(request),
        }
        let answerer = Arc::clone(&state.answerer.lock().unwrap());
        let in_flight = InFlightGuard::begin(state);
        let sent = send_reply(&mut stream, answerer(&lookup), state).await;
        drop(in_flight);
        sent?;
    }
}

struct InFlightGuard<'a>(&'a State);

impl<'a> InFlightGuard<'a> {
    fn begin(state: &'a State) -> Self {
        let now = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        state.max_in_flight.fetch_max(now, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Sends an answer. Returns `None` when the connection is closed.
async fn send_reply<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, reply: Reply, state: &State) -> Option<()> {
    let with_status = |status: u16, body: &str| {
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    match reply {
        Reply::Status(status, body) => stream.write_all(with_status(status, &body).as_bytes()).await.ok(),
        Reply::After(time, status, body) => {
            unless_closed(stream, tokio::time::sleep(time)).await?;
            stream.write_all(with_status(status, &body).as_bytes()).await.ok()
        }
        Reply::OnceReleased(status, body) => {
            unless_closed(stream, state.released.notified()).await?;
            stream.write_all(with_status(status, &body).as_bytes()).await.ok()
        }
        Reply::Bytes(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            stream.shutdown().await.ok()?;
            None
        }
        Reply::Stalled(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            unless_closed(stream, tokio::time::sleep(Duration::from_secs(600))).await
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(format!("400\r\n{}\r\n", " ".repeat(0x400)).as_bytes()).await.ok()?;
            }
        }
        Reply::Silence => unless_closed(stream, tokio::time::sleep(Duration::from_secs(600))).await,
    }
}

/// Waits. Returns `None` as soon as the client closes the connection.
async fn unless_closed<S: AsyncRead + Unpin>(stream: &mut S, wait: impl Future<Output = ()>) -> Option<()> {
    select! {
        () = wait => Some(()),
        _ = stream.read_u8() => None, // there are no bytes to read: clients do not pipeline
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, read: &mut Vec<u8>) -> Option<ReceivedRequest> {
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(read[..end].to_vec()).unwrap();
            let (line, headers) = head.split_once("\r\n").unwrap();
            let headers = headers.lines().map(|header| header.split_once(": ").unwrap());
            let headers: Vec<_> = headers.map(|(name, value)| (name.to_lowercase(), value)).collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length = length.map_or(0, |(_, value)| value.parse().unwrap());
            let head = headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            if read.len() >= end + 4 + length {
                let body = read[end + 4..end + 4 + length].to_vec();
                let line = line.to_owned();
                read.drain(..end + 4 + length);
                return Some(ReceivedRequest { line, head, body });
            }
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&more[..count]),
        }
    }
}
