//! Everything that writes to the directory: its changes, and what shopper apps create.
//!
//! The changes of a list are made in one transaction. Rows of one table are written by one statement, and every change
//! gets an audit entry. Issued tokens get none, and are deleted once they have expired.
//!
//! The rows of a statement are one parameter, a JSON array, which both databases can unpack. A parameter for each value
//! would be slow: SQLite looks up each parameter's name among all others.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, query, query_scalar};

use super::tables::{
    CUSTOMER, Column, REGISTRATION, SHOPPER, STORE, Table, customer_row, devices, digest, named_shopper,
    registration_row, shopper_row, store_row, visitor,
};
use super::{SqlDirectory, bytes, to_limit};
use crate::digest::Digest;
use crate::directory::DirectoryError;
use crate::directory::change::{Change, Issued, IssuedToken, Outcome, Refusal};
use crate::directory::model::{Kind, Profile};
use crate::domain::ids::{DeviceId, VisitorId};
use crate::storage::{DatabaseError, Engine, JSON_ROWS, to_nanos};

type Result<T, E = DatabaseError> = std::result::Result<T, E>;

/// The maximum number of rows that one statement writes.
const MAX_ROWS: usize = 500;
/// The maximum number of expired tokens that one transaction deletes, so that no scan waits long for it.
const SWEEP_BATCH: i64 = 100;

impl SqlDirectory {
    pub(crate) async fn apply(&self, changes: Vec<Change>, now: DateTime<Utc>) -> Result<Vec<Outcome>, DirectoryError> {
        let engine = self.database.engine();
        let apply = self.database.transaction(move |connection| Box::pin(apply(connection, engine, changes, now)));
        let outcomes = apply.await;
        // Also after an error: the transaction may have been committed.
        self.invalidate();
        Ok(outcomes?)
    }

    /// Does not raise the directory's version: no cache has an entry about a shopper that did not exist.
    pub(crate) async fn link_or_create(
        &self,
        customer: Digest,
        new: VisitorId,
        now: DateTime<Utc>,
    ) -> Result<VisitorId, DirectoryError> {
        let (database, engine) = (self.database.for_shoppers(), self.database.engine());
        let done =
            database.transaction(move |connection| Box::pin(link_or_create(connection, engine, customer, new, now)));
        Ok(done.await?)
    }

    pub(crate) async fn issue(
        &self,
        token: IssuedToken,
        at_most: usize,
        now: DateTime<Utc>,
    ) -> Result<Issued, DirectoryError> {
        let (database, engine) = (self.database.for_shoppers(), self.database.engine());
        let done = database.transaction(move |connection| Box::pin(issue(connection, engine, token, at_most, now)));
        Ok(done.await?)
    }

    /// Deletes some expired tokens, and returns whether there may be more.
    pub(crate) async fn sweep_some(&self, now: DateTime<Utc>) -> Result<bool, DirectoryError> {
        let engine = self.database.engine();
        let swept = self.database.transaction(move |connection| Box::pin(sweep(connection, engine, now)));
        Ok(swept.await? == SWEEP_BATCH.unsigned_abs())
    }

    pub(crate) async fn announce_erasure(&self) -> Result<(), DirectoryError> {
        Ok(self.database.transaction(|connection| Box::pin(announce_erasure(connection))).await?)
    }
}

/// Makes the changes, and returns the outcome of each.
async fn apply(
    connection: &mut AnyConnection,
    engine: Engine,
    changes: Vec<Change>,
    now: DateTime<Utc>,
) -> Result<Vec<Outcome>> {
    // This comes first: its row lock makes concurrent changes of the directory run one after the other.
    query::<Any>("UPDATE directory_version SET version = version + 1").execute(&mut *connection).await?;
    let mut outcomes = Vec::with_capacity(changes.len());
    let mut rest = changes.as_slice();
    while let Some(first) = rest.first() {
        let rows = run_length(rest);
        let (these, others) = rest.split_at_checked(rows.max(1)).unwrap_or((rest, &[]));
        let results = match rows {
            0 => vec![change(connection, first).await?],
            _ => put(connection, engine, these).await?,
        };
        record_changes(connection, engine, these, &results, now).await?;
        detach_devices(connection, engine, these, &results, now).await?;
        outcomes.extend(results);
        rest = others;
    }
    Ok(outcomes)
}

