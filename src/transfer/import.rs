//! Imports a file into the directory. The file is read twice: first to check it, then to write its rows in batches.
//!
//! Shoppers are written before the keys, tokens and customers that name them, in any order of the file. Nothing
//! is deleted. An import that stops early can be repeated: rows that are already in the directory stay unchanged.

use std::fs::File;

use super::changes::{Changes, Row};
use super::check::{Check, Checked, is_link, kind_of};
use super::position::Position;
use super::{BATCH, BadRows, Counts, Format, OnProgress, Phase, Progress, TransferError};
use crate::clock::Clock;
use crate::directory::{Change, Directory, Outcome, Problem, Refusal};

/// The number of rows that are checked between two progress reports.
const ROWS_PER_PROGRESS: u64 = 1000;

/// The target and the options of an import.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Import<'d> {
    /// The directory to write to.
    pub directory: &'d Directory,
    /// The clock for the times in the audit log.
    pub clock: &'d Clock,
    /// The format of the file.
    pub format: Format,
    /// Whether to import the valid rows if other rows are invalid.
    pub skip_bad_rows: bool,
    /// Whether to check the file only.
    pub check_only: bool,
}

/// The result of an import.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The number of rows that were read.
    pub rows: u64,
    /// The rows that are in the directory now.
    pub imported: Counts,
    /// The number of imported rows that changed something.
    pub changed: u64,
    /// The rows that were not imported.
    pub bad: BadRows,
    /// Rows that are valid but may contain a mistake.
    pub warnings: BadRows,
    /// The ending of the import.
    pub ended: Ended,
}

/// How an import ended.
#[derive(Debug, Default)]
pub(crate) enum Ended {
    /// All rows are imported, except for invalid rows if `skip_bad_rows` is set.
    #[default]
    Done,
    /// The progress callback stopped it.
    Stopped,
    /// Some rows are invalid, and `skip_bad_rows` is not set.
    Refused,
    /// The file or the directory failed.
    Failed(TransferError),
}

/// The rows that one pass writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    StoresAndShoppers,
    /// Keys, tokens and customers.
    Links,
}

/// The state of an import.
#[derive(Default)]
struct State {
    report: Report,
    total: u64,
    /// The number of bytes that earlier passes of this phase have read.
    bytes: u64,
    rows: u64,
}

impl Import<'_> {
    /// Checks the file and, if the check allows it, imports it.
    pub(crate) async fn run(&self, file: &File, on_progress: OnProgress<'_>) -> Report {
        let mut state = State::default();
        let ended = self.check_and_write(file, &mut state, on_progress).await.unwrap_or_else(Ended::Failed);
        Report { ended, ..state.report }
    }

    async fn check_and_write(
        &self,
        file: &File,
        state: &mut State,
        on_progress: OnProgress<'_>,
    ) -> Result<Ended, TransferError> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(TransferError::NotAFile);
        }
        state.total = metadata.len();
        let Some(Checked { bad, warnings, rows, is_in_order }) = self.check(file, state, on_progress).await? else {
            return Ok(Ended::Stopped);
        };
        state.report.rows = rows;
        state.report.bad = bad;
        state.report.warnings = warnings;
        if !state.report.bad.is_empty() && !self.skip_bad_rows {
            return Ok(Ended::Refused);
        }
        if self.check_only {
            return Ok(Ended::Done);
        }
        let parts: &[Part] = if is_in_order { &[Part::All] } else { &[Part::StoresAndShoppers, Part::Links] };
        state.total = metadata.len().saturating_mul(parts.len() as u64);
        let mut refused = BadRows::default();
        for part in parts {
            if !self.write(file, *part, state, &mut refused, on_progress).await? {
                return Ok(Ended::Stopped);
            }
            state.bytes = metadata.len();
        }
        let is_done = refused.is_empty() || self.skip_bad_rows;
        state.report.bad.append(refused);
        Ok(if is_done { Ended::Done } else { Ended::Refused })
    }

    async fn check(
        &self,
        file: &File,
        state: &mut State,
        on_progress: OnProgress<'_>,
    ) -> Result<Option<Checked>, TransferError> {
        let mut changes = Changes::open(file, self.format, self.directory.hash_key())?;
        let mut check = Check::new(self.directory);
        while let Some(row) = changes.next()? {
            check.row(row).await?;
            if check.rows().is_multiple_of(ROWS_PER_PROGRESS) {
                let progress =
                    Progress { phase: Phase::Check, bytes: changes.bytes(), total: state.total, rows: check.rows() };
                if on_progress(progress).is_break() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(check.finish().await?))
    }

    /// Writes one part of the rows, and returns whether it was finished. It reads the next batch while one is written.
    /// Rows whose shopper or device was deleted after the check are added to `refused`.
    async fn write(
        &self,
        file: &File,
        part: Part,
        state: &mut State,
        refused: &mut BadRows,
        on_progress: OnProgress<'_>,
    ) -> Result<bool, TransferError> {
        let mut changes = Changes::open(file, self.format, self.directory.hash_key())?;
        let (mut positions, mut batch) = next_batch(&mut changes, part, &state.report.bad)?;
        while !batch.is_empty() {
            let bytes = state.bytes.saturating_add(changes.bytes());
            let progress = Progress { phase: Phase::Import, bytes, total: state.total, rows: state.rows };
            if on_progress(progress).is_break() {
                return Ok(false);
            }
            let written = batch.clone();
            let (outcomes, next) = tokio::join!(self.directory.apply(batch, self.clock.now()), async {
                next_batch(&mut changes, part, &state.report.bad)
            });
            state.rows = state.rows.saturating_add(written.len() as u64);
            for ((position, change), outcome) in positions.into_iter().zip(&written).zip(outcomes?) {
                match outcome {
                    Outcome::Refused(refusal) => refused.add(position, vec![problem(change, refusal)]),
                    _ => state.report.imported.add(change),
                }
                let is_new = u64::from(outcome == Outcome::Changed);
                state.report.changed = state.report.changed.saturating_add(is_new);
            }
            (positions, batch) = next?;
        }
        Ok(true)
    }
}

/// The next rows of this part, and their positions.
fn next_batch(
    changes: &mut Changes<'_>,
    part: Part,
    bad: &BadRows,
) -> Result<(Vec<Position>, Vec<Change>), TransferError> {
    let (mut positions, mut batch) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    while batch.len() < BATCH {
        let Some(Row { position, change, .. }) = changes.next()? else { break };
        if bad.contains(position) {
            continue;
        }
        let change = change.map_err(|_| TransferError::FileHasChanged(position))?;
        let its = if is_link(&change) { Part::Links } else { Part::StoresAndShoppers };
        if part == Part::All || part == its {
            positions.push(position);
            batch.push(change);
        }
    }
    Ok((positions, batch))
}

fn problem(change: &Change, refusal: Refusal) -> Problem {
    let (field, message) = match refusal {
        Refusal::UnknownDevice => ("device", "was removed from that shopper after the file was checked"),
        Refusal::UnknownShopper | Refusal::NotFound => ("shopper", "was deleted after the file was checked"),
    };
    Problem::new(field, message).within(kind_of(change))
}
