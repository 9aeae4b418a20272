//! Black-box tests of how a shopper's app is authenticated: anonymous tokens, tokens of OpenID providers, and customer
//! contexts.
//!
//! Trials marked `provider` run a provider inside the test; trials marked `node` run a real one. Without Node the
//! latter are reported as ignored, with the reason; `CONNECTOR_TEST_SERVERS=required` makes that a failure.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot continue has failed, and the message tells where"
)]

#[path = "../support/mod.rs"]
mod support;

mod authorization_key;
mod bodies;
mod contexts;
mod cors;
mod customers;
mod discovery;
mod hostile_claims;
mod hostile_encoding;
mod hostile_headers;
mod hostile_keys;
mod hostile_times;
mod key_rotation;
mod limits;
mod port;
mod random;
mod real_provider;
mod rotation;
mod status_line;
mod tokens;
mod unread_answers;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use support::checks;
use support::trials::{Property, trial};

fn main() -> ExitCode {
    let trials = [
        authorization_key::trials(),
        bodies::trials(),
        contexts::trials(),
        cors::trials(),
        customers::trials(),
        discovery::trials(),
        hostile_claims::trials(),
        hostile_encoding::trials(),
        hostile_headers::trials(),
        hostile_keys::trials(),
        hostile_times::trials(),
        key_rotation::trials(),
        limits::trials(),
        port::trials(),
        random::trials(),
        real_provider::trials(),
        rotation::trials(),
        status_line::trials(),
        tokens::trials(),
        unread_answers::trials(),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}

/// Trials that need only the demo connector.
fn demo_trials(module: &str, properties: &[(&str, Property<()>)]) -> Vec<Trial> {
    properties.iter().map(|property| trial("demo", module, *property, || None, || ())).collect()
}

/// Trials that also need a provider, which the trial itself runs.
fn trials_with_provider(module: &str, properties: &[(&str, Property<()>)]) -> Vec<Trial> {
    properties.iter().map(|property| trial("provider", module, *property, || None, || ())).collect()
}