/// Makes a change that is not an upsert.
async fn change(connection: &mut AnyConnection, change: &Change) -> Result<Outcome> {
    // A query that finds the row if it has the new value already, and the statement that makes the change.
    let (same, statement) = match change {
        Change::DeleteStore(id) => (None, query::<Any>("DELETE FROM store WHERE id = $1").bind(id.as_str())),
        Change::DeleteRegistration(kind, digest) => {
            let delete = query::<Any>("DELETE FROM registration WHERE kind = $1 AND digest = $2");
            (None, delete.bind(kind.as_str()).bind(bytes(*digest)))
        }
        Change::UnlinkCustomer(digest) => {
            (None, query::<Any>("DELETE FROM customer WHERE digest = $1").bind(bytes(*digest)))
        }
        Change::EraseShopper { id, pseudonym } => return erase(connection, id, pseudonym).await,
        Change::SetAccount(id, account) => {
            let same = query::<Any>("SELECT id FROM shopper WHERE id = $1 AND account = $2");
            let set = query::<Any>("UPDATE shopper SET account = $2 WHERE id = $1");
            let [same, set] = [same, set].map(|query| query.bind(id.as_str()).bind(account.as_str()));
            (Some(same), set)
        }
        Change::Revoke(kind, digest) => {
            let same = query::<Any>("SELECT kind FROM registration WHERE kind = $1 AND digest = $2 AND revoked = 1");
            let revoke = query::<Any>("UPDATE registration SET revoked = 1 WHERE kind = $1 AND digest = $2");
            let [same, revoke] = [same, revoke].map(|query| query.bind(kind.as_str()).bind(bytes(*digest)));
            (Some(same), revoke)
        }
        // `put` makes these.
        Change::PutStore(_) | Change::PutShopper(_) | Change::PutRegistration(..) | Change::LinkCustomer(..) => {
            return Ok(Outcome::Unchanged);
        }
    };
    if let Some(same) = same
        && same.fetch_optional(&mut *connection).await?.is_some()
    {
        return Ok(Outcome::Unchanged);
    }
    Ok(found(statement.execute(connection).await?.rows_affected()))
}

/// The outcome of a change of this number of rows.
fn found(rows: u64) -> Outcome {
    if rows == 0 { Outcome::Refused(Refusal::NotFound) } else { Outcome::Changed }
}

/// The changes that changed something.
fn changed<'c>(changes: &'c [Change], outcomes: &[Outcome]) -> impl Iterator<Item = &'c Change> {
    changes.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Changed).map(|(change, _)| change)
}

/// Detaches the devices that shoppers have lost from their keys and tokens, and deletes the tokens that were issued for
/// these devices.
async fn detach_devices(
    connection: &mut AnyConnection,
    engine: Engine,
    changes: &[Change],
    outcomes: &[Outcome],
    now: DateTime<Utc>,
) -> Result<()> {
    let mut shoppers = JsonRows::default();
    for change in changed(changes, outcomes) {
        if let Change::PutShopper(profile) = change {
            shoppers.push(&[profile.shopper.visitor.id.as_str()]);
        }
    }
    if shoppers.is_empty() {
        return Ok(());
    }
    let shoppers = shoppers.finish();
    let devices = match engine {
        Engine::Sqlite => "SELECT value FROM json_each(s.devices)",
        Engine::Postgres => "SELECT json_array_elements_text(CAST(s.devices AS json))",
    };
    let has_lost_device = |table: &str| {
        format!(
            "shopper_id IN (SELECT value->>0 FROM {}) AND device_id IS NOT NULL AND NOT EXISTS
                 (SELECT 1 FROM shopper s WHERE s.id = {table}.shopper_id AND {table}.device_id IN ({devices}))",
            JsonRows::from(engine),
        )
    };
    let sql = format!("DELETE FROM issued_token WHERE {}", has_lost_device("issued_token"));
    query::<Any>(AssertSqlSafe(sql)).bind(&shoppers).execute(&mut *connection).await?;
    let sql = format!(
        "UPDATE registration SET device_id = NULL WHERE {} RETURNING kind, digest",
        has_lost_device("registration")
    );
    let lost = query::<Any>(AssertSqlSafe(sql)).bind(&shoppers).fetch_all(&mut *connection).await?;
    let mut rows = JsonRows::default();
    for row in &lost {
        let kind: &str = row.try_get("kind")?;
        rows.push(&("put", kind, digest(row)?.to_hex()));
    }
    audit(connection, engine, rows, now).await
}

