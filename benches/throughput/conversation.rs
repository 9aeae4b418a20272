//! Requests and answers over one connection. Unlike wrk, it can check answers and send an exact number of requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use identity_connector::testing::gate_api::IDENTITY_KEYS;

use crate::server::STORE;

pub(crate) struct Conversation(BufReader<TcpStream>);

impl Conversation {
    pub(crate) fn begin(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a request and returns the lines of its answer; the last one is the body.
    pub(crate) fn ask(&mut self, request: &str) -> Vec<String> {
        self.send(request);
        self.receive()
    }

    /// Sends one request, or several concatenated ones.
    pub(crate) fn send(&mut self, requests: &str) {
        self.0.get_mut().write_all(requests.as_bytes()).unwrap();
    }

    /// Receives the next answer, as lines; the last one is the body.
    pub(crate) fn receive(&mut self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.0.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        let headers = lines.iter().filter_map(|line| line.split_once(": "));
        let length = headers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length")).unwrap().1;
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        lines.push(String::from_utf8(body).unwrap());
        lines
    }
}

/// A request with this key in Base64, event id and location.
pub(crate) fn scan(key: &str, event: &str, location: &str) -> String {
    let body = format!(
        r#"{{"requestId":"00000000-0000-4000-8000-000000000000","identityKey":"{key}","storeId":"{STORE}","authEvent":{{"id":"{event}","timestamp":"2026-11-28T12:00:00Z","location":"{location}"}},"keyChannel":"OPTICAL"}}"#
    );
    let length = body.len();
    format!(
        "POST {IDENTITY_KEYS} HTTP/1.1\r\nHost: connector\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
