//! A connector of a benchmark's own: the binary as a process, on free ports, with the log of production in a file.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::Process;

/// How long a start may take: one with a million keys to be read takes its time.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often its log is looked at, and so how exactly it is known when it was ready.
const GLANCE: Duration = Duration::from_millis(1);

pub(crate) struct Connector {
    pub(crate) api: SocketAddr,
    management: SocketAddr,
    /// From its being started to its line "ready".
    pub(crate) ready_after: Duration,
    process: Process,
    log: File,
}

impl Connector {
    /// Starts a command that runs the binary, and returns once it is ready. Its log goes to the folder.
    pub(crate) fn start(mut command: Command, folder: &Path) -> Self {
        let path = folder.join("log");
        // Whatever is written goes to the end, also where the file has been emptied meanwhile.
        let log = File::options().create(true).append(true).open(&path).unwrap();
        log.set_len(0).unwrap();
        command
            .env("CONNECTOR__SERVER__BIND", "127.0.0.1:0")
            .env("CONNECTOR__MANAGEMENT__BIND", "127.0.0.1:0")
            // All that comes, comes from one address here.
            .env("CONNECTOR__RATE_LIMIT__REQUESTS_PER_SECOND", "1000000000")
            .env("CONNECTOR__RATE_LIMIT__BURST", "1000000000")
            .env("CONNECTOR__LOG__FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone().unwrap());
        let began = Instant::now();
        let process = Process::new(command.spawn().unwrap());
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut connector = Self { api: nowhere, management: nowhere, ready_after: Duration::ZERO, process, log };
        let ready = connector.line_of_ready(&path, began);
        connector.ready_after = began.elapsed();
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        (connector.api, connector.management) = (address("api"), address("management"));
        connector
    }

    fn line_of_ready(&mut self, log: &Path, began: Instant) -> Value {
        loop {
            let text = std::fs::read_to_string(log).unwrap();
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(ready) = lines.find(|line| line["message"] == "ready") {
                return ready;
            }
            let runs = self.process.is_running();
            assert!(runs && began.elapsed() < PATIENCE, "not ready: {text}");
            std::thread::sleep(GLANCE);
        }
    }

    /// Its number among the processes.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Empties its log: a line a request is much, after some millions of them.
    pub(crate) fn empty_log(&self) {
        self.log.set_len(0).unwrap();
    }

    /// All its metrics, in their text format.
    pub(crate) fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.management).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: connector\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(self) {
        self.process.stop();
    }
}
