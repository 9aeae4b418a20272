//! The connector with the servers that it works with, each trial with real ones of its own: started from the installed
//! binaries on free ports, stopped, killed and restarted.
//!
//! Without the binary, a trial shows as ignored with the reason; with `CONNECTOR_TEST_SERVERS=required` it fails.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed, and says where"
)]

mod gcra;
mod rate_limit;
mod replicas;
mod server_trial;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let trials = [gcra::trials(), rate_limit::trials()];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}
