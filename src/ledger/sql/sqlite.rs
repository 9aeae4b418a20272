//! Recording in SQLite: this process alone writes, so what it reads in a transaction holds until its end.

use sqlx::AnyConnection;
use sqlx::Executor as _;

use super::rows;
use super::writer::{Waiting, Written};
use crate::domain::decision::Decision;
use crate::domain::scan::Location;
use crate::ledger::{LedgerError, Limits, Lookup, Record, Recorded, SessionEffect};
use crate::storage::{DatabaseError, IMMEDIATE, all_or_nothing};

/// Records a batch with one commit. A row that fails fails alone.
pub(super) async fn record(
    connection: &mut AnyConnection,
    waiting: Vec<Waiting>,
    limits: Limits,
) -> Result<Written, DatabaseError> {
    all_or_nothing(IMMEDIATE, connection, move |connection| {
        Box::pin(async move {
            let mut written = Written { recorded: Vec::with_capacity(waiting.len()), change: 0 };
            for one in &waiting {
                connection.execute("SAVEPOINT one").await?;
                let result = record_one(connection, one, &limits).await;
                match &result {
                    Ok((_, change)) => written.change = written.change.saturating_add(*change),
                    Err(_) => {
                        connection.execute("ROLLBACK TO one").await?;
                    }
                }
                connection.execute("RELEASE one").await?;
                written.recorded.push(result.map(|(recorded, _)| recorded).map_err(LedgerError::from));
            }
            Ok(written)
        })
    })
    .await
}

async fn record_one(
    connection: &mut AnyConnection,
    Waiting { entry, now }: &Waiting,
    limits: &Limits,
) -> Result<(Recorded, isize), DatabaseError> {
    let (event, now) = (entry.event.id, *now);
    match rows::records(connection, event).await?.find(&entry.fingerprint, now, limits.retention) {
        Lookup::Recorded(record) => return Ok((Recorded::Replay(record), 0)),
        Lookup::Mismatch => return Ok((Recorded::Mismatch, 0)),
        Lookup::Unknown => {}
    }
    let past = rows::forget_event(connection, event, limits.retention, now).await?;
    let session = match (&entry.decision, entry.event.location) {
        (Decision::Denied(_), _) => SessionEffect::Untouched,
        (Decision::Accepted(grant), Location::Entry) => {
            SessionEffect::Opened(rows::open_session(connection, entry, grant, now).await?)
        }
        (Decision::Accepted(grant), Location::Exit) => {
            let closed = rows::close_session(connection, entry, grant, now, limits.session_max_age).await?;
            closed.map_or(SessionEffect::NoneOpen, SessionEffect::Closed)
        }
    };
    let record = Record { decision: entry.decision.clone(), session, recorded_at: now };
    rows::insert(connection, event, &entry.fingerprint, &record).await?;
    Ok((Recorded::New(record), 1_isize.saturating_sub_unsigned(past)))
}
