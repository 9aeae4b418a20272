//! Conversion between rows and values.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, Row as _, query};

use crate::digest::Fingerprint;
use crate::domain::decision::{Decision, Denial, Grant};
use crate::domain::ids::{DeviceId, EventId, PaymentSourceId, VisitorId};
use crate::domain::visitor::{Visitor, VisitorType};
use crate::ledger::{Record, SessionEffect, SessionId};
use crate::storage::{DatabaseError, corrupt};
pub(super) use crate::storage::{from_nanos, to_nanos};

type Result<T> = std::result::Result<T, DatabaseError>;

/// The records of an event, including expired ones.
pub(super) async fn records(connection: &mut AnyConnection, event: EventId) -> Result<Vec<(Fingerprint, Record)>> {
    let rows = query::<Any>(
        "SELECT fingerprint, recorded_at, denial, visitor_id, visitor_type, device_id, payment_source, session_effect,
                session_id
         FROM decision WHERE event_id = $1",
    )
    .bind(event.as_bytes().as_slice())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((fingerprint(row)?, record(row)?))).collect()
}

pub(super) fn fingerprint(row: &AnyRow) -> Result<Fingerprint> {
    let fingerprint: &[u8] = row.try_get("fingerprint")?;
    fingerprint.try_into().map(Fingerprint::from_bytes).map_err(|_| corrupt("fingerprint"))
}

pub(super) fn event_id(row: &AnyRow, column: &str) -> Result<EventId> {
    let id: &[u8] = row.try_get(column)?;
    id.try_into().map(EventId::from_bytes).map_err(|_| corrupt("event id"))
}

/// The record in a row with the columns of a decision.
pub(super) fn record(row: &AnyRow) -> Result<Record> {
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
    Ok(Record { decision, session, recorded_at: from_nanos(row.try_get("recorded_at")?) })
}

/// The columns of a decision.
pub(super) struct Columns<'a> {
    pub(super) denial: Option<&'static str>,
    pub(super) visitor_id: Option<&'a str>,
    pub(super) visitor_type: Option<&'static str>,
    pub(super) device_id: Option<&'a str>,
    pub(super) payment_source: Option<&'a str>,
}

impl<'a> From<&'a Decision> for Columns<'a> {
    fn from(decision: &'a Decision) -> Self {
        let (denial, grant) = match decision {
            Decision::Denied(denial) => (Some(denial.reason()), None),
            Decision::Accepted(grant) => (None, Some(grant)),
        };
        Self {
            denial,
            visitor_id: grant.map(|grant| grant.visitor.id.as_str()),
            visitor_type: grant.map(|grant| grant.visitor.kind.as_str()),
            device_id: grant.and_then(|grant| grant.device.as_ref()).map(DeviceId::as_str),
            payment_source: grant.and_then(|grant| grant.payment_source.as_ref()).map(PaymentSourceId::as_str),
        }
    }
}

pub(super) fn visitor(row: &AnyRow) -> Result<Visitor> {
    let (id, kind): (&str, &str) = (row.try_get("visitor_id")?, row.try_get("visitor_type")?);
    let kind = VisitorType::parse(kind).ok_or_else(|| corrupt("visitor_type"))?;
    Ok(Visitor { id: VisitorId::parse(id).map_err(corrupt)?, kind })
}

pub(super) fn device(row: &AnyRow) -> Result<Option<DeviceId>> {
    let device: Option<&str> = row.try_get("device_id")?;
    device.map(DeviceId::parse).transpose().map_err(corrupt)
}

pub(super) fn session_id(id: i64) -> Result<SessionId> {
    u64::try_from(id).map(SessionId).map_err(corrupt)
}

pub(super) fn number(SessionId(id): SessionId) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// A time that lies `span` before `now`, in nanoseconds since 1970.
pub(super) fn nanos_before(now: DateTime<Utc>, span: TimeDelta) -> i64 {
    to_nanos(now.checked_sub_signed(span).unwrap_or(DateTime::<Utc>::MIN_UTC))
}
