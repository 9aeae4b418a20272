//! The write of the database's probe: writes the same row as a scan, to find out whether the database could record one.
//!
//! Overwriting one row again and again would succeed even on a full disk. So the probe inserts a decision, deletes it,
//! and commits. It is never visible to other connections, and the next probe needs free space again.

use sqlx::any::Any;
use sqlx::{AnyConnection, query};

use crate::storage::{DatabaseError, IMMEDIATE, Work, in_transaction};

pub(super) fn sqlite(connection: &mut AnyConnection) -> Work<'_, ()> {
    Box::pin(in_transaction(IMMEDIATE, connection, |connection| Box::pin(write(connection))))
}

pub(super) fn postgres(connection: &mut AnyConnection) -> Work<'_, ()> {
    Box::pin(in_transaction("BEGIN", connection, |connection| Box::pin(write(connection))))
}

async fn write(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    let event = uuid::Uuid::new_v4().into_bytes().to_vec();
    // Decisions of scans have positive ids.
    let id = rand::random_range(i64::MIN..0);
    query::<Any>(
        "INSERT INTO decision (id, event_id, slot, fingerprint, recorded_at, event_time, location, store_id, visitor_id,
             visitor_type)
         VALUES ($1, $2, 0, $3, 0, '', 'ENTRY', 'check', 'check', 'SHOPPER')",
    )
    .bind(id)
    .bind(event)
    .bind(vec![0_u8; 32])
    .execute(&mut *connection)
    .await?;
    query::<Any>("DELETE FROM decision WHERE id = $1").bind(id).execute(&mut *connection).await?;
    Ok(())
}
