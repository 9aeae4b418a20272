//! The servers that are measured, each a process of its own on a processor of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use identity_connector::http::IDENTITY_KEYS;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::postgres::Postgres;

/// The processor of whatever is measured.
const PROCESSOR: &str = "0";
pub(crate) const STORE: &str = "STORE-001";
const SHOPPER: &str = "shopper";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// A Scan Key Code of that token, made at the time of every scan here, as most scans show one.
const CODE: &str = "JWOACME0123456789abcdef0123456789abcdef1795867200";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Floor,
    Memory,
    Replay,
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Memory => "new events, memory",
            Self::Replay => "one event again and again, memory",
            Self::Sqlite => "new events, SQLite",
            Self::Postgres => "new events, PostgreSQL",
        }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

/// The key of every scan, as it is sent.
pub(crate) fn key() -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(CODE)
}

impl Server {
    /// Starts it on a free port and an empty ledger, and returns once it is ready.
    pub(crate) fn start(kind: Kind, postgres: Option<&Postgres>) -> Self {
        Self::start_under(&[], kind, postgres)
    }

    /// The same, run by another program.
    pub(crate) fn start_under(program: &[String], kind: Kind, postgres: Option<&Postgres>) -> Self {
        let folder = TempDir::new_in(folder()).unwrap();
        let pinned = |binary: &Path| {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", PROCESSOR]).args(program).arg(binary);
            command
        };
        if kind == Kind::Floor {
            let mut child = pinned(&std::env::current_exe().unwrap())
                .arg("floor")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            return Self { address: line.trim().parse().unwrap(), child, _folder: folder };
        }
        let storage = match kind {
            Kind::Sqlite => format!("sqlite://{}", folder.path().join("connector.db").display()),
            Kind::Postgres => postgres.unwrap().database(),
            _ => "memory:".to_owned(),
        };
        let directory = json!({
            "stores": [{ "id": STORE }],
            "shoppers": [{ "id": SHOPPER, "type": "ASSOCIATE" }],
            "recognitionTokens": [{ "token": TOKEN, "shopper": SHOPPER }],
        });
        let (file, log) = (folder.path().join("directory.json"), folder.path().join("log"));
        std::fs::write(&file, directory.to_string()).unwrap();
        let child = pinned(Path::new(env!("CARGO_BIN_EXE_identity-connector")))
            .arg("serve")
            .env("CONNECTOR__SERVER__BIND", "127.0.0.1:0")
            .env("CONNECTOR__MANAGEMENT__BIND", "127.0.0.1:0")
            // All that comes, comes from one address here; and more of it than a default remembers.
            .env("CONNECTOR__RATE_LIMIT__REQUESTS_PER_SECOND", "1000000000")
            .env("CONNECTOR__RATE_LIMIT__BURST", "1000000000")
            .env("CONNECTOR__LEDGER__CAPACITY", "100000000")
            .env("CONNECTOR__SECURITY__HASH_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
            .env("CONNECTOR__SCAN_KEY__CUSTOMER_PREFIX", "ACME")
            .env("CONNECTOR__DIRECTORY__FILE", file)
            .env("CONNECTOR__STORAGE__URL", storage)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self { address: SocketAddr::from(([0; 4], 0)), child, _folder: folder };
        server.address = server.is_ready(&log);
        server
    }

    fn is_ready(&mut self, log: &Path) -> SocketAddr {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = std::fs::read_to_string(log).unwrap();
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(ready) = lines.find(|line| line["message"] == "ready") {
                return ready["api"].as_str().unwrap().parse().unwrap();
            }
            assert!(self.child.try_wait().unwrap().is_none() && Instant::now() < deadline, "not ready: {text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it answers to one scan, without its date.
    pub(crate) fn answer(&self) -> String {
        let mut lines = Conversation::begin(self.address).ask(0);
        lines.retain(|line| !line.starts_with("date: "));
        lines.sort_unstable();
        lines.join("\n")
    }

    /// Asks so many times, one after the other, over one connection.
    pub(crate) fn answer_all(&self, requests: u64, is_new: bool) {
        let mut conversation = Conversation::begin(self.address);
        for number in 0..requests {
            let answer = conversation.ask(if is_new { number } else { 0 });
            assert!(answer[0].contains(" 200 "), "{answer:?}");
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success(), "kill");
        self.child.wait().unwrap();
    }

    /// Processor time that it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        // Fields 14 and 15, behind a name that may hold anything, in hundredths.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let ticks: u64 = rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where databases stand while they are measured: on a disk, which a system's folder for what is temporary may not be.
pub(crate) fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Requests and answers over one connection.
struct Conversation(BufReader<TcpStream>);

impl Conversation {
    fn begin(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    /// The lines of the answer to a scan of an event of this number, the last one its body.
    fn ask(&mut self, event: u64) -> Vec<String> {
        let body = json!({
            "requestId": "00000000-0000-4000-8000-000000000000", "identityKey": key(), "storeId": STORE,
            "authEvent": { "id": format!("11111111-2222-4333-8444-{event:012x}"), "timestamp": "2026-11-28T12:00:00Z", "location": "ENTRY" },
            "keyChannel": "OPTICAL",
        })
        .to_string();
        let head = format!(
            "POST {IDENTITY_KEYS} HTTP/1.1\r\nHost: connector\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all((head + &body).as_bytes()).unwrap();
        let mut lines: Vec<String> =
            self.0.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        lines.push(String::from_utf8(body).unwrap());
        lines
    }
}
