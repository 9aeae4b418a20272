//! Black-box tests of the storage engines: the same properties on memory, SQLite and PostgreSQL, and properties of
//! shared databases.
//!
//! PostgreSQL and Redis are started from the installed binaries. `zbarimg` reads QR codes, `promtool` checks alert
//! rules, and `prometheus_client` reads metrics. If one is missing, its tests are ignored, with the reason. With
//! `CONNECTOR_TEST_SERVERS=required` they fail instead.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed, and says where"
)]

#[path = "../support/mod.rs"]
mod support;

mod engine;

mod administration;
mod alert_rules;
mod capacity;
mod cart_bounds;
mod cart_migration;
mod cart_moves;
mod cart_owners;
mod cart_requests;
mod carts;
mod crash;
mod customers;
mod erasure;
mod exposition;
mod gcra;
mod hostile;
mod idempotency;
mod idle;
mod import;
mod limited;
mod lists;
mod locked;
mod look_ups;
mod names;
mod outage;
mod phones;
mod pressure;
mod races;
mod rate_limit;
mod removed_devices;
mod replicas;
mod retention;
mod scan_key_codes;
mod scan_key_pictures;
mod scan_key_settings;
mod scan_key_traces;
mod session_list;
mod sessions;
mod single_use;
mod starting;
mod used_codes;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use support::checks;

fn main() -> ExitCode {
    let trials = [
        administration::trials(),
        alert_rules::trials(),
        capacity::trials(),
        cart_bounds::trials(),
        cart_migration::trials(),
        cart_moves::trials(),
        cart_owners::trials(),
        cart_requests::trials(),
        carts::trials(),
        crash::trials(),
        customers::trials(),
        erasure::trials(),
        exposition::trials(),
        gcra::trials(),
        hostile::trials(),
        idempotency::trials(),
        idle::trials(),
        import::trials(),
        lists::trials(),
        locked::trials(),
        look_ups::trials(),
        names::trials(),
        outage::trials(),
        phones::trials(),
        pressure::trials(),
        races::trials(),
        rate_limit::trials(),
        removed_devices::trials(),
        replicas::trials(),
        retention::trials(),
        scan_key_codes::trials(),
        scan_key_pictures::trials(),
        scan_key_settings::trials(),
        scan_key_traces::trials(),
        session_list::trials(),
        sessions::trials(),
        single_use::trials(),
        starting::trials(),
        used_codes::trials(),
    ];
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect());
    engine::stop_shared_servers();
    conclusion.exit_code()
}
