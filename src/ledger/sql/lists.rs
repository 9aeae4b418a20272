//! Pages of decisions and of sessions, newest first.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, query};

use super::rows::{Row, device, event_id, fingerprint, number, record, session_id, time, visitor};
use crate::domain::ids::StoreId;
use crate::ledger::{DecisionCursor, DecisionEntry, DecisionPage, Moment, Page, Session, SessionId};
use crate::storage::{DatabaseError, corrupt};

type Result<T> = std::result::Result<T, DatabaseError>;

/// A page of decisions, newest first.
pub(super) async fn decisions(
    connection: &mut AnyConnection,
    before: Option<DecisionCursor>,
    limit: usize,
) -> Result<DecisionPage> {
    let before = before.unwrap_or(DecisionCursor::NEWEST);
    // One row more than the limit shows whether there is a next page.
    let rows = query::<Any>(
        "SELECT event_id, fingerprint, recorded_at, denial, visitor_id, visitor_type, device_id, payment_source,
                session_effect, session_id
         FROM decision WHERE (recorded_at, event_id, fingerprint) < ($1, $2, $3)
         ORDER BY recorded_at DESC, event_id DESC, fingerprint DESC LIMIT $4",
    )
    .bind(before.recorded_at)
    .bind(before.event.as_bytes().as_slice())
    .bind(before.fingerprint.as_bytes().as_slice())
    .bind(i64::try_from(limit).map_err(corrupt)?.saturating_add(1))
    .fetch_all(connection)
    .await?;
    let entry = |row: &AnyRow| {
        Ok(DecisionEntry { event: event_id(row, "event_id")?, fingerprint: fingerprint(row)?, record: record(row)? })
    };
    let mut decisions = rows.iter().map(entry).collect::<Result<Vec<_>>>()?;
    let more = decisions.len() > limit;
    decisions.truncate(limit);
    let next = decisions.last().filter(|_| more).map(DecisionEntry::cursor);
    Ok(DecisionPage { decisions, next })
}

/// A page of sessions, newest first.
pub(super) async fn sessions(
    connection: &mut AnyConnection,
    before: Option<SessionId>,
    limit: usize,
    now: DateTime<Utc>,
    max_age: TimeDelta,
) -> Result<Page> {
    // One row more than the limit shows whether there is a next page.
    let rows = query::<Any>(
        "SELECT id, visitor_id, visitor_type, store_id, device_id, entry_event_id, entry_timestamp, entry_recorded_at,
                exit_event_id, exit_timestamp, exit_recorded_at
         FROM session WHERE id < $1 ORDER BY id DESC LIMIT $2",
    )
    .bind(before.map_or(i64::MAX, number))
    .bind(i64::try_from(limit).map_err(corrupt)?.saturating_add(1))
    .fetch_all(connection)
    .await?;
    let mut sessions = rows.iter().map(|row| session(row, now, max_age)).collect::<Result<Vec<_>>>()?;
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let next = sessions.last().filter(|_| more).map(|session| session.id);
    Ok(Page { sessions, next })
}

fn session(row: &AnyRow, now: DateTime<Utc>, max_age: TimeDelta) -> Result<Session> {
    let entry = moment(row, "entry")?.ok_or_else(|| corrupt("entry"))?;
    let exit = moment(row, "exit")?;
    let ends_at = entry.recorded_at.checked_add_signed(max_age);
    let timed_out_at = ends_at.filter(|ends_at| exit.is_none() && *ends_at < now);
    let column = |name| move || corrupt(name);
    Ok(Session {
        id: session_id(row.integer("id")?.ok_or_else(column("id"))?)?,
        visitor: visitor(row)?,
        store_id: StoreId::parse(row.text("store_id")?.ok_or_else(column("store_id"))?).map_err(corrupt)?,
        device: device(row)?,
        entry,
        exit,
        timed_out_at,
    })
}

fn moment(row: &AnyRow, end: &str) -> Result<Option<Moment>> {
    let event = format!("{end}_event_id");
    let Some(timestamp) = row.text(&format!("{end}_timestamp"))? else { return Ok(None) };
    Ok(Some(Moment {
        event_id: event_id(row, &event)?,
        timestamp: DateTime::parse_from_rfc3339(timestamp).map_err(corrupt)?.to_utc(),
        recorded_at: time(row, &format!("{end}_recorded_at"))?,
    }))
}
