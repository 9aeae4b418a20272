//! Throughput of the connector and its other targets. It is compared with the baseline, a server on the same libraries
//! that does the least possible work, and with the peer, an ordinary program in Go (`benches/peers`).
//!
//! ```sh
//! cargo bench --bench throughput              # all targets
//! cargo bench --bench throughput -- 2 3 50    # 2 s a run, 3 rounds, over 50 connections
//! cargo bench --bench throughput -- growth    # with ten million events and a million keys
//! cargo bench --bench throughput -- growth 100000 1000000  # with these numbers of events, each at least 100000
//! cargo bench --bench throughput -- page      # everything, written to docs/performance.md
//! cargo bench --bench throughput -- page 1 1 100000        # 1 s a run, 1 round, with these numbers of events
//! ```
//!
//! The server has one processor, and the load (wrk) another. Each figure is the median of rounds: baseline, connector
//! and peer in turn. Every server starts with an empty ledger. Needs wrk (Debian: wrk). PostgreSQL and the peer are
//! measured if PostgreSQL and Go are installed; PostgreSQL uses the processor of the load.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a benchmark may panic, and prints its results"
)]

mod baseline;
#[path = "../support/connector.rs"]
mod connector;
mod conversation;
mod counts;
mod events;
#[expect(dead_code, reason = "the parts need more of it")]
#[path = "../parts/fixture.rs"]
mod fixture;
mod growth;
#[path = "../../tests/support/installed.rs"]
mod installed;
mod keys;
mod load;
mod machine;
mod page;
mod plot;
#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[path = "../support/process.rs"]
mod process;
mod programs;
mod report;
mod rounds;
mod rows;
mod server;
#[path = "../../tests/support/signals.rs"]
mod signals;
mod targets;
mod verify;

use std::time::Duration;

use page::Extent;
use programs::Programs;
use server::{Kind, Server};
use targets::Figures;

/// The default length of a run, and the default number of rounds.
const SECONDS: u64 = 3;
const ROUNDS: u64 = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let word = arguments.first().map(String::as_str).filter(|word| word.parse::<u64>().is_err());
    let numbers = arguments.iter().skip(usize::from(word.is_some()));
    let numbers: Vec<u64> = numbers.map(|number| number.parse().expect("each argument is a number")).collect();
    let number = |index: usize, default| numbers.get(index).copied().unwrap_or(default);
    match word {
        Some("baseline") => baseline::serve(),
        Some("growth") => {
            machine::use_load_processor();
            println!("{}\n", machine::describe());
            println!("{}", report::growth(&growth::measure(&sizes(&numbers), Duration::from_secs(SECONDS))));
        }
        Some("page") => {
            let sizes = sizes(numbers.get(2..).unwrap_or_default());
            let extent = Extent { time: Duration::from_secs(number(0, SECONDS)), rounds: number(1, ROUNDS), sizes };
            let (scaling, programs) = prepare();
            page::write(&extent, scaling, &programs);
        }
        Some(word) => panic!("unknown argument {word}: expected `growth`, `page`, or SECONDS ROUNDS CONNECTIONS…"),
        None => {
            let (scaling, programs) = prepare();
            println!("{}\n", machine::describe());
            let connections: Vec<usize> =
                numbers.iter().skip(2).map(|number| usize::try_from(*number).unwrap()).collect();
            let connections = if connections.is_empty() { rounds::CONNECTIONS.to_vec() } else { connections };
            let time = Duration::from_secs(number(0, SECONDS));
            let levels = rounds::measure(&connections, number(1, ROUNDS), time, &programs);
            println!("{}", targets::table(&levels, &programs, Figures::measure(scaling)));
        }
    }
}

/// Measures what needs both processors, and prepares the programs on the processor of the load.
fn prepare() -> (f64, Programs) {
    let scaling = verify::two_threads_to_one();
    machine::use_load_processor();
    let programs = Programs::prepare();
    assert_same_answers(&programs);
    (scaling, programs)
}

fn sizes(numbers: &[u64]) -> Vec<u64> {
    if numbers.is_empty() { growth::SIZES.to_vec() } else { numbers.to_vec() }
}

/// Asserts that baseline, connector and peer send the same answer.
fn assert_same_answers(programs: &Programs) {
    let answer = |kind| Server::start(kind, programs).answer();
    let baseline = answer(Kind::Baseline);
    for kind in programs.available(&[Kind::Memory, Kind::Peer, Kind::PeerSqlite]) {
        assert_eq!(answer(kind), baseline, "the answers of {} and of the baseline", kind.name());
    }
}
