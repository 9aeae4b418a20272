//! Recording in PostgreSQL: one call of `record_decisions_in_turn` a batch, which is one statement, one round trip and one commit. Its rules are
//! in `migrations/postgres/0001_ledger.sql`, what it does about codes in `0004_used_codes.sql`, and why connectors wait for one another
//! where they have one event in `0006_events_in_turn.sql`.

use serde::Serialize;
use sqlx::any::Any;
use sqlx::{AnyConnection, Row as _, query};

use super::rows::{self, Columns, before, nanos, text};
use super::writer::{Waiting, Written};
use crate::ledger::{LedgerError, Limits, Recorded};
use crate::storage::{DatabaseError, corrupt};

/// A decision as the function takes it.
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
    fn new(number: usize, Waiting { entry, now, .. }: &'a Waiting, limits: &Limits) -> Self {
        let Columns { denial, visitor_id, visitor_type, device_id, payment_source } = Columns::from(&entry.decision);
        Self {
            number,
            event: hex::encode(entry.event.id.as_bytes()),
            scan: hex::encode(entry.fingerprint.as_bytes()),
            recorded_at: nanos(*now),
            kept_since: before(*now, limits.retention),
            entered_since: before(*now, limits.session_max_age),
            denial,
            visitor_id,
            visitor_type,
            device_id,
            payment_source,
            store_id: entry.store_id.as_str(),
            location: entry.event.location.as_str(),
            at: text(entry.event.timestamp),
            code: entry.code.map(|code| code.to_hex()),
        }
    }
}

/// Records a batch, whole or not at all.
pub(super) async fn record(
    connection: &mut AnyConnection,
    waiting: Vec<Waiting>,
    limits: Limits,
) -> Result<Written, DatabaseError> {
    let jobs: Vec<Job<'_>> = waiting.iter().enumerate().map(|(number, one)| Job::new(number, one, &limits)).collect();
    let jobs = serde_json::to_string(&jobs).map_err(corrupt)?;
    let rows = query::<Any>(
        "SELECT number, outcome, recorded_at, denial, visitor_id, visitor_type, device_id, payment_source, session_effect,
                session_id
         FROM record_decisions_in_turn($1)",
    )
    .bind(jobs).fetch_all(connection).await?;
    let mut recorded: Vec<Option<Recorded>> = waiting.iter().map(|_| None).collect();
    for row in &rows {
        let (number, outcome): (i32, &str) = (row.try_get("number")?, row.try_get("outcome")?);
        let place = usize::try_from(number).ok().and_then(|number| recorded.get_mut(number));
        *place.ok_or_else(|| corrupt("number"))? = Some(match outcome {
            "new" => Recorded::New(rows::record(row)?),
            "replay" => Recorded::Replay(rows::record(row)?),
            _ => Recorded::Mismatch,
        });
    }
    let missing = || LedgerError::from(corrupt("a decision without an outcome"));
    Ok(Written { recorded: recorded.into_iter().map(|one| one.ok_or_else(missing)).collect(), change: 0 })
}
