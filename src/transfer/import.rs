//! Imports a file into the directory. The file is read twice: first to check it, then to write its rows in batches.
//!
//! Shoppers are written before the keys, tokens and customers that name them, in any order of the file. Nothing
//! is deleted. An import that stops early can be repeated: rows that are already in the directory stay unchanged.

use std::fs::File;

use super::check::{BadRows, Check, Checked};
use super::record::{Changes, Position, Row, RowKind};
use super::{BATCH, Counts, Format, OnProgress, Phase, Progress, TransferError};
use crate::clock::Clock;
use crate::directory::{Change, Directory, Outcome, Problem, Refusal};

/// The number of rows that are checked between two progress reports.
const ROWS_PER_PROGRESS: u64 = 1000;

/// The target and the options of an import.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Import<'d> {
    pub directory: &'d Directory,
    /// The clock for the times in the audit log.
    pub clock: &'d Clock,
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
    pub bad: BadRows,
    /// Rows that are valid but may contain a mistake.
    pub warnings: BadRows,
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
#[derive(Clone, Copy)]
enum Part {
    All,
    StoresAndShoppers,
    /// Keys, tokens and customers.
    Links,
}

impl Import<'_> {
    /// Checks the file and, if the check allows it, imports it.
    pub(crate) async fn run(&self, file: &File, on_progress: OnProgress<'_>) -> Report {
        let mut report = Report::default();
        let ended = self.check_and_write(file, &mut report, on_progress).await;
        Report { ended: ended.unwrap_or_else(Ended::Failed), ..report }
    }

    async fn check_and_write(
        &self,
        file: &File,
        report: &mut Report,
        on_progress: OnProgress<'_>,
    ) -> Result<Ended, TransferError> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(TransferError::NotAFile);
        }
        let Some(checked) = self.check(file, metadata.len(), on_progress).await? else { return Ok(Ended::Stopped) };
        let Checked { bad, warnings, rows, is_out_of_order } = checked;
        (report.rows, report.bad, report.warnings) = (rows, bad, warnings);
        if !report.bad.is_empty() && !self.skip_bad_rows {
            return Ok(Ended::Refused);
        }
        if self.check_only {
            return Ok(Ended::Done);
        }
        let parts: &[Part] = if is_out_of_order { &[Part::StoresAndShoppers, Part::Links] } else { &[Part::All] };
        let mut progress = Progress { phase: Phase::Import, bytes: 0, total: 0, rows: 0 };
        progress.total = metadata.len().saturating_mul(parts.len() as u64);
        let mut refused = BadRows::default();
        for (number, part) in (0..).zip(parts) {
            progress.bytes = metadata.len().saturating_mul(number);
            if !self.write(file, *part, progress, report, &mut refused, on_progress).await? {
                return Ok(Ended::Stopped);
            }
            progress.rows = report.imported.total().saturating_add(refused.len() as u64);
        }
        let is_done = refused.is_empty() || self.skip_bad_rows;
        report.bad.append(refused);
        Ok(if is_done { Ended::Done } else { Ended::Refused })
    }

    async fn check(
        &self,
        file: &File,
        total: u64,
        on_progress: OnProgress<'_>,
    ) -> Result<Option<Checked>, TransferError> {
        let mut changes = Changes::open(file, self.format, self.directory.hash_key())?;
        let mut check = Check::new(self.directory);
        while let Some(row) = changes.next()? {
            check.row(row).await?;
            let rows = check.rows();
            if rows.is_multiple_of(ROWS_PER_PROGRESS) {
                let progress = Progress { phase: Phase::Check, bytes: changes.bytes()?, total, rows };
                if on_progress(progress).is_break() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(check.finish().await?))
    }

    /// Writes one part of the rows, and returns whether it was finished. It reads the next batch while one is written.
    /// Rows whose shopper or device was deleted after the check are added to `refused`. `before`: the progress of
    /// earlier parts.
    async fn write(
        &self,
        file: &File,
        part: Part,
        before: Progress,
        report: &mut Report,
        refused: &mut BadRows,
        on_progress: OnProgress<'_>,
    ) -> Result<bool, TransferError> {
        let mut changes = Changes::open(file, self.format, self.directory.hash_key())?;
        let mut rows = before.rows;
        let (mut written, mut batch) = next_batch(&mut changes, part, &report.bad)?;
        while !batch.is_empty() {
            let bytes = before.bytes.saturating_add(changes.bytes()?);
            if on_progress(Progress { bytes, rows, ..before }).is_break() {
                return Ok(false);
            }
            let (outcomes, next) = tokio::join!(self.directory.apply(batch, self.clock.now()), async {
                next_batch(&mut changes, part, &report.bad)
            });
            rows = rows.saturating_add(written.len() as u64);
            for ((position, kind), outcome) in written.into_iter().zip(outcomes?) {
                match outcome {
                    Outcome::Refused(refusal) => refused.add(position, vec![problem(kind, refusal)]),
                    _ => report.imported.add(kind),
                }
                report.changed = report.changed.saturating_add(u64::from(outcome == Outcome::Changed));
            }
            (written, batch) = next?;
        }
        Ok(true)
    }
}

/// A batch: the positions and kinds of its rows, and their changes.
type Batch = (Vec<(Position, RowKind)>, Vec<Change>);

/// The next rows of this part.
fn next_batch(changes: &mut Changes<'_>, part: Part, bad: &BadRows) -> Result<Batch, TransferError> {
    let (mut rows, mut batch) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    while batch.len() < BATCH {
        let Some(Row { position, change, .. }) = changes.next()? else { break };
        if bad.contains(position) {
            continue;
        }
        let (kind, change) = change.map_err(|_| TransferError::FileHasChanged(position))?;
        let is_in_part = match part {
            Part::All => true,
            Part::StoresAndShoppers => !kind.is_link(),
            Part::Links => kind.is_link(),
        };
        if is_in_part {
            rows.push((position, kind));
            batch.push(change);
        }
    }
    Ok((rows, batch))
}

fn problem(kind: RowKind, refusal: Refusal) -> Problem {
    let (member, message) = match refusal {
        Refusal::UnknownDevice => ("device", "was removed from that shopper after the file was checked"),
        Refusal::UnknownShopper | Refusal::NotFound => ("shopper", "was deleted after the file was checked"),
    };
    Problem::new(member, message).within(kind.name())
}
