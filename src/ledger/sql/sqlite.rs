//! Records decisions in SQLite. One thread owns the connection that records, with its prepared statements, so that a
//! statement crosses no thread. Only this process writes, and one write at a time, so what a transaction has read stays
//! unchanged until it ends.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::rows::{self, Columns, RecordRow, nanos_before, record_id};
use super::writer::{BatchOutcome, PendingRecord, missed_deadline};
use crate::digest::Digest;
use crate::domain::ids::{EventId, VisitorId};
use crate::ledger::rule::{self, CodeUse, Outcome, SessionStep};
use crate::ledger::{Limits, NewRecord, Record, Recorded};
use crate::storage::{DatabaseError, open_recorder};

type Result<T> = std::result::Result<T, DatabaseError>;

const EXPIRED: &str = "DELETE FROM decision WHERE event_id = ?1 AND recorded_at < ?2";
const CODE_USE: &str = "SELECT event_id, recorded_at FROM decision WHERE code = ?1";
const FREE_CODE: &str = "UPDATE decision SET code = NULL WHERE code = ?1";
const OLDEST_OPEN: &str = "SELECT id FROM decision
    WHERE visitor_id = ?1 AND store_id = ?2 AND location = 'ENTRY' AND denial IS NULL AND counterpart IS NULL
        AND recorded_at >= ?3
    ORDER BY recorded_at, id LIMIT 1";
const DECISION: &str = "INSERT INTO decision (event_id, slot, fingerprint, recorded_at, event_time, location, channel,
        store_id, caller, denial, visitor_id, visitor_type, device_id, payment_source, counterpart, code)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
const CLOSE: &str = "UPDATE decision SET counterpart = ?1 WHERE id = ?2";

/// The connection that records. After an error it is opened again, since the failed transaction may still be open.
#[derive(Debug)]
pub(super) struct Recorder {
    path: PathBuf,
    connection: Option<Connection>,
}

impl Recorder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, connection: None }
    }

    /// Records a whole batch with one commit, or nothing if it fails.
    pub(super) fn record(&mut self, pending: &[PendingRecord], limits: Limits) -> Result<BatchOutcome> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_recorder(&self.path)?,
        };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut written = BatchOutcome { recorded: Vec::with_capacity(pending.len()), change: 0 };
        for waiting in pending {
            // It may have waited for a change.
            if waiting.is_past_deadline() {
                written.recorded.push(Err(missed_deadline()));
                continue;
            }
            let PendingRecord { entry, decided_at, .. } = waiting;
            let (recorded, change) = record(&transaction, entry, *decided_at, limits)?;
            written.recorded.push(Ok(recorded));
            written.change = written.change.saturating_add(change);
        }
        transaction.commit()?;
        self.connection = Some(connection);
        Ok(written)
    }
}

/// Records a decision. Also returns by how much the number of records has changed.
fn record(
    transaction: &Transaction<'_>,
    entry: &NewRecord,
    now: DateTime<Utc>,
    limits: Limits,
) -> Result<(Recorded, isize)> {
    let event = entry.scan.event.id;
    let records = records(transaction, event)?;
    let used = entry.code.map(|code| code_use(transaction, code)).transpose()?.flatten();
    let (decision, step, uses) = match rule::apply(entry, rows::of_event(&records), used, now, limits.retention) {
        Outcome::Replay(record) => return Ok((Recorded::Replay(record), 0)),
        Outcome::Mismatch => return Ok((Recorded::Mismatch, 0)),
        Outcome::New { decision, session, uses } => (decision, session, uses),
    };
    let mut expired = 0;
    if !records.is_empty() {
        let kept_since = nanos_before(now, limits.retention);
        expired = statement(transaction, EXPIRED)?.execute(params![event.as_bytes(), kept_since])?;
    }
    if let (Some(code), Some(_)) = (uses, used) {
        statement(transaction, FREE_CODE)?.execute([code.as_bytes()])?; // its use has expired
    }
    let slot = rows::free_slot(&decision, &records, now, limits.retention)?;
    let closes = match step {
        SessionStep::CloseOldest(visitor) => oldest_open(transaction, entry, visitor, now, limits.session_max_age)?,
        SessionStep::None | SessionStep::Open(_) => None,
    };
    let columns = Columns::new(&entry.scan, &decision, now);
    statement(transaction, DECISION)?.execute(params![
        event.as_bytes(),
        slot,
        entry.fingerprint.as_bytes(),
        columns.recorded_at,
        columns.event_time,
        columns.location,
        columns.channel,
        columns.store_id,
        columns.caller,
        columns.denial,
        columns.visitor_id,
        columns.visitor_type,
        columns.device_id,
        columns.payment_source,
        closes,
        uses.as_ref().map(Digest::as_bytes),
    ])?;
    let id = transaction.last_insert_rowid();
    if let Some(entry) = closes {
        statement(transaction, CLOSE)?.execute([id, entry])?;
    }
    let session = rows::effect(step, record_id(id)?, closes.map(record_id).transpose()?);
    let record = Record { decision, session, recorded_at: now };
    Ok((Recorded::New(record), 1_isize.saturating_sub_unsigned(expired)))
}

fn records(transaction: &Transaction<'_>, event: EventId) -> Result<Vec<RecordRow>> {
    let mut statement = statement(transaction, rows::RECORDS)?;
    let mut rows = statement.query([event.as_bytes()])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(RecordRow::read(row)?);
    }
    Ok(records)
}

/// The use of a code, which may have expired.
fn code_use(transaction: &Transaction<'_>, code: Digest) -> Result<Option<CodeUse>> {
    let mut statement = statement(transaction, CODE_USE)?;
    let mut rows = statement.query([code.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(CodeUse { event: rows::event_id(row, "event_id")?, recorded_at: rows::time(row, "recorded_at")? }))
}

/// The oldest open session of a visitor at a store, if there is one.
fn oldest_open(
    transaction: &Transaction<'_>,
    entry: &NewRecord,
    visitor: &VisitorId,
    now: DateTime<Utc>,
    max_age: TimeDelta,
) -> Result<Option<i64>> {
    let parameters = params![visitor.as_str(), entry.scan.store_id.as_str(), nanos_before(now, max_age)];
    Ok(statement(transaction, OLDEST_OPEN)?.query_row(parameters, |row| row.get(0)).optional()?)
}

/// The prepared statement with this text.
fn statement<'c>(transaction: &'c Transaction<'_>, text: &'static str) -> Result<CachedStatement<'c>> {
    Ok(transaction.prepare_cached(text)?)
}
