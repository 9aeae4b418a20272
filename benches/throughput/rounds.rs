//! Measures the servers in rounds, over several numbers of connections.

use std::collections::HashMap;
use std::time::Duration;

use crate::load::Outcome;
use crate::programs::Programs;
use crate::report::{self, Spread};
use crate::server::{Kind, Server};

/// The numbers of connections. The first one is the main one of the page.
pub(crate) const CONNECTIONS: [usize; 4] = [50, 1, 8, 256];
/// The servers of each round. They run directly after each other, each next to the one that it is compared with.
const ROUNDS: [&[Kind]; 3] = [
    &[Kind::Peer, Kind::Memory, Kind::Baseline],
    &[Kind::Replay, Kind::Baseline],
    &[Kind::PeerSqlite, Kind::Sqlite, Kind::Baseline, Kind::Postgres],
];

/// The results for one number of connections.
pub(crate) struct Level {
    pub(crate) connections: usize,
    rounds: Vec<HashMap<Kind, Outcome>>,
}

impl Level {
    /// All runs of a kind.
    pub(crate) fn outcomes(&self, kind: Kind) -> Vec<Outcome> {
        self.rounds.iter().filter_map(|round| round.get(&kind).copied()).collect()
    }

    /// The ratio of a figure of one kind to that of another one, for each round with both.
    pub(crate) fn ratio(&self, kind: Kind, to: Kind, figure: impl Fn(&Outcome) -> f64) -> Spread {
        let ratio = |round: &HashMap<Kind, Outcome>| Some(figure(round.get(&kind)?) / figure(round.get(&to)?));
        Spread::from_figures(self.rounds.iter().filter_map(ratio).collect())
    }

    /// The ratio of a kind's throughput to that of the baseline.
    pub(crate) fn share(&self, kind: Kind) -> Spread {
        self.ratio(kind, Kind::Baseline, |outcome| outcome.throughput)
    }
}

/// Measures each kind with this number of rounds and length of a run, and prints the results.
pub(crate) fn measure(connections: &[usize], rounds: u64, time: Duration, programs: &Programs) -> Vec<Level> {
    let level = |connections| {
        let mut level = Level { connections, rounds: Vec::new() };
        for kinds in ROUNDS {
            let mut kinds = programs.available(kinds);
            // All servers of a round get the same scans, so that the load has the same work for each.
            let scans = kinds[0].scans();
            for _ in 0..rounds {
                let measure = |kind: &Kind| (*kind, Server::start(*kind, programs).measure(&scans, connections, time));
                level.rounds.push(kinds.iter().map(measure).collect());
                // Alternate the order: work left over from an earlier run, such as disk writes, disturbs the next one.
                kinds.reverse();
            }
        }
        println!("{}", report::level(&level));
        level
    };
    connections.iter().copied().map(level).collect()
}
