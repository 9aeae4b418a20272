//! Records decisions in PostgreSQL, where other connectors may record at the same time. `rule.rs` decides, from what is
//! known of the event; `record_decisions` in `migrations/postgres` writes, unless something else was recorded meanwhile.
//!
//! Nearly every scan is a new event. So a batch is first decided without reading anything, and written by one statement:
//! one round trip and one commit. What that statement does not accept is read and decided again.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, query};

use super::rows::{self, Columns, RecordRow, Row as _, nanos_before};
use super::writer::{Batch, BatchOutcome, PendingRecord, missed_deadline};
use crate::digest::Digest;
use crate::domain::decision::Decision;
use crate::domain::ids::EventId;
use crate::ledger::rule::{self, CodeUse, Outcome, SessionStep};
use crate::ledger::{LedgerError, Limits, NewRecord, Record, Recorded};
use crate::storage::{DatabaseError, corrupt};

type Result<T> = std::result::Result<T, DatabaseError>;

/// The records of some events and the uses of some codes, including expired ones.
#[derive(Default)]
struct Existing {
    records: HashMap<EventId, Vec<RecordRow>>,
    codes: HashMap<Digest, CodeUse>,
}

/// New decisions that are written by one statement. Each event and each code is in it once.
#[derive(Default)]
struct Statement<'a> {
    /// The keys of the locks of its events and codes.
    once: BTreeSet<i64>,
    /// The keys of the locks of the visitors at a store whose sessions it closes. Only sessions that are committed before
    /// can be closed.
    leaving: BTreeSet<i64>,
    rows: Vec<String>,
    /// Whether one of the decisions takes a record of its event or a use of its code into account.
    known: bool,
    /// The decisions, each with its position in the batch.
    new: HashMap<EventId, (usize, Decision, SessionStep<'a>)>,
}

/// A new decision in the form that `record_decisions` takes.
#[derive(Serialize)]
struct NewRow<'a> {
    number: usize,
    event: String,
    newest: Option<i64>,
    scan: String,
    code: Option<String>,
    closes: bool,
    kept_since: i64,
    entered_since: i64,
    slot: i64,
    #[serde(flatten)]
    columns: Columns<'a>,
}

/// Records a batch. If that fails, a part of it may be recorded: what is decided again is written by another statement.
pub(super) async fn record(connection: &mut AnyConnection, pending: Batch, limits: Limits) -> Result<BatchOutcome> {
    let mut recorded: Vec<Option<std::result::Result<Recorded, LedgerError>>> = pending.iter().map(|_| None).collect();
    let mut existing = Existing::default();
    loop {
        let mut statement = Statement::default();
        for (number, (pending, recorded)) in pending.iter().zip(&mut recorded).enumerate() {
            if recorded.is_none() {
                *recorded = match pending.is_past_deadline() {
                    true => Some(Err(missed_deadline())),
                    false => statement.decide(number, pending, &existing, &limits)?.map(Ok),
                };
            }
        }
        for (number, record) in statement.run(connection, &pending).await? {
            if let Some(recorded) = recorded.get_mut(number) {
                *recorded = Some(Ok(Recorded::New(record)));
            }
        }
        let missing: Vec<_> = pending.iter().zip(&recorded).filter(|(_, recorded)| recorded.is_none()).collect();
        if missing.is_empty() {
            return Ok(BatchOutcome { recorded: recorded.into_iter().flatten().collect(), change: 0 });
        }
        existing = Existing::read(connection, missing.into_iter().map(|(pending, _)| &*pending.entry)).await?;
    }
}

