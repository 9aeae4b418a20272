//! Records batches in SQLite. Only this process writes, so rows that a transaction has read stay unchanged until it
//! ends. The existing records and used codes of a whole batch are read with one statement each, and the new rows of
//! each table are written with one.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::any::Any;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, query, query_scalar};

use super::rows::{self, Columns, from_nanos, nanos_before, number, session_id, to_nanos};
use super::writer::{Batch, BatchOutcome, PendingRecord};
use crate::clock::rfc3339;
use crate::digest::{Digest, Fingerprint};
use crate::domain::decision::Grant;
use crate::domain::ids::{DeviceId, EventId, VisitorId};
use crate::ledger::rule::{self, CodeUse, Outcome, SessionStep};
use crate::ledger::{Limits, NewRecord, Record, Recorded, SessionEffect, SessionId};
use crate::storage::{DatabaseError, IMMEDIATE, JSON_ROWS, corrupt, in_transaction};

type Result<T> = std::result::Result<T, DatabaseError>;

// `insert` appends FROM and [`JSON_ROWS`] to each of these.
const SESSIONS: &str =
    "INSERT INTO session (id, visitor_id, visitor_type, store_id, device_id, entry_event_id, entry_timestamp, entry_recorded_at)
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, unhex(value ->> 5), value ->> 6, value ->> 7";
const DECISIONS: &str =
    "INSERT INTO decision (event_id, fingerprint, recorded_at, denial, visitor_id, visitor_type, device_id, payment_source,
                           session_effect, session_id)
     SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
            value ->> 7, value ->> 8, value ->> 9";
/// Replaces a row that has expired, or that belongs to the same event.
const CODES: &str = "INSERT OR REPLACE INTO used_code (digest, event_id, recorded_at)
     SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2";

/// Records a whole batch with one commit, or nothing if it fails.
pub(super) async fn record(connection: &mut AnyConnection, pending: Batch, limits: Limits) -> Result<BatchOutcome> {
    in_transaction(IMMEDIATE, connection, move |connection| {
        Box::pin(async move { write(connection, &pending, limits).await })
    })
    .await
}

async fn write(connection: &mut AnyConnection, pending: &[PendingRecord], limits: Limits) -> Result<BatchOutcome> {
    let mut existing = existing_records(connection, pending).await?;
    let mut used = used_codes(connection, pending).await?;
    let mut session = last_session(connection).await?;
    let mut written = BatchOutcome { recorded: Vec::with_capacity(pending.len()), change: 0 };
    let (mut decisions, mut sessions, mut codes) = (Rows::default(), Rows::default(), Rows::default());
    for PendingRecord { entry, decided_at, .. } in pending {
        let (event, now) = (entry.event.id, *decided_at);
        let records = existing.entry(event).or_default();
        let used_by = entry.code.and_then(|code| used.get(&code).copied());
        let of_event = records.iter().map(|(of, record)| (of, record));
        let (decision, step, uses) = match rule::apply(entry, of_event, used_by, now, limits.retention) {
            Outcome::Replay(record) => {
                written.recorded.push(Ok(Recorded::Replay(record)));
                continue;
            }
            Outcome::Mismatch => {
                written.recorded.push(Ok(Recorded::Mismatch));
                continue;
            }
            Outcome::New { decision, session, uses } => (decision, session, uses),
        };
        let expired = records.extract_if(.., |(_, record)| record.is_expired(limits.retention, now)).count();
        if expired > 0 {
            delete_expired(connection, event, limits.retention, now).await?;
        }
        if let Some(code) = uses {
            used.insert(code, CodeUse { event, recorded_at: now });
            codes.push(&(code.to_hex(), hex::encode(event.as_bytes()), to_nanos(now)))?;
        }
        let effect = match step {
            SessionStep::None => SessionEffect::Untouched,
            SessionStep::Open(grant) => {
                session = SessionId(session.0.saturating_add(1));
                sessions.push(&session_row(session, entry, grant, now))?;
                SessionEffect::Opened(session)
            }
            SessionStep::CloseOldest(visitor) => {
                // The exit may close a session that this batch has opened, so those are inserted first.
                insert(connection, SESSIONS, std::mem::take(&mut sessions)).await?;
                let closed = close_session(connection, entry, visitor, now, limits.session_max_age).await?;
                closed.map_or(SessionEffect::NoneOpen, SessionEffect::Closed)
            }
        };
        let record = Record { decision, session: effect, recorded_at: now };
        decisions.push(&decision_row(event, entry, &record))?;
        records.push((entry.fingerprint, record.clone()));
        written.recorded.push(Ok(Recorded::New(record)));
        written.change = written.change.saturating_add(1).saturating_sub_unsigned(expired);
    }
    insert(connection, SESSIONS, sessions).await?;
    insert(connection, DECISIONS, decisions).await?;
    insert(connection, CODES, codes).await?;
    Ok(written)
}

