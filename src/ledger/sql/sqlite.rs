//! Records decisions in SQLite. One thread owns the connection that records, with its prepared statements, so that a
//! statement crosses no thread. Only this process writes, and one write at a time, so what a transaction has read stays
//! unchanged until it ends.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::rows::{self, Columns, nanos_before, number, session_id, to_nanos};
use super::writer::{BatchOutcome, PendingRecord, missed_deadline};
use crate::clock::rfc3339;
use crate::digest::{Digest, Fingerprint};
use crate::domain::decision::Grant;
use crate::domain::ids::{DeviceId, EventId, VisitorId};
use crate::ledger::rule::{self, CodeUse, Outcome, SessionStep};
use crate::ledger::{Limits, NewRecord, Record, Recorded, SessionEffect, SessionId};
use crate::storage::{DatabaseError, open_recorder};

type Result<T> = std::result::Result<T, DatabaseError>;

const EXPIRED: &str = "DELETE FROM decision WHERE event_id = ?1 AND recorded_at < ?2";
const DECISION: &str = "INSERT INTO decision (event_id, fingerprint, recorded_at, denial, visitor_id, visitor_type,
        device_id, payment_source, session_effect, session_id)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const CODE_USE: &str = "SELECT event_id, recorded_at FROM used_code WHERE digest = ?1";
/// Replaces a row that has expired, or that belongs to the same event.
const CODE: &str = "INSERT OR REPLACE INTO used_code (digest, event_id, recorded_at) VALUES (?1, ?2, ?3)";
const OPEN: &str =
    "INSERT INTO session (visitor_id, visitor_type, store_id, device_id, entry_event_id, entry_timestamp,
        entry_recorded_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
/// Closes the oldest open session of a visitor at a store.
const CLOSE: &str = "UPDATE session SET exit_event_id = ?1, exit_timestamp = ?2, exit_recorded_at = ?3
    WHERE id = (SELECT id FROM session
                WHERE visitor_id = ?4 AND store_id = ?5 AND exit_event_id IS NULL AND entry_recorded_at >= ?6
                ORDER BY id LIMIT 1)
    RETURNING id";

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
    let event = entry.event.id;
    let records = records(transaction, event)?;
    let used = entry.code.map(|code| code_use(transaction, code)).transpose()?.flatten();
    let of_event = records.iter().map(|(of, record)| (of, record));
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
    if let Some(code) = uses {
        let row = params![code.as_bytes(), event.as_bytes(), to_nanos(now)];
        statement(transaction, CODE)?.execute(row)?;
    }
    let session = match step {
        SessionStep::None => SessionEffect::Untouched,
        SessionStep::Open(grant) => SessionEffect::Opened(open_session(transaction, entry, grant, now)?),
        SessionStep::CloseOldest(visitor) => {
            let closed = close_session(transaction, entry, visitor, now, limits.session_max_age)?;
            closed.map_or(SessionEffect::NoneOpen, SessionEffect::Closed)
        }
    };
    let record = Record { decision, session, recorded_at: now };
    insert_decision(transaction, entry, &record)?;
    Ok((Recorded::New(record), 1_isize.saturating_sub_unsigned(expired)))
}

/// The records of an event, including expired ones.
fn records(transaction: &Transaction<'_>, event: EventId) -> Result<Vec<(Fingerprint, Record)>> {
    let mut statement = statement(transaction, rows::RECORDS)?;
    let mut rows = statement.query([event.as_bytes()])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push((rows::fingerprint(row)?, rows::record(row)?));
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

fn open_session(
    transaction: &Transaction<'_>,
    entry: &NewRecord,
    grant: &Grant,
    now: DateTime<Utc>,
) -> Result<SessionId> {
    statement(transaction, OPEN)?.execute(params![
        grant.visitor.id.as_str(),
        grant.visitor.kind.as_str(),
        entry.store_id.as_str(),
        grant.device.as_ref().map(DeviceId::as_str),
        entry.event.id.as_bytes(),
        rfc3339(entry.event.timestamp),
        to_nanos(now),
    ])?;
    session_id(transaction.last_insert_rowid())
}

/// Closes the oldest open session of a visitor at a store, if there is one.
fn close_session(
    transaction: &Transaction<'_>,
    entry: &NewRecord,
    visitor: &VisitorId,
    now: DateTime<Utc>,
    max_age: TimeDelta,
) -> Result<Option<SessionId>> {
    let parameters = params![
        entry.event.id.as_bytes(),
        rfc3339(entry.event.timestamp),
        to_nanos(now),
        visitor.as_str(),
        entry.store_id.as_str(),
        nanos_before(now, max_age),
    ];
    let closed = statement(transaction, CLOSE)?.query_row(parameters, |row| row.get(0)).optional()?;
    closed.map(session_id).transpose()
}

fn insert_decision(transaction: &Transaction<'_>, entry: &NewRecord, record: &Record) -> Result<()> {
    let Columns { denial, visitor_id, visitor_type, device_id, payment_source } = Columns::from(&record.decision);
    let session = match record.session {
        SessionEffect::Opened(id) | SessionEffect::Closed(id) => Some(number(id)),
        SessionEffect::NoneOpen | SessionEffect::Untouched => None,
    };
    statement(transaction, DECISION)?.execute(params![
        entry.event.id.as_bytes(),
        entry.fingerprint.as_bytes(),
        to_nanos(record.recorded_at),
        denial,
        visitor_id,
        visitor_type,
        device_id,
        payment_source,
        record.session.as_str(),
        session,
    ])?;
    Ok(())
}

/// The prepared statement with this text.
fn statement<'c>(transaction: &'c Transaction<'_>, text: &'static str) -> Result<CachedStatement<'c>> {
    Ok(transaction.prepare_cached(text)?)
}