/// Raises the number of erasures. Every connector that sees the new number drops its cached decisions.
async fn announce_erasure(connection: &mut AnyConnection) -> Result<()> {
    query::<Any>("UPDATE directory_version SET erasures = erasures + 1").execute(connection).await?;
    Ok(())
}

async fn erase(connection: &mut AnyConnection, id: &VisitorId, pseudonym: &VisitorId) -> Result<Outcome> {
    announce_erasure(connection).await?;
    query::<Any>("DELETE FROM registration WHERE shopper_id = $1").bind(id.as_str()).execute(&mut *connection).await?;
    query::<Any>("UPDATE audit SET subject = $1 WHERE kind = 'shopper' AND subject = $2")
        .bind(pseudonym.as_str())
        .bind(id.as_str())
        .execute(&mut *connection)
        .await?;
    // Foreign keys delete the customer links and the issued tokens too.
    let deleted = query::<Any>("DELETE FROM shopper WHERE id = $1").bind(id.as_str()).execute(connection).await?;
    Ok(found(deleted.rows_affected()))
}

/// Adds an audit entry for each change that changed something.
async fn record_changes(
    connection: &mut AnyConnection,
    engine: Engine,
    changes: &[Change],
    outcomes: &[Outcome],
    now: DateTime<Utc>,
) -> Result<()> {
    let mut rows = JsonRows::default();
    changed(changes, outcomes).for_each(|change| rows.push(&change.audit()));
    audit(connection, engine, rows, now).await
}

async fn audit(connection: &mut AnyConnection, engine: Engine, rows: JsonRows, now: DateTime<Utc>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO audit (at, action, kind, subject) SELECT $2, value->>0, value->>1, value->>2 FROM {}",
        JsonRows::from(engine)
    );
    query::<Any>(AssertSqlSafe(sql)).bind(rows.finish()).bind(to_nanos(now)).execute(connection).await?;
    Ok(())
}

/// Rows in JSON, the first parameter of a statement.
#[derive(Debug, Default)]
struct JsonRows(Vec<u8>);

impl JsonRows {
    fn push(&mut self, row: &impl Serialize) {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        // This cannot fail: the values are texts and numbers, and the writer is memory.
        let _ = serde_json::to_writer(&mut self.0, row);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn finish(mut self) -> String {
        self.0.extend_from_slice(if self.0.is_empty() { b"[]" } else { b"]" });
        String::from_utf8(self.0).unwrap_or_default()
    }

    /// The table expression for FROM: each row is a `value`, and `value->>0` is its first column.
    fn from(engine: Engine) -> &'static str {
        match engine {
            Engine::Sqlite => JSON_ROWS,
            Engine::Postgres => "json_array_elements(CAST($1 AS json))",
        }
    }
}

/// The row that a change writes: its table, its kind in the registration table, and its key.
fn target(change: &Change) -> Option<(&'static Table, Option<Kind>, &[u8])> {
    match change {
        Change::PutStore(store) => Some((&STORE, None, store.id.as_str().as_bytes())),
        Change::PutShopper(profile) => Some((&SHOPPER, None, profile.shopper.visitor.id.as_str().as_bytes())),
        Change::PutRegistration(kind, digest, _) => Some((&REGISTRATION, Some(*kind), digest.as_bytes())),
        Change::LinkCustomer(digest, _) => Some((&CUSTOMER, None, digest.as_bytes())),
        _ => None,
    }
}

/// The number of leading changes that one statement can make: rows of one table and kind with different keys.
fn run_length(changes: &[Change]) -> usize {
    let Some((table, kind, _)) = changes.first().and_then(target) else { return 0 };
    let mut keys = HashSet::new();
    let targets = changes.iter().take(MAX_ROWS).map_while(target);
    let fits = |(its, its_kind, key): &(&Table, Option<Kind>, _)| {
        its.name == table.name && *its_kind == kind && keys.insert(*key)
    };
    targets.take_while(fits).count()
}