/// The records of the events of a batch, including expired ones.
async fn existing_records(
    connection: &mut AnyConnection,
    pending: &[PendingRecord],
) -> Result<HashMap<EventId, Vec<(Fingerprint, Record)>>> {
    let events: Vec<String> = pending.iter().map(|one| hex::encode(one.entry.event.id.as_bytes())).collect();
    let rows = query::<Any>(
        "SELECT event_id, fingerprint, recorded_at, denial, visitor_id, visitor_type, device_id, payment_source,
                session_effect, session_id
         FROM decision WHERE event_id IN (SELECT unhex(value) FROM json_each($1))",
    )
    .bind(json!(events).to_string())
    .fetch_all(connection)
    .await?;
    let mut existing: HashMap<EventId, Vec<_>> = HashMap::with_capacity(pending.len());
    for row in &rows {
        let records = existing.entry(rows::event_id(row, "event_id")?).or_default();
        records.push((rows::fingerprint(row)?, rows::record(row)?));
    }
    Ok(existing)
}

/// The used codes among the codes of a batch, including expired uses.
async fn used_codes(connection: &mut AnyConnection, pending: &[PendingRecord]) -> Result<HashMap<Digest, CodeUse>> {
    let codes: Vec<String> = pending.iter().filter_map(|one| Some(one.entry.code?.to_hex())).collect();
    let mut used = HashMap::new();
    if codes.is_empty() {
        return Ok(used);
    }
    let rows = query::<Any>(
        "SELECT digest, event_id, recorded_at
         FROM used_code WHERE digest IN (SELECT unhex(value) FROM json_each($1))",
    )
    .bind(json!(codes).to_string())
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let digest: &[u8] = row.try_get("digest")?;
        let digest = digest.try_into().map(Digest::from_bytes).map_err(|_| corrupt("digest"))?;
        let recorded_at = from_nanos(row.try_get("recorded_at")?);
        used.insert(digest, CodeUse { event: rows::event_id(row, "event_id")?, recorded_at });
    }
    Ok(used)
}

/// The greatest number that any session has had.
async fn last_session(connection: &mut AnyConnection) -> Result<SessionId> {
    let last =
        query::<Any>("SELECT seq FROM sqlite_sequence WHERE name = 'session'").fetch_optional(connection).await?;
    last.map_or(Ok(SessionId(0)), |row| session_id(row.try_get("seq")?))
}

/// Rows for [`JSON_ROWS`], as JSON text.
#[derive(Default)]
struct Rows(String);

impl Rows {
    fn push(&mut self, row: &impl Serialize) -> Result<()> {
        self.0.push(if self.0.is_empty() { '[' } else { ',' });
        self.0.push_str(&serde_json::to_string(row).map_err(corrupt)?);
        Ok(())
    }
}

async fn insert(connection: &mut AnyConnection, statement: &'static str, rows: Rows) -> Result<()> {
    if !rows.0.is_empty() {
        let statement = AssertSqlSafe(format!("{statement} FROM {JSON_ROWS}"));
        query::<Any>(statement).bind(rows.0 + "]").execute(connection).await?;
    }
    Ok(())
}

fn session_row(id: SessionId, entry: &NewRecord, grant: &Grant, now: DateTime<Utc>) -> impl Serialize {
    (
        number(id),
        grant.visitor.id.as_str(),
        grant.visitor.kind.as_str(),
        entry.store_id.as_str(),
        grant.device.as_ref().map(DeviceId::as_str),
        hex::encode(entry.event.id.as_bytes()),
        rfc3339(entry.event.timestamp),
        to_nanos(now),
    )
}

fn decision_row(event: EventId, entry: &NewRecord, record: &Record) -> impl Serialize {
    let Columns { denial, visitor_id, visitor_type, device_id, payment_source } = Columns::from(&record.decision);
    let session = match record.session {
        SessionEffect::Opened(id) | SessionEffect::Closed(id) => Some(number(id)),
        SessionEffect::NoneOpen | SessionEffect::Untouched => None,
    };
    (
        hex::encode(event.as_bytes()),
        hex::encode(entry.fingerprint.as_bytes()),
        to_nanos(record.recorded_at),
        denial,
        visitor_id,
        visitor_type,
        device_id,
        payment_source,
        record.session.as_str(),
        session,
    )
}

/// Deletes the expired records of an event.
async fn delete_expired(
    connection: &mut AnyConnection,
    event: EventId,
    retention: TimeDelta,
    now: DateTime<Utc>,
) -> Result<()> {
    query::<Any>("DELETE FROM decision WHERE event_id = $1 AND recorded_at < $2")
        .bind(event.as_bytes().as_slice())
        .bind(nanos_before(now, retention))
        .execute(connection)
        .await?;
    Ok(())
}

/// Closes the oldest open session of a visitor at a store, if there is one.
async fn close_session(
    connection: &mut AnyConnection,
    entry: &NewRecord,
    visitor: &VisitorId,
    now: DateTime<Utc>,
    max_age: TimeDelta,
) -> Result<Option<SessionId>> {
    let closed: Option<i64> = query_scalar::<Any, _>(
        "UPDATE session SET exit_event_id = $1, exit_timestamp = $2, exit_recorded_at = $3
         WHERE id = (SELECT id FROM session
                     WHERE visitor_id = $4 AND store_id = $5 AND exit_event_id IS NULL AND entry_recorded_at >= $6
                     ORDER BY id LIMIT 1)
         RETURNING id",
    )
    .bind(entry.event.id.as_bytes().as_slice())
    .bind(rfc3339(entry.event.timestamp))
    .bind(to_nanos(now))
    .bind(visitor.as_str())
    .bind(entry.store_id.as_str())
    .bind(nanos_before(now, max_age))
    .fetch_optional(connection)
    .await?;
    closed.map(session_id).transpose()
}
