//! Redis or Valkey servers of tests.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use uuid::Uuid;

use super::postgres::free_port;
use super::secrets;
use super::signals::signal;

/// The maximum time for a start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A Redis or Valkey server for one test, on loopback, with a password and without persistence. It is killed when
/// dropped.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    /// The password also shows that the server on this port is ours: another process may have taken the port.
    password: String,
    folder: TempDir,
}

impl Redis {
    /// Returns what must be installed to start a server; `None` if nothing is missing.
    pub(crate) fn missing() -> Option<String> {
        binary().is_none().then(|| "needs redis-server or valkey-server (Debian: redis-server)".to_owned())
    }

    /// Starts the server, and waits until it answers.
    pub(crate) fn start() -> Self {
        let (folder, password) = (TempDir::new().unwrap(), Uuid::new_v4().simple().to_string());
        secrets::keep(&password);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let port = free_port();
            if let Some(child) = spawn(port, &password, &folder, deadline) {
                return Self { child, port, password, folder };
            }
        }
    }

    /// The value for `rate_limit.url`.
    pub(crate) fn url(&self) -> String {
        url(self.port, &self.password)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// A new connection to the server.
    pub(crate) fn connection(&self) -> redis::Connection {
        connect(&self.url()).unwrap()
    }

    /// Suspends the server, so that it accepts connections but does not answer.
    pub(crate) fn stop(&self) {
        signal("STOP", &[self.child.id()]);
    }

    /// Continues after [`Redis::stop`].
    pub(crate) fn continue_process(&self) {
        signal("CONT", &[self.child.id()]);
    }

    /// Kills the server. Its data is lost.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the server again on the same port after [`Redis::kill`].
    pub(crate) fn restart(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut tries = std::iter::repeat_with(|| spawn(self.port, &self.password, &self.folder, deadline));
        self.child = tries.find_map(|child| child).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let candidates = ["redis-server", "valkey-server"];
    candidates.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

fn url(port: u16, password: &str) -> String {
    format!("redis://:{password}@127.0.0.1:{port}")
}

fn connect(url: &str) -> redis::RedisResult<redis::Connection> {
    let connection = redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(1))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(connection)
}

/// Starts a server. Returns `None` if it ends immediately, because another process has the port.
fn spawn(port: u16, password: &str, folder: &TempDir, deadline: Instant) -> Option<Child> {
    let mut child = Command::new(binary().unwrap())
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", password])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    loop {
        let answers = connect(&url(port, password)).is_ok(); // our password is accepted, so it is our server
        if child.try_wait().unwrap().is_some() {
            assert!(Instant::now() < deadline, "no redis-server starts");
            return None;
        }
        if answers {
            return Some(child);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("redis-server did not answer");
        }
        std::thread::sleep(Duration::from_millis(10)); // poll until the deadline above
    }
}
