//! Records batches in PostgreSQL. A batch is one call of `record_decisions_in_turn`: one statement, one round trip and
//! one commit.
//!
//! The rules are in `migrations/postgres/0001_ledger.sql`, the handling of codes in `0004_used_codes.sql`. Why
//! connectors that record for the same event wait for one another is explained in `0006_events_in_turn.sql`.

use serde::Serialize;
use sqlx::any::Any;
use sqlx::{AnyConnection, Row as _, query};

use super::rows::{self, Columns, nanos_before, to_nanos};
use super::writer::{Batch, BatchOutcome, PendingRecord};
use crate::clock::rfc3339;
use crate::digest::Digest;
use crate::ledger::{LedgerError, Limits, Recorded};
use crate::storage::{DatabaseError, corrupt};

/// A decision in the form that the SQL function reads.
#[derive(Serialize)]
struct Job<'a> {
    number: usize,
    event: String,
    scan: String,
    recorded_at: i64,
    kept_since: i64,
    entered_since: i64,
    denial: Option<&'static str>,
    visitor_id: Option<&'a str>,
    visitor_type: Option<&'static str>,
    device_id: Option<&'a str>,
    payment_source: Option<&'a str>,
    store_id: &'a str,
    location: &'static str,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

impl<'a> Job<'a> {
    fn new(number: usize, PendingRecord { entry, decided_at, .. }: &'a PendingRecord, limits: &Limits) -> Self {
        let Columns { denial, visitor_id, visitor_type, device_id, payment_source } = Columns::from(&entry.decision);
        Self {
            number,
            event: hex::encode(entry.event.id.as_bytes()),
            scan: hex::encode(entry.fingerprint.as_bytes()),
            recorded_at: to_nanos(*decided_at),
            kept_since: nanos_before(*decided_at, limits.retention),
            entered_since: nanos_before(*decided_at, limits.session_max_age),
            denial,
            visitor_id,
            visitor_type,
            device_id,
            payment_source,
            store_id: entry.store_id.as_str(),
            location: entry.event.location.as_str(),
            at: rfc3339(entry.event.timestamp),
            code: entry.code.map(Digest::to_hex),
        }
    }
}

/// Records a whole batch, or nothing if it fails.
pub(super) async fn record(
    connection: &mut AnyConnection,
    pending: Batch,
    limits: Limits,
) -> Result<BatchOutcome, DatabaseError> {
    let jobs: Vec<Job<'_>> =
        pending.iter().enumerate().map(|(number, record)| Job::new(number, record, &limits)).collect();
    let jobs = serde_json::to_string(&jobs).map_err(corrupt)?;
    let rows = query::<Any>(
        "SELECT number, outcome, recorded_at, denial, visitor_id, visitor_type, device_id, payment_source, session_effect,
                session_id
         FROM record_decisions_in_turn($1)",
    )
    .bind(jobs).fetch_all(connection).await?;
    let mut recorded: Vec<Option<Recorded>> = pending.iter().map(|_| None).collect();
    for row in &rows {
        let (number, outcome): (i32, &str) = (row.try_get("number")?, row.try_get("outcome")?);
        let slot = usize::try_from(number).ok().and_then(|number| recorded.get_mut(number));
        *slot.ok_or_else(|| corrupt("number"))? = Some(match outcome {
            "new" => Recorded::New(rows::record(row)?),
            "replay" => Recorded::Replay(rows::record(row)?),
            _ => Recorded::Mismatch,
        });
    }
    let missing = || LedgerError::from(corrupt("a decision without an outcome"));
    Ok(BatchOutcome { recorded: recorded.into_iter().map(|one| one.ok_or_else(missing)).collect(), change: 0 })
}
