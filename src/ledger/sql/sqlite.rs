//! Recording in SQLite: this process alone writes, so what it reads in a transaction holds until its end. Of a whole batch the decisions that stand
//! and the codes that are used up are read at once, and what is new is written at once.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::any::Any;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, query, query_scalar};

use super::rows::{self, Columns, before, nanos, number, session_id, text};
use super::writer::{Waiting, Written};
use crate::digest::Digest;
use crate::domain::decision::{Decision, Denial, Grant};
use crate::domain::ids::{DeviceId, EventId};
use crate::domain::scan::Location;
use crate::ledger::event::EventRecords;
use crate::ledger::{Limits, Lookup, NewRecord, Record, Recorded, SessionEffect, SessionId};
use crate::storage::{DatabaseError, IMMEDIATE, JSON_ROWS, all_or_nothing, corrupt};

type Result<T> = std::result::Result<T, DatabaseError>;

// What follows each is FROM and [`JSON_ROWS`]: see `insert`.
const SESSIONS: &str =
    "INSERT INTO session (id, visitor_id, visitor_type, store_id, device_id, entry_event_id, entry_timestamp, entry_recorded_at)
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, unhex(value ->> 5), value ->> 6, value ->> 7";
const DECISIONS: &str =
    "INSERT INTO decision (event_id, fingerprint, recorded_at, denial, visitor_id, visitor_type, device_id, payment_source,
                           session_effect, session_id)
     SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
            value ->> 7, value ->> 8, value ->> 9";
/// In place of one that is past its retention, or the event's own.
const CODES: &str = "INSERT OR REPLACE INTO used_code (digest, event_id, recorded_at)
     SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2";

/// Records a batch with one commit, whole or not at all.
pub(super) async fn record(connection: &mut AnyConnection, waiting: Vec<Waiting>, limits: Limits) -> Result<Written> {
    all_or_nothing(IMMEDIATE, connection, move |connection| Box::pin(write(connection, waiting, limits))).await
}

async fn write(connection: &mut AnyConnection, waiting: Vec<Waiting>, limits: Limits) -> Result<Written> {
    let mut standing = standing(connection, &waiting).await?;
    let mut used = used_codes(connection, &waiting).await?;
    let mut session = last_session(connection).await?;
    let mut written = Written { recorded: Vec::with_capacity(waiting.len()), change: 0 };
    let (mut decisions, mut sessions, mut codes) = (Rows::default(), Rows::default(), Rows::default());
    for Waiting { entry, now, .. } in &waiting {
        let (event, now) = (entry.event.id, *now);
        let records = standing.entry(event).or_default();
        let found = match records.find(&entry.fingerprint, now, limits.retention) {
            Lookup::Recorded(record) => Some(Recorded::Replay(record)),
            Lookup::Mismatch => Some(Recorded::Mismatch),
            Lookup::Unknown => None,
        };
        if let Some(found) = found {
            written.recorded.push(Ok(found));
            continue;
        }
        let expired = records.remove(|_, record| record.is_past(limits.retention, now));
        if expired > 0 {
            forget(connection, event, limits.retention, now).await?;
        }
        let decision = match (&entry.decision, entry.code) {
            (Decision::Accepted(_), Some(code)) if used.get(&code).is_some_and(|by| by.bars(event, now, &limits)) => {
                Decision::Denied(Denial::KeyAlreadyUsed)
            }
            (Decision::Accepted(_), Some(code)) => {
                used.insert(code, Use { event, recorded_at: nanos(now) });
                codes.push(&(code.to_hex(), hex::encode(event.as_bytes()), nanos(now)))?;
                entry.decision.clone()
            }
            _ => entry.decision.clone(),
        };
        let effect = match (&decision, entry.event.location) {
            (Decision::Denied(_), _) => SessionEffect::Untouched,
            (Decision::Accepted(grant), Location::Entry) => {
                session = SessionId(session.0.saturating_add(1));
                sessions.push(&session_row(session, entry, grant, now))?;
                SessionEffect::Opened(session)
            }
            (Decision::Accepted(grant), Location::Exit) => {
                // It may close one of those that this batch has opened.
                insert(connection, SESSIONS, std::mem::take(&mut sessions)).await?;
                let closed = close_session(connection, entry, grant, now, limits.session_max_age).await?;
                closed.map_or(SessionEffect::NoneOpen, SessionEffect::Closed)
            }
        };
        let record = Record { decision, session: effect, recorded_at: now };
        decisions.push(&decision_row(event, entry, &record))?;
        records.push(entry.fingerprint, record.clone());
        written.recorded.push(Ok(Recorded::New(record)));
        written.change = written.change.saturating_add(1).saturating_sub_unsigned(expired);
    }
    insert(connection, SESSIONS, sessions).await?;
    insert(connection, DECISIONS, decisions).await?;
    insert(connection, CODES, codes).await?;
    Ok(written)
}

