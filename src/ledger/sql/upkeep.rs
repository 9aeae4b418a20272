//! Maintenance of the tables: counting records, deleting expired rows, erasing a visitor.

use chrono::{DateTime, Utc};
use sqlx::any::Any;
use sqlx::{AnyConnection, query, query_scalar};

use super::rows::{Row as _, nanos_before, to_nanos};
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

/// What a step of a sweep has done.
pub(super) struct Swept {
    /// The number of deleted decisions.
    pub(super) deleted: usize,
    /// The id of the last decision that it has looked at, unless the rest of the table is too young.
    pub(super) last: Option<i64>,
}

/// Deletes the expired ones of the next `batch` decisions after an id. Decisions with a time in the future, from a clock
/// that was ahead, do not end the sweep.
pub(super) async fn sweep(
    connection: &mut AnyConnection,
    engine: Engine,
    limits: Limits,
    now: DateTime<Utc>,
    after: i64,
    batch: usize,
) -> Result<Swept> {
    let oldest = query::<Any>(
        "SELECT max(id) AS last, max(recorded_at) AS newest
         FROM (SELECT id, recorded_at FROM decision WHERE id > $1 ORDER BY id LIMIT $2) AS oldest",
    )
    .bind(after)
    .bind(i64::try_from(batch).map_err(corrupt)?)
    .fetch_one(&mut *connection)
    .await?;
    let Some(last) = oldest.integer("last")? else { return Ok(Swept { deleted: 0, last: None }) };
    let statement = match engine {
        Engine::Sqlite => "DELETE FROM decision WHERE id > $1 AND id <= $2 AND recorded_at < $3",
        // Rows that another connector has locked are skipped.
        Engine::Postgres => {
            "DELETE FROM decision WHERE id IN
                 (SELECT id FROM decision WHERE id > $1 AND id <= $2 AND recorded_at < $3
                  ORDER BY id FOR UPDATE SKIP LOCKED)"
        }
    };
    let deleted = query::<Any>(statement)
        .bind(after)
        .bind(last)
        .bind(nanos_before(now, limits.retention))
        .execute(connection)
        .await?;
    let deleted = usize::try_from(deleted.rows_affected()).map_err(corrupt)?;
    let is_ahead = oldest.integer("newest")?.is_some_and(|newest| newest > to_nanos(now));
    Ok(Swept { deleted, last: Some(last).filter(|_| deleted > 0 || is_ahead) })
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
