//! Customers and issued recognition tokens, for shopper apps.
//!
//! Links from customers to shoppers are read from the database each time: apps need them rarely, and no gate waits.
//! Issued tokens are in no list and no audit log, and are deleted once they have expired.

use chrono::{DateTime, Utc};
use sqlx::any::Any;
use sqlx::{AnyConnection, AssertSqlSafe, query, query_scalar};

use super::changes::{create, record_changes};
use super::tables::{self, devices, digest, named_shopper, select_profiles, to_nanos};
use super::{Result, SqlDirectory};
use crate::breaker::Subject;
use crate::digest::Digest;
use crate::directory::change::{Change, Issued, IssuedToken, Outcome, Refusal};
use crate::directory::model::Profile;
use crate::domain::ids::VisitorId;
use crate::domain::store::ScanKeyWindow;
use crate::storage::{DatabaseError, Engine};

/// The maximum number of expired tokens that one transaction deletes, so that no scan waits long for it.
const SWEEP_BATCH: i64 = 100;

impl SqlDirectory {
    pub(crate) async fn customer(&self, customer: Digest) -> Result<Option<VisitorId>> {
        Ok(self.database.look_up(move |connection| Box::pin(linked(connection, customer))).await?)
    }

    pub(crate) async fn customers(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, VisitorId)>> {
        let after = after.map_or_else(Vec::new, |after| after.as_bytes().to_vec());
        let sql = "SELECT digest, shopper_id FROM customer WHERE digest > $1 ORDER BY digest LIMIT $2";
        self.list(sql, after, limit, |row| Ok((digest(row)?, named_shopper(row)?))).await
    }

    pub(crate) async fn customers_of(&self, shopper: &VisitorId) -> Result<Vec<Digest>> {
        let shopper = shopper.clone();
        let read = self.database.look_up(move |connection| {
            Box::pin(async move {
                let query = query::<Any>("SELECT digest FROM customer WHERE shopper_id = $1").bind(shopper.as_str());
                query.fetch_all(connection).await?.iter().map(digest).collect()
            })
        });
        Ok(read.await?)
    }

    pub(crate) async fn shopper_of(&self, customer: Digest) -> Result<Option<Profile>> {
        let read = self.database.for_shoppers();
        let read = read.look_up(move |connection| {
            Box::pin(async move {
                let sql = select_profiles!("JOIN customer c ON c.shopper_id = s.id WHERE c.digest = $1");
                let query = query::<Any>(sql).bind(customer.as_bytes().as_slice());
                query.fetch_optional(connection).await?.as_ref().map(tables::profile).transpose()
            })
        });
        Ok(read.await?)
    }

    /// Does not raise the directory's version: no cache has an entry about a shopper that did not exist.
    pub(crate) async fn link_or_create(
        &self,
        customer: Digest,
        new: VisitorId,
        now: DateTime<Utc>,
    ) -> Result<VisitorId> {
        let engine = self.database.engine();
        let database = self.database.for_shoppers();
        let done =
            database.transaction(move |connection| Box::pin(link_or_create(connection, engine, customer, new, now)));
        Ok(done.await?)
    }

    pub(crate) async fn shortest_window(&self) -> Result<Option<ScanKeyWindow>> {
        let database = self.database.for_shoppers();
        let read = database.look_up(|connection| {
            Box::pin(async move {
                let query =
                    query_scalar::<Any, Option<i64>>("SELECT min(scan_key_window) FROM store WHERE enabled = 1");
                query.fetch_one(connection).await?.map(tables::window).transpose()
            })
        });
        Ok(read.await?)
    }

    pub(crate) async fn issue(&self, token: IssuedToken, at_most: usize, now: DateTime<Utc>) -> Result<Issued> {
        let engine = self.database.engine();
        let database = self.database.for_shoppers();
        let done = database.transaction(move |connection| Box::pin(issue(connection, engine, token, at_most, now)));
        Ok(done.await?)
    }

    pub(crate) async fn promised_until(
        &self,
        digest: Digest,
        now: DateTime<Utc>,
        subject: Subject,
    ) -> Result<Option<DateTime<Utc>>> {
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
    pub(crate) async fn sweep_some(&self, now: DateTime<Utc>) -> Result<bool> {
        let engine = self.database.engine();
        let swept = self.database.transaction(move |connection| Box::pin(sweep(connection, engine, now)));
        Ok(swept.await? == SWEEP_BATCH.unsigned_abs())
    }
}

async fn linked(connection: &mut AnyConnection, customer: Digest) -> Result<Option<VisitorId>, DatabaseError> {
    let query = query::<Any>("SELECT shopper_id FROM customer WHERE digest = $1").bind(customer.as_bytes().as_slice());
    query.fetch_optional(connection).await?.as_ref().map(named_shopper).transpose()
}

async fn link_or_create(
    connection: &mut AnyConnection,
    engine: Engine,
    customer: Digest,
    new: VisitorId,
    now: DateTime<Utc>,
) -> Result<VisitorId, DatabaseError> {
    loop {
        if let Some(shopper) = linked(connection, customer).await? {
            return Ok(shopper);
        }
        let profile = Profile::new(new.clone());
        create(connection, engine, &profile).await?;
        // Another connector may do the same at the same time. The later INSERT waits here until the earlier one is
        // committed.
        let link =
            query::<Any>("INSERT INTO customer (digest, shopper_id) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING")
                .bind(customer.as_bytes().as_slice())
                .bind(new.as_str())
                .execute(&mut *connection)
                .await?;
        if link.rows_affected() == 1 {
            let changes = [Change::PutShopper(profile), Change::LinkCustomer(customer, new.clone())];
            record_changes(connection, engine, &changes, &[Outcome::Changed; 2], now).await?;
            return Ok(new);
        }
        // The shopper made above is not needed, and no other transaction has seen it.
        query::<Any>("DELETE FROM shopper WHERE id = $1").bind(new.as_str()).execute(&mut *connection).await?;
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
    let swept = query::<Any>(AssertSqlSafe(sql)).bind(to_nanos(now)).bind(SWEEP_BATCH).execute(connection).await?;
    Ok(swept.rows_affected())
}
