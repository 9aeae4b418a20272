//! How fast the connector is, as a share of the least that a server on these libraries could do (`baseline`), in one run on one machine.
//!
//! ```sh
//! cargo bench --bench throughput              # shares of the baseline: some 13 minutes
//! cargo bench --bench throughput -- 2 3 50    # 2 s a run, 3 pairs, over 50 connections
//! cargo bench --bench throughput -- growth    # with ten million events, a million keys: some 12 minutes, 15 GB on the disk
//! cargo bench --bench throughput -- growth 10000 100000    # with so many events
//! cargo bench --bench throughput -- page      # all of this for docs/performance.md: 25 minutes
//! cargo bench --bench throughput -- page 1 1 10000 100000  # 1 s a run, 1 pair, with so many events
//! ```
//!
//! The server has one processor and the load, wrk, another. Each figure is the median of pairs, baseline and connector in turn. Every server begins
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
mod baseline;
#[path = "../support/connector.rs"]
mod connector;
mod conversation;
mod counts;
mod events;
mod growth;
#[path = "../../tests/support/installed.rs"]
mod installed;
mod keys;
mod load;
mod machine;
mod page;
mod pairs;
mod plot;
#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[path = "../support/process.rs"]
mod process;
mod report;
mod rows;
mod server;
#[path = "../../tests/support/signals.rs"]
mod signals;
mod targets;
#[path = "../../tests/support/transaction.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod transaction;

use std::time::Duration;

use page::Extent;
use postgres::Postgres;
use server::{Kind, Server};

/// How long a run is, and how many pairs there are, where nothing else is said.
const SECONDS: u64 = 3;
const PAIRS: u64 = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let word = arguments.first().map(String::as_str).filter(|word| word.parse::<u64>().is_err());
    let numbers = arguments.iter().skip(usize::from(word.is_some()));
    let numbers: Vec<u64> = numbers.map(|number| number.parse().expect("a number")).collect();
    let number = |place: usize, default| numbers.get(place).copied().unwrap_or(default);
    match word {
        Some("baseline") => baseline::serve(),
        Some("growth") => {
            about();
            println!("{}", report::growth(&growth::measure(&sizes(&numbers), Duration::from_secs(SECONDS))));
        }
        Some("page") => {
            let sizes = sizes(numbers.get(2..).unwrap_or_default());
            let extent = Extent { time: Duration::from_secs(number(0, SECONDS)), pairs: number(1, PAIRS), sizes };
            machine::step_aside();
            same_bytes();
            page::write(&extent);
        }
        Some(word) => panic!("neither `growth` nor `page`, nor SECONDS PAIRS CONNECTIONS…: {word}"),
        None => {
            about();
            same_bytes();
            let connections: Vec<usize> =
                numbers.iter().skip(2).map(|number| usize::try_from(*number).unwrap()).collect();
            let connections = if connections.is_empty() { pairs::CONNECTIONS.to_vec() } else { connections };
            let (time, postgres) = (Duration::from_secs(number(0, SECONDS)), postgres());
            pairs::measure(&connections, number(1, PAIRS), time, postgres.as_ref());
            if allocations::can_be_counted() {
                println!("{}", allocations::table(postgres.as_ref()));
            }
        }
    }
}

fn about() {
    machine::step_aside();
    println!("{}\n", machine::describe());
}

fn postgres() -> Option<Postgres> {
    Postgres::missing().is_none().then(Postgres::start)
}

fn sizes(numbers: &[u64]) -> Vec<u64> {
    if numbers.is_empty() { growth::SIZES.to_vec() } else { numbers.to_vec() }
}

/// The baseline answers what the connector does, or it is none.
fn same_bytes() {
    let [baseline, connector] = [Kind::Baseline, Kind::Memory].map(|kind| Server::start(kind, None).answer());
    assert_eq!(baseline, connector, "the answer of the baseline, and that of the connector");
}
