//! `check-config`: whether `serve` would start with this configuration and this directory file, and what it would run with.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::serve::exit_code;
use super::{EXIT_USAGE, fail, print};
use crate::app::{CODES_REFUSED, open_directory};
use crate::config::{Config, Mode, Sources, effective};
use crate::digest::HashKey;
use crate::directory::{Faults, MemoryDirectory};
use crate::domain::store::GateDefault;

pub(super) fn run(sources: &Sources) -> ExitCode {
    let settings = Config::load(Mode::Serve, sources).and_then(|config| Ok((config, effective(Mode::Serve, sources)?)));
    let (config, settings) = match settings {
        Ok(settings) => settings,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let hash_key = match HashKey::random() {
        Ok(hash_key) => hash_key,
        Err(error) => return fail(1, &error),
    };
    let directory = match open_directory(&config.directory, &hash_key, Faults::default()) {
        Ok(directory) => directory,
        Err(error) => return fail(exit_code(&error), &error),
    };
    let mut text = String::new();
    for (name, value) in settings {
        let _ = writeln!(text, "{name} = {value}");
    }
    let _ = writeln!(text, "\nThe configuration is sound. {}", describe(directory.in_memory()));
    if config.scan_key.is_none() && directory.in_memory().recognition_tokens() > 0 {
        let _ = writeln!(text, "Warning: {CODES_REFUSED}.");
    }
    print(&text);
    ExitCode::SUCCESS
}

fn describe(directory: &MemoryDirectory) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let open = directory.stores().filter(|store| store.default_gate_decision == GateDefault::Open).count();
    let mut text = format!(
        "The directory has {}, {} and {}.",
        count(directory.stores().len(), "store"),
        count(directory.identity_keys(), "identity key"),
        count(directory.recognition_tokens(), "recognition token"),
    );
    if open > 0 {
        let _ = write!(text, "\nDefault gate decision open, so that a 500 lets people in: {}.", count(open, "store"));
    }
    text
}
