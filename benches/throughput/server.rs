//! The servers that are measured, each a process of its own on a processor of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::answers::{self, figure};
use crate::connector::Connector;
use crate::conversation::{self, Conversation};
use crate::load::{self, Outcome, Scans};
use crate::postgres::Postgres;
use crate::process::Process;

/// The processor of whatever is measured.
const PROCESSOR: &str = "0";
pub(crate) const STORE: &str = "STORE-001";
/// The file of a SQLite database, in its folder.
pub(crate) const DATABASE: &str = "connector.db";
/// Under which databases keep their keys here.
pub(crate) const HASH_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SHOPPER: &str = "shopper";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// A Scan Key Code of that token, made at the time of every scan here, as most scans show one.
const CODE: &str = "JWOACME0123456789abcdef0123456789abcdef1795867200";

/// How long what was begun may take to its end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked whether it has.
const GLANCE: Duration = Duration::from_millis(5);

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

    fn scans(self) -> Scans {
        if self == Self::Replay { Scans::Same { key: key() } } else { Scans::New { key: key() } }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    runs: Runs,
    _folder: TempDir,
}

enum Runs {
    Floor(Process),
    Connector(Connector),
}

/// The key of every scan, as it is sent.
fn key() -> String {
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
        if kind == Kind::Floor {
            let mut child = pinned(program, &std::env::current_exe().unwrap())
                .arg("floor")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            return Self {
                address: line.trim().parse().unwrap(),
                runs: Runs::Floor(Process::new(child)),
                _folder: folder,
            };
        }
        let storage = match kind {
            Kind::Sqlite => sqlite(folder.path()),
            Kind::Postgres => postgres.unwrap().database(),
            _ => "memory:".to_owned(),
        };
        let directory = json!({
            "stores": [{ "id": STORE }],
            "shoppers": [{ "id": SHOPPER, "type": "ASSOCIATE" }],
            "recognitionTokens": [{ "token": TOKEN, "shopper": SHOPPER }],
        });
        let file = folder.path().join("directory.json");
        std::fs::write(&file, directory.to_string()).unwrap();
        let mut command = connector(program, &storage);
        command.arg("serve").env("CONNECTOR__DIRECTORY__FILE", file);
        let connector = Connector::start(command, folder.path());
        Self { address: connector.api, runs: Runs::Connector(connector), _folder: folder }
    }

    /// What it answers to one scan, without its date.
    pub(crate) fn answer(&self) -> String {
        let mut lines = Conversation::begin(self.address).ask(&scan(0));
        lines.retain(|line| !line.starts_with("date: "));
        lines.sort_unstable();
        lines.join("\n")
    }

    /// Asks so many times, one after the other, over one connection.
    pub(crate) fn answer_all(&self, requests: u64, is_new: bool) {
        let mut conversation = Conversation::begin(self.address);
        for number in 0..requests {
            let answer = conversation.ask(&scan(if is_new { number } else { 0 }));
            assert!(answer[0].contains(" 200 "), "{answer:?}");
        }
    }

    /// Asks so long over so many connections, once its connections are open and its caches warm. What was begun for the first ones, who hung up in
    /// the middle, is let come to its end: it has places, which there may be too few of. Fails unless each answer is a 200.
    pub(crate) fn measure(&self, kind: Kind, connections: usize, time: Duration) -> Outcome {
        let scans = kind.scans();
        let run = |time| load::run(self.address, self.process(), &scans, connections, time);
        let warm = run(load::WARM);
        if let Runs::Connector(connector) = &self.runs {
            let deadline = Instant::now() + PATIENCE;
            while figure(&connector.metrics(), "connector_places_taken") > 0 {
                assert!(Instant::now() < deadline, "what was begun for those who have hung up does not end");
                std::thread::sleep(GLANCE);
            }
        }
        let outcome = run(time);
        if let Runs::Connector(connector) = &self.runs {
            answers::are_all_good(&connector.metrics(), warm.requests + outcome.requests, 2 * connections);
        }
        outcome
    }

    fn process(&self) -> u32 {
        match &self.runs {
            Runs::Floor(process) => process.id(),
            Runs::Connector(connector) => connector.process(),
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(self) {
        match self.runs {
            Runs::Floor(process) => process.stop(),
            Runs::Connector(connector) => connector.stop(),
        }
    }
}

/// The connector on the processor of whatever is measured, under another program if there is one: to be told what to do and to be started.
pub(crate) fn connector(program: &[String], storage: &str) -> Command {
    let mut command = pinned(program, Path::new(env!("CARGO_BIN_EXE_identity-connector")));
    command
        .env("CONNECTOR__LEDGER__CAPACITY", "100000000") // more than a default remembers
        .env("CONNECTOR__SECURITY__HASH_KEY", HASH_KEY)
        .env("CONNECTOR__SCAN_KEY__CUSTOMER_PREFIX", "ACME")
        .env("CONNECTOR__STORAGE__URL", storage);
    command
}

fn pinned(program: &[String], binary: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", PROCESSOR]).args(program).arg(binary);
    command
}

/// The URL of a database in a folder.
pub(crate) fn sqlite(folder: &Path) -> String {
    format!("sqlite://{}", folder.join(DATABASE).display())
}

/// Where databases stand while they are measured: on a disk, which a system's folder for what is temporary may not be.
pub(crate) fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A scan of an event of this number, by the key that all show.
fn scan(event: u64) -> String {
    conversation::scan(&key(), &format!("11111111-2222-4333-8444-{event:012x}"), "ENTRY")
}
