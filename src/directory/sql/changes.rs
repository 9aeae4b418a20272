//! Changing the directory in one transaction: rows of one table are written together, and what has changed is remembered.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sqlx::any::{Any, AnyArguments};
use sqlx::query::Query;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, query, query_scalar};

use super::tables::{
    ACCOUNTS, REGISTRATION, SHOPPER, STORE, Table, Value, devices, registration_row, shopper_row, store_row, word,
};
use crate::directory::change::{Change, Link, Outcome, Refusal};
use crate::domain::ids::{DeviceId, VisitorId};
use crate::storage::DatabaseError;

type Result<T> = std::result::Result<T, DatabaseError>;

/// How many rows one statement writes at most.
const ROWS: usize = 500;

/// Makes the changes, and says of each what came of it.
pub(super) async fn apply(
    connection: &mut AnyConnection,
    changes: Vec<Change>,
    now: DateTime<Utc>,
) -> Result<Vec<Outcome>> {
    // First: whoever changes the directory comes after whoever is doing so.
    query::<Any>("UPDATE directory_version SET version = version + 1").execute(&mut *connection).await?;
    let mut outcomes = Vec::with_capacity(changes.len());
    let mut rest = changes.as_slice();
    while let Some(first) = rest.first() {
        let run = match rows_of(first) {
            Some((table, _)) => run(rest, table),
            None => 1,
        };
        let (these, others) = rest.split_at_checked(run.max(1)).unwrap_or((rest, &[]));
        let came = match rows_of(first) {
            Some((table, _)) => put(connection, table, these).await?,
            None => vec![change(connection, first).await?],
        };
        remember(connection, these, &came, now).await?;
        outcomes.extend(came);
        rest = others;
    }
    Ok(outcomes)
}

/// The row that a change writes, and to which table.
fn rows_of(change: &Change) -> Option<(&'static Table, Vec<Value>)> {
    match change {
        Change::PutStore(store) => Some((&STORE, store_row(store))),
        Change::PutShopper(profile) => Some((&SHOPPER, shopper_row(profile))),
        Change::PutRegistration(kind, digest, link) => Some((&REGISTRATION, registration_row(*kind, digest, link))),
        _ => None,
    }
}

/// How many of the first changes one statement can write: rows of one table, each another one.
fn run(changes: &[Change], table: &Table) -> usize {
    let mut keys = HashSet::new();
    let is_another = |change: &&Change| match rows_of(change) {
        Some((its, row)) => its.name == table.name && keys.insert(key(its, &row)),
        None => false,
    };
    changes.iter().take(ROWS).take_while(is_another).count()
}

fn key(table: &Table, row: &[Value]) -> Vec<Value> {
    row.iter().take(table.key.len()).cloned().collect()
}

async fn put(connection: &mut AnyConnection, table: &Table, changes: &[Change]) -> Result<Vec<Outcome>> {
    let refusals = refusals(connection, changes).await?;
    let rows: Vec<Vec<Value>> = changes
        .iter()
        .zip(&refusals)
        .filter(|(_, refusal)| refusal.is_none())
        .filter_map(|(change, _)| rows_of(change).map(|(_, row)| row))
        .collect();
    let changed = write(connection, table, rows).await?;
    let outcome = |(change, refusal): (&Change, Option<Refusal>)| match (refusal, rows_of(change)) {
        (Some(refusal), _) => Outcome::Refused(refusal),
        (None, Some((_, row))) if changed.contains(&key(table, &row)) => Outcome::Changed,
        _ => Outcome::Unchanged,
    };
    Ok(changes.iter().zip(refusals).map(outcome).collect())
}

/// Writes rows, and returns the keys of those that were not there or were different.
async fn write(connection: &mut AnyConnection, table: &Table, rows: Vec<Vec<Value>>) -> Result<HashSet<Vec<Value>>> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let Table { name, key, rest } = table;
    let updates: Vec<String> = rest.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let differs: Vec<String> =
        rest.iter().map(|column| format!("{name}.{column} IS DISTINCT FROM excluded.{column}")).collect();
    let sql = format!(
        "INSERT INTO {name} ({}, {}) VALUES {} ON CONFLICT ({}) DO UPDATE SET {} WHERE {} RETURNING {}",
        key.join(", "),
        rest.join(", "),
        placeholders(rows.len(), key.len().saturating_add(rest.len())),
        key.join(", "),
        updates.join(", "),
        differs.join(" OR "),
        key.join(", "),
    );
    let values = rows.into_iter().flatten();
    let written = bind(query::<Any>(AssertSqlSafe(sql)), values).fetch_all(connection).await?;
    let read = |row: &sqlx::any::AnyRow, column: &str| -> Result<Value> {
        Ok(match column {
            "digest" => Value::Bytes(row.try_get(column)?),
            _ => Value::Text(row.try_get(column)?),
        })
    };
    written.iter().map(|row| key.iter().map(|column| read(row, column)).collect()).collect()
}

/// `($1, $2), ($3, $4)`, which both databases understand.
fn placeholders(rows: usize, columns: usize) -> String {
    let mut text = String::new();
    let mut number = 0_usize;
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            number = number.saturating_add(1);
            let _ = write!(text, "{}${number}", if column == 0 { "" } else { ", " });
        }
        text.push(')');
    }
    text
}

