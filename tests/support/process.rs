//! The binary as a child process: its output, its log, its ports, and how it ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::checks::repeat_until;
use super::server::{Answer, MANAGEMENT_TOKEN, client, environment};
use super::{IDENTITY_KEYS, secrets};

/// The maximum time for a process to start, to print an expected line, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary as a child process. It is killed when dropped.
pub(crate) struct Process {
    pub(crate) api: String,
    pub(crate) management: String,
    child: Child,
    printed: mpsc::Receiver<String>,
    logged: mpsc::Receiver<String>,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    /// Dropped when the process has ended.
    end: Option<mpsc::Sender<()>>,
    /// The token of the management port.
    token: String,
}

/// The subcommands that print secrets on standard output.
const PRINT_SECRETS: [&str; 2] = ["demo", "scan-key"];

/// Exit code and output of a process that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts `demo` on free ports with these settings, and waits until it is ready.
    pub(crate) async fn demo(settings: &[(&str, &str)]) -> Self {
        Self::start("demo", settings).await
    }

    /// Starts `demo` with this directory file.
    pub(crate) async fn with_directory(directory: &Value, settings: &[(&str, &str)]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), directory.to_string()).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        Self::demo(&[&[("directory.file", path.as_str())], settings].concat()).await
    }

    /// Starts `serve` or `demo` on free ports, and waits for the log line `ready`, which names the ports. `subcommand`
    /// may include arguments without spaces.
    pub(crate) async fn start(subcommand: &str, settings: &[(&str, &str)]) -> Self {
        Self::spawn(subcommand, settings, &[], |_| false).await
    }

    /// Starts `demo` with environment variables that are not settings.
    pub(crate) async fn with_variables(settings: &[(&str, &str)], variables: &[(&str, &str)]) -> Self {
        Self::spawn("demo", settings, variables, |_| false).await
    }

    /// Starts `demo`. Its log is read only until the process is ready, while the pipe stays open.
    pub(crate) async fn with_unread_log(settings: &[(&str, &str)]) -> Self {
        Self::spawn("demo", settings, &[], |is_ready| is_ready).await
    }

    /// `stop_reading` returns whether to stop reading the log. Its argument is whether the line was `ready`.
    async fn spawn(
        subcommand: &str,
        settings: &[(&str, &str)],
        variables: &[(&str, &str)],
        stop_reading: fn(bool) -> bool,
    ) -> Self {
        let defaults = [
            ("server.bind", "127.0.0.1:0"),
            ("management.bind", "127.0.0.1:0"),
            ("management.token", MANAGEMENT_TOKEN),
            ("log.format", "json"),
        ];
        // With SIGXFSZ ignored, a write beyond the file size limit returns an error, as on a full disk.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_identity-connector")])
            .args(subcommand.split(' '))
            .envs(environment(defaults.iter().chain(settings)))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (print, printed) = mpsc::channel();
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            while let Some(Ok(line)) = lines.next() {
                text = format!("{text}{line}\n");
                let _ = print.send(line); // fails if the receiver is dropped
            }
            text
        });
        let (ready, is_ready) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let (log, logged) = mpsc::channel();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // Read to the end: a full pipe would block the process.
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            while let Some(Ok(line)) = lines.next() {
                let ports = ready_ports(&line);
                text.push_str(&line);
                text.push('\n');
                let _ = log.send(line); // fails if the receiver is dropped
                let is_stuck = stop_reading(ports.is_some());
                if let Some(ports) = ports {
                    let _ = ready.send(ports);
                }
                if is_stuck {
                    let _ = ended.recv(); // keeps the pipe open without reading
                    break;
                }
            }
            text
        });
        let Ok([api, management]) = is_ready.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("{subcommand} did not become ready:\n{}", stderr.join().unwrap());
        };
        let token = settings.iter().rfind(|(name, _)| *name == "management.token");
        let token = token.map_or(MANAGEMENT_TOKEN, |(_, token)| token).to_owned();
        Self {
            api,
            management,
            child,
            printed,
            logged,
            stdout: Some(stdout),
            stderr: Some(stderr),
            end: Some(end),
            token,
        }
    }

    /// Sends a scan.
    pub(crate) async fn verify(&self, body: &Value) -> Answer {
        self.post(body.to_string()).await
    }

    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> Answer {
        let request = client().post(format!("{}{IDENTITY_KEYS}", self.api)).body(body);
        Answer::read(request.send().await.unwrap()).await
    }

    /// The answer of the management port, as text.
    pub(crate) async fn get(&self, path: &str) -> String {
        client().get(format!("{}{path}", self.management)).send().await.unwrap().text().await.unwrap()
    }

    /// The value of a metric, such as `connector_breaker_open{backend="database"}`.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    }

    /// Waits until a metric has this value.
    pub(crate) async fn wait_for_metric(&self, name: &str, value: f64) {
        repeat_until(name, async || self.metric(name).await, |now| *now == value).await;
    }

    /// The status in `/readyz`.
    pub(crate) async fn readiness(&self) -> String {
        let answer: Value = serde_json::from_str(&self.get("/readyz").await).unwrap();
        answer["status"].as_str().unwrap().to_owned()
    }

    /// Waits until `/readyz` has this status.
    pub(crate) async fn wait_for_readiness(&self, status: &str) {
        repeat_until("/readyz", async || self.readiness().await, |now| now == status).await;
    }

    /// Waits for the next line on standard output that contains this text, and returns it.
    pub(crate) fn wait_for_output(&self, part: &str) -> String {
        next(&self.printed, part).unwrap_or_else(|| panic!("nothing printed has {part}"))
    }

    /// Waits for the next line of the log that contains this text, and returns it.
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        next(&self.logged, part).unwrap_or_else(|| panic!("nothing logged has {part}"))
    }

    /// Kills the process, like a crash.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Limits the size of the files of the process, to simulate a full disk; `None` removes the limit.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let (pid, limit) = (format!("--pid={}", self.child.id()), format!("--fsize={limit}:unlimited"));
        assert!(Command::new("prlimit").args([pid, limit]).status().unwrap().success(), "prlimit");
    }

    /// Limits the number of open files of the process from now on.
    pub(crate) fn limit_open_files(&self, files: usize) {
        let (pid, limit) = (format!("--pid={}", self.child.id()), format!("--nofile={files}:"));
        assert!(Command::new("prlimit").args([pid, limit]).status().unwrap().success(), "prlimit");
    }

    /// Sends a signal by its name, such as `TERM`, after checking the metrics for secrets.
    pub(crate) fn signal(&self, name: &str) {
        secrets::assert_none_in_metrics(&self.management, &self.token);
        self.signal_only(name);
    }

    /// Sends a signal without checking the metrics, which the process cannot answer.
    pub(crate) fn signal_only(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// Stops the process with SIGTERM, and returns exit code and output.
    pub(crate) fn stop(self) -> Ended {
        self.signal("TERM");
        self.wait_for_end()
    }

    /// Waits until the process has ended, and returns exit code and output.
    pub(crate) fn wait_for_end(mut self) -> Ended {
        let code = wait(&mut self.child).code();
        let [stdout, stderr] = self.written();
        Ended { code, stdout, stderr }
    }

    /// The complete output, checked for secrets. To be called after the process has ended.
    fn written(&mut self) -> [String; 2] {
        self.end = None;
        let written = [&mut self.stdout, &mut self.stderr].map(|text| text.take().unwrap().join().unwrap());
        let [_, stderr] = &written; // the demo prints keys on standard output
        secrets::assert_none_in(stderr, "what a process has written");
        written
    }
}

