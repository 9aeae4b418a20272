//! Performance targets, and whether they are met.

use crate::growth;
use crate::load::Outcome;
use crate::programs::Programs;
use crate::report;
use crate::rounds::Level;
use crate::server::Kind::{Baseline, Memory, Peer, PeerSqlite, Postgres, Replay, Sqlite};

use Bound::{AtLeast, AtMost};

/// What is measured for the targets besides throughput and latency.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// `verify` in process: two threads to one.
    scaling: f64,
    entry_memory: f64,
    file_size: u64,
}

impl Figures {
    pub(crate) fn measure(scaling: f64) -> Self {
        Self { scaling, entry_memory: growth::entry_memory(), file_size: growth::file_size() }
    }
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// All targets as a table.
pub(crate) fn table(levels: &[Level], programs: &Programs, figures: Figures) -> String {
    let Figures { scaling, entry_memory, file_size } = figures;
    let ratio = |connections: usize, kind, to, figure: fn(&Outcome) -> f64| {
        if let Some(reason) = programs.missing(kind).or(programs.missing(to)) {
            return Err(reason.to_owned());
        }
        let level = levels.iter().find(|level| level.connections == connections);
        let level = level.ok_or_else(|| format!("this run was not over {}", report::connections(connections)))?;
        Ok(level.ratio(kind, to, figure).median)
    };
    let throughput = |connections, kind, to| ratio(connections, kind, to, |outcome| outcome.throughput);
    let latency = |connections, kind, to| ratio(connections, kind, to, |outcome| outcome.latency[0].as_secs_f64());
    let rows = [
        row("SQLite, 1 connection: median latency / peer's", AtMost(1.0), latency(1, Sqlite, PeerSqlite)),
        row("SQLite, 50 connections: share of the baseline", AtLeast(0.25), throughput(50, Sqlite, Baseline)),
        row("SQLite, 256 connections: share of the baseline", AtLeast(0.30), throughput(256, Sqlite, Baseline)),
        row("memory, 50 connections: share of the baseline", AtLeast(0.65), throughput(50, Memory, Baseline)),
        row("memory, 50 connections, retries: share of the baseline", AtLeast(0.85), throughput(50, Replay, Baseline)),
        row("memory, 50 connections: throughput / peer's", AtLeast(2.0), throughput(50, Memory, Peer)),
        row("bytes of memory for a recorded entry with its session", AtMost(350.0), Ok(entry_memory)),
        row("MB of a SQLite file for a million events with sessions", AtMost(200.0), Ok(file_size as f64 / 1e6)),
        row("PostgreSQL, 50 connections: share of the baseline", AtLeast(0.12), throughput(50, Postgres, Baseline)),
        row("`verify` in process, in memory: two threads / one", AtLeast(1.8), Ok(scaling)),
    ];
    format!("| new scans, unless retries are named | target | measured | |\n|---|---|---|---|\n{}", rows.concat())
}

/// The row of a target, with its figure or the reason why it was not measured.
fn row(what: &str, bound: Bound, measured: Result<f64, String>) -> String {
    let rounded = |figure: f64| if figure < 10.0 { format!("{figure:.2}") } else { format!("{figure:.0}") };
    let (word, bound, is_met): (_, _, fn(&f64, &f64) -> bool) = match bound {
        AtLeast(bound) => ("at least", bound, f64::ge),
        AtMost(bound) => ("at most", bound, f64::le),
    };
    let (figure, verdict) = match measured {
        Ok(figure) if is_met(&figure, &bound) => (rounded(figure), "met".to_owned()),
        Ok(figure) => (rounded(figure), format!("**missed by {:.0} %**", (figure - bound).abs() / bound * 100.0)),
        Err(reason) => ("not measured".to_owned(), reason),
    };
    format!("| {what} | {word} {} | {figure} | {verdict} |\n", rounded(bound))
}
