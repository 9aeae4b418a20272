//! `check-config`: whether `serve` would start with this configuration and this directory file, and what it would run with.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::serve::exit_code;
use super::{EXIT_USAGE, fail, print};
use crate::app::{CODES_REFUSED, read_source};
use crate::config::{Config, Mode, Sources, effective};
use crate::digest::HashKey;
use crate::directory::file::Content;

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
    let content = match read_source(&config.directory, &hash_key) {
        Ok(loaded) => loaded.map(|loaded| loaded.content),
        Err(error) => return fail(exit_code(&error), &error),
    };
    let mut text = String::new();
    for (name, value) in settings {
        let _ = writeln!(text, "{name} = {value}");
    }
    let _ = writeln!(text, "\nThe configuration is sound. {}", content.map_or_else(kept, describe));
    if config.scan_key.is_none() && content.is_some_and(|content| content.recognition_tokens > 0) {
        let _ = writeln!(text, "Warning: {CODES_REFUSED}.");
    }
    print(&text);
    ExitCode::SUCCESS
}

fn kept() -> String {
    "There is no directory file: the directory is as it was left.".to_owned()
}

fn describe(content: Content) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut text = format!(
        "The directory file has {}, {} and {}.",
        count(content.stores, "store"),
        count(content.identity_keys, "identity key"),
        count(content.recognition_tokens, "recognition token"),
    );
    if content.open_by_default > 0 {
        let open = count(content.open_by_default, "store");
        let _ = write!(text, "\nDefault gate decision open, so that a 500 lets people in: {open}.");
    }
    text
}
