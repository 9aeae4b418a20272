//! Tests from outside: the whole service over real sockets, and the binary as a separate process. A few tests call a
//! part directly, through `identity_connector::testing`; their module docs say so. Amazon's published cases are in
//! `tests/published_cases`, the pages in a browser in `tests/browser`.
//!
//! - `gate`: the gate's call, rule by rule (`docs/api.md`), and connections;
//! - `backend`: the retailer's identity backend, which is slow, wrong or down;
//! - `engines`: the same tests on memory, SQLite and PostgreSQL, and tests of shared databases and of Redis;
//! - `shopper`: tokens, customer contexts, carts, Scan Key Codes;
//! - `admin`: the management port, metrics, alerts;
//! - `demo`: the demo;
//! - `command_line`: subcommands, exit codes, configuration, start and stop, log.
//!
//! PostgreSQL, Redis, Node and some tools are taken from what is installed. Without one of them, its tests are ignored,
//! with the reason; with `CONNECTOR_TEST_SERVERS=required` they fail instead.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed, and the message says where"
)]

#[path = "../support/mod.rs"]
mod support;

mod engine;
mod trials;

mod admin;
mod architecture;
mod backend;
mod command_line;
mod demo;
mod engines;
mod gate;
mod shopper;

use std::process::ExitCode;

use support::checks;

fn main() -> ExitCode {
    let conclusion = libtest_mimic::run(&support::trials::arguments(), trials::all());
    engine::stop_shared_servers();
    conclusion.exit_code()
}