/// Writes the rows of changes counted by [`run_length`], and returns the outcome of each.
async fn put(connection: &mut AnyConnection, engine: Engine, changes: &[Change]) -> Result<Vec<Outcome>> {
    let Some((table, ..)) = changes.first().and_then(target) else { return Ok(Vec::new()) };
    let refusals = refusals(connection, engine, changes).await?;
    let mut rows = JsonRows::default();
    for (change, _) in changes.iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none()) {
        match change {
            Change::PutStore(store) => rows.push(&store_row(store)),
            Change::PutShopper(profile) => rows.push(&shopper_row(profile)),
            Change::PutRegistration(kind, digest, link) => rows.push(&registration_row(*kind, digest, link)),
            Change::LinkCustomer(digest, shopper) => rows.push(&customer_row(digest, shopper)),
            _ => {}
        }
    }
    let changed = write(connection, engine, table, rows).await?;
    let outcome = |(change, refusal): (&Change, Option<Refusal>)| match (refusal, target(change)) {
        (Some(refusal), _) => Outcome::Refused(refusal),
        (None, Some((.., key))) if changed.contains(key) => Outcome::Changed,
        _ => Outcome::Unchanged,
    };
    Ok(changes.iter().zip(refusals).map(outcome).collect())
}

/// Writes rows, and returns the keys of the rows that were added or changed.
async fn write(
    connection: &mut AnyConnection,
    engine: Engine,
    table: &Table,
    rows: JsonRows,
) -> Result<HashSet<Vec<u8>>> {
    let Some(key) = table.key.last().filter(|_| !rows.is_empty()) else { return Ok(HashSet::new()) };
    let written = query::<Any>(AssertSqlSafe(upsert(table, *key, engine)));
    let written = written.bind(rows.finish()).fetch_all(connection).await?;
    let read = |row: &AnyRow| match key {
        Column::Bytes(_) => row.try_get::<Vec<u8>, _>(0),
        _ => row.try_get::<String, _>(0).map(String::into_bytes),
    };
    Ok(written.iter().map(read).collect::<std::result::Result<_, _>>()?)
}

/// The statement that upserts rows of a table, and returns the keys of the rows that were added or changed.
fn upsert(table: &Table, key: Column, engine: Engine) -> String {
    let Table { name, key: keys, rest } = table;
    let updates: Vec<String> = rest.iter().map(|column| format!("{0} = excluded.{0}", column.name())).collect();
    let differs: Vec<String> =
        rest.iter().map(|column| format!("{name}.{0} IS DISTINCT FROM excluded.{0}", column.name())).collect();
    // SQLite needs the first WHERE; otherwise it parses ON as part of a join.
    format!(
        "{} WHERE 1 = 1 ON CONFLICT ({}) DO UPDATE SET {} WHERE {} RETURNING {}",
        insert(table, engine),
        names(keys),
        updates.join(", "),
        differs.join(" OR "),
        key.name(),
    )
}

/// The statement that inserts rows of a table.
fn insert(Table { name, key, rest }: &Table, engine: Engine) -> String {
    let value = |(index, column): (usize, &Column)| match (column, engine) {
        (Column::Text(_), _) => format!("value->>{index}"),
        (Column::Number(_), _) => format!("CAST(value->>{index} AS INTEGER)"),
        (Column::Bytes(_), Engine::Sqlite) => format!("unhex(value->>{index})"),
        (Column::Bytes(_), Engine::Postgres) => format!("decode(value->>{index}, 'hex')"),
    };
    let columns = [*key, *rest].concat();
    let values: Vec<String> = columns.iter().enumerate().map(value).collect();
    format!("INSERT INTO {name} ({}) SELECT {} FROM {}", names(&columns), values.join(", "), JsonRows::from(engine))
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(", ")
}

