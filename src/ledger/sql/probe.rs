//! The write of the database's probe: writes the same rows as a scan, to find out whether the database could record
//! one.
//!
//! Overwriting one row again and again would succeed even on a full disk. So the probe inserts a decision and its
//! session, deletes both, and commits. Neither is ever visible to other connections, and the next probe needs free
//! space again.

use sqlx::any::Any;
use sqlx::{AnyConnection, query};

use crate::storage::{DatabaseError, IMMEDIATE, Work, in_transaction};

const SQLITE: &str =
    "INSERT INTO decision (event_id, fingerprint, recorded_at, visitor_id, visitor_type, session_effect, session_id)
     VALUES ($1, $2, $3, 'check', 'SHOPPER', 'opened', $4)";
const POSTGRES: &str =
    "INSERT INTO decision (event_id, place, fingerprint, recorded_at, visitor_id, visitor_type, session_effect, session_id)
     VALUES ($1, 0, $2, $3, 'check', 'SHOPPER', 'opened', $4)";
const SESSION: &str =
    "INSERT INTO session (id, visitor_id, visitor_type, store_id, entry_event_id, entry_timestamp, entry_recorded_at)
     VALUES ($1, 'check', 'SHOPPER', 'check', $2, '', $3)";

pub(super) fn sqlite(connection: &mut AnyConnection) -> Work<'_, ()> {
    Box::pin(in_transaction(IMMEDIATE, connection, |connection| Box::pin(write(connection, SQLITE))))
}

pub(super) fn postgres(connection: &mut AnyConnection) -> Work<'_, ()> {
    Box::pin(in_transaction("BEGIN", connection, |connection| Box::pin(write(connection, POSTGRES))))
}

async fn write(connection: &mut AnyConnection, decision: &'static str) -> Result<(), DatabaseError> {
    let event = uuid::Uuid::new_v4().into_bytes().to_vec();
    // Sessions of scans have positive numbers. The time is the latest possible, since scans write at that end of the
    // index as well.
    let (session, at) = (rand::random_range(i64::MIN..0), i64::MAX);
    query::<Any>(SESSION).bind(session).bind(event.clone()).bind(at).execute(&mut *connection).await?;
    let decision = query::<Any>(decision).bind(event.clone()).bind(vec![0_u8; 32]).bind(at).bind(session);
    decision.execute(&mut *connection).await?;
    query::<Any>("DELETE FROM decision WHERE event_id = $1").bind(event).execute(&mut *connection).await?;
    query::<Any>("DELETE FROM session WHERE id = $1").bind(session).execute(&mut *connection).await?;
    Ok(())
}
