//! Upserts of many rows by one statement.
//!
//! The rows are one parameter, a JSON array, which both databases can unpack. A parameter for each value would be slow:
//! SQLite looks up each parameter's name among all others.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, query};

use super::tables::{
    CUSTOMER, Column, REGISTRATION, SHOPPER, STORE, Table, customer_row, devices, registration_row, shopper_row,
    store_row, visitor,
};
use crate::directory::change::{Change, Kind, Outcome, Refusal};
use crate::domain::ids::{DeviceId, VisitorId};
use crate::storage::{DatabaseError, Engine, JSON_ROWS};

type Result<T> = std::result::Result<T, DatabaseError>;

/// The maximum number of rows that one statement writes.
const MAX_ROWS: usize = 500;

/// Rows in JSON, the first parameter of a statement.
#[derive(Debug, Default)]
pub(super) struct JsonRows(Vec<u8>);

impl JsonRows {
    pub(super) fn push(&mut self, row: &impl Serialize) {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        // This cannot fail: the values are texts and numbers, and the writer is memory.
        let _ = serde_json::to_writer(&mut self.0, row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn finish(mut self) -> String {
        self.0.extend_from_slice(if self.0.is_empty() { b"[]" } else { b"]" });
        String::from_utf8(self.0).unwrap_or_default()
    }

    /// The table expression for FROM: each row is a `value`, and `value->>0` is its first column.
    pub(super) fn from(engine: Engine) -> &'static str {
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
pub(super) fn run_length(changes: &[Change]) -> usize {
    let Some((table, kind, _)) = changes.first().and_then(target) else { return 0 };
    let mut keys = HashSet::new();
    let targets = changes.iter().take(MAX_ROWS).map_while(target);
    let fits = |(its, its_kind, key): &(&Table, Option<Kind>, _)| {
        its.name == table.name && *its_kind == kind && keys.insert(*key)
    };
    targets.take_while(fits).count()
}

/// Writes the rows of changes counted by [`run_length`], and returns the outcome of each.
pub(super) async fn put(connection: &mut AnyConnection, engine: Engine, changes: &[Change]) -> Result<Vec<Outcome>> {
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
    let names = |columns: &[Column]| columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(", ");
    let value = |(index, column): (usize, &Column)| match (column, engine) {
        (Column::Text(_), _) => format!("value->>{index}"),
        (Column::Number(_), _) => format!("CAST(value->>{index} AS INTEGER)"),
        (Column::Bytes(_), Engine::Sqlite) => format!("unhex(value->>{index})"),
        (Column::Bytes(_), Engine::Postgres) => format!("decode(value->>{index}, 'hex')"),
    };
    let columns = [*keys, *rest].concat();
    let values: Vec<String> = columns.iter().enumerate().map(value).collect();
    let updates: Vec<String> = rest.iter().map(|column| format!("{0} = excluded.{0}", column.name())).collect();
    let differs: Vec<String> =
        rest.iter().map(|column| format!("{name}.{0} IS DISTINCT FROM excluded.{0}", column.name())).collect();
    // SQLite needs the first WHERE; otherwise it parses ON as part of a join.
    format!(
        "INSERT INTO {name} ({}) SELECT {} FROM {} WHERE 1 = 1 ON CONFLICT ({}) DO UPDATE SET {} WHERE {} RETURNING {}",
        names(&columns),
        values.join(", "),
        JsonRows::from(engine),
        names(keys),
        updates.join(", "),
        differs.join(" OR "),
        key.name(),
    )
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