impl Ended {
    /// Runs a subcommand that ends by itself.
    pub(crate) fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let output = Command::new(env!("CARGO_BIN_EXE_identity-connector"))
            .args(arguments)
            .envs(environment(settings))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        secrets::assert_none_in(&stderr, "standard error");
        if !arguments.first().is_some_and(|subcommand| PRINT_SECRETS.contains(subcommand)) {
            secrets::assert_none_in(&stdout, "standard output");
        }
        Self { code: output.status.code(), stdout, stderr }
    }

    /// The lines of a log in JSON.
    pub(crate) fn log(&self) -> Vec<Value> {
        let line = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line} in {}", self.stderr));
        self.stderr.lines().map(line).collect()
    }

    /// The error of `serve` or `demo` at the start: the message of the last line if the log is JSON, otherwise the text
    /// after `error:`.
    pub(crate) fn error(&self) -> String {
        let last = self.stderr.lines().last().unwrap_or_default();
        match serde_json::from_str::<Value>(last) {
            Ok(line) => {
                assert_eq!(line["level"], "ERROR", "{}", self.stderr);
                line["message"].as_str().unwrap().to_owned()
            }
            Err(_) => self.stderr.rsplit_once("error: ").unwrap().1.to_owned(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If the process has ended, `wait_for_end` has checked its output.
        if self.stderr.is_some() {
            secrets::assert_none_in_metrics(&self.management, &self.token);
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.written();
        }
    }
}

/// The URLs of the API and the management port, from the log line `ready` in JSON or text.
fn ready_ports(line: &str) -> Option<[String; 2]> {
    let json = serde_json::from_str::<Value>(line).unwrap_or_default();
    let in_text = |name: &str| Some(line.split_once(&format!(" {name}="))?.1.split(' ').next()?.to_owned());
    let is_ready = json["message"] == "ready" || line.contains(" ready api=");
    let port = |name: &str| json[name].as_str().map(str::to_owned).or_else(|| in_text(name));
    is_ready.then(|| ["api", "management"].map(|name| format!("http://{}", port(name).unwrap())))
}

/// The next line that contains this text.
fn next(lines: &mpsc::Receiver<String>, part: &str) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    let until_deadline = || lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
    std::iter::from_fn(until_deadline).find(|line| line.contains(part))
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process did not end");
        std::thread::sleep(Duration::from_millis(10)); // poll until the deadline above
    }
}
