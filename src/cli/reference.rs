//! Reference texts: `default-config`, `openapi`, `completions`, `man`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::{fail, print};
use crate::admin::openapi::document;
use crate::config::DEFAULTS;

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// Print the script for this shell, such as bash
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Write a page for the program and one for each command into this folder, such as man1
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

pub(super) fn default_config() -> ExitCode {
    print(DEFAULTS);
    ExitCode::SUCCESS
}

/// The document that the management port serves at `/openapi.json`.
pub(super) fn openapi() -> ExitCode {
    print(&document());
    ExitCode::SUCCESS
}

pub(super) fn completions(args: &CompletionsArgs, mut command: Command) -> ExitCode {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

pub(super) fn man(args: &ManArgs, command: Command) -> ExitCode {
    let written = match &args.to {
        Some(folder) => fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(command, folder))
            .map_err(|error| format!("--to: {}: {error}", folder.display())),
        None => {
            let mut page = Vec::new();
            let rendered = Man::new(command).render(&mut page).map_err(|error| error.to_string());
            rendered.map(|()| print(&String::from_utf8_lossy(&page)))
        }
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}
