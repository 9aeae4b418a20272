//! The programs that are measured or used besides the connector, and which of them are missing on this machine.

use std::path::PathBuf;
use std::process::Command;

use crate::postgres::Postgres;
use crate::server::{Kind, folder};

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/peer.go");

/// Each program, or the reason why it is missing.
pub(crate) struct Programs {
    pub(crate) postgres: Result<Postgres, String>,
    pub(crate) peer: Result<PathBuf, String>,
}

impl Programs {
    /// Starts PostgreSQL, builds the peer, and prints what is missing.
    pub(crate) fn prepare() -> Self {
        let postgres = Postgres::missing().map_or_else(|| Ok(Postgres::start()), Err);
        let programs = Self { postgres, peer: build_peer() };
        for (name, kind) in [("PostgreSQL", Kind::Postgres), ("the peer", Kind::Peer)] {
            programs.missing(kind).iter().for_each(|reason| println!("{name} is not measured: {reason}\n"));
        }
        programs
    }

    /// The reason why a kind cannot be measured.
    pub(crate) fn missing(&self, kind: Kind) -> Option<&str> {
        let reason = match kind {
            Kind::Postgres => self.postgres.as_ref().err(),
            Kind::Peer | Kind::PeerSqlite => self.peer.as_ref().err(),
            Kind::Baseline | Kind::Memory | Kind::Replay | Kind::Sqlite => None,
        };
        reason.map(String::as_str)
    }

    /// Those of these kinds that can be measured.
    pub(crate) fn available(&self, kinds: &[Kind]) -> Vec<Kind> {
        kinds.iter().copied().filter(|kind| self.missing(*kind).is_none()).collect()
    }
}

/// Builds the peer with Debian's package of its SQLite driver.
fn build_peer() -> Result<PathBuf, String> {
    let program = folder().join("peer");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(PEER).env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode");
    let output = go.output().map_err(|_| "needs Go (Debian: golang-go)".to_owned())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let error = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
    let reason = || format!("needs go-sqlite3 (Debian: golang-github-mattn-go-sqlite3-dev): {error}");
    output.status.success().then_some(program).ok_or_else(reason)
}
