//! Measures each part of a scan alone, without a network. `throughput` measures the whole.
//!
//! ```sh
//! cargo bench --bench parts               # everything: about three minutes
//! cargo bench --bench parts -- decision   # benchmarks with this text in their names
//! ```
//!
//! Criterion compares each result with the previous run on the same machine. The comparison is only useful if the
//! machine was idle in both runs; `instructions` does not depend on that.

#![expect(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, reason = "a benchmark may panic")]

mod cache;
mod decision;
mod fixture;
mod fresh;
mod ledger;
mod scan_key_code;
mod validation;
mod verify;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    validation::measure(&mut criterion);
    scan_key_code::measure(&mut criterion);
    decision::measure(&mut criterion);
    verify::measure(&mut criterion);
    ledger::measure(&mut criterion);
    cache::measure(&mut criterion);
    criterion.final_summary();
}
