//! The limit of open files: the start checks it, and a connector that reaches it recovers.

use crate::trials::{apply, test};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::checks::{PATIENCE, repeat_until};
use crate::support::{MANAGEMENT_TOKEN, Process, environment};

/// Runs `serve` in memory with the limit of open files that `ulimit` sets, stops it once it is ready, and returns its
/// exit code and log.
fn serve_and_stop_within(ulimit: &str, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let defaults = [("server.bind", "127.0.0.1:0"), ("management.bind", "127.0.0.1:0"), ("storage.url", "memory:")];
    // `timeout` passes SIGTERM on. Its own limit ends a process that neither becomes ready nor exits.
    let script = format!("ulimit {ulimit} || exit 99; exec timeout --preserve-status 60 \"$0\" serve");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_identity-connector")])
        .envs(environment(defaults.iter().chain(settings)));
    run_until_ready(command)
}

/// Runs `serve`, stops it once it is ready, and returns its exit code and log.
pub(crate) fn run_until_ready(mut command: Command) -> (Option<i32>, String) {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("\"message\":\"ready\"") {
            assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success(), "kill");
        }
        log = format!("{log}{line}\n");
    }
    (child.wait().unwrap().code(), log)
}

/// Reads metrics over one connection. A client with a pool may open a second one, which is not accepted when no file
/// descriptor is left.
struct Watcher {
    connection: BufReader<TcpStream>,
}

impl Watcher {
    fn connect(process: &Process) -> Self {
        let connection = TcpStream::connect(process.management.strip_prefix("http://").unwrap()).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { connection: BufReader::new(connection) }
    }

    /// Number of API connections that could not be accepted.
    fn accept_errors(&mut self) -> u64 {
        let request = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MANAGEMENT_TOKEN}\r\n\r\n");
        self.connection.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.connection.read_line(&mut line).unwrap();
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                None if line == "\r\n" => break,
                _ => assert!(!line.is_empty(), "the connection was closed"),
            }
        }
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body).unwrap();
        let text = String::from_utf8(body).unwrap();
        let name = "connector_accept_errors_total{port=\"api\"} ";
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
    }
}

#[apply(test)]
fn the_connector_raises_its_limit_as_far_as_it_needs() {
    let (code, log) = serve_and_stop_within("-Sn 256", &[("server.max_connections", "700")]);
    assert_eq!(code, Some(0), "{log}");
    // 700 connections and 64 that are being closed, 32 and 32 on the management port, and 100 other files.
    assert!(log.contains("raised the limit of open files") && log.contains("\"to\":928"), "{log}");
    let (_, log) = serve_and_stop_within("-Sn 1024", &[("server.max_connections", "700")]);
    assert!(!log.contains("the limit of open files"), "the limit is high enough: {log}");
}

#[apply(test)]
fn max_connections_above_the_limit_of_open_files_is_refused() {
    let (code, log) = serve_and_stop_within("-n 512", &[("server.max_connections", "700")]);
    assert_eq!(code, Some(64), "{log}");
    let parts = ["server.max_connections: 732 connections", "need 928 open files", "may have 512", "by 416"];
    let script = "ulimit -n 512 || exit 99; exec \"$0\" check-config";
    let checked = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_identity-connector")]).output().unwrap();
    assert_eq!(checked.status.code(), Some(64), "check-config refuses it as well");
    for output in [log, String::from_utf8(checked.stderr).unwrap()] {
        for part in parts {
            assert!(output.contains(part), "{part:?} is missing from {output}");
        }
    }
    let (code, log) = serve_and_stop_within("-n 512", &[("server.max_connections", "284")]);
    assert_eq!(code, Some(0), "416 connections fewer, as the error says: {log}");
}

#[apply(test)]
fn a_small_limit_is_enough_for_a_few_connections() {
    let (code, log) = serve_and_stop_within("-n 256", &[("server.max_connections", "40")]);
    assert_eq!(code, Some(0), "{log}");
}

/// The listener pauses and retries, logs one warning, and later serves the waiting connections. A stop takes effect
/// meanwhile.
#[apply(test)]
async fn without_free_file_descriptors_the_listener_pauses_and_retries() {
    for stop in [false, true] {
        let process = Process::demo(&[("commerce.enabled", "false")]).await;
        let address = process.api.strip_prefix("http://").unwrap().to_owned();
        let mut watcher = Watcher::connect(&process); // connected before the limit is lowered
        assert_eq!(watcher.accept_errors(), 0);
        // A limit of 0 allows no new descriptor. A limit equal to the number in use could allow one: that number may
        // have included a descriptor that was open only for a moment.
        process.limit_open_files(0);
        let mut waiting = TcpStream::connect(&address).unwrap();
        let began = Instant::now();
        let tries = repeat_until("retries", async || watcher.accept_errors(), |tries| *tries >= 12).await;
        assert!(
            u128::from(tries) < 12 + began.elapsed().as_millis() / 25,
            "the listener retries too often: {tries} in {:?}",
            began.elapsed()
        );
        if stop {
            process.signal_only("TERM");
        } else {
            process.limit_open_files(1024);
            waiting.write_all(b"GET /livez HTTP/1.0\r\n\r\n").unwrap();
            waiting.set_read_timeout(Some(PATIENCE)).unwrap();
            let answer = std::io::read_to_string(&mut waiting).unwrap();
            assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
            process.signal("TERM");
        }
        let ended = process.wait_for_end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let is_warning =
            |line: &&str| line.contains("cannot accept new connections") && line.contains("\"port\":\"api\"");
        assert_eq!(
            ended.stderr.lines().filter(is_warning).count(),
            1,
            "logged once, not at each of a dozen attempts: {}",
            ended.stderr
        );
    }
}
