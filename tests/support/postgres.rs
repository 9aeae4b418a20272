use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tempfile::TempDir;
use uuid::Uuid;

use super::installed::{User, postgres_binaries};
use super::signals::{children, is_running, signal};
use super::transaction::Transaction;

/// How long a server may take to start, recovery after a crash included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Below what the system itself picks ports from, so that nobody is given a server's port while it is down.
const PORTS: std::ops::Range<u16> = 15_000..30_000;

/// Runs a server until its own input ends, be it that whoever started it has died; what it leaves is removed then, unless the
/// last word was `keep`. The arguments are the folder, and the server with its own.
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

/// A PostgreSQL server of a test's own, on a free loopback port; ended, and its folder removed, when dropped.
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
    /// What is missing here to start one.
    pub(crate) fn missing() -> Option<String> {
        postgres_binaries().is_none().then(|| "needs PostgreSQL (Debian: postgresql)".to_owned())
    }

    /// As it comes: what it has confirmed is on the disk.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With settings such as `fsync=off`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let binaries = postgres_binaries().expect("PostgreSQL's binaries");
        let folder = TempDir::new().unwrap();
        let user = User::who_owns(folder.path());
        let password = Uuid::new_v4().simple().to_string();
        let password_file = folder.path().join("password");
        fs::write(&password_file, &password).unwrap();
        user.is_given(&[folder.path(), &password_file]);
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let (databases, running) = (AtomicUsize::new(0), Mutex::new(None));
        let mut postgres = Self { binaries, settings, folder, user, password, port: 0, databases, running };
        postgres.initialise(&password_file);
        // Another test may take a port between its being found free and its being taken.
        let is_started = (0..5).any(|_| {
            postgres.port = free_port();
            postgres.try_run()
        });
        assert!(is_started, "{}", postgres.log());
        // The connector owns its database and nothing else, as it would at a retailer's.
        let password = &postgres.password;
        postgres.query(
            &postgres.url("postgres", "postgres"),
            &format!("CREATE ROLE connector LOGIN PASSWORD '{password}'"),
        );
        postgres
    }

    /// Makes an empty database; its URL.
    pub(crate) fn database(&self) -> String {
        let name = format!("connector_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.query(&self.url("postgres", "postgres"), &format!("CREATE DATABASE {name} OWNER connector"));
        self.url("connector", &name)
    }

    /// Drops a database, whoever is connected to it. Should it fail, it goes with the server.
    pub(crate) fn discard(&self, url: &str) {
        let name = url.rsplit('/').next().unwrap();
        let statement = format!("DROP DATABASE {name} WITH (FORCE)");
        let _ = self.psql(&self.url("postgres", "postgres")).args(["-c", &statement]).output();
    }

    /// What a database answers to a statement.
    pub(crate) fn query(&self, url: &str, statement: &str) -> String {
        let output = self.psql(url).args(["-c", statement]).output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Begins a transaction with these statements, and leaves it at that: what they lock is locked until it is dropped.
    pub(crate) fn begin(&self, url: &str, statements: &str) -> Transaction {
        Transaction::begin(self.psql(url), statements)
    }

    /// Stops every process of the server where it stands, as a machine does that is starved: it neither answers nor hangs up.
    pub(crate) fn pause(&self) {
        let server = self.server();
        // The first process first, so that it makes no other meanwhile.
        signal("STOP", &[server]);
        signal("STOP", &children(server));
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        let server = self.server();
        signal("CONT", &[vec![server], children(server)].concat());
    }

    /// Ends every process of the server at once, as a power cut does.
    pub(crate) fn kill(&self) {
        let mut running = self.running.lock().unwrap().take().expect("it runs");
        signal("STOP", &[running.server]);
        signal("KILL", &[vec![running.server], children(running.server)].concat());
        running.watch.stdin.take().unwrap().write_all(b"keep\n").unwrap();
        running.watch.wait().unwrap();
    }

    /// Starts it again on the same port and data; returns once it answers.
    pub(crate) fn restart(&self) {
        // Until the last process of the one before is gone, it does not start.
        let deadline = Instant::now() + PATIENCE;
        while !self.try_run() {
            assert!(Instant::now() < deadline, "{}", self.log());
        }
    }

    /// Ends it for good; nothing is left.
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

    /// Whether it started.
    fn try_run(&self) -> bool {
        let fixed = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "dynamic_shared_memory_type=mmap"];
        // A time zone of its own, which is not to be seen in any answer.
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
            .process_group(0) // so that Ctrl-C reaches the tests, and it ends with them
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
        // Not `stop`, which would take the folder with it.
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
        self.running.lock().unwrap().as_ref().expect("it runs").server
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

/// A listener on a free port of that range. Its port is bound at once, so that no other test can take it.
pub(crate) async fn listener() -> (SocketAddr, tokio::net::TcpListener) {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        if let Ok(listener) = tokio::net::TcpListener::bind(address).await {
            return (address, listener);
        }
    }
}

/// A port that nobody has, and that the system gives to nobody.
pub(crate) fn free_port() -> u16 {
    std::iter::repeat_with(|| rand::rng().random_range(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap()
}
