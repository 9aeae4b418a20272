//! The demo's page and the API's page in a real browser: headless Chromium, driven by `tests/npm/page.mjs`. The cases
//! are in the modules beside that script.
//!
//! Without Chromium or Node, the cases are reported as ignored, with the reason; `CONNECTOR_TEST_SERVERS=required`
//! makes that a failure.

#![expect(clippy::expect_used, reason = "a test that cannot continue has failed, and the message tells where")]

#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;

use support::trials::{arguments, trial};
use support::{Server, npm};

/// The names of the cases in the script.
const CASES: [&str; 22] = [
    "shopper_signs_in_and_the_gate_opens",
    "log_shows_the_request_and_the_answer_as_they_were",
    "same_event_again_gets_the_recorded_answer",
    "code_is_replaced_before_it_expires",
    "flagged_shopper_is_refused_until_unflagged",
    "refusals_are_explained",
    "labels_tell_the_state_of_shoppers_and_stores",
    "choosing_another_shopper_signs_the_previous_one_out",
    "root_leads_to_the_page",
    PUBLISHED,
    "backend_down_leads_to_the_stores_default_decision",
    "retry_reaches_the_decision_when_the_backend_is_back",
    "event_without_a_decision_is_decided_when_it_is_sent_again",
    "lost_connector_is_reported_and_the_gate_falls_back",
    "slow_connector_is_asked_again_after_two_seconds",
    "every_button_shows_its_error",
    "restarted_connector_gets_a_new_sign_in",
    "token_that_stays_refused_is_an_error_after_one_sign_in",
    "axe_finds_nothing_on_the_demo_page",
    "targets_are_large_and_nothing_is_wider_than_320_px",
    "page_works_with_the_keyboard_alone",
    "motion_is_reduced_on_request",
];
/// The case about a demo that is published on an address other than loopback.
const PUBLISHED: &str = "published_demo_needs_the_link_with_its_key";
/// The case about the API's page.
const API_REFERENCE: &str = "api_reference_is_readable";

const KEY: &str = "the_key-of-a-published-demo";

fn main() -> ExitCode {
    let cases = CASES.into_iter().chain([API_REFERENCE]);
    let trials = cases.map(|case| trial(case.to_owned(), missing, move || passes(case)));
    libtest_mimic::run(&arguments(), trials.collect()).exit_code()
}

fn missing() -> Option<String> {
    let without = || "needs Chromium (Debian: chromium)".to_owned();
    let packages = ["playwright-core", "axe-core"];
    packages.into_iter().find_map(npm::missing).or_else(|| chromium().is_none().then(without))
}

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

async fn passes(case: &'static str) {
    let server = if case == PUBLISHED { Server::published(KEY).await } else { Server::demo(&[]).await };
    let environment = [
        ("CHROMIUM", chromium().expect("Chromium is installed")),
        ("CONNECTOR", env!("CARGO_BIN_EXE_identity-connector").into()),
        ("DEMO_KEY", KEY.into()),
    ];
    let result = npm::run("page.mjs", &[case, &server.api, &server.management], &environment).await;
    assert_eq!(result, Ok(()), "{case}");
}
