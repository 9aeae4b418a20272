//! Rows to values and back: every statement that the ledger uses.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Row as _, Sqlite, query, query_scalar};

use crate::digest::Fingerprint;
use crate::domain::decision::{Decision, Denial, Grant};
use crate::domain::ids::{DeviceId, EventId, PaymentSourceId, StoreId, VisitorId};
use crate::domain::visitor::{Visitor, VisitorType};
use crate::ledger::event::EventRecords;
use crate::ledger::{LedgerError, Limits, Moment, NewRecord, Page, Record, Session, SessionEffect, SessionId};

type Result<T> = std::result::Result<T, LedgerError>;

/// How many decisions there are.
pub(super) async fn count(pool: &SqlitePool) -> Result<usize> {
    let count: i64 = query_scalar("SELECT count(*) FROM decision").fetch_one(pool).await?;
    usize::try_from(count).map_err(corrupt)
}

/// What was decided of an event, expired or not.
pub(super) async fn records(connection: &mut SqliteConnection, event: EventId) -> Result<EventRecords> {
    let rows = query(
        "SELECT fingerprint, recorded_at, denial, visitor_id, visitor_type, device_id, payment_source,
                session_effect, session_id
         FROM decision WHERE event_id = ?",
    )
    .bind(event.as_bytes().as_slice())
    .fetch_all(connection)
    .await?;
    let mut records = EventRecords::default();
    for row in &rows {
        let fingerprint: Vec<u8> = row.try_get("fingerprint")?;
        let fingerprint = <[u8; 32]>::try_from(fingerprint).map_err(|_| corrupt("fingerprint"))?;
        records.push(Fingerprint::from_bytes(fingerprint), record(row)?);
    }
    Ok(records)
}

fn record(row: &SqliteRow) -> Result<Record> {
    let denial: Option<&str> = row.try_get("denial")?;
    let decision = match denial {
        Some(word) => Decision::Denied(Denial::parse(word).ok_or_else(|| corrupt("denial"))?),
        None => {
            let payment_source: Option<&str> = row.try_get("payment_source")?;
            let payment_source = payment_source.map(PaymentSourceId::parse).transpose().map_err(corrupt)?;
            Decision::Accepted(Grant { visitor: visitor(row)?, device: device(row)?, payment_source })
        }
    };
    let effect: Option<&str> = row.try_get("session_effect")?;
    let id: Option<i64> = row.try_get("session_id")?;
    let session = match (effect, id) {
        (None, None) => SessionEffect::Untouched,
        (Some("none_open"), None) => SessionEffect::NoneOpen,
        (Some("opened"), Some(id)) => SessionEffect::Opened(session_id(id)?),
        (Some("closed"), Some(id)) => SessionEffect::Closed(session_id(id)?),
        _ => return Err(corrupt("session_effect")),
    };
    Ok(Record { decision, session, recorded_at: instant(row.try_get("recorded_at")?) })
}

