//! Links from customers to shoppers. They are read from the database each time: apps need them rarely, and no gate
//! waits.

use chrono::{DateTime, Utc};
use sqlx::any::Any;
use sqlx::{AnyConnection, query};

use super::SqlDirectory;
use super::changes::record_changes;
use super::tables::{ACCOUNTS, digest, named_shopper, profile, word};
use crate::digest::Digest;
use crate::directory::DirectoryError;
use crate::directory::change::{Change, Outcome, Profile};
use crate::domain::ids::VisitorId;
use crate::domain::visitor::Shopper;
use crate::storage::{DatabaseError, Engine};

impl SqlDirectory {
    pub(in crate::directory) async fn customer(&self, customer: Digest) -> Result<Option<VisitorId>, DirectoryError> {
        Ok(self.database.look_up(move |connection| Box::pin(linked(connection, customer))).await?)
    }

    pub(in crate::directory) async fn customers(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, VisitorId)>, DirectoryError> {
        let after = after.map_or_else(Vec::new, |after| after.as_bytes().to_vec());
        let sql = "SELECT digest, shopper_id FROM customer WHERE digest > $1 ORDER BY digest LIMIT $2";
        self.list(sql, after, limit, |row| Ok((digest(row)?, named_shopper(row)?))).await
    }

    pub(in crate::directory) async fn customers_of(&self, shopper: &VisitorId) -> Result<Vec<Digest>, DirectoryError> {
        let shopper = shopper.clone();
        let read = self.database.look_up(move |connection| {
            Box::pin(async move {
                let query = query::<Any>("SELECT digest FROM customer WHERE shopper_id = $1").bind(shopper.as_str());
                query.fetch_all(connection).await?.iter().map(digest).collect()
            })
        });
        Ok(read.await?)
    }

    pub(in crate::directory) async fn shopper_of(&self, customer: Digest) -> Result<Option<Profile>, DirectoryError> {
        let read = self.database.for_shoppers();
        let read = read.look_up(move |connection| {
            Box::pin(async move {
                let query = query::<Any>(
                    "SELECT s.id, s.type, s.account, s.payment_source, s.last_month, s.devices
                     FROM customer c JOIN shopper s ON s.id = c.shopper_id WHERE c.digest = $1",
                )
                .bind(customer.as_bytes().as_slice());
                query.fetch_optional(connection).await?.as_ref().map(profile).transpose()
            })
        });
        Ok(read.await?)
    }

    /// Does not raise the directory's version: no cache has an entry about a shopper that did not exist.
    pub(in crate::directory) async fn link_or_create(
        &self,
        customer: Digest,
        new: VisitorId,
        now: DateTime<Utc>,
    ) -> Result<VisitorId, DirectoryError> {
        let engine = self.database.engine();
        let database = self.database.for_shoppers();
        let done =
            database.transaction(move |connection| Box::pin(link_or_create(connection, engine, customer, new, now)));
        Ok(done.await?)
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
        create(connection, &profile.shopper).await?;
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

/// Creates a shopper. Fails if the id is in use, so that an existing shopper is never replaced.
async fn create(
    connection: &mut AnyConnection,
    Shopper { visitor, account, .. }: &Shopper,
) -> Result<(), DatabaseError> {
    query::<Any>("INSERT INTO shopper (id, type, account, devices) VALUES ($1, $2, $3, '[]')")
        .bind(visitor.id.as_str())
        .bind(visitor.kind.as_str())
        .bind(word(&ACCOUNTS, *account))
        .execute(connection)
        .await?;
    Ok(())
}
