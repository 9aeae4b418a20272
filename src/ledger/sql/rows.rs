//! Conversion between rows and values, whichever driver has read the rows.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, Row as _, query};

use crate::digest::Fingerprint;
use crate::domain::decision::{Decision, Denial, Grant, Known};
use crate::domain::ids::{DeviceId, EventId, PaymentSourceId, VisitorId};
use crate::domain::scan::Location;
use crate::domain::visitor::{Visitor, VisitorType};
use crate::ledger::{Record, RecordId, SessionEffect};
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
    "SELECT id, slot, fingerprint, recorded_at, location, denial, visitor_id, visitor_type, device_id, payment_source,
            counterpart
     FROM decision WHERE event_id = $1";

/// The records of an event, including expired ones.
pub(super) async fn records(connection: &mut AnyConnection, event: EventId) -> Result<Vec<(Fingerprint, Record)>> {
    let rows = query::<Any>(RECORDS).bind(event.as_bytes().as_slice()).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((fingerprint(row)?, record(row)?))).collect()
}

/// A column that is never null.
pub(super) fn required<T>(value: Option<T>, column: &str) -> Result<T> {
    value.ok_or_else(|| corrupt(column))
}

pub(super) fn fingerprint(row: &impl Row) -> Result<Fingerprint> {
    let fingerprint = row.bytes("fingerprint")?.and_then(|bytes| bytes.try_into().ok());
    required(fingerprint.map(Fingerprint::from_bytes), "fingerprint")
}

pub(super) fn event_id(row: &impl Row, column: &str) -> Result<EventId> {
    let id = row.bytes(column)?.and_then(|bytes| bytes.try_into().ok());
    required(id.map(EventId::from_bytes), column)
}

/// A time in nanoseconds since 1970.
pub(super) fn time(row: &impl Row, column: &str) -> Result<DateTime<Utc>> {
    required(row.integer(column)?.map(from_nanos), column)
}

/// The record in a row with the columns of a decision.
pub(super) fn record(row: &impl Row) -> Result<Record> {
    let visitor = match row.text("visitor_id")? {
        Some(id) => {
            let kind = required(row.text("visitor_type")?.and_then(VisitorType::parse), "visitor_type")?;
            Some(Visitor { id: VisitorId::parse(id).map_err(corrupt)?, kind })
        }
        None => None,
    };
    let device = row.text("device_id")?.map(DeviceId::parse).transpose().map_err(corrupt)?;
    let decision = match row.text("denial")? {
        Some(word) => Decision::Denied {
            reason: required(Denial::parse(word), "denial")?,
            known: visitor.map(|visitor| Known { visitor, device }),
        },
        None => {
            let payment_source =
                row.text("payment_source")?.map(PaymentSourceId::parse).transpose().map_err(corrupt)?;
            Decision::Accepted(Grant { visitor: required(visitor, "visitor_id")?, device, payment_source })
        }
    };
    let location = required(row.text("location")?.and_then(Location::parse), "location")?;
    let session = match (&decision, location, row.integer("counterpart")?) {
        (Decision::Denied { .. }, ..) => SessionEffect::Untouched,
        (Decision::Accepted(_), Location::Entry, _) => SessionEffect::Opened(record_id(row, "id")?),
        (Decision::Accepted(_), Location::Exit, None) => SessionEffect::NoneOpen,
        (Decision::Accepted(_), Location::Exit, Some(_)) => SessionEffect::Closed(record_id(row, "counterpart")?),
    };
    Ok(Record { decision, session, recorded_at: time(row, "recorded_at")? })
}

pub(super) fn record_id(row: &impl Row, column: &str) -> Result<RecordId> {
    required(row.integer(column)?.and_then(|id| u64::try_from(id).ok()), column).map(RecordId)
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
        let (denial, payment_source) = match decision {
            Decision::Denied { reason, .. } => (Some(reason.reason()), None),
            Decision::Accepted(grant) => (None, grant.payment_source.as_ref()),
        };
        let visitor = decision.visitor();
        Self {
            denial,
            visitor_id: visitor.map(|visitor| visitor.id.as_str()),
            visitor_type: visitor.map(|visitor| visitor.kind.as_str()),
            device_id: decision.device().map(DeviceId::as_str),
            payment_source: payment_source.map(PaymentSourceId::as_str),
        }
    }
}

pub(super) fn number(RecordId(id): RecordId) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// A time that lies `span` before `now`, in nanoseconds since 1970.
pub(super) fn nanos_before(now: DateTime<Utc>, span: TimeDelta) -> i64 {
    to_nanos(now.checked_sub_signed(span).unwrap_or(DateTime::<Utc>::MIN_UTC))
}
