//! Measures baseline and connector in pairs, over several numbers of connections.

use std::time::Duration;

use crate::load::Outcome;
use crate::postgres::Postgres;
use crate::report;
use crate::server::{Kind, Server};

/// The numbers of connections. The first one is the main one of the page.
pub(crate) const CONNECTIONS: [usize; 4] = [50, 1, 8, 256];
const KINDS: [Kind; 4] = [Kind::Memory, Kind::Replay, Kind::Sqlite, Kind::Postgres];

/// A run on the baseline and one on the connector, directly after each other.
pub(crate) struct Pair {
    pub(crate) baseline: Outcome,
    pub(crate) connector: Outcome,
}

/// The results for one number of connections.
pub(crate) struct Level {
    pub(crate) connections: usize,
    pub(crate) rows: Vec<(Kind, Vec<Pair>)>,
}

impl Level {
    /// The pairs of one kind, if it was measured.
    pub(crate) fn pairs_of(&self, kind: Kind) -> Option<&[Pair]> {
        self.rows.iter().find(|(row_kind, _)| *row_kind == kind).map(|(_, pairs)| &pairs[..])
    }

    /// All runs on the baseline.
    pub(crate) fn baselines(&self) -> Vec<Outcome> {
        self.rows.iter().flat_map(|(_, pairs)| pairs).map(|pair| pair.baseline).collect()
    }
}

/// The kinds that can be measured on this machine.
pub(crate) fn kinds(postgres: Option<&Postgres>) -> impl Iterator<Item = Kind> {
    KINDS.into_iter().filter(move |kind| *kind != Kind::Postgres || postgres.is_some())
}

/// Measures each kind with this number of pairs and length of a run, and prints the results.
pub(crate) fn measure(connections: &[usize], pairs: u64, time: Duration, postgres: Option<&Postgres>) -> Vec<Level> {
    let level = |connections| {
        println!("{}", report::headings(connections));
        let pair = |kind: Kind, index: u64| {
            // The baseline gets the same scans, so that the load has the same work for both.
            let measure = |server| Server::start(server, postgres).measure(&kind.scans(), connections, time);
            // Alternate which one comes first: work left over from the earlier one, such as disk writes, disturbs the
            // later one.
            if index.is_multiple_of(2) {
                let baseline = measure(Kind::Baseline);
                Pair { baseline, connector: measure(kind) }
            } else {
                let connector = measure(kind);
                Pair { baseline: measure(Kind::Baseline), connector }
            }
        };
        let row = |kind: Kind| {
            let pairs: Vec<Pair> = (0..pairs).map(|index| pair(kind, index)).collect();
            println!("{}", report::row(kind.name(), &pairs));
            (kind, pairs)
        };
        let level = Level { connections, rows: kinds(postgres).map(row).collect() };
        println!("{}\n", report::baseline_row(&level));
        level
    };
    connections.iter().copied().map(level).collect()
}
