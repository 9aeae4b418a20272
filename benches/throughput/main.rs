//! Throughput of the connector, also as a share of the baseline: a server on the same libraries that does the least
//! possible work.
//!
//! ```sh
//! cargo bench --bench throughput              # shares of the baseline: about 13 minutes
//! cargo bench --bench throughput -- 2 3 50    # 2 s a run, 3 pairs, over 50 connections
//! cargo bench --bench throughput -- growth    # with ten million events and a million keys: about 12 minutes, 15 GB of disk
//! cargo bench --bench throughput -- growth 10000 100000    # with these numbers of events
//! cargo bench --bench throughput -- page      # everything, written to docs/performance.md: 25 minutes
//! cargo bench --bench throughput -- page 1 1 10000 100000  # 1 s a run, 1 pair, with these numbers of events
//! ```
//!
//! The server has one processor, and the load (wrk) another. Each figure is the median of pairs: baseline and connector
//! in turn. Every server starts with an empty ledger. Needs wrk (Debian: wrk). PostgreSQL is measured if it is
//! installed; it uses the processor of the load.

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

use std::time::Duration;

use page::Extent;
use postgres::Postgres;
use server::{Kind, Server};

/// The default length of a run, and the default number of pairs.
const SECONDS: u64 = 3;
const PAIRS: u64 = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let word = arguments.first().map(String::as_str).filter(|word| word.parse::<u64>().is_err());
    let numbers = arguments.iter().skip(usize::from(word.is_some()));
    let numbers: Vec<u64> = numbers.map(|number| number.parse().expect("each argument is a number")).collect();
    let number = |index: usize, default| numbers.get(index).copied().unwrap_or(default);
    match word {
        Some("baseline") => baseline::serve(),
        Some("growth") => {
            print_machine();
            println!("{}", report::growth(&growth::measure(&sizes(&numbers), Duration::from_secs(SECONDS))));
        }
        Some("page") => {
            let sizes = sizes(numbers.get(2..).unwrap_or_default());
            let extent = Extent { time: Duration::from_secs(number(0, SECONDS)), pairs: number(1, PAIRS), sizes };
            machine::use_load_processor();
            assert_same_answers();
            page::write(&extent);
        }
        Some(word) => panic!("unknown argument {word}: expected `growth`, `page`, or SECONDS PAIRS CONNECTIONS…"),
        None => {
            print_machine();
            assert_same_answers();
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

fn print_machine() {
    machine::use_load_processor();
    println!("{}\n", machine::describe());
}

fn postgres() -> Option<Postgres> {
    Postgres::missing().is_none().then(Postgres::start)
}

fn sizes(numbers: &[u64]) -> Vec<u64> {
    if numbers.is_empty() { growth::SIZES.to_vec() } else { numbers.to_vec() }
}

/// Asserts that the baseline and the connector send the same answer.
fn assert_same_answers() {
    let [baseline, connector] = [Kind::Baseline, Kind::Memory].map(|kind| Server::start(kind, None).answer());
    assert_eq!(baseline, connector, "the answers of the baseline and of the connector");
}
