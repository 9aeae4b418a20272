//! Pages of decisions and of sessions, newest first.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, query};

use super::rows::{self, Row, number};
use crate::domain::decision::Decision;
use crate::domain::ids::StoreId;
use crate::domain::scan::{AuthEvent, KeyChannel, Location, ScanDetails, parse_utc};
use crate::ledger::{DecisionEntry, Moment, Page, RecordId, Session};
use crate::storage::{DatabaseError, corrupt};

type Result<T> = std::result::Result<T, DatabaseError>;

const DECISIONS: &str =
    "SELECT id, event_id, recorded_at, event_time, location, channel, store_id, caller, denial, visitor_id, visitor_type,
            device_id, payment_source, counterpart
     FROM decision WHERE id < $1 ORDER BY id DESC LIMIT $2";
/// The entries, each with its exit. A session is left out if its exit is deleted already: another connector whose clock
/// is slow has recorded the exit with an earlier time than the entry's.
const SESSIONS: &str =
    "SELECT entry.id, entry.event_id, entry.recorded_at, entry.event_time, entry.location, entry.channel,
            entry.store_id, entry.caller, entry.denial, entry.visitor_id, entry.visitor_type, entry.device_id,
            entry.payment_source, entry.counterpart, exit.event_id AS exit_event_id, exit.event_time AS exit_time,
            exit.recorded_at AS exit_recorded_at
     FROM decision AS entry LEFT JOIN decision AS exit ON exit.id = entry.counterpart AND exit.counterpart = entry.id
     WHERE entry.id < $1 AND entry.location = 'ENTRY' AND entry.denial IS NULL
         AND (entry.counterpart IS NULL OR exit.id IS NOT NULL)
     ORDER BY entry.id DESC LIMIT $2";

/// A page of decisions, newest first.
pub(super) async fn decisions(
    connection: &mut AnyConnection,
    before: Option<RecordId>,
    limit: usize,
) -> Result<Page<DecisionEntry>> {
    page(connection, DECISIONS, before, limit, decision, |decision| decision.id).await
}

/// A page of sessions, newest first.
pub(super) async fn sessions(
    connection: &mut AnyConnection,
    before: Option<RecordId>,
    limit: usize,
    now: DateTime<Utc>,
    max_age: TimeDelta,
) -> Result<Page<Session>> {
    page(connection, SESSIONS, before, limit, |row| session(row, now, max_age), |session| session.id).await
}

async fn page<T>(
    connection: &mut AnyConnection,
    statement: &'static str,
    before: Option<RecordId>,
    limit: usize,
    read: impl Fn(&AnyRow) -> Result<T>,
    id: impl FnOnce(&T) -> RecordId,
) -> Result<Page<T>> {
    let rows = query::<Any>(statement)
        .bind(before.map_or(i64::MAX, number))
        .bind(i64::try_from(limit).map_err(corrupt)?.saturating_add(1))
        .fetch_all(connection)
        .await?;
    Ok(Page::new(rows.iter().map(read).collect::<Result<Vec<_>>>()?, limit, id))
}

fn decision(row: &AnyRow) -> Result<DecisionEntry> {
    let location = rows::required(row.text("location")?.and_then(Location::parse), "location")?;
    let channel = |word| KeyChannel::parse(word).ok_or_else(|| corrupt("channel"));
    let scan = ScanDetails {
        event: AuthEvent { id: rows::event_id(row, "event_id")?, timestamp: event_time(row, "event_time")?, location },
        store_id: StoreId::parse(rows::required(row.text("store_id")?, "store_id")?).map_err(corrupt)?,
        channel: row.text("channel")?.map(channel).transpose()?,
        caller: row.text("caller")?.map(Into::into),
    };
    Ok(DecisionEntry { id: rows::id(row)?, scan, record: rows::record(row)? })
}

fn session(row: &AnyRow, now: DateTime<Utc>, max_age: TimeDelta) -> Result<Session> {
    let DecisionEntry { id, scan, record } = decision(row)?;
    let Decision::Accepted(grant) = &record.decision else { return Err(corrupt("denial")) };
    let exit = match row.integer("exit_recorded_at")? {
        None => None,
        Some(_) => Some(Moment {
            event_id: rows::event_id(row, "exit_event_id")?,
            timestamp: event_time(row, "exit_time")?,
            recorded_at: rows::time(row, "exit_recorded_at")?,
        }),
    };
    let entry = Moment::new(&scan.event, record.recorded_at);
    Ok(Session::new(id, grant, scan.store_id, entry, exit, now, max_age))
}

fn event_time(row: &AnyRow, column: &str) -> Result<DateTime<Utc>> {
    rows::required(row.text(column)?.and_then(parse_utc), column)
}
