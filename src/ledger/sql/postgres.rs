//! Records batches in PostgreSQL. A batch is one call of `record_decisions` in `migrations/postgres`: one statement, one
//! round trip and one commit.

use std::collections::BTreeSet;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::any::Any;
use sqlx::{AnyConnection, Row as _, query};

use super::rows::{self, Columns, nanos_before, to_nanos};
use super::writer::{Batch, BatchOutcome, PendingRecord};
use crate::clock::rfc3339;
use crate::digest::Digest;
use crate::domain::decision::Decision;
use crate::domain::scan::{KeyChannel, Location};
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
    event_time: String,
    location: &'static str,
    channel: Option<&'static str>,
    store_id: &'a str,
    caller: Option<&'a str>,
    denial: Option<&'static str>,
    visitor_id: Option<&'a str>,
    visitor_type: Option<&'static str>,
    device_id: Option<&'a str>,
    payment_source: Option<&'a str>,
    code: Option<String>,
}

impl<'a> Job<'a> {
    fn new(number: usize, PendingRecord { entry, decided_at, .. }: &'a PendingRecord, limits: &Limits) -> Self {
        let Columns { denial, visitor_id, visitor_type, device_id, payment_source } = Columns::from(&entry.decision);
        Self {
            number,
            event: hex::encode(entry.scan.event.id.as_bytes()),
            scan: hex::encode(entry.fingerprint.as_bytes()),
            recorded_at: to_nanos(*decided_at),
            kept_since: nanos_before(*decided_at, limits.retention),
            entered_since: nanos_before(*decided_at, limits.session_max_age),
            event_time: rfc3339(entry.scan.event.timestamp),
            location: entry.scan.event.location.as_str(),
            channel: entry.scan.channel.map(KeyChannel::as_str),
            store_id: entry.scan.store_id.as_str(),
            caller: entry.scan.caller.as_deref(),
            denial,
            visitor_id,
            visitor_type,
            device_id,
            payment_source,
            code: entry.code.map(Digest::to_hex),
        }
    }
}

/// The keys of the locks that the batch needs, in ascending order: one for each event, one for each code, and one for
/// each visitor at a store where the batch closes a session.
fn locks(pending: &[PendingRecord]) -> BTreeSet<i64> {
    let mut locks = BTreeSet::new();
    // All connectors compute the same keys. Two different keys may collide, since they are short.
    let mut lock = |parts: [&[u8]; 2]| {
        let hash = parts.into_iter().fold(Sha256::new(), Sha256::chain_update).finalize();
        locks.extend(hash.first_chunk().map(|bytes| i64::from_be_bytes(*bytes)));
    };
    for entry in pending.iter().map(|pending| &pending.entry) {
        lock([b"event", entry.scan.event.id.as_bytes()]);
        if let Some(code) = &entry.code {
            lock([b"code", code.as_bytes()]);
        }
        if let (Location::Exit, Decision::Accepted(grant)) = (entry.scan.event.location, &entry.decision) {
            lock([grant.visitor.id.as_str().as_bytes(), entry.scan.store_id.as_str().as_bytes()]);
        }
    }
    locks
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
    let locks: Vec<_> = locks(&pending).iter().map(i64::to_string).collect();
    let rows =
        query::<Any>("SELECT number, outcome, (record).* FROM record_decisions($1::TEXT::BIGINT[], $2::TEXT::JSON)")
            .bind(format!("{{{}}}", locks.join(",")))
            .bind(jobs)
            .fetch_all(connection)
            .await?;
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
