//! The binary while it starts: the lines that it prints until it is ready or fails.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::secrets;
use super::server::environment;

/// The maximum time for an expected line or the end of the process; longer than the deadline of a start.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary while it starts, or fails to start. It is killed when dropped.
pub(crate) struct Starting {
    child: Child,
    lines: mpsc::Receiver<String>,
    log: Vec<String>,
}

impl Starting {
    /// Runs a subcommand with its arguments, on free ports.
    pub(crate) fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::spawn(arguments, settings, Stdio::null())
    }

    /// Runs a subcommand, and waits for the first byte on its standard output. The rest is not read.
    pub(crate) fn run_with_unread_output(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut process = Self::spawn(arguments, settings, Stdio::piped());
        process.child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        process
    }

    fn spawn(arguments: &[&str], settings: &[(&str, &str)], stdout: Stdio) -> Self {
        let ports = [("server.bind", "127.0.0.1:0"), ("management.bind", "127.0.0.1:0")];
        let mut child = Command::new(env!("CARGO_BIN_EXE_identity-connector"))
            .args(arguments)
            .envs(environment(ports.iter().chain(settings)))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let logged = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || logged.map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines, log: Vec::new() }
    }

    /// Waits for a line of the log that contains this text, and returns it.
    #[track_caller]
    pub(crate) fn wait_for_log(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.log.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
        panic!("{part:?} is not logged: {:#?}", self.log);
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the process has ended, and returns its exit code and all lines of the log.
    pub(crate) fn wait_for_end(mut self) -> (Option<i32>, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.log.push(line);
        }
        assert!(Instant::now() < deadline, "it does not end: {:#?}", self.log);
        let code = self.child.wait().unwrap().code();
        secrets::assert_none_in(&self.log.join("\n"), "what a process has written");
        (code, std::mem::take(&mut self.log))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A listener whose connections stay in the accept queue: it never sends a byte. Also returns its address.
pub(crate) fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}
