//! Conversion between rows and values, whichever driver has read the rows.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, Row as _, query};

use crate::clock::rfc3339;
use crate::digest::Fingerprint;
use crate::domain::decision::{Decision, Denial, Grant, Known};
use crate::domain::ids::{DeviceId, EventId, PaymentSourceId, VisitorId};
use crate::domain::scan::{KeyChannel, Location, ScanDetails};
use crate::domain::visitor::{Visitor, VisitorType};
use crate::ledger::rule::SessionStep;
use crate::ledger::{MAX_REJECTIONS, Record, RecordId, SessionEffect};
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

/// A record of an event, which may have expired.
pub(super) struct RecordRow {
    pub(super) id: RecordId,
    pub(super) slot: i64,
    pub(super) fingerprint: Fingerprint,
    pub(super) record: Record,
}

impl RecordRow {
    pub(super) fn read(row: &impl Row) -> Result<Self> {
        Ok(Self {
            id: id(row)?,
            slot: required(row.integer("slot")?, "slot")?,
            fingerprint: fingerprint(row)?,
            record: record(row)?,
        })
    }
}

/// The records in the form that the rule takes.
pub(super) fn of_event(records: &[RecordRow]) -> impl Iterator<Item = (&Fingerprint, &Record)> {
    records.iter().map(|stored| (&stored.fingerprint, &stored.record))
}

/// The records of an event, including expired ones.
pub(super) async fn records(connection: &mut AnyConnection, event: EventId) -> Result<Vec<RecordRow>> {
    let rows = query::<Any>(RECORDS).bind(event.as_bytes().as_slice()).fetch_all(connection).await?;
    rows.iter().map(RecordRow::read).collect()
}

/// The slot of a new decision beside these records of its event: 0 for an acceptance, or the first free one of 1 to 8.
/// Those of expired records are free.
pub(super) fn free_slot(
    decision: &Decision,
    records: &[RecordRow],
    now: DateTime<Utc>,
    retention: TimeDelta,
) -> Result<i64> {
    let is_taken = |slot| records.iter().any(|stored| stored.slot == slot && !stored.record.is_expired(retention, now));
    match decision {
        Decision::Accepted(_) => Ok(0),
        Decision::Denied { .. } => required((1..).take(MAX_REJECTIONS).find(|slot| !is_taken(*slot)), "slot"),
    }
}

/// The effect of a new record with this id; `counterpart` is the entry whose session it has closed.
pub(super) fn effect(step: SessionStep<'_>, id: RecordId, counterpart: Option<RecordId>) -> SessionEffect {
    match (step, counterpart) {
        (SessionStep::None, _) => SessionEffect::Untouched,
        (SessionStep::Open(_), _) => SessionEffect::Opened(id),
        (SessionStep::CloseOldest(_), None) => SessionEffect::NoneOpen,
        (SessionStep::CloseOldest(_), Some(entry)) => SessionEffect::Closed(entry),
    }
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
        (Decision::Accepted(_), Location::Entry, _) => SessionEffect::Opened(id(row)?),
        (Decision::Accepted(_), Location::Exit, None) => SessionEffect::NoneOpen,
        (Decision::Accepted(_), Location::Exit, Some(entry)) => SessionEffect::Closed(record_id(entry)?),
    };
    Ok(Record { decision, session, recorded_at: time(row, "recorded_at")? })
}

pub(super) fn id(row: &impl Row) -> Result<RecordId> {
    record_id(required(row.integer("id")?, "id")?)
}

pub(super) fn record_id(id: i64) -> Result<RecordId> {
    u64::try_from(id).map(RecordId).map_err(corrupt)
}

/// The columns of a new decision that are the same with both drivers.
#[derive(Serialize)]
pub(super) struct Columns<'a> {
    pub(super) recorded_at: i64,
    pub(super) event_time: String,
    pub(super) location: &'static str,
    pub(super) channel: Option<&'static str>,
    pub(super) store_id: &'a str,
    pub(super) caller: Option<&'a str>,
    pub(super) denial: Option<&'static str>,
    pub(super) visitor_id: Option<&'a str>,
    pub(super) visitor_type: Option<&'static str>,
    pub(super) device_id: Option<&'a str>,
    pub(super) payment_source: Option<&'a str>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(scan: &'a ScanDetails, decision: &'a Decision, now: DateTime<Utc>) -> Self {
        let (denial, payment_source) = match decision {
            Decision::Denied { reason, .. } => (Some(reason.reason()), None),
            Decision::Accepted(grant) => (None, grant.payment_source.as_ref()),
        };
        let visitor = decision.visitor();
        Self {
            recorded_at: to_nanos(now),
            event_time: rfc3339(scan.event.timestamp),
            location: scan.event.location.as_str(),
            channel: scan.channel.map(KeyChannel::as_str),
            store_id: scan.store_id.as_str(),
            caller: scan.caller.as_deref(),
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
