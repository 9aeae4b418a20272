//! How long each part of a scan takes, by itself and without a network: what `throughput` measures as a whole, taken apart.
//!
//! ```sh
//! cargo bench --bench parts               # everything: some three minutes
//! cargo bench --bench parts -- decision   # what has this in its name
//! ```
//!
//! Each is compared with the run before on the same machine, which says little unless the machine had nothing else to do in either. What
//! does not depend on that is counted by `instructions`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a measurement fails where it panics"
)]

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
    criterion.final_summary();
}
