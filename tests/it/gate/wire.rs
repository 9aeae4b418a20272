//! An HTTP/1.1 client that can send malformed requests, byte by byte, and reads answers as they arrive.

use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::checks::PATIENCE;
use crate::support::{Answer, IDENTITY_KEYS, Server};

/// The head of a request to the identity endpoint; `headers` are whole lines, each ending in `\r\n`.
pub(crate) fn head(headers: &str) -> String {
    format!("POST {IDENTITY_KEYS} HTTP/1.1\r\nhost: connector\r\n{headers}\r\n")
}

/// A whole request to the identity endpoint.
pub(crate) fn request(body: &str) -> String {
    format!("{}{body}", head(&format!("content-length: {}\r\n", body.len())))
}

/// `data` as one chunk of a chunked body.
pub(crate) fn chunk(data: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    /// The time when the last head was sent.
    since: Instant,
}

impl Wire {
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::over(TcpStream::connect(server.address()).await.unwrap())
    }

    /// Connects from this loopback address.
    pub(crate) async fn connect_from(from: [u8; 4], server: &Server) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        Ok(Self::over(socket.connect(server.address()).await?))
    }

    /// Uses a connection that is already open.
    pub(crate) fn over_std(stream: std::net::TcpStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self::over(TcpStream::from_std(stream).unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new(), since: Instant::now() }
    }

    /// Returns the connection itself.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends a head, and restarts the time that `elapsed` measures.
    pub(crate) async fn send_head(&mut self, headers: &str) {
        self.since = Instant::now();
        self.send(head(headers).as_bytes()).await;
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the server continues to read");
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("the server reads in time")
    }

    /// Closes the sending side of the connection; the receiving side stays open.
    pub(crate) async fn finish_sending(&mut self) -> std::io::Result<()> {
        self.stream.shutdown().await
    }

    /// Waits until an answer begins to arrive, without reading it.
    pub(crate) async fn is_answered(&self) {
        let length = timeout(PATIENCE, self.stream.peek(&mut [0])).await.expect("the server answers in time").unwrap();
        assert!(length > 0, "the server closed the connection");
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// The next answer, including interim ones (1xx).
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_within(PATIENCE).await.expect("the server answers in time")
    }

    /// The next answer, or `None` if it does not arrive in time.
    pub(crate) async fn answer_within(&mut self, time: Duration) -> Option<Answer> {
        timeout(time, self.read_answer()).await.ok()
    }

    /// Everything that the server sends until it closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while timeout(PATIENCE, self.read_more()).await.expect("the server closes the connection in time") {}
        std::mem::take(&mut self.unread)
    }

    /// Cancel safe: bytes stay in `unread` until an answer is complete.
    async fn read_answer(&mut self) -> Answer {
        loop {
            if let Some((answer, length)) = parse(&self.unread) {
                self.unread.drain(..length);
                return answer;
            }
            let unread = String::from_utf8_lossy(&self.unread).into_owned();
            assert!(self.read_more().await, "the server closed the connection after {unread:?}");
        }
    }

    async fn read_more(&mut self) -> bool {
        let mut piece = [0; 4096];
        let length = self.stream.read(&mut piece).await.unwrap_or(0);
        self.unread.extend_from_slice(&piece[..length]);
        length > 0
    }
}

/// The answer at the start of `bytes` and its length, if it is complete.
fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let body_at = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..body_at]).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_str(value.trim()).unwrap());
    }
    let rest = &bytes[body_at..];
    let (body, length) = if headers.contains_key("transfer-encoding") {
        unchunk(rest)?
    } else {
        let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        (rest.get(..length)?.to_vec(), length)
    };
    Some((Answer { status, headers, body }, body_at + length))
}

/// A chunked body without trailers and its encoded length, if it is complete.
fn unchunk(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes[at..].windows(2).position(|end| end == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).unwrap();
        let size = usize::from_str_radix(size, 16).expect("a chunk starts with its size");
        at += line + 2;
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
        if size == 0 {
            return (at <= bytes.len()).then_some((body, at));
        }
        if at > bytes.len() {
            return None;
        }
    }
}
