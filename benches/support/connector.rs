//! A connector for benchmarks: the binary as a child process, on free ports, with its JSON log in a file.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::Process;

/// The maximum time for a start, which may have to read a million keys.
const PATIENCE: Duration = Duration::from_secs(300);
/// The interval for polling the log, and so the precision of [`Connector::ready_after`].
const POLL_INTERVAL: Duration = Duration::from_millis(1);

pub(crate) struct Connector {
    pub(crate) api: SocketAddr,
    management: SocketAddr,
    /// The time from the start to the log line `ready`.
    pub(crate) ready_after: Duration,
    process: Process,
    log: File,
}

impl Connector {
    /// Starts a command that runs the binary, and waits until the connector is ready. The log is written to the folder.
    pub(crate) fn start(mut command: Command, folder: &Path) -> Self {
        let path = folder.join("log");
        // In append mode, so that writing continues at the end after the file was truncated.
        let log = File::options().create(true).append(true).open(&path).unwrap();
        log.set_len(0).unwrap();
        command
            .env("CONNECTOR__SERVER__BIND", "127.0.0.1:0")
            .env("CONNECTOR__MANAGEMENT__BIND", "127.0.0.1:0")
            // All requests come from one address here.
            .env("CONNECTOR__RATE_LIMIT__REQUESTS_PER_SECOND", "1000000000")
            .env("CONNECTOR__RATE_LIMIT__BURST", "1000000000")
            .env("CONNECTOR__LOG__FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone().unwrap());
        let began = Instant::now();
        let process = Process::new(command.spawn().unwrap());
        let unknown = SocketAddr::from(([0; 4], 0));
        let mut connector = Self { api: unknown, management: unknown, ready_after: Duration::ZERO, process, log };
        let ready = connector.wait_until_ready(&path, began);
        connector.ready_after = began.elapsed();
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        (connector.api, connector.management) = (address("api"), address("management"));
        connector
    }

    /// Waits for the log line `ready`, and returns it.
    fn wait_until_ready(&mut self, log: &Path, began: Instant) -> Value {
        loop {
            let text = std::fs::read_to_string(log).unwrap();
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(ready) = lines.find(|line| line["message"] == "ready") {
                return ready;
            }
            let runs = self.process.is_running();
            assert!(runs && began.elapsed() < PATIENCE, "not ready: {text}");
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// The process id.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Truncates the log, which gets one line for every request.
    pub(crate) fn empty_log(&self) {
        self.log.set_len(0).unwrap();
    }

    /// All metrics in text format.
    pub(crate) fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.management).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: connector\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    }

    /// Sends SIGTERM and waits until the connector has ended.
    pub(crate) fn stop(self) {
        self.process.stop();
    }
}
