//! Changes of the directory in one transaction. Rows of one table are written by one statement, and every change gets
//! an audit entry.

use chrono::{DateTime, Utc};
use sqlx::any::Any;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, query, query_scalar};

use super::put::{JsonRows, put, run_length};
use super::tables::{ACCOUNTS, digest, to_nanos, word};
use crate::directory::change::{Change, Outcome, Refusal};
use crate::domain::ids::VisitorId;
use crate::storage::{DatabaseError, Engine};

type Result<T> = std::result::Result<T, DatabaseError>;

/// Makes the changes, and returns the outcome of each.
pub(super) async fn apply(
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
        Change::UnlinkCustomer(digest) => {
            query::<Any>("DELETE FROM customer WHERE digest = $1")
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
        // `put` makes these.
        Change::PutStore(_) | Change::PutShopper(_) | Change::PutRegistration(..) | Change::LinkCustomer(..) => {
            return Ok(Outcome::Unchanged);
        }
    };
    Ok(not_found(done.rows_affected()))
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
    for (change, _) in changes.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Changed) {
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
    // Foreign keys delete the customer links and the issued tokens too.
    let deleted = query::<Any>("DELETE FROM shopper WHERE id = $1").bind(id.as_str()).execute(&mut *connection).await?;
    Ok(if deleted.rows_affected() == 0 { Outcome::Refused(Refusal::NotFound) } else { Outcome::Changed })
}

/// Adds an audit entry for each change that changed something.
pub(super) async fn record_changes(
    connection: &mut AnyConnection,
    engine: Engine,
    changes: &[Change],
    outcomes: &[Outcome],
    now: DateTime<Utc>,
) -> Result<()> {
    let mut rows = JsonRows::default();
    for (change, _) in changes.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Changed) {
        rows.push(&change.audit());
    }
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