fn bind(query: Query<'_, Any, AnyArguments>, values: impl Iterator<Item = Value>) -> Query<'_, Any, AnyArguments> {
    values.fold(query, |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Number(number) => query.bind(number),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

/// Which of the changes name a shopper or a device that is not there.
async fn refusals(connection: &mut AnyConnection, changes: &[Change]) -> Result<Vec<Option<Refusal>>> {
    let link = |change: &Change| match change {
        Change::PutRegistration(_, _, link) => Some(link.clone()),
        _ => None,
    };
    let links: Vec<Option<Link>> = changes.iter().map(link).collect();
    let named: HashSet<&VisitorId> = links.iter().flatten().filter_map(|link| link.shopper.as_ref()).collect();
    if named.is_empty() {
        return Ok(vec![None; changes.len()]);
    }
    let known = devices_of(connection, named).await?;
    let refusal = |link: &Option<Link>| {
        let link = link.as_ref()?;
        let Some(devices) = known.get(link.shopper.as_ref()?.as_str()) else { return Some(Refusal::UnknownShopper) };
        link.device.as_ref().filter(|device| !devices.contains(device)).map(|_| Refusal::UnknownDevice)
    };
    Ok(links.iter().map(refusal).collect())
}

/// The devices of those of the shoppers who are there.
pub(super) async fn devices_of(
    connection: &mut AnyConnection,
    shoppers: HashSet<&VisitorId>,
) -> Result<HashMap<String, Vec<DeviceId>>> {
    let sql = format!("SELECT id, devices FROM shopper WHERE id IN {}", placeholders(1, shoppers.len()));
    let ids = shoppers.into_iter().map(|id| Value::Text(Some(id.as_str().to_owned())));
    let rows = bind(query::<Any>(AssertSqlSafe(sql)), ids).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get("id")?, devices(row.try_get("devices")?)?))).collect()
}

/// Makes a change that is not a row to be put.
async fn change(connection: &mut AnyConnection, change: &Change) -> Result<Outcome> {
    let not_found = |rows: u64| if rows == 0 { Outcome::Refused(Refusal::NotFound) } else { Outcome::Changed };
    let done = match change {
        Change::DeleteStore(id) => {
            query::<Any>("DELETE FROM store WHERE id = $1").bind(id.as_str()).execute(connection).await?
        }
        Change::DeleteRegistration(kind, digest) => {
            query::<Any>("DELETE FROM registration WHERE kind = $1 AND digest = $2")
                .bind(kind.as_str())
                .bind(digest.as_bytes().as_slice())
                .execute(connection)
                .await?
        }
        Change::EraseShopper { id, pseudonym } => return erase(connection, id, pseudonym).await,
        Change::SetAccount(id, account) => {
            let word = word(&ACCOUNTS, *account);
            let before: Option<String> = query_scalar::<Any, _>("SELECT account FROM shopper WHERE id = $1")
                .bind(id.as_str())
                .fetch_optional(&mut *connection)
                .await?;
            if before.as_deref() == Some(word) {
                return Ok(Outcome::Unchanged);
            }
            query::<Any>("UPDATE shopper SET account = $1 WHERE id = $2")
                .bind(word)
                .bind(id.as_str())
                .execute(connection)
                .await?
        }
        Change::Revoke(kind, digest) => {
            let before: Option<i64> =
                query_scalar::<Any, _>("SELECT revoked FROM registration WHERE kind = $1 AND digest = $2")
                    .bind(kind.as_str())
                    .bind(digest.as_bytes().as_slice())
                    .fetch_optional(&mut *connection)
                    .await?;
            if before == Some(1) {
                return Ok(Outcome::Unchanged);
            }
            query::<Any>("UPDATE registration SET revoked = 1 WHERE kind = $1 AND digest = $2")
                .bind(kind.as_str())
                .bind(digest.as_bytes().as_slice())
                .execute(connection)
                .await?
        }
        Change::PutStore(_) | Change::PutShopper(_) | Change::PutRegistration(..) => return Ok(Outcome::Unchanged),
    };
    Ok(not_found(done.rows_affected()))
}

/// Whoever sees the number rise forgets what they remember of decisions.
pub(super) async fn announce_erasure(connection: &mut AnyConnection) -> Result<()> {
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
    let gone = query::<Any>("DELETE FROM shopper WHERE id = $1").bind(id.as_str()).execute(&mut *connection).await?;
    Ok(if gone.rows_affected() == 0 { Outcome::Refused(Refusal::NotFound) } else { Outcome::Changed })
}

/// Puts what has changed on record.
async fn remember(
    connection: &mut AnyConnection,
    changes: &[Change],
    outcomes: &[Outcome],
    now: DateTime<Utc>,
) -> Result<()> {
    let at = now.timestamp_nanos_opt().unwrap_or(i64::MAX);
    let changed: Vec<&Change> =
        changes.iter().zip(outcomes).filter(|(_, came)| **came == Outcome::Changed).map(|(change, _)| change).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let sql = format!("INSERT INTO audit (at, action, kind, subject) VALUES {}", placeholders(changed.len(), 4));
    let values = changed.into_iter().flat_map(|change| {
        let (action, kind, subject) = change.audit();
        let text = |text: String| Value::Text(Some(text));
        [Value::Number(at), text(action.to_owned()), text(kind.to_owned()), text(subject)]
    });
    bind(query::<Any>(AssertSqlSafe(sql)), values).execute(connection).await?;
    Ok(())
}
