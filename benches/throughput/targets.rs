//! Performance targets, and whether they are met.

use crate::growth;
use crate::load::Outcome;
use crate::programs::Programs;
use crate::report;
use crate::rounds::Level;
use crate::server::Kind::{Baseline, Memory, Peer, PeerSqlite, Postgres, Replay, Sqlite};

use Bound::{AtLeast, AtMost};

/// What is measured for the targets besides throughput and latency.
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

struct Target {
    what: &'static str,
    bound: Bound,
    unit: &'static str,
    /// The figure, or the reason why it was not measured.
    measured: Result<f64, String>,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// All targets as a table.
pub(crate) fn table(levels: &[Level], programs: &Programs, figures: &Figures) -> String {
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
    let targets = [
        target(
            "SQLite, 1 connection: median latency / peer's with SQLite",
            AtMost(1.0),
            "",
            latency(1, Sqlite, PeerSqlite),
        ),
        target("SQLite, 50 connections: share of the baseline", AtLeast(0.25), "", throughput(50, Sqlite, Baseline)),
        target("SQLite, 256 connections: share of the baseline", AtLeast(0.30), "", throughput(256, Sqlite, Baseline)),
        target("memory, 50 connections: share of the baseline", AtLeast(0.65), "", throughput(50, Memory, Baseline)),
        target(
            "retries in memory, 50 connections: share of the baseline",
            AtLeast(0.85),
            "",
            throughput(50, Replay, Baseline),
        ),
        target("memory, 50 connections: throughput / peer's in memory", AtLeast(2.0), "", throughput(50, Memory, Peer)),
        target("memory for a recorded entry with its session", AtMost(350.0), " bytes", Ok(figures.entry_memory)),
        target(
            "SQLite file for a million events with sessions",
            AtMost(200.0),
            " MB",
            Ok(figures.file_size as f64 / 1e6),
        ),
        target(
            "PostgreSQL, 50 connections: share of the baseline",
            AtLeast(0.12),
            "",
            throughput(50, Postgres, Baseline),
        ),
        target("`verify` in process, in memory: two threads / one", AtLeast(1.8), "", Ok(figures.scaling)),
    ];
    let rows: String = targets.iter().map(Target::row).collect();
    format!("| new scans, unless retries are named | target | measured | |\n|---|---|---|---|\n{rows}")
}

fn target(what: &'static str, bound: Bound, unit: &'static str, measured: Result<f64, String>) -> Target {
    Target { what, bound, unit, measured }
}

impl Target {
    fn row(&self) -> String {
        let Self { what, unit, .. } = self;
        let (word, bound) = match self.bound {
            AtLeast(bound) => ("at least", bound),
            AtMost(bound) => ("at most", bound),
        };
        let with_unit =
            |figure: f64| if figure < 10.0 { format!("{figure:.2}{unit}") } else { format!("{figure:.0}{unit}") };
        let (measured, verdict) = match &self.measured {
            Ok(measured) => (with_unit(*measured), self.verdict(*measured)),
            Err(reason) => ("not measured".to_owned(), reason.clone()),
        };
        format!("| {what} | {word} {} | {measured} | {verdict} |\n", with_unit(bound))
    }

    fn verdict(&self, measured: f64) -> String {
        let (is_met, bound) = match self.bound {
            AtLeast(bound) => (measured >= bound, bound),
            AtMost(bound) => (measured <= bound, bound),
        };
        let missed = (measured - bound).abs() / bound * 100.0;
        if is_met { "met".to_owned() } else { format!("**missed by {missed:.0} %**") }
    }
}
