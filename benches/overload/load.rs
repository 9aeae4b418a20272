//! An open load: requests are due at random times, independent of earlier answers. Latency is measured from the time a
//! request is due, so it includes the wait for a free connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use uuid::Uuid;

/// When a gate gives up. A request that is not sent by then is not sent at all.
const GATE_TIMEOUT: Duration = Duration::from_secs(2);

/// The address and the content of the requests.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The number of connections.
    pub(crate) connections: usize,
    /// Whole lines, each ending in `\r\n`.
    pub(crate) headers: String,
    pub(crate) key: String,
    pub(crate) store: String,
}

/// The result of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// When it was due, from the start of the run.
    pub(crate) due: Duration,
    /// The status of the answer. 0: the connection failed. 1: not sent, because the gate had given up.
    pub(crate) status: u16,
    /// The time from when it was due to its result.
    pub(crate) took: Duration,
}

/// The state shared by all connections, which run on one thread.
#[derive(Default)]
struct Shared {
    due: VecDeque<Instant>,
    /// Idle connections, longest idle first, so that none is idle long enough for the server to close it.
    idle: VecDeque<Waker>,
    is_over: bool,
    samples: Vec<Sample>,
}

/// Sends `rate` requests a second until `end` returns true.
pub(crate) fn run(target: &Target, rate: f64, end: impl Fn(Duration) -> bool) -> Vec<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, send(target, rate, end))
}

async fn send(target: &Target, rate: f64, end: impl Fn(Duration) -> bool) -> Vec<Sample> {
    let shared = Rc::new(RefCell::new(Shared::default()));
    let mut connections = JoinSet::new();
    let began = Instant::now() + Duration::from_millis(200); // the connections are open by then
    for _ in 0..target.connections {
        connections.spawn_local(connection(target.clone(), began, Rc::clone(&shared)));
    }
    let mut chance = StdRng::seed_from_u64(1);
    let mut due = began;
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    while !end(began.elapsed()) {
        ticks.tick().await;
        let now = Instant::now();
        let mut shared = shared.borrow_mut();
        while due <= now && !end(due - began) {
            shared.due.push_back(due);
            due += Duration::from_secs_f64(-(1.0 - chance.random::<f64>()).ln() / rate);
        }
        let woken = shared.due.len().min(shared.idle.len());
        shared.idle.drain(..woken).for_each(Waker::wake);
    }
    {
        let mut shared = shared.borrow_mut();
        shared.is_over = true;
        shared.idle.drain(..).for_each(Waker::wake);
    }
    connections.join_all().await;
    shared.take().samples
}

async fn connection(target: Target, began: Instant, shared: Rc<RefCell<Shared>>) {
    let (mut request, ids) = request(&target);
    let mut stream = open(target.address).await;
    let mut answer = vec![0; 4096];
    while let Some(due) = next(&shared).await {
        let mut status = 1;
        if due.elapsed() < GATE_TIMEOUT {
            for at in ids {
                Uuid::new_v4().hyphenated().encode_lower(&mut request[at..at + 36]);
            }
            status = match stream.write_all(&request).await {
                Ok(()) => read(&mut stream, &mut answer).await.unwrap_or(0),
                Err(_) => 0,
            };
            if status == 0 {
                stream = open(target.address).await;
            }
        }
        shared.borrow_mut().samples.push(Sample { due: due - began, status, took: due.elapsed() });
    }
}

async fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Waits for the next request that is due. `None` at the end of the run.
async fn next(shared: &RefCell<Shared>) -> Option<Instant> {
    poll_fn(|context| {
        let mut shared = shared.borrow_mut();
        match shared.due.pop_front() {
            Some(due) => Poll::Ready(Some(due)),
            None if shared.is_over => Poll::Ready(None),
            None => {
                shared.idle.push_back(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

/// A request, and the positions of its two ids.
fn request(target: &Target) -> (Vec<u8>, [usize; 2]) {
    let id = Uuid::nil().to_string();
    let body = format!(
        r#"{{"requestId":"{id}","identityKey":"{}","storeId":"{}","authEvent":{{"id":"{id}","timestamp":"2026-11-28T12:00:00Z","location":"ENTRY"}},"keyChannel":"OPTICAL"}}"#,
        BASE64_STANDARD.encode(&target.key),
        target.store
    );
    let request = format!(
        "POST /v1/identity/identity-keys HTTP/1.1\r\nhost: connector\r\ncontent-type: application/json\r\n{}content-length: {}\r\n\r\n{body}",
        target.headers,
        body.len()
    );
    let mut positions = request.match_indices(&id).map(|(at, _)| at);
    let ids = [positions.next().unwrap(), positions.next().unwrap()];
    (request.into_bytes(), ids)
}

/// Reads one complete answer and returns its status; `None` if the connection ends.
async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Option<u16> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.ok().filter(|read| *read > 0)?;
        filled += read;
        let text = std::str::from_utf8(&buffer[..filled]).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let named = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
        };
        let length = head.lines().find_map(named)?;
        if body.len() >= length {
            return head.get(9..12)?.parse().ok();
        }
    }
}
