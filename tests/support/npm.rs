//! Scripts of `tests/npm`, and whether Node and their packages are installed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// The oldest supported version of Node.
const OLDEST: u32 = 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/npm")
}

/// Returns what must be installed to run a script that needs this package; `None` if nothing is missing.
pub(crate) fn missing(package: &str) -> Option<String> {
    let version = Command::new("node").arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        return Some(format!("needs Node {OLDEST} or later (Debian: nodejs npm)"));
    }
    let is_there = folder().join("node_modules").join(package).is_dir();
    (!is_there).then(|| format!("needs {package} (npm ci --prefix tests/npm)"))
}

/// Runs a script of `tests/npm`. The error is its standard error.
pub(crate) async fn run(name: &str, arguments: &[&str], environment: &[(&str, PathBuf)]) -> Result<(), String> {
    let mut command = tokio::process::Command::new("node");
    command.arg(folder().join(name)).args(arguments).envs(environment.iter().cloned()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A script of `tests/npm` as a child process. It ends when its standard input closes, which also happens if this
/// process crashes.
#[derive(Debug)]
pub(crate) struct Script {
    child: Child,
    /// Closing this ends the script.
    _input: ChildStdin,
}

impl Script {
    /// Starts a script and waits until it prints `ready`. Returns `None` if it ends before.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Option<Self> {
        let mut child = Command::new("node")
            .arg(folder().join(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
        let script = Self { child, _input: input };
        is_ready.then_some(script)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
