//! Conversion between rows and values, whichever driver has read the rows.

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

/// A row, whose columns are read by their names.
pub(super) trait Row {
    fn text(&self, column: &str) -> Result<Option<&str>>;
    fn bytes(&self, column: &str) -> Result<Option<&[u8]>>;
    fn integer(&self, column: &str) -> Result<Option<i64>>;
}

impl Row for AnyRow {
    fn text(&self, column: &str) -> Result<Option<&str>> {
        Ok(self.try_get(column)?)
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>> {
        Ok(self.try_get(column)?)
    }

    fn integer(&self, column: &str) -> Result<Option<i64>> {
        Ok(self.try_get(column)?)
    }
}

impl Row for rusqlite::Row<'_> {
    fn text(&self, column: &str) -> Result<Option<&str>> {
        self.get_ref(column)?.as_str_or_null().map_err(corrupt)
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>> {
        self.get_ref(column)?.as_blob_or_null().map_err(corrupt)
    }

    fn integer(&self, column: &str) -> Result<Option<i64>> {
        self.get_ref(column)?.as_i64_or_null().map_err(corrupt)
    }
}

/// Selects the records of an event.
pub(super) const RECORDS: &str =
    "SELECT fingerprint, recorded_at, denial, visitor_id, visitor_type, device_id, payment_source, session_effect,
            session_id
     FROM decision WHERE event_id = $1";

/// The records of an event, including expired ones.
pub(super) async fn records(connection: &mut AnyConnection, event: EventId) -> Result<Vec<(Fingerprint, Record)>> {
    let rows = query::<Any>(RECORDS).bind(event.as_bytes().as_slice()).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((fingerprint(row)?, record(row)?))).collect()
}

pub(super) fn fingerprint(row: &impl Row) -> Result<Fingerprint> {
    let fingerprint = row.bytes("fingerprint")?.and_then(|bytes| bytes.try_into().ok());
    fingerprint.map(Fingerprint::from_bytes).ok_or_else(|| corrupt("fingerprint"))
}

pub(super) fn event_id(row: &impl Row, column: &str) -> Result<EventId> {
    let id = row.bytes(column)?.and_then(|bytes| bytes.try_into().ok());
    id.map(EventId::from_bytes).ok_or_else(|| corrupt("event id"))
}

/// A time that must be present, in nanoseconds since 1970.
pub(super) fn time(row: &impl Row, column: &str) -> Result<DateTime<Utc>> {
    row.integer(column)?.map(from_nanos).ok_or_else(|| corrupt(column))
}

/// The record in a row with the columns of a decision.
pub(super) fn record(row: &impl Row) -> Result<Record> {
    let decision = match row.text("denial")? {
        Some(word) => Decision::Denied(Denial::parse(word).ok_or_else(|| corrupt("denial"))?),
        None => {
            let payment_source =
                row.text("payment_source")?.map(PaymentSourceId::parse).transpose().map_err(corrupt)?;
            Decision::Accepted(Grant { visitor: visitor(row)?, device: device(row)?, payment_source })
        }
    };
    let session = match (row.text("session_effect")?, row.integer("session_id")?) {
        (None, None) => SessionEffect::Untouched,
        (Some("none_open"), None) => SessionEffect::NoneOpen,
        (Some("opened"), Some(id)) => SessionEffect::Opened(session_id(id)?),
        (Some("closed"), Some(id)) => SessionEffect::Closed(session_id(id)?),
        _ => return Err(corrupt("session_effect")),
    };
    Ok(Record { decision, session, recorded_at: time(row, "recorded_at")? })
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

pub(super) fn visitor(row: &impl Row) -> Result<Visitor> {
    let kind = row.text("visitor_type")?.and_then(VisitorType::parse).ok_or_else(|| corrupt("visitor_type"))?;
    let id = row.text("visitor_id")?.ok_or_else(|| corrupt("visitor_id"))?;
    Ok(Visitor { id: VisitorId::parse(id).map_err(corrupt)?, kind })
}

pub(super) fn device(row: &impl Row) -> Result<Option<DeviceId>> {
    row.text("device_id")?.map(DeviceId::parse).transpose().map_err(corrupt)
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