/// What was decided of the events that are waiting, expired or not.
async fn standing(connection: &mut AnyConnection, waiting: &[Waiting]) -> Result<HashMap<EventId, EventRecords>> {
    let events: Vec<String> = waiting.iter().map(|one| hex::encode(one.entry.event.id.as_bytes())).collect();
    let rows = query::<Any>(
        "SELECT event_id, fingerprint, recorded_at, denial, visitor_id, visitor_type, device_id, payment_source,
                session_effect, session_id
         FROM decision WHERE event_id IN (SELECT unhex(value) FROM json_each($1))",
    )
    .bind(json!(events).to_string())
    .fetch_all(connection)
    .await?;
    let mut standing: HashMap<EventId, EventRecords> = HashMap::with_capacity(waiting.len());
    for row in &rows {
        let records = standing.entry(rows::event_id(row, "event_id")?).or_default();
        records.push(rows::fingerprint(row)?, rows::record(row)?);
    }
    Ok(standing)
}

/// By which acceptance a code was used up.
struct Use {
    event: EventId,
    recorded_at: i64,
}

impl Use {
    /// Whether the code is of no use to an event: another has it, and it is not past its retention.
    fn bars(&self, event: EventId, now: DateTime<Utc>, limits: &Limits) -> bool {
        self.event != event && self.recorded_at >= before(now, limits.retention)
    }
}

/// Which of the codes that are waiting were used up, past their retention or not.
async fn used_codes(connection: &mut AnyConnection, waiting: &[Waiting]) -> Result<HashMap<Digest, Use>> {
    let codes: Vec<String> = waiting.iter().filter_map(|one| Some(one.entry.code?.to_hex())).collect();
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
        let by = Use { event: rows::event_id(row, "event_id")?, recorded_at: row.try_get("recorded_at")? };
        used.insert(digest, by);
    }
    Ok(used)
}

/// The greatest number that a session has ever had.
async fn last_session(connection: &mut AnyConnection) -> Result<SessionId> {
    let last =
        query::<Any>("SELECT seq FROM sqlite_sequence WHERE name = 'session'").fetch_optional(connection).await?;
    last.map_or(Ok(SessionId(0)), |row| session_id(row.try_get("seq")?))
}

/// Rows of [`JSON_ROWS`], each written as it comes.
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
        text(entry.event.timestamp),
        nanos(now),
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
        nanos(record.recorded_at),
        denial,
        visitor_id,
        visitor_type,
        device_id,
        payment_source,
        record.session.as_str(),
        session,
    )
}

/// Drops what has expired of an event.
async fn forget(
    connection: &mut AnyConnection,
    event: EventId,
    retention: TimeDelta,
    now: DateTime<Utc>,
) -> Result<()> {
    query::<Any>("DELETE FROM decision WHERE event_id = $1 AND recorded_at < $2")
        .bind(event.as_bytes().as_slice())
        .bind(before(now, retention))
        .execute(connection)
        .await?;
    Ok(())
}

/// Closes the oldest open session of a visitor at a store, if there is one.
async fn close_session(
    connection: &mut AnyConnection,
    entry: &NewRecord,
    grant: &Grant,
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
    .bind(text(entry.event.timestamp))
    .bind(nanos(now))
    .bind(grant.visitor.id.as_str())
    .bind(entry.store_id.as_str())
    .bind(before(now, max_age))
    .fetch_optional(connection)
    .await?;
    closed.map(session_id).transpose()
}