/// Adds a decision. The keys of the table refuse what the rules forbid.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    event: EventId,
    fingerprint: &Fingerprint,
    record: &Record,
) -> Result<()> {
    let (denial, grant) = match &record.decision {
        Decision::Denied(denial) => (Some(denial.reason()), None),
        Decision::Accepted(grant) => (None, Some(grant)),
    };
    let (effect, id) = match record.session {
        SessionEffect::Untouched => (None, None),
        SessionEffect::NoneOpen => (Some("none_open"), None),
        SessionEffect::Opened(id) => (Some("opened"), Some(id)),
        SessionEffect::Closed(id) => (Some("closed"), Some(id)),
    };
    query("INSERT INTO decision VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(event.as_bytes().as_slice())
        .bind(fingerprint.as_bytes().as_slice())
        .bind(nanos(record.recorded_at))
        .bind(denial)
        .bind(grant.map(|grant| grant.visitor.id.as_str()))
        .bind(grant.map(|grant| grant.visitor.kind.as_str()))
        .bind(grant.and_then(|grant| grant.device.as_ref()).map(DeviceId::as_str))
        .bind(grant.and_then(|grant| grant.payment_source.as_ref()).map(PaymentSourceId::as_str))
        .bind(effect)
        .bind(id.map(number))
        .execute(connection)
        .await?;
    Ok(())
}

/// Drops what has expired of an event, and says how much that was.
pub(super) async fn forget_event(
    connection: &mut SqliteConnection,
    event: EventId,
    retention: TimeDelta,
    now: DateTime<Utc>,
) -> Result<usize> {
    let gone = query("DELETE FROM decision WHERE event_id = ? AND recorded_at < ?")
        .bind(event.as_bytes().as_slice())
        .bind(before(now, retention))
        .execute(connection)
        .await?;
    usize::try_from(gone.rows_affected()).map_err(corrupt)
}

pub(super) async fn open_session(
    connection: &mut SqliteConnection,
    entry: &NewRecord,
    grant: &Grant,
    now: DateTime<Utc>,
) -> Result<SessionId> {
    let opened = query(
        "INSERT INTO session (visitor_id, visitor_type, store_id, device_id, entry_event_id, entry_timestamp,
                              entry_recorded_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(grant.visitor.id.as_str())
    .bind(grant.visitor.kind.as_str())
    .bind(entry.store_id.as_str())
    .bind(grant.device.as_ref().map(DeviceId::as_str))
    .bind(entry.event.id.as_bytes().as_slice())
    .bind(text(entry.event.timestamp))
    .bind(nanos(now))
    .execute(connection)
    .await?;
    session_id(opened.last_insert_rowid())
}

/// Closes the oldest open session of a visitor at a store that was opened no earlier than `oldest`.
pub(super) async fn close_session(
    connection: &mut SqliteConnection,
    entry: &NewRecord,
    grant: &Grant,
    now: DateTime<Utc>,
    oldest: DateTime<Utc>,
) -> Result<Option<SessionId>> {
    let closed: Option<i64> = query_scalar(
        "UPDATE session SET exit_event_id = ?, exit_timestamp = ?, exit_recorded_at = ?
         WHERE id = (SELECT id FROM session
                     WHERE visitor_id = ? AND store_id = ? AND exit_event_id IS NULL AND entry_recorded_at >= ?
                     ORDER BY id LIMIT 1)
         RETURNING id",
    )
    .bind(entry.event.id.as_bytes().as_slice())
    .bind(text(entry.event.timestamp))
    .bind(nanos(now))
    .bind(grant.visitor.id.as_str())
    .bind(entry.store_id.as_str())
    .bind(nanos(oldest))
    .fetch_optional(connection)
    .await?;
    closed.map(session_id).transpose()
}

/// Drops decisions and ended sessions that were kept long enough, at most `batch` of each, and says how many of each.
pub(super) async fn sweep(
    connection: &mut SqliteConnection,
    limits: &Limits,
    now: DateTime<Utc>,
    batch: usize,
) -> Result<(usize, usize)> {
    let batch = i64::try_from(batch).map_err(corrupt)?;
    let kept_since = before(now, limits.retention);
    let entered_since = before(instant(kept_since), limits.session_max_age);
    let decisions = query(
        "DELETE FROM decision WHERE (event_id, fingerprint) IN
             (SELECT event_id, fingerprint FROM decision WHERE recorded_at < ? LIMIT ?)",
    )
    .bind(kept_since)
    .bind(batch)
    .execute(&mut *connection)
    .await?;
    let sessions = query(
        "DELETE FROM session WHERE id IN
             (SELECT id FROM session WHERE exit_event_id IS NOT NULL AND exit_recorded_at < ?
              UNION ALL
              SELECT id FROM session WHERE exit_event_id IS NULL AND entry_recorded_at < ?
              LIMIT ?)",
    )
    .bind(kept_since)
    .bind(entered_since)
    .bind(batch)
    .execute(&mut *connection)
    .await?;
    let number = |rows| usize::try_from(rows).map_err(corrupt);
    Ok((number(decisions.rows_affected())?, number(sessions.rows_affected())?))
}

/// A page of sessions, the newest first.
pub(super) async fn sessions(
    pool: &SqlitePool,
    before: Option<SessionId>,
    limit: usize,
    now: DateTime<Utc>,
    max_age: TimeDelta,
) -> Result<Page> {
    // One more than is wanted tells whether there are any.
    let rows = query::<Sqlite>("SELECT * FROM session WHERE id < ? ORDER BY id DESC LIMIT ?")
        .bind(before.map_or(i64::MAX, number))
        .bind(i64::try_from(limit).map_err(corrupt)?.saturating_add(1))
        .fetch_all(pool)
        .await?;
    let mut sessions = rows.iter().map(|row| session(row, now, max_age)).collect::<Result<Vec<_>>>()?;
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let next = sessions.last().filter(|_| more).map(|session| session.id);
    Ok(Page { sessions, next })
}

fn session(row: &SqliteRow, now: DateTime<Utc>, max_age: TimeDelta) -> Result<Session> {
    let entry = moment(row, "entry")?.ok_or_else(|| corrupt("entry"))?;
    let exit = moment(row, "exit")?;
    let ends_at = entry.recorded_at.checked_add_signed(max_age);
    let timed_out_at = ends_at.filter(|ends_at| exit.is_none() && *ends_at < now);
    let store_id: &str = row.try_get("store_id")?;
    Ok(Session {
        id: session_id(row.try_get("id")?)?,
        visitor: visitor(row)?,
        store_id: StoreId::parse(store_id).map_err(corrupt)?,
        device: device(row)?,
        entry,
        exit,
        timed_out_at,
    })
}

fn moment(row: &SqliteRow, end: &str) -> Result<Option<Moment>> {
    let event: Option<Vec<u8>> = row.try_get(format!("{end}_event_id").as_str())?;
    let Some(event) = event else { return Ok(None) };
    let timestamp: &str = row.try_get(format!("{end}_timestamp").as_str())?;
    Ok(Some(Moment {
        event_id: EventId::from_bytes(event.try_into().map_err(|_| corrupt("event id"))?),
        timestamp: DateTime::parse_from_rfc3339(timestamp).map_err(corrupt)?.to_utc(),
        recorded_at: instant(row.try_get(format!("{end}_recorded_at").as_str())?),
    }))
}

fn visitor(row: &SqliteRow) -> Result<Visitor> {
    let (id, kind): (&str, &str) = (row.try_get("visitor_id")?, row.try_get("visitor_type")?);
    let kind = VisitorType::parse(kind).ok_or_else(|| corrupt("visitor_type"))?;
    Ok(Visitor { id: VisitorId::parse(id).map_err(corrupt)?, kind })
}

fn device(row: &SqliteRow) -> Result<Option<DeviceId>> {
    let device: Option<&str> = row.try_get("device_id")?;
    device.map(DeviceId::parse).transpose().map_err(corrupt)
}

fn session_id(id: i64) -> Result<SessionId> {
    u64::try_from(id).map(SessionId).map_err(corrupt)
}

fn number(SessionId(id): SessionId) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// Our clock in nanoseconds, which reaches from 1677 to 2262; beyond, the nearest that can be said.
fn nanos(time: DateTime<Utc>) -> i64 {
    let bound = if time < DateTime::UNIX_EPOCH { i64::MIN } else { i64::MAX };
    time.timestamp_nanos_opt().unwrap_or(bound)
}

fn instant(nanos: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(nanos)
}

fn before(now: DateTime<Utc>, span: TimeDelta) -> i64 {
    nanos(now.checked_sub_signed(span).unwrap_or(DateTime::<Utc>::MIN_UTC))
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Something stands in the database that this connector cannot have written.
#[expect(clippy::needless_pass_by_value, reason = "so that it can be named where an error is mapped")]
fn corrupt(what: impl ToString) -> LedgerError {
    LedgerError(format!("a row cannot be read: {}", what.to_string()))
}
