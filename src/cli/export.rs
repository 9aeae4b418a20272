//! `export`: writes the directory of the database to a file.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::import::describe;
use super::transfer::{Bar, FormatArg, Interrupt, fail_to_open, format, location, open, per_second};
use super::{ConfigArgs, EXIT_USAGE, fail};
use crate::directory::Directory;
use crate::transfer::{Counts, Format, export};

pub(super) const HELP: &str = "\
Example:
  identity-connector export --output directory.jsonl --config connector.toml";

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// Write to this file, such as directory.jsonl; only its owner can read it [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write this format, such as csv [default: by the file's name; jsonl to standard output]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn run(args: &ExportArgs) -> ExitCode {
    run_to_end(args).await.unwrap_or_else(|code| code)
}

async fn run_to_end(args: &ExportArgs) -> Result<ExitCode, ExitCode> {
    let format = match &args.output {
        Some(file) => format(args.format, file)?,
        None => args.format.map_or(Format::JsonLines, Format::from),
    };
    let (location, hash_key) = location(&args.config.sources())?;
    let mut interrupt = Interrupt::listen().map_err(|error| fail(1, &error))?;
    let database = match open(&location, hash_key, false, &mut interrupt).await {
        Some(opened) => opened.map_err(|error| fail_to_open(&error))?,
        None => return Ok(fail(1, &"stopped before the database answered; nothing was exported")),
    };
    let directory = Directory::in_database(database.clone());
    let (mut bar, began) = (Bar::new(interrupt), Instant::now());
    let written = match &args.output {
        Some(file) => to_file(&directory, format, file, &mut bar).await,
        None => to_writer(&directory, format, io::stdout().lock(), &mut bar).await.map_err(|error| fail(1, &error)),
    };
    bar.clear();
    database.close().await;
    let Some(counts) = written? else { return Ok(fail(1, &"stopped before the end")) };
    let (rows, elapsed) = (counts.total(), began.elapsed());
    let _ = writeln!(
        io::stderr(),
        "exported {}: {rows} rows in {:.1} s, {} rows/s",
        describe(&counts),
        elapsed.as_secs_f64(),
        per_second(rows, elapsed)
    );
    Ok(ExitCode::SUCCESS)
}

async fn to_writer(
    directory: &Directory,
    format: Format,
    out: impl Write,
    bar: &mut Bar,
) -> Result<Option<Counts>, crate::transfer::TransferError> {
    export(directory, format, &mut BufWriter::new(out), &mut |progress| bar.show(progress)).await
}

/// Writes a temporary file and renames it at the end, so that the file is always complete.
async fn to_file(
    directory: &Directory,
    format: Format,
    file: &Path,
    bar: &mut Bar,
) -> Result<Option<Counts>, ExitCode> {
    let fail_with = |code| move |error: io::Error| fail(code, &format!("{}: {error}", file.display()));
    if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        // A pipe, or /dev/null.
        let out = OpenOptions::new().write(true).open(file).map_err(fail_with(EXIT_USAGE))?;
        return to_writer(directory, format, out, bar).await.map_err(|error| fail(1, &error));
    }
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    // An existing file may be readable by other users, so it is deleted first.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail_with(EXIT_USAGE)(error)),
        _ => {}
    }
    let out = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary);
    let out = out.map_err(fail_with(EXIT_USAGE))?;
    let written = match to_writer(directory, format, &out, bar).await {
        Ok(Some(counts)) => out.sync_all().and_then(|()| std::fs::rename(&temporary, file)).map(|()| Some(counts)),
        Ok(None) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    };
    if !matches!(written, Ok(Some(_))) {
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(fail_with(1))
}
