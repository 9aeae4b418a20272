//! The servers that are measured, each a process on its own processor.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::connector::Connector;
use crate::conversation::{self, Conversation};
use crate::keys::Keys;
use crate::load::{self, Outcome, Scans};
use crate::postgres::Postgres;
use crate::process::Process;
use crate::programs::Programs;

/// The processor of the measured server.
const PROCESSOR: &str = "0";
pub(crate) const STORE: &str = "STORE-001";
/// The file of a SQLite database, in its folder.
pub(crate) const DATABASE: &str = "connector.db";
/// The hash key of all databases.
pub(crate) const HASH_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// The number of shoppers, each with a Scan Key Code.
pub(crate) const SHOPPERS: u64 = 1000;

/// The baseline, the peer (new scans) and the connector, by the measured kind of scans and where they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Baseline,
    Peer,
    PeerSqlite,
    Memory,
    Replay,
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Peer => "peer in Go, memory",
            Self::PeerSqlite => "peer in Go, SQLite",
            Self::Memory => "new scans, memory",
            Self::Replay => "retries of one scan, memory",
            Self::Sqlite => "new scans, SQLite",
            Self::Postgres => "new scans, PostgreSQL",
        }
    }

    /// The scans for this kind.
    pub(crate) fn scans(self) -> Scans {
        let codes = Keys::codes(SHOPPERS);
        if self == Self::Replay { Scans::Same(codes) } else { Scans::New(codes) }
    }
}

pub(crate) struct Server<'p> {
    pub(crate) address: SocketAddr,
    runs: Runs,
    // Dropped after the server that uses them.
    _folder: TempDir,
    _database: Option<Database<'p>>,
}

enum Runs {
    Baseline(Process),
    Peer(Process),
    Connector(Connector),
}

/// A database of a PostgreSQL server. It is deleted when dropped, so that the server has no background work for it.
struct Database<'p> {
    server: &'p Postgres,
    url: String,
}

impl<'p> Database<'p> {
    fn new(server: &'p Postgres) -> Self {
        Self { server, url: server.database() }
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        self.server.discard(&self.url);
    }
}

impl<'p> Server<'p> {
    /// Starts a server on a free port with an empty ledger, and waits until it is ready.
    pub(crate) fn start(kind: Kind, programs: &'p Programs) -> Self {
        let folder = TempDir::new_in(folder()).unwrap();
        let mut database = None;
        let (address, runs) = match kind {
            Kind::Baseline => {
                let mut command = pinned(&std::env::current_exe().unwrap());
                let (address, process) = start(command.arg("baseline"));
                (address, Runs::Baseline(process))
            }
            Kind::Peer | Kind::PeerSqlite => {
                let mut command = pinned(programs.peer.as_ref().unwrap());
                command.env("GOMAXPROCS", "1");
                if kind == Kind::PeerSqlite {
                    command.arg(folder.path().join(DATABASE));
                }
                let (address, process) = start(&mut command);
                (address, Runs::Peer(process))
            }
            Kind::Memory | Kind::Replay | Kind::Sqlite | Kind::Postgres => {
                let storage = match kind {
                    Kind::Sqlite => sqlite(folder.path()),
                    Kind::Postgres => database.insert(Database::new(programs.postgres.as_ref().unwrap())).url.clone(),
                    _ => "memory:".to_owned(),
                };
                let mut command = connector(&storage);
                let directory = Keys::codes(SHOPPERS).directory_file(folder.path());
                command.arg("serve").env("CONNECTOR__DIRECTORY__FILE", directory);
                let connector = Connector::start(command, folder.path());
                (connector.api, Runs::Connector(connector))
            }
        };
        Self { address, runs, _folder: folder, _database: database }
    }

    /// The answer to one scan and to its retry, without its date. Names of headers may differ in case.
    pub(crate) fn answer(&self) -> String {
        let mut conversation = Conversation::begin(self.address);
        let [answer, retry] = [(); 2].map(|()| {
            let mut lines = conversation.ask(&scan(0));
            let body = lines.pop().unwrap();
            lines.iter_mut().for_each(|line| line.make_ascii_lowercase());
            lines.retain(|line| !line.starts_with("date: "));
            lines.sort_unstable();
            format!("{}\n{body}", lines.join("\n"))
        });
        assert_eq!(answer, retry, "the answer to a retry");
        answer
    }

    /// Sends this number of requests one after the other, over one connection.
    pub(crate) fn answer_all(&self, requests: u64, is_new: bool) {
        let mut conversation = Conversation::begin(self.address);
        for number in 0..requests {
            let answer = conversation.ask(&scan(if is_new { number } else { 0 }));
            assert!(answer[0].contains(" 200 "), "{answer:?}");
        }
    }

    /// Runs the load, after one scan for each shopper and a warm-up run.
    pub(crate) fn measure(&self, scans: &Scans, connections: usize, time: Duration) -> Outcome {
        self.answer_all(SHOPPERS, true);
        let run = |time| match &self.runs {
            Runs::Baseline(process) | Runs::Peer(process) => {
                load::run(self.address, process.id(), scans, connections, time)
            }
            Runs::Connector(connector) => load::ask(connector, scans, connections, time),
        };
        let (warm, outcome) = (run(load::WARM), run(time));
        if let Runs::Peer(_) = self.runs {
            let answer = Conversation::begin(self.address).ask("GET /events HTTP/1.1\r\nHost: peer\r\n\r\n");
            let recorded: u64 = answer.last().unwrap().parse().unwrap();
            let answered = SHOPPERS + warm.requests + outcome.requests;
            let expected = scans.new_events(answered, 2 * u64::try_from(connections).unwrap());
            assert!(expected.contains(&recorded), "{recorded} events recorded by the peer, expected {expected:?}");
        }
        outcome
    }
}

/// Starts a server that prints its address.
fn start(command: &mut Command) -> (SocketAddr, Process) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (line.trim().parse().unwrap(), Process::new(child))
}

/// The command for the connector on its processor. The caller adds the subcommand.
pub(crate) fn connector(storage: &str) -> Command {
    let mut command = pinned(Path::new(env!("CARGO_BIN_EXE_identity-connector")));
    command
        .env("CONNECTOR__LEDGER__CAPACITY", "100000000") // more than the default
        .env("CONNECTOR__SECURITY__HASH_KEY", HASH_KEY)
        .env("CONNECTOR__SCAN_KEY__CUSTOMER_PREFIX", "ACME")
        .env("CONNECTOR__STORAGE__URL", storage);
    command
}

fn pinned(binary: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", PROCESSOR]).arg(binary);
    command
}

/// The URL of a database in a folder.
pub(crate) fn sqlite(folder: &Path) -> String {
    format!("sqlite://{}", folder.join(DATABASE).display())
}

/// The folder of the databases. It is on a disk; the system's temporary folder may be in memory.
pub(crate) fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A scan with the event of this number; the shoppers are used in turn.
fn scan(event: u64) -> String {
    let shown = Keys::codes(SHOPPERS).encoded(event % SHOPPERS);
    conversation::scan(&shown, &format!("11111111-2222-4333-8444-{event:012x}"), "ENTRY")
}
