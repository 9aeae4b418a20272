//! Maintenance of the tables: counting records, deleting expired rows, erasing a visitor.

use chrono::{DateTime, Utc};
use sqlx::any::Any;
use sqlx::{AnyConnection, Row as _, query, query_scalar};

use super::rows::{from_nanos, nanos_before};
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

/// The number of rows that a sweep has deleted.
pub(super) struct SweptRows {
    pub(super) decisions: usize,
    pub(super) sessions: usize,
    pub(super) codes: usize,
}

/// Deletes expired decisions, ended sessions and used codes, at most `batch` of each.
pub(super) async fn sweep(
    connection: &mut AnyConnection,
    engine: Engine,
    limits: Limits,
    now: DateTime<Utc>,
    batch: usize,
) -> Result<SweptRows> {
    let batch = i64::try_from(batch).map_err(corrupt)?;
    let kept_since = nanos_before(now, limits.retention);
    let entered_since = nanos_before(from_nanos(kept_since), limits.session_max_age);
    let [decisions, sessions, codes] = match engine {
        Engine::Sqlite => [
            "DELETE FROM decision WHERE (event_id, fingerprint) IN
                 (SELECT event_id, fingerprint FROM decision WHERE recorded_at < $1 ORDER BY recorded_at LIMIT $2)",
            "DELETE FROM session WHERE id IN
                 (SELECT id FROM session WHERE exit_event_id IS NOT NULL AND exit_recorded_at < $1
                  UNION ALL
                  SELECT id FROM session WHERE exit_event_id IS NULL AND entry_recorded_at < $2
                  LIMIT $3)",
            "DELETE FROM used_code WHERE digest IN
                 (SELECT digest FROM used_code WHERE recorded_at < $1 ORDER BY recorded_at LIMIT $2)",
        ],
        // Rows that another connector has locked are skipped.
        Engine::Postgres => [
            "DELETE FROM decision WHERE (event_id, fingerprint) IN
                 (SELECT event_id, fingerprint FROM decision WHERE recorded_at < $1 ORDER BY recorded_at LIMIT $2
                  FOR UPDATE SKIP LOCKED)",
            "DELETE FROM session WHERE id IN
                 (SELECT id FROM session WHERE (exit_event_id IS NOT NULL AND exit_recorded_at < $1)
                      OR (exit_event_id IS NULL AND entry_recorded_at < $2)
                  LIMIT $3 FOR UPDATE SKIP LOCKED)",
            "DELETE FROM used_code WHERE digest IN
                 (SELECT digest FROM used_code WHERE recorded_at < $1 ORDER BY recorded_at LIMIT $2
                  FOR UPDATE SKIP LOCKED)",
        ],
    };
    let decisions = query::<Any>(decisions).bind(kept_since).bind(batch).execute(&mut *connection).await?;
    let sessions =
        query::<Any>(sessions).bind(kept_since).bind(entered_since).bind(batch).execute(&mut *connection).await?;
    let codes = query::<Any>(codes).bind(kept_since).bind(batch).execute(&mut *connection).await?;
    let number = |rows| usize::try_from(rows).map_err(corrupt);
    Ok(SweptRows {
        decisions: number(decisions.rows_affected())?,
        sessions: number(sessions.rows_affected())?,
        codes: number(codes.rows_affected())?,
    })
}

/// The keys of the rows that name a visitor.
pub(super) struct VisitorRows {
    decisions: Vec<(Vec<u8>, Vec<u8>)>,
    sessions: Vec<i64>,
}

impl VisitorRows {
    /// Splits the keys into batches of at most `size` rows of each table.
    pub(super) fn into_batches(mut self, size: usize) -> impl Iterator<Item = Self> {
        let start = move |length: usize| length.saturating_sub(size);
        std::iter::from_fn(move || {
            let decisions = self.decisions.split_off(start(self.decisions.len()));
            let sessions = self.sessions.split_off(start(self.sessions.len()));
            Some(Self { decisions, sessions }).filter(|batch| !batch.is_empty())
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.sessions.is_empty()
    }
}

/// Finds rows that name a visitor, at most `batch` of each table. There is no index for it: erasures are rare, and an
/// index would slow down every scan.
pub(super) async fn find_visitor(
    connection: &mut AnyConnection,
    visitor: VisitorId,
    batch: usize,
) -> Result<VisitorRows> {
    let batch = i64::try_from(batch).map_err(corrupt)?;
    let decisions = query::<Any>("SELECT event_id, fingerprint FROM decision WHERE visitor_id = $1 LIMIT $2")
        .bind(visitor.as_str())
        .bind(batch)
        .fetch_all(&mut *connection)
        .await?;
    let decisions = decisions.iter().map(|row| Ok((row.try_get("event_id")?, row.try_get("fingerprint")?)));
    let sessions = query_scalar::<Any, i64>("SELECT id FROM session WHERE visitor_id = $1 LIMIT $2")
        .bind(visitor.as_str())
        .bind(batch)
        .fetch_all(&mut *connection)
        .await?;
    Ok(VisitorRows { decisions: decisions.collect::<Result<_>>()?, sessions })
}

/// Replaces a visitor's id by a pseudonym in these rows, and removes everything else that could identify the visitor.
pub(super) async fn pseudonymize_visitor(
    connection: &mut AnyConnection,
    rows: VisitorRows,
    pseudonym: VisitorId,
) -> Result<()> {
    for (event, fingerprint) in rows.decisions {
        query::<Any>(
            "UPDATE decision SET visitor_id = $1, device_id = NULL, payment_source = NULL
             WHERE event_id = $2 AND fingerprint = $3",
        )
        .bind(pseudonym.as_str())
        .bind(event)
        .bind(fingerprint)
        .execute(&mut *connection)
        .await?;
    }
    for session in rows.sessions {
        query::<Any>("UPDATE session SET visitor_id = $1, device_id = NULL WHERE id = $2")
            .bind(pseudonym.as_str())
            .bind(session)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