impl<'a> Statement<'a> {
    /// Decides what recording does. Returns `None` if something is to be written: by this statement, or by a later one
    /// if it depends on what this statement writes.
    fn decide(
        &mut self,
        number: usize,
        PendingRecord { entry, decided_at, .. }: &'a PendingRecord,
        existing: &Existing,
        limits: &Limits,
    ) -> Result<Option<Recorded>> {
        let (event, now) = (entry.scan.event.id, *decided_at);
        let records = existing.records.get(&event).map_or(&[][..], Vec::as_slice);
        let used = entry.code.and_then(|code| existing.codes.get(&code).copied());
        let (decision, step, uses) = match rule::apply(entry, rows::of_event(records), used, now, limits.retention) {
            Outcome::Replay(record) => return Ok(Some(Recorded::Replay(record))),
            Outcome::Mismatch => return Ok(Some(Recorded::Mismatch)),
            Outcome::New { decision, session, uses } => (decision, session, uses),
        };
        let visitor = match step {
            SessionStep::CloseOldest(visitor) => Some(visitor.as_str().as_bytes()),
            SessionStep::None | SessionStep::Open(_) => None,
        };
        let once = [Some(key([b"event", event.as_bytes()])), uses.map(|code| key([b"code", code.as_bytes()]))];
        if once.iter().flatten().any(|key| self.once.contains(key)) {
            return Ok(None);
        }
        self.once.extend(once.into_iter().flatten());
        self.leaving.extend(visitor.map(|visitor| key([visitor, entry.scan.store_id.as_str().as_bytes()])));
        self.known |= !records.is_empty() || used.is_some();
        let row = NewRow {
            number,
            event: hex::encode(event.as_bytes()),
            newest: records.iter().map(|stored| rows::number(stored.id)).max(),
            scan: hex::encode(entry.fingerprint.as_bytes()),
            code: uses.map(Digest::to_hex),
            closes: visitor.is_some(),
            kept_since: nanos_before(now, limits.retention),
            entered_since: nanos_before(now, limits.session_max_age),
            slot: rows::free_slot(&decision, records, now, limits.retention)?,
            columns: Columns::new(&entry.scan, &decision, now),
        };
        self.rows.push(serde_json::to_string(&row).map_err(corrupt)?);
        self.new.insert(event, (number, decision, step));
        Ok(None)
    }

    /// Writes the decisions. Returns the new records, each with its position in the batch.
    async fn run(mut self, connection: &mut AnyConnection, pending: &Batch) -> Result<Vec<(usize, Record)>> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let locks: Vec<_> = self.once.union(&self.leaving).map(i64::to_string).collect();
        let written = query::<Any>(
            "SELECT event_id, id, counterpart FROM record_decisions($1::TEXT::BIGINT[], $2::TEXT::JSON, $3)",
        )
        .bind(format!("{{{}}}", locks.join(",")))
        .bind(format!("[{}]", self.rows.join(",")))
        .bind(self.known)
        .fetch_all(connection)
        .await?;
        let record = |row: &AnyRow| {
            let new = self.new.remove(&rows::event_id(row, "event_id")?);
            let (number, decision, step) = rows::required(new, "event_id")?;
            let recorded_at = rows::required(pending.get(number), "event_id")?.decided_at;
            let counterpart = row.integer("counterpart")?.map(rows::record_id).transpose()?;
            let session = rows::effect(step, rows::id(row)?, counterpart);
            Ok((number, Record { decision, session, recorded_at }))
        };
        written.iter().map(record).collect()
    }
}

impl Existing {
    /// Reads the records of these decisions' events, and the uses of their codes.
    async fn read(connection: &mut AnyConnection, entries: impl Iterator<Item = &NewRecord> + Send) -> Result<Self> {
        let (events, codes): (BTreeSet<_>, BTreeSet<_>) =
            entries.map(|entry| (hex::encode(entry.scan.event.id.as_bytes()), entry.code.map(Digest::to_hex))).unzip();
        let codes: BTreeSet<_> = codes.into_iter().flatten().collect();
        let rows = query::<Any>("SELECT * FROM recorded_decisions($1::TEXT::JSON, $2::TEXT::JSON)")
            .bind(serde_json::to_string(&events).map_err(corrupt)?)
            .bind(serde_json::to_string(&codes).map_err(corrupt)?)
            .fetch_all(connection)
            .await?;
        let mut existing = Self::default();
        for row in &rows {
            let (event, stored) = (rows::event_id(row, "event_id")?, RecordRow::read(row)?);
            if let Some(code) = row.bytes("code")?.and_then(|code| code.try_into().ok()) {
                let used = CodeUse { event, recorded_at: stored.record.recorded_at };
                existing.codes.insert(Digest::from_bytes(code), used);
            }
            existing.records.entry(event).or_default().push(stored);
        }
        Ok(existing)
    }
}

/// The key of a lock, the same on all connectors. It is short, so two events may have the same key, for instance. Then one
/// of them waits for the other, or is written by a later statement.
fn key(parts: [&[u8]; 2]) -> i64 {
    let hash: [u8; 32] = parts.into_iter().fold(Sha256::new(), Sha256::chain_update).finalize().into();
    hash.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}
