//! Brings a file into the directory: it is read once to check it, and only then again to write, some rows at a time.
//!
//! Shoppers are written before the keys, tokens and customers that name them, wherever those stand. Nothing is taken away. An import that ends
//! early, or is made again, does no harm: what is there already is left as it is.

use std::fs::File;

use super::changes::{Changes, Row};
use super::check::{Check, Checked, is_link, place};
use super::spot::Spot;
use super::{BATCH, BadRows, Counts, Format, Phase, Progress, TransferError, Watch};
use crate::clock::Clock;
use crate::directory::{Change, Directory, Outcome, Problem, Refusal};

/// How many rows are checked before somebody is told.
const ROWS_BETWEEN_TELLING: u64 = 1000;

/// Where to, and how.
#[derive(Clone, Copy, Debug)]
pub struct Import<'d> {
    /// What to bring the rows into.
    pub directory: &'d Directory,
    /// What changes are dated by.
    pub clock: &'d Clock,
    /// How the file is written.
    pub format: Format,
    /// Whether to import the others when some rows are bad.
    pub skip_bad_rows: bool,
    /// Whether to check the file and write nothing.
    pub check_only: bool,
}

/// What an import came to.
#[derive(Debug, Default)]
pub struct Report {
    /// How many rows stand in the file, as far as it was read.
    pub rows: u64,
    /// What of it is in the directory now,
    pub imported: Counts,
    /// how many of these rows have changed something,
    pub changed: u64,
    /// and which were not imported.
    pub bad: BadRows,
    /// Rows that are sound and may not be meant.
    pub doubtful: BadRows,
    /// How it ended.
    pub ended: Ended,
}

/// How an import ended.
#[derive(Debug, Default)]
pub enum Ended {
    /// Everything that was to be imported is.
    #[default]
    Done,
    /// Somebody wanted it to end.
    Stopped,
    /// Some rows are bad, and they were not to be skipped.
    Refused,
    /// The file or the directory failed.
    Failed(TransferError),
}

/// Which rows a reading is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    StoresAndShoppers,
    /// What stands for shoppers.
    Links,
}

/// Where it stands.
#[derive(Default)]
struct State {
    report: Report,
    total: u64,
    /// What earlier readings of this phase have read.
    bytes: u64,
    rows: u64,
}

impl Import<'_> {
    /// Checks the file and, unless there is something wrong with it, imports it.
    pub async fn run(&self, file: &File, watch: Watch<'_>) -> Report {
        let mut state = State::default();
        let ended = self.check_and_write(file, &mut state, watch).await.unwrap_or_else(Ended::Failed);
        Report { ended, ..state.report }
    }

    async fn check_and_write(&self, file: &File, state: &mut State, watch: Watch<'_>) -> Result<Ended, TransferError> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(TransferError::NotAFile);
        }
        state.total = metadata.len();
        let Some(Checked { bad, doubtful, rows, is_in_order }) = self.check(file, state, watch).await? else {
            return Ok(Ended::Stopped);
        };
        state.report.rows = rows;
        state.report.bad = bad;
        state.report.doubtful = doubtful;
        if !state.report.bad.is_empty() && !self.skip_bad_rows {
            return Ok(Ended::Refused);
        }
        if self.check_only {
            return Ok(Ended::Done);
        }
        let parts: &[Part] = if is_in_order { &[Part::All] } else { &[Part::StoresAndShoppers, Part::Links] };
        state.total = metadata.len().saturating_mul(parts.len() as u64);
        let mut gone = BadRows::default();
        for part in parts {
            if !self.write(file, *part, state, &mut gone, watch).await? {
                return Ok(Ended::Stopped);
            }
            state.bytes = metadata.len();
        }
        let is_done = gone.is_empty() || self.skip_bad_rows;
        state.report.bad.append(gone);
        Ok(if is_done { Ended::Done } else { Ended::Refused })
    }

    async fn check(&self, file: &File, state: &mut State, watch: Watch<'_>) -> Result<Option<Checked>, TransferError> {
        let mut changes = Changes::of(file, self.format, self.directory.hash_key())?;
        let mut check = Check::new(self.directory);
        while let Some(row) = changes.next()? {
            check.row(row).await?;
            if check.rows().is_multiple_of(ROWS_BETWEEN_TELLING) {
                let progress =
                    Progress { phase: Phase::Check, bytes: changes.bytes(), total: state.total, rows: check.rows() };
                if watch(progress).is_break() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(check.finish().await?))
    }

    /// Writes one part of the rows; says whether it came to its end. While some are written, the next are read. Rows that turn out
    /// to name somebody who has gone since the check go to `gone`.
    async fn write(
        &self,
        file: &File,
        part: Part,
        state: &mut State,
        gone: &mut BadRows,
        watch: Watch<'_>,
    ) -> Result<bool, TransferError> {
        let mut changes = Changes::of(file, self.format, self.directory.hash_key())?;
        let (mut spots, mut batch) = next_batch(&mut changes, part, &state.report.bad)?;
        while !batch.is_empty() {
            let bytes = state.bytes.saturating_add(changes.bytes());
            let progress = Progress { phase: Phase::Import, bytes, total: state.total, rows: state.rows };
            if watch(progress).is_break() {
                return Ok(false);
            }
            let written = batch.clone();
            let (outcomes, next) = tokio::join!(self.directory.apply(batch, self.clock.now()), async {
                next_batch(&mut changes, part, &state.report.bad)
            });
            state.rows = state.rows.saturating_add(written.len() as u64);
            for ((spot, change), outcome) in spots.into_iter().zip(&written).zip(outcomes?) {
                match outcome {
                    Outcome::Refused(refusal) => gone.add(spot, vec![problem(change, refusal)]),
                    _ => state.report.imported.add(change),
                }
                let is_new = u64::from(outcome == Outcome::Changed);
                state.report.changed = state.report.changed.saturating_add(is_new);
            }
            (spots, batch) = next?;
        }
        Ok(true)
    }
}

/// The next rows of that part, and their places.
fn next_batch(changes: &mut Changes<'_>, part: Part, bad: &BadRows) -> Result<(Vec<Spot>, Vec<Change>), TransferError> {
    let (mut spots, mut batch) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    while batch.len() < BATCH {
        let Some(Row { spot, change, .. }) = changes.next()? else { break };
        if bad.contains(spot) {
            continue;
        }
        let change = change.map_err(|_| TransferError::FileHasChanged(spot))?;
        let its = if is_link(&change) { Part::Links } else { Part::StoresAndShoppers };
        if part == Part::All || part == its {
            spots.push(spot);
            batch.push(change);
        }
    }
    Ok((spots, batch))
}

fn problem(change: &Change, refusal: Refusal) -> Problem {
    let (field, what) = match refusal {
        Refusal::UnknownDevice => ("device", "was taken from that shopper since the file was checked"),
        Refusal::UnknownShopper | Refusal::NotFound => ("shopper", "was deleted since the file was checked"),
    };
    Problem::new(field, what).within(place(change))
}
