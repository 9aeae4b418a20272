//! Issued recognition tokens. They are in no list and no audit log, and are deleted once they have expired.

use chrono::{DateTime, Utc};
use sqlx::any::Any;
use sqlx::{AnyConnection, AssertSqlSafe, query, query_scalar};

use super::SqlDirectory;
use super::tables::{devices, to_nanos};
use crate::breaker::Subject;
use crate::digest::Digest;
use crate::directory::DirectoryError;
use crate::directory::change::{Issued, IssuedToken, Refusal};
use crate::storage::{DatabaseError, Engine};

/// The maximum number of rows that one transaction deletes, so that no scan waits long for it.
const BATCH: i64 = 100;

impl SqlDirectory {
    pub(in crate::directory) async fn issue(
        &self,
        token: IssuedToken,
        at_most: usize,
        now: DateTime<Utc>,
    ) -> Result<Issued, DirectoryError> {
        let engine = self.database.engine();
        let database = self.database.for_shoppers();
        let done = database.transaction(move |connection| Box::pin(issue(connection, engine, token, at_most, now)));
        Ok(done.await?)
    }

    pub(in crate::directory) async fn promised_until(
        &self,
        digest: Digest,
        now: DateTime<Utc>,
        subject: Subject,
    ) -> Result<Option<DateTime<Utc>>, DirectoryError> {
        let read = self.database.read(subject, move |connection| {
            Box::pin(async move {
                let query = query_scalar::<Any, i64>(
                    "SELECT promised_until FROM issued_token WHERE digest = $1 AND expires_at > $2",
                )
                .bind(digest.as_bytes().as_slice())
                .bind(to_nanos(now));
                Ok(query.fetch_optional(connection).await?.map(DateTime::from_timestamp_nanos))
            })
        });
        Ok(read.await?)
    }

    /// Deletes some expired tokens, and returns whether there may be more.
    pub(in crate::directory) async fn sweep_some(&self, now: DateTime<Utc>) -> Result<bool, DirectoryError> {
        let engine = self.database.engine();
        let swept = self.database.transaction(move |connection| Box::pin(sweep(connection, engine, now)));
        Ok(swept.await? == BATCH.unsigned_abs())
    }
}

async fn issue(
    connection: &mut AnyConnection,
    engine: Engine,
    token: IssuedToken,
    at_most: usize,
    now: DateTime<Utc>,
) -> Result<Issued, DatabaseError> {
    // Locks the shopper: concurrent calls could exceed `at_most`. SQLite has one writer at a time anyway.
    let lock = match engine {
        Engine::Sqlite => "",
        Engine::Postgres => " FOR NO KEY UPDATE",
    };
    let sql = format!("SELECT devices FROM shopper WHERE id = $1{lock}");
    let owned: Option<String> = query_scalar::<Any, _>(AssertSqlSafe(sql))
        .bind(token.shopper.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(owned) = owned else { return Ok(Issued::Refused(Refusal::NotFound)) };
    if let Some(device) = &token.device
        && !devices(&owned)?.contains(device)
    {
        return Ok(Issued::Refused(Refusal::UnknownDevice));
    }
    // Deletes expired tokens, and all but the newest `others` of the valid ones.
    let others = i64::try_from(at_most.saturating_sub(1)).unwrap_or(i64::MAX);
    query::<Any>(
        "DELETE FROM issued_token WHERE shopper_id = $1 AND digest NOT IN
             (SELECT digest FROM issued_token WHERE shopper_id = $1 AND expires_at > $2
              ORDER BY expires_at DESC, digest LIMIT $3)",
    )
    .bind(token.shopper.as_str())
    .bind(to_nanos(now))
    .bind(others)
    .execute(&mut *connection)
    .await?;
    query::<Any>(
        "INSERT INTO issued_token (digest, shopper_id, device_id, promised_until, expires_at) VALUES ($1, $2, $3, $4, $5)",
    )
        .bind(token.digest.as_bytes().as_slice())
        .bind(token.shopper.as_str())
        .bind(token.device.as_ref().map(|device| device.as_str().to_owned()))
        .bind(to_nanos(token.promised_until))
        .bind(to_nanos(token.expires_at))
        .execute(connection)
        .await?;
    Ok(Issued::Done)
}

async fn sweep(connection: &mut AnyConnection, engine: Engine, now: DateTime<Utc>) -> Result<u64, DatabaseError> {
    // Skips rows that another connector is deleting.
    let skip = match engine {
        Engine::Sqlite => "",
        Engine::Postgres => " FOR UPDATE SKIP LOCKED",
    };
    let sql = format!(
        "DELETE FROM issued_token WHERE digest IN
             (SELECT digest FROM issued_token WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2{skip})"
    );
    let swept = query::<Any>(AssertSqlSafe(sql)).bind(to_nanos(now)).bind(BATCH).execute(connection).await?;
    Ok(swept.rows_affected())
}
