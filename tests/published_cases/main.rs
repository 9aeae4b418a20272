//! The 46 test cases that Amazon publishes for `POST /v1/identity/identity-keys`. Each is a trial named after its
//! number and runs over real sockets. The cases are data: see `tests/cases/` and its README.
//!
//! Without `CONNECTOR_URL`, each case runs against its own demo connector. One more trial checks that all 46 files exist,
//! and another runs the whole list twice against one running `identity-connector demo`. With `CONNECTOR_URL`, the cases
//! run against the connector at that URL.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    reason = "a panic fails only its trial, and a suite that cannot start must print the reason"
)]

mod answer;
mod case;
mod connector;
mod failing_proxy;
mod gate;
mod names;
mod run;
mod scan_key_code;
#[path = "../support/mod.rs"]
mod support;
mod targets;
mod translation;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use case::Case;
use names::Names;
use targets::Remote;

/// The exit code of a usage error in `sysexits.h`; the connector uses it for a bad configuration.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(USAGE)
        }
    }
}

fn trials() -> Result<Vec<Trial>, String> {
    let cases = case::load_all()?;
    let demo = Arc::new(Names::demo()?);
    let mut trials = vec![completeness(&cases)];
    match Remote::from_environment(|name| std::env::var(name).ok())? {
        None => {
            for case in &cases {
                let (case, demo) = (case.clone(), Arc::clone(&demo));
                trials.push(Trial::test(case.trial_name(), move || Ok(targets::in_process(&case, &demo)?)));
            }
            trials.push(Trial::test(LIVE_DEMO, move || Ok(targets::live_demo_twice(&cases, &demo)?)));
        }
        Some(remote) => {
            let remote = Arc::new(remote);
            for case in cases {
                let (name, remote, demo) = (case.trial_name(), Arc::clone(&remote), Arc::clone(&demo));
                trials.push(match remote.translate(&case, &demo) {
                    Ok(case) => Trial::test(name, move || Ok(remote.run(&case)?)),
                    Err(reason) => ignored(name, reason),
                });
            }
            trials.push(ignored(LIVE_DEMO.to_owned(), "CONNECTOR_URL is set".to_owned()));
        }
    }
    Ok(trials)
}

const LIVE_DEMO: &str = "one_live_demo_answers_all_cases_twice";

fn ignored(name: String, reason: String) -> Trial {
    Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason)))
}

/// Fails if a case's file is missing.
fn completeness(cases: &[Case]) -> Trial {
    let found: Vec<_> = cases.iter().map(|case| case.number).collect();
    Trial::test("all_46_published_cases_exist", move || {
        let published: Vec<_> = (1..)
            .zip(case::CASES_OF_SECTIONS)
            .flat_map(|(section, cases)| (1..=cases).map(move |case| (section, case)))
            .collect();
        if published.len() == 46 && found == published {
            return Ok(());
        }
        Err(Failed::from(format!("published: {published:?}\nin tests/cases: {found:?}")))
    })
}