/// For each change, whether it names a shopper or a device that does not exist.
async fn refusals(connection: &mut AnyConnection, engine: Engine, changes: &[Change]) -> Result<Vec<Option<Refusal>>> {
    let shoppers: HashSet<&VisitorId> = changes.iter().filter_map(referenced).map(|(shopper, _)| shopper).collect();
    if shoppers.is_empty() {
        return Ok(vec![None; changes.len()]);
    }
    let existing = devices_of(connection, engine, shoppers).await?;
    let refusal = |change: &Change| {
        let (shopper, device) = referenced(change)?;
        let Some(devices) = existing.get(shopper) else { return Some(Refusal::UnknownShopper) };
        device.filter(|device| !devices.contains(device)).map(|_| Refusal::UnknownDevice)
    };
    Ok(changes.iter().map(refusal).collect())
}

/// The shopper and the device that a change refers to.
fn referenced(change: &Change) -> Option<(&VisitorId, Option<&DeviceId>)> {
    match change {
        Change::PutRegistration(_, _, link) => Some((link.shopper.as_ref()?, link.device.as_ref())),
        Change::LinkCustomer(_, shopper) => Some((shopper, None)),
        _ => None,
    }
}

/// The devices of the shoppers that exist.
pub(super) async fn devices_of(
    connection: &mut AnyConnection,
    engine: Engine,
    shoppers: HashSet<&VisitorId>,
) -> Result<HashMap<VisitorId, Vec<DeviceId>>> {
    let mut ids = JsonRows::default();
    shoppers.into_iter().for_each(|id| ids.push(&[id.as_str()]));
    let sql = format!("SELECT id, devices FROM shopper WHERE id IN (SELECT value->>0 FROM {})", JsonRows::from(engine));
    let rows = query::<Any>(AssertSqlSafe(sql)).bind(ids.finish()).fetch_all(connection).await?;
    let found = |row: &AnyRow| Ok((visitor(row)?, devices(row.try_get("devices")?)?));
    rows.iter().map(found).collect()
}

/// The shopper that a customer is linked to.
pub(super) async fn linked(connection: &mut AnyConnection, customer: Digest) -> Result<Option<VisitorId>> {
    let query = query::<Any>("SELECT shopper_id FROM customer WHERE digest = $1").bind(bytes(customer));
    query.fetch_optional(connection).await?.as_ref().map(named_shopper).transpose()
}

async fn link_or_create(
    connection: &mut AnyConnection,
    engine: Engine,
    customer: Digest,
    new: VisitorId,
    now: DateTime<Utc>,
) -> Result<VisitorId> {
    loop {
        if let Some(shopper) = linked(connection, customer).await? {
            return Ok(shopper);
        }
        let profile = Profile::new(new.clone());
        // Fails if the id is in use, so that an existing shopper is never replaced.
        let mut rows = JsonRows::default();
        rows.push(&shopper_row(&profile));
        query::<Any>(AssertSqlSafe(insert(&SHOPPER, engine))).bind(rows.finish()).execute(&mut *connection).await?;
        // Another connector may do the same at the same time. The later INSERT waits here until the earlier one is
        // committed.
        let link =
            query::<Any>("INSERT INTO customer (digest, shopper_id) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING")
                .bind(bytes(customer))
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
) -> Result<Issued> {
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
    // Deletes expired tokens, and all valid ones but the newest.
    query::<Any>(
        "DELETE FROM issued_token WHERE shopper_id = $1 AND digest NOT IN
             (SELECT digest FROM issued_token WHERE shopper_id = $1 AND expires_at > $2
              ORDER BY expires_at DESC, digest LIMIT $3)",
    )
    .bind(token.shopper.as_str())
    .bind(to_nanos(now))
    .bind(to_limit(at_most.saturating_sub(1)))
    .execute(&mut *connection)
    .await?;
    query::<Any>(
        "INSERT INTO issued_token (digest, shopper_id, device_id, promised_until, expires_at) VALUES ($1, $2, $3, $4, $5)",
    )
        .bind(bytes(token.digest))
        .bind(token.shopper.as_str())
        .bind(token.device.as_ref().map(|device| device.as_str().to_owned()))
        .bind(to_nanos(token.promised_until))
        .bind(to_nanos(token.expires_at))
        .execute(connection)
        .await?;
    Ok(Issued::Done)
}

async fn sweep(connection: &mut AnyConnection, engine: Engine, now: DateTime<Utc>) -> Result<u64> {
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
