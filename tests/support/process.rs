//! The binary as a child process: its output, its log, its ports, and how it ends.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::checks::repeat_until;
use super::server::{Answer, MANAGEMENT_TOKEN, client, environment, file_with};
use super::signals::signal;
use super::{IDENTITY_KEYS, secrets};

/// The maximum time for a process to print an expected line, or to end; longer than the deadline of a start.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary as a child process. It is killed when dropped.
pub(crate) struct Process {
    /// The URL of the API; empty unless the process was started by a function that waits until it is ready.
    pub(crate) api: String,
    /// The URL of the management port, like `api`.
    pub(crate) management: String,
    child: Child,
    stdout: Output,
    stderr: Output,
    /// The token of the management port.
    token: String,
}

/// The subcommands that print secrets on standard output.
const PRINT_SECRETS: [&str; 2] = ["demo", "scan-key"];

/// Exit code and output of a process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Whether this line is the last one that is read from standard output, or from the log. Then the pipe stays open, and
/// a process that writes more is blocked.
type IsLast = fn(&str) -> bool;

const NONE_IS_LAST: [IsLast; 2] = [|_| false; 2];

impl Process {
    /// Starts `demo` on free ports with these settings, and waits until it is ready.
    pub(crate) async fn demo(settings: &[(&str, &str)]) -> Self {
        Self::start("demo", settings).await
    }

    /// Starts `demo` with this directory file.
    pub(crate) async fn with_directory(directory: &Value, settings: &[(&str, &str)]) -> Self {
        let file = file_with(directory.to_string());
        Self::demo(&[&[("directory.file", file.path().to_str().unwrap())], settings].concat()).await
    }

    /// Starts `serve` or `demo` on free ports, and waits until it is ready. `subcommand` may include arguments without
    /// spaces.
    pub(crate) async fn start(subcommand: &str, settings: &[(&str, &str)]) -> Self {
        Self::run(&subcommand.split(' ').collect::<Vec<_>>(), settings).until_ready()
    }

    /// Starts `demo` with environment variables that are not settings.
    pub(crate) async fn with_variables(settings: &[(&str, &str)], variables: &[(&str, &str)]) -> Self {
        Self::spawn(&["demo"], settings, variables, NONE_IS_LAST).until_ready()
    }

    /// Starts `demo`. Its log is read only until the process is ready.
    pub(crate) async fn with_unread_log(settings: &[(&str, &str)]) -> Self {
        Self::spawn(&["demo"], settings, &[], [|_| false, |line| ready_ports(line).is_some()]).until_ready()
    }

