//! How a shopper's app is authenticated, black box: anonymous tokens, those of OpenID providers, and customer
//! contexts.
//!
//! `provider` stands for trials against a provider that the test itself is, `node` for those against a real one; without Node they show
//! as ignored, with the reason, and `CONNECTOR_TEST_SERVERS=required` makes that a failure.

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

mod authorization_key;
mod bodies;
mod contexts;
mod cors;
mod customers;
mod discovery;
mod hostile_claims;
mod hostile_headers;
mod hostile_keys;
mod hostile_spelling;
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
        hostile_headers::trials(),
        hostile_keys::trials(),
        hostile_spelling::trials(),
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

/// What needs nothing but a connector.
fn on_the_demo(module: &str, properties: &[(&str, Property<()>)]) -> Vec<Trial> {
    properties.iter().map(|property| trial("demo", module, *property, || None, || ())).collect()
}

/// What needs a provider besides, which the trial is itself.
fn against_a_provider(module: &str, properties: &[(&str, Property<()>)]) -> Vec<Trial> {
    properties.iter().map(|property| trial("provider", module, *property, || None, || ())).collect()
}
