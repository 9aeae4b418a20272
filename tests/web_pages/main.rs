//! The demo's page, and that of the API, in a real browser: Chromium without a window, driven by `tests/npm/page.mjs`, in which each case is written.
//!
//! Where there is no Chromium or no Node it shows as ignored, with the reason; `CONNECTOR_TEST_SERVERS=required` makes that a failure.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, and says where")]

#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::Arguments;
use support::trials::trial;
use support::{Server, npm};

/// As they are called in the script.
const CASES: [&str; 8] = [
    "a_shopper_signs_in_and_the_gate_opens",
    "the_code_is_replaced_before_it_ends",
    "who_is_flagged_stays_outside_until_that_is_taken_back",
    "others_are_told_why_not",
    "the_keyboard_alone_will_do",
    "it_can_be_read_in_light_and_dark_and_on_a_phone",
    "a_connector_that_is_gone_is_said_to_be",
    "the_api_can_be_read",
];

fn main() -> ExitCode {
    let trials =
        CASES.map(|case| trial("chromium", "page", (case, |case| Box::pin(passes(case))), missing, move || case));
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn missing() -> Option<String> {
    let without = || "needs Chromium (Debian: chromium)".to_owned();
    npm::missing("playwright-core").or_else(|| chromium().is_none().then(without))
}

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

async fn passes(case: &'static str) {
    let server = Server::demo(&[]).await;
    let environment = [("CHROMIUM", chromium().expect("it was there"))];
    let said = npm::run("page.mjs", &[case, &server.api, &server.management], &environment).await;
    assert_eq!(said, Ok(()), "{case}");
}
