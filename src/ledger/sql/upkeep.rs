//! Maintenance of the tables: counting records, deleting expired rows, erasing a visitor.

use chrono::{DateTime, Utc};
use sqlx::any::Any;
use sqlx::{AnyConnection, query, query_scalar};

use super::rows::{nanos_before, to_nanos};
use crate::domain::ids::VisitorId;
use crate::ledger::Limits;
use crate::storage::{DatabaseError, Engine, corrupt};

type Result<T> = std::result::Result<T, DatabaseError>;

/// The number of decisions. On PostgreSQL, more than ten thousand are estimated, since counting them is slow.
pub(super) async fn count(connection: &mut AnyConnection, engine: Engine) -> Result<usize> {
    let statement = match engine {
        Engine::Sqlite => "SELECT count(*) FROM decision",
        Engine::Postgres => {
            "SELECT CASE WHEN few.count <= 10000 THEN few.count ELSE greatest(few.count, reltuples::BIGINT) END
             FROM pg_class, (SELECT count(*) FROM (SELECT FROM decision LIMIT 10001) AS first) AS few
             WHERE oid = 'decision'::regclass"
        }
    };
    let count: i64 = query_scalar::<Any, _>(statement).fetch_one(connection).await?;
    usize::try_from(count).map_err(corrupt)
}

/// Deletes expired decisions among the `batch` oldest ones. Returns their number. Those of a clock that was ahead by more
/// than the retention are deleted as well, since they would otherwise stay the oldest ones for too long.
pub(super) async fn sweep(
    connection: &mut AnyConnection,
    engine: Engine,
    limits: Limits,
    now: DateTime<Utc>,
    batch: usize,
) -> Result<usize> {
    let statement = match engine {
        Engine::Sqlite => {
            "DELETE FROM decision WHERE id IN (SELECT id FROM decision ORDER BY id LIMIT $3)
                 AND recorded_at NOT BETWEEN $1 AND $2"
        }
        // Rows that another connector has locked are skipped.
        Engine::Postgres => {
            "DELETE FROM decision WHERE id IN
                 (SELECT id FROM decision WHERE id IN (SELECT id FROM decision ORDER BY id LIMIT $3)
                      AND recorded_at NOT BETWEEN $1 AND $2
                  ORDER BY id FOR UPDATE SKIP LOCKED)"
        }
    };
    let swept = query::<Any>(statement)
        .bind(nanos_before(now, limits.retention))
        .bind(to_nanos(now.checked_add_signed(limits.retention).unwrap_or(DateTime::<Utc>::MAX_UTC)))
        .bind(i64::try_from(batch).map_err(corrupt)?)
        .execute(connection)
        .await?;
    usize::try_from(swept.rows_affected()).map_err(corrupt)
}

/// Finds decisions that name a visitor, at most `limit`. There is no index for it: erasures are rare, and an index would
/// slow down every scan.
pub(super) async fn find_visitor(connection: &mut AnyConnection, visitor: VisitorId, limit: usize) -> Result<Vec<i64>> {
    let ids = query_scalar::<Any, i64>("SELECT id FROM decision WHERE visitor_id = $1 LIMIT $2")
        .bind(visitor.as_str())
        .bind(i64::try_from(limit).map_err(corrupt)?);
    Ok(ids.fetch_all(connection).await?)
}

/// Replaces a visitor's id by a pseudonym in these decisions, and removes everything else that could identify the
/// visitor.
pub(super) async fn pseudonymize_visitor(
    connection: &mut AnyConnection,
    decisions: Vec<i64>,
    pseudonym: VisitorId,
) -> Result<()> {
    for id in decisions {
        query::<Any>("UPDATE decision SET visitor_id = $1, device_id = NULL, payment_source = NULL WHERE id = $2")
            .bind(pseudonym.as_str())
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
