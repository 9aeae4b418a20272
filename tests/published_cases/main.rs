//! The 46 test cases that Amazon publishes for `POST /v1/identity/identity-keys`, each as a trial under its own number,
//! over real sockets. What each case sends and expects is data: see `tests/cases/` and the README there.
//!
//! Without `CONNECTOR_URL`, each case has a demo connector of its own, and one more trial runs the whole list twice over
//! against one live `identity-connector demo`. With it, the cases run against the connector deployed there.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    reason = "here a panic fails a trial and nothing else, and a suite that cannot start says why"
)]

mod answer;
mod case;
mod connector;
mod gate;
mod names;
mod run;
mod scan_key_code;
mod stutter;
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

/// What `sysexits.h` calls a usage error; the connector itself ends so on a bad configuration.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(mistake) => {
            eprintln!("{mistake}");
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
            trials.push(Trial::test(LIVE_DEMO, move || Ok(targets::live_demo_twice_over(&cases, &demo)?)));
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
            trials.push(ignored(LIVE_DEMO.to_owned(), "CONNECTOR_URL names another connector".to_owned()));
        }
    }
    Ok(trials)
}

const LIVE_DEMO: &str = "one_live_demo_answers_all_cases_twice_over";

fn ignored(name: String, reason: String) -> Trial {
    Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason)))
}

/// A case whose file has gone missing would otherwise never be missed.
fn completeness(cases: &[Case]) -> Trial {
    let found: Vec<_> = cases.iter().map(|case| case.number).collect();
    Trial::test("all_46_published_cases_are_here", move || {
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
