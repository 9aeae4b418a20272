//! How fast the connector is, as a share of the least that a server on these libraries could do (`floor`), in one run on one machine.
//!
//! ```sh
//! cargo bench --bench throughput              # everything: some 15 minutes
//! cargo bench --bench throughput -- 2 3 50    # 2 s a run, 3 pairs, over 50 connections
//! ```
//!
//! The server has one processor and the load, wrk, another. Each figure is the median of pairs, floor and connector in turn. Every server begins
//! anew, with an empty ledger. Needs wrk (Debian: wrk); PostgreSQL is measured where it is installed, and has the processor of the load.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a measurement fails where it panics, and prints what it has measured"
)]

mod allocations;
mod floor;
#[path = "../../tests/support/installed.rs"]
mod installed;
mod load;
mod machine;
#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/support/postgres.rs"]
mod postgres;
mod report;
mod server;
#[path = "../../tests/support/signals.rs"]
mod signals;
#[path = "../../tests/support/transaction.rs"]
mod transaction;

use std::time::Duration;

use load::Outcome;
use postgres::Postgres;
use report::Pair;
use server::{Kind, Server};

const KINDS: [Kind; 4] = [Kind::Memory, Kind::Replay, Kind::Sqlite, Kind::Postgres];
/// The first is what the page is about.
const CONNECTIONS: [usize; 4] = [50, 1, 8, 256];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "floor") {
        return floor::serve();
    }
    let numbers: Vec<u64> =
        arguments.iter().map(|argument| argument.parse().expect("SECONDS PAIRS CONNECTIONS…")).collect();
    let time = Duration::from_secs(numbers.first().copied().unwrap_or(5));
    let pairs = numbers.get(1).copied().unwrap_or(5);
    let connections: Vec<usize> = numbers.iter().skip(2).map(|number| usize::try_from(*number).unwrap()).collect();
    let connections = if connections.is_empty() { CONNECTIONS.to_vec() } else { connections };

    let postgres = Postgres::missing().is_none().then(Postgres::start);
    println!("{}", machine::describe());
    println!("fdatasync of 4 KiB where the databases stand: {}\n", machine::sync_time(server::folder()));
    same_bytes();
    for connections in connections {
        println!("{}", report::headings(connections));
        for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Postgres || postgres.is_some()) {
            let pairs: Vec<Pair> = (0..pairs)
                .map(|_| Pair {
                    floor: measure(Kind::Floor, None, connections, time),
                    connector: measure(kind, postgres.as_ref(), connections, time),
                })
                .collect();
            println!("{}", report::row(kind.name(), &pairs));
        }
        println!();
    }
    for kind in [Kind::Floor, Kind::Memory, Kind::Replay, Kind::Sqlite] {
        if let Some(allocations) = allocations::a_request(kind) {
            println!("{}: {allocations:.1} allocations a request", kind.name());
        }
    }
}

/// The floor answers what the connector does, or it is none.
fn same_bytes() {
    let [floor, connector] = [Kind::Floor, Kind::Memory].map(|kind| Server::start(kind, None).answer());
    assert_eq!(floor, connector, "the answer of the floor, and that of the connector");
}

fn measure(kind: Kind, postgres: Option<&Postgres>, connections: usize, time: Duration) -> Outcome {
    let server = Server::start(kind, postgres);
    let is_new = kind != Kind::Replay;
    load::run(&server, is_new, connections, Duration::from_secs(1)); // connections are open then, and caches warm
    load::run(&server, is_new, connections, time)
}
