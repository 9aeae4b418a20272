//! `check-config`: whether `serve` would start with this configuration and this directory file, and what it would run with.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::serve::exit_code;
use super::{EXIT_USAGE, fail, print};
use crate::app::open_directory;
use crate::config::{Config, Mode, Sources, effective};
use crate::digest::HashKey;
use crate::directory::{Directory, Faults};

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
    if let Directory::Memory(directory) = directory {
        let (stores, registrations) = (directory.stores(), directory.registrations());
        let _ = writeln!(
            text,
            "\nThe configuration is sound. Directory: {stores} stores, {registrations} keys and tokens."
        );
    }
    print(&text);
    ExitCode::SUCCESS
}
