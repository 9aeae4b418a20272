//! Records decisions in SQLite. One thread owns the connection that records, with its prepared statements, so that a
//! statement crosses no thread. Only this process writes, and one write at a time, so what a transaction has read stays
//! unchanged until it ends.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::rows::{self, Columns, Row as _, nanos_before, to_nanos};
use super::writer::{BatchOutcome, PendingRecord, missed_deadline};
use crate::clock::rfc3339;
use crate::digest::{Digest, Fingerprint};
use crate::domain::decision::Decision;
use crate::domain::ids::{EventId, VisitorId};
use crate::domain::scan::KeyChannel;
use crate::ledger::rule::{self, CodeUse, Outcome, SessionStep};
use crate::ledger::{Limits, MAX_REJECTIONS, NewRecord, Record, RecordId, Recorded, SessionEffect};
use crate::storage::{DatabaseError, corrupt, open_recorder};

type Result<T> = std::result::Result<T, DatabaseError>;

const EXPIRED: &str = "DELETE FROM decision WHERE event_id = ?1 AND recorded_at < ?2";
const CODE_USE: &str = "SELECT event_id, recorded_at FROM decision WHERE code = ?1";
const FREE_CODE: &str = "UPDATE decision SET code = NULL WHERE code = ?1";
const OLDEST_OPEN: &str = "SELECT id FROM decision
    WHERE visitor_id = ?1 AND store_id = ?2 AND location = 'ENTRY' AND denial IS NULL AND counterpart IS NULL
        AND recorded_at >= ?3
    ORDER BY id LIMIT 1";
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
    let of_event = records.iter().map(|(_, of, record)| (of, record));
    let (decision, step, uses) = match rule::apply(entry, of_event, used, now, limits.retention) {
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
    let slot = match &decision {
        Decision::Accepted(_) => Some(0),
        Decision::Denied { .. } => {
            let is_free = |slot: &i64| {
                !records.iter().any(|(of, _, record)| of == slot && !record.is_expired(limits.retention, now))
            };
            (1..).take(MAX_REJECTIONS).find(is_free)
        }
    };
    let closes = match step {
        SessionStep::CloseOldest(visitor) => oldest_open(transaction, entry, visitor, now, limits.session_max_age)?,
        SessionStep::None | SessionStep::Open(_) => None,
    };
    insert(transaction, entry, &decision, rows::required(slot, "slot")?, now, closes, uses)?;
    let id = transaction.last_insert_rowid();
    if let Some(entry) = closes {
        statement(transaction, CLOSE)?.execute([id, entry])?;
    }
    let session = match (step, closes) {
        (SessionStep::None, _) => SessionEffect::Untouched,
        (SessionStep::Open(_), _) => SessionEffect::Opened(record_id(id)?),
        (SessionStep::CloseOldest(_), None) => SessionEffect::NoneOpen,
        (SessionStep::CloseOldest(_), Some(entry)) => SessionEffect::Closed(record_id(entry)?),
    };
    let record = Record { decision, session, recorded_at: now };
    Ok((Recorded::New(record), 1_isize.saturating_sub_unsigned(expired)))
}

/// The records of an event, including expired ones, each with its slot.
fn records(transaction: &Transaction<'_>, event: EventId) -> Result<Vec<(i64, Fingerprint, Record)>> {
    let mut statement = statement(transaction, rows::RECORDS)?;
    let mut rows = statement.query([event.as_bytes()])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let slot = rows::required(row.integer("slot")?, "slot")?;
        records.push((slot, rows::fingerprint(row)?, rows::record(row)?));
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

fn insert(
    transaction: &Transaction<'_>,
    NewRecord { scan, fingerprint, .. }: &NewRecord,
    decision: &Decision,
    slot: i64,
    now: DateTime<Utc>,
    closes: Option<i64>,
    uses: Option<Digest>,
) -> Result<()> {
    let Columns { denial, visitor_id, visitor_type, device_id, payment_source } = Columns::from(decision);
    statement(transaction, DECISION)?.execute(params![
        scan.event.id.as_bytes(),
        slot,
        fingerprint.as_bytes(),
        to_nanos(now),
        rfc3339(scan.event.timestamp),
        scan.event.location.as_str(),
        scan.channel.map(KeyChannel::as_str),
        scan.store_id.as_str(),
        scan.caller.as_deref(),
        denial,
        visitor_id,
        visitor_type,
        device_id,
        payment_source,
        closes,
        uses.as_ref().map(Digest::as_bytes),
    ])?;
    Ok(())
}

fn record_id(id: i64) -> Result<RecordId> {
    u64::try_from(id).map(RecordId).map_err(corrupt)
}

/// The prepared statement with this text.
fn statement<'c>(transaction: &'c Transaction<'_>, text: &'static str) -> Result<CachedStatement<'c>> {
    Ok(transaction.prepare_cached(text)?)
}