    /// Runs a subcommand with its arguments, on free ports, without waiting.
    pub(crate) fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::spawn(arguments, settings, &[], NONE_IS_LAST)
    }

    /// Runs a subcommand, and waits for the first line on standard output. The rest is not read.
    pub(crate) fn run_with_unread_output(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let process = Self::spawn(arguments, settings, &[], [|_| true, |_| false]);
        process.wait_for_output("");
        process
    }

    fn spawn(
        arguments: &[&str],
        settings: &[(&str, &str)],
        variables: &[(&str, &str)],
        [last_printed, last_logged]: [IsLast; 2],
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
            .args(arguments)
            .envs(environment(defaults.iter().chain(settings)))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = Output::read(child.stdout.take().unwrap(), last_printed);
        let stderr = Output::read(child.stderr.take().unwrap(), last_logged);
        let token = settings.iter().rfind(|(name, _)| *name == "management.token");
        let token = token.map_or(MANAGEMENT_TOKEN, |(_, token)| token).to_owned();
        Self { api: String::new(), management: String::new(), child, stdout, stderr, token }
    }

    /// Waits for the log line `ready`, which names the ports.
    fn until_ready(mut self) -> Self {
        let (_, [api, management]) = self.stderr.find(0, "the ports", ready_ports);
        (self.api, self.management) = (api, management);
        self
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
        self.stdout.wait_for(part)
    }

    /// Waits for the next line of the log that contains this text, and returns it.
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        self.stderr.wait_for(part)
    }

    /// Kills the process, like a crash.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Limits the size of the files of the process, to simulate a full disk; `None` removes the limit.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        self.limit(&format!("--fsize={limit}:unlimited"));
    }

    /// Limits the number of open files of the process from now on.
    pub(crate) fn limit_open_files(&self, files: usize) {
        self.limit(&format!("--nofile={files}:"));
    }

    fn limit(&self, limit: &str) {
        let pid = format!("--pid={}", self.child.id());
        assert!(Command::new("prlimit").args([&pid, limit]).status().unwrap().success(), "prlimit");
    }

    /// Sends a signal by its name, such as `TERM`, after checking the metrics for secrets.
    pub(crate) fn signal(&self, name: &str) {
        secrets::assert_none_in_metrics(&self.management, &self.token);
        self.signal_only(name);
    }

    /// Sends a signal without checking the metrics, which the process cannot answer.
    pub(crate) fn signal_only(&self, name: &str) {
        signal(name, &[self.child.id()]);
    }

    /// Stops the process with SIGTERM, and returns exit code and output.
    pub(crate) fn stop(self) -> Ended {
        self.signal("TERM");
        self.wait_for_end()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the process has ended, and returns exit code and output.
    pub(crate) fn wait_for_end(mut self) -> Ended {
        let code = wait(&mut self.child).code();
        let [stdout, stderr] = self.written();
        Ended { code, stdout, stderr }
    }

    /// The complete output, checked for secrets. To be called after the process has ended.
    fn written(&mut self) -> [String; 2] {
        let written = [&mut self.stdout, &mut self.stderr].map(Output::end);
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

/// The lines that a process writes to a pipe.
struct Output {
    lines: Arc<Mutex<Vec<String>>>,
    /// Reads the pipe, since a full one would block the process. The result keeps it open.
    reader: Option<JoinHandle<Box<dyn Send>>>,
    /// The number of lines before the next one to wait for.
    seen: Cell<usize>,
}

impl Output {
    fn read(pipe: impl Read + Send + 'static, is_last: IsLast) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let read = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe).lines();
            while let Some(Ok(line)) = pipe.next() {
                let is_last = is_last(&line);
                read.lock().unwrap().push(line);
                if is_last {
                    break;
                }
            }
            Box::new(pipe) as Box<dyn Send>
        });
        Self { lines, reader: Some(reader), seen: Cell::new(0) }
    }

    /// Waits for the first line after `skip` others of which `read` returns a value. Returns its index and the value.
    fn find<T>(&self, skip: usize, what: &str, read: impl Fn(&str) -> Option<T>) -> (usize, T) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let has_ended = self.reader.as_ref().is_none_or(JoinHandle::is_finished);
            let value_of = |(index, line): (usize, &String)| Some((index, read(line)?));
            if let Some(found) = self.lines.lock().unwrap().iter().enumerate().skip(skip).find_map(value_of) {
                return found;
            }
            let is_possible = !has_ended && Instant::now() < deadline;
            assert!(is_possible, "the process has not written {what:?}:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10)); // poll until the deadline above
        }
    }

    /// Waits for the next line that contains this text, and returns it.
    fn wait_for(&self, part: &str) -> String {
        let (index, line) = self.find(self.seen.get(), part, |line| line.contains(part).then(|| line.to_owned()));
        self.seen.set(index + 1);
        line
    }

    /// Everything that was read until now.
    fn text(&self) -> String {
        self.lines.lock().unwrap().iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// Everything that was read from a process that has ended.
    fn end(&mut self) -> String {
        drop(self.reader.take().unwrap().join().unwrap());
        self.text()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If the process has ended, `wait_for_end` has checked its output.
        if self.stderr.reader.is_some() {
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
