//! PostgreSQL servers of tests: started from the installed programs, frozen, killed and restarted, and a database for
//! each test.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tempfile::TempDir;
use uuid::Uuid;

use super::installed::{User, postgres_binaries};
use super::signals::{children, is_running, signal};

/// The maximum time for a server to start, including crash recovery.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ports below the system's ephemeral range, so that no other process gets a server's port while the server is down.
const PORTS: std::ops::Range<u16> = 15_000..30_000;

/// Runs a server until standard input closes, which happens also if the test process dies. Then it stops the server and
/// removes the folder, unless the last input was `keep`. Arguments: the folder, then the server's command line.
const WATCH: &str = r#"
trap '' HUP INT TERM
folder=$1; shift
exec 2>>"$folder/log"
"$@" >&2 </dev/null &
echo $!
read -r word
kill -CONT $!; kill -QUIT $!
wait $!
[ "$word" = keep ] || rm -rf "$folder"
"#;

/// A PostgreSQL server for one test, on a free loopback port. When dropped, it is stopped and its folder removed.
#[derive(Debug)]
pub(crate) struct Postgres {
    binaries: PathBuf,
    settings: Vec<String>,
    folder: TempDir,
    user: User,
    password: String,
    port: u16,
    databases: AtomicUsize,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    watch: Child,
    server: u32,
}

impl Postgres {
    /// Returns what must be installed to start a server; `None` if nothing is missing.
    pub(crate) fn missing() -> Option<String> {
        postgres_binaries().is_none().then(|| "needs PostgreSQL (Debian: postgresql)".to_owned())
    }

