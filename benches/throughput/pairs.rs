//! The baseline and the connector in pairs, over more or fewer connections.

use std::time::Duration;

use crate::load::Outcome;
use crate::postgres::Postgres;
use crate::report;
use crate::server::{Kind, Server};

/// The first is what the page is about.
pub(crate) const CONNECTIONS: [usize; 4] = [50, 1, 8, 256];
const KINDS: [Kind; 4] = [Kind::Memory, Kind::Replay, Kind::Sqlite, Kind::Postgres];

/// The baseline and the connector, one right after the other.
pub(crate) struct Pair {
    pub(crate) baseline: Outcome,
    pub(crate) connector: Outcome,
}

/// All that was measured over so many connections.
pub(crate) struct Level {
    pub(crate) connections: usize,
    pub(crate) rows: Vec<(Kind, Vec<Pair>)>,
}

impl Level {
    /// Everything of one kind, if it was measured.
    pub(crate) fn of(&self, kind: Kind) -> Option<&[Pair]> {
        self.rows.iter().find(|(of, _)| *of == kind).map(|(_, pairs)| &pairs[..])
    }

    /// Every run of the baseline.
    pub(crate) fn baselines(&self) -> Vec<Outcome> {
        self.rows.iter().flat_map(|(_, pairs)| pairs).map(|pair| pair.baseline).collect()
    }
}

/// Those that can be measured here.
pub(crate) fn kinds(postgres: Option<&Postgres>) -> impl Iterator<Item = Kind> {
    KINDS.into_iter().filter(move |kind| *kind != Kind::Postgres || postgres.is_some())
}

/// Measures each kind so many times for so long, and prints what comes of it.
pub(crate) fn measure(connections: &[usize], pairs: u64, time: Duration, postgres: Option<&Postgres>) -> Vec<Level> {
    let level = |connections| {
        println!("{}", report::headings(connections));
        let pair = |kind: Kind, turn: u64| {
            // Asked the same, so that the load has as much to do for either.
            let measure = |server| Server::start(server, postgres).measure(&kind.scans(), connections, time);
            // By turns one is first: what the one before has left to do, the disk say, is done while the next is measured.
            if turn.is_multiple_of(2) {
                let baseline = measure(Kind::Baseline);
                Pair { baseline, connector: measure(kind) }
            } else {
                let connector = measure(kind);
                Pair { baseline: measure(Kind::Baseline), connector }
            }
        };
        let row = |kind: Kind| {
            let pairs: Vec<Pair> = (0..pairs).map(|turn| pair(kind, turn)).collect();
            println!("{}", report::row(kind.name(), &pairs));
            (kind, pairs)
        };
        let level = Level { connections, rows: kinds(postgres).map(row).collect() };
        println!("{}\n", report::baseline_row(&level));
        level
    };
    connections.iter().copied().map(level).collect()
}
