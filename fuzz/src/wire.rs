//! A minimal HTTP/1.1 client that can send any bytes.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection that is kept open.
pub struct Wire(TcpStream);

/// An answer.
pub struct Answer {
    pub status: u16,
    /// The head in lower case, including the empty line at its end.
    head: String,
    pub body: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the connector accepts the connection");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self(stream)
    }

    pub async fn ask(&mut self, request: &[u8]) -> Answer {
        self.0.write_all(request).await.expect("the connector reads the request");
        let mut read = Vec::with_capacity(1024);
        loop {
            if let Some(answer) = Answer::read(&read) {
                return answer;
            }
            let more = self.0.read_buf(&mut read).await.expect("the connector answers");
            assert!(more > 0, "no answer but {:?}", String::from_utf8_lossy(&read));
        }
    }
}

impl Answer {
    /// Returns `None` while the answer is not complete.
    fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..end]).expect("the head is ASCII").to_ascii_lowercase();
        let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("the head has a status");
        let length = head.split_once("\r\ncontent-length: ").expect("the head has a content-length").1;
        let length: usize =
            length.split("\r\n").next().and_then(|length| length.parse().ok()).expect("the head has a content-length");
        let body = bytes.get(end..end + length)?.to_vec();
        Some(Self { status, head, body })
    }

    /// Whether another request may follow.
    pub(crate) fn keeps_connection(&self) -> bool {
        !self.head.contains("\r\nconnection: close\r\n")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The message of an error, which must be its only member.
    pub fn message(&self) -> String {
        let json = self.json();
        let members = json.as_object().expect("the answer is a JSON object");
        assert_eq!(members.keys().collect::<Vec<_>>(), ["message"], "{json}");
        members["message"].as_str().expect("the message is a string").to_owned()
    }

    /// Asserts the headers of every answer, and that it is not a 5xx.
    pub(crate) fn assert_form(&self) {
        assert!(self.status < 500, "{} {}", self.status, self.text());
        for line in ["content-type: application/json", "cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(self.head.contains(&format!("\r\n{line}\r\n")), "{}", self.head);
        }
        assert!(!self.head.contains("\r\nserver:"), "{}", self.head);
    }
}