    /// Starts a server with the default settings: a confirmed commit is on the disk.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with settings such as `fsync=off`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let binaries = postgres_binaries().expect("PostgreSQL is installed");
        let folder = TempDir::new().unwrap();
        let user = User::for_folder(folder.path());
        let password = Uuid::new_v4().simple().to_string();
        let password_file = folder.path().join("password");
        fs::write(&password_file, &password).unwrap();
        user.take_ownership(&[folder.path(), &password_file]);
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let (databases, running) = (AtomicUsize::new(0), Mutex::new(None));
        let mut postgres = Self { binaries, settings, folder, user, password, port: 0, databases, running };
        postgres.initialise(&password_file);
        // Another test may take the port between the check and the start.
        let is_started = (0..5).any(|_| {
            postgres.port = free_port();
            postgres.try_run()
        });
        assert!(is_started, "{}", postgres.log());
        // The connector's role owns its database and nothing else, as recommended for production.
        let password = &postgres.password;
        postgres.query(
            &postgres.url("postgres", "postgres"),
            &format!("CREATE ROLE connector LOGIN PASSWORD '{password}'"),
        );
        postgres
    }

    /// Creates an empty database and returns its URL.
    pub(crate) fn database(&self) -> String {
        let name = format!("connector_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.query(&self.url("postgres", "postgres"), &format!("CREATE DATABASE {name} OWNER connector"));
        self.url("connector", &name)
    }

    /// Drops a database, with its open connections. An error does not matter: the server's folder is removed later.
    pub(crate) fn discard(&self, url: &str) {
        let name = url.rsplit('/').next().unwrap();
        let statement = format!("DROP DATABASE {name} WITH (FORCE)");
        let _ = self.psql(&self.url("postgres", "postgres")).args(["-c", &statement]).output();
    }

    /// Runs a statement and returns its output.
    pub(crate) fn query(&self, url: &str, statement: &str) -> String {
        let output = self.psql(url).args(["-c", statement]).output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Begins a transaction with these statements and leaves it open. It holds its locks until it is dropped.
    pub(crate) fn begin(&self, url: &str, statements: &str) -> Transaction {
        Transaction::begin(self.psql(url), statements)
    }

    /// Suspends every process of the server, like a machine without CPU time: it neither answers nor closes
    /// connections.
    pub(crate) fn pause(&self) {
        let server = self.server();
        // The parent process is suspended first, so that it starts no new ones.
        signal("STOP", &[server]);
        signal("STOP", &children(server));
    }

    /// Continues after [`Postgres::pause`].
    pub(crate) fn resume(&self) {
        let server = self.server();
        signal("CONT", &[vec![server], children(server)].concat());
    }

    /// Kills all processes of the server, like a power failure.
    pub(crate) fn kill(&self) {
        let mut running = self.running.lock().unwrap().take().expect("the server is running");
        signal("STOP", &[running.server]);
        signal("KILL", &[vec![running.server], children(running.server)].concat());
        running.watch.stdin.take().unwrap().write_all(b"keep\n").unwrap();
        running.watch.wait().unwrap();
    }

    /// Starts the server again with the same port and data, and waits until it answers.
    pub(crate) fn restart(&self) {
        // The server cannot start before the last process of the previous run has ended.
        let deadline = Instant::now() + PATIENCE;
        while !self.try_run() {
            assert!(Instant::now() < deadline, "{}", self.log());
        }
    }

    /// Stops the server and removes its folder.
    pub(crate) fn stop(&self) {
        let Some(mut running) = self.running.lock().unwrap().take() else { return };
        signal("CONT", &children(running.server));
        drop(running.watch.stdin.take());
        let _ = running.watch.wait();
    }

    fn initialise(&self, password_file: &Path) {
        let output = self
            .user
            .command(&self.binaries.join("initdb"))
            .args(["--username=postgres", "--auth=password", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .arg(format!("--pwfile={}", password_file.display()))
            .arg(self.folder.path().join("data"))
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Tries to start the server. Returns whether it answers.
    fn try_run(&self) -> bool {
        let fixed = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "dynamic_shared_memory_type=mmap"];
        // An unusual time zone, which must not affect any answer.
        let fitting = ["max_connections=1000", "shared_buffers=16MB", "timezone=Asia/Kathmandu"];
        let settings = fixed.into_iter().chain(fitting).chain(self.settings.iter().map(String::as_str));
        let mut watch = self
            .user
            .command(Path::new("sh"))
            .args(["-c", WATCH, "watch"])
            .args([self.folder.path(), &self.binaries.join("postgres")])
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-p", &self.port.to_string()])
            .args(settings.flat_map(|setting| ["-c", setting]))
            .process_group(0) // Ctrl-C stops the tests; the server stops when their end closes its input
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = String::new();
        BufReader::new(watch.stdout.take().unwrap()).read_line(&mut server).unwrap();
        let server = server.trim().parse().unwrap();
        *self.running.lock().unwrap() = Some(Running { watch, server });
        let deadline = Instant::now() + PATIENCE;
        let mut ping = self.psql(&self.url("postgres", "postgres"));
        ping.args(["-c", "SELECT 1"]).stderr(Stdio::null()).stdout(Stdio::null());
        while Instant::now() < deadline && is_running(server) {
            if ping.status().unwrap().success() {
                return true;
            }
        }
        // Not `stop`, which would remove the folder.
        let mut running = self.running.lock().unwrap().take().unwrap();
        running.watch.stdin.take().unwrap().write_all(b"keep\n").unwrap();
        running.watch.wait().unwrap();
        false
    }

    fn psql(&self, url: &str) -> Command {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url]).env("PGCONNECT_TIMEOUT", "5");
        psql
    }

    fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    fn server(&self) -> u32 {
        self.running.lock().unwrap().as_ref().expect("the server is running").server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An open transaction. It is rolled back when dropped.
#[derive(Debug)]
pub(crate) struct Transaction {
    psql: Child,
    input: Option<ChildStdin>,
}

impl Transaction {
    /// Waits until these statements have been executed.
    fn begin(mut psql: Command, statements: &str) -> Self {
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = psql.stdin.take().unwrap();
        writeln!(input, "BEGIN;\n{statements};\n\\echo begun").unwrap();
        let mut lines = BufReader::new(psql.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "begun"), "{statements}");
        Self { psql, input: Some(input) }
    }

    /// Commits the transaction, which releases its locks.
    pub(crate) fn commit(mut self) {
        writeln!(self.input.as_mut().unwrap(), "COMMIT;").unwrap();
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.psql.wait();
    }
}

/// A listener on a free port of [`PORTS`]. It is bound immediately, so that no other test can take the port.
pub(crate) async fn listener() -> (SocketAddr, tokio::net::TcpListener) {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        if let Ok(listener) = tokio::net::TcpListener::bind(address).await {
            return (address, listener);
        }
    }
}

/// A free port of [`PORTS`].
pub(crate) fn free_port() -> u16 {
    std::iter::repeat_with(|| rand::rng().random_range(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap()
}
