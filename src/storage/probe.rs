//! Trying a database that does not answer.

use std::sync::Weak;
use std::time::Duration;

use sqlx::any::Any;
use sqlx::{AnyConnection, Executor as _, query};
use tokio::time::sleep;

use super::{Database, DatabaseError, Desk, Inner, Pools, READ};

/// How often a database that does not answer is tried.
const PROBE: Duration = Duration::from_millis(250);

/// What a probe writes.
const PROBED: &str = "probed";

/// Asks a database that does not answer, until it does.
pub(super) async fn until_it_answers(database: Weak<Inner>) {
    loop {
        sleep(PROBE).await;
        let Some(inner) = database.upgrade() else { return };
        let database = Database(inner, Desk::Office);
        // Written, since a database may read and yet not commit.
        let Pools { reads, writes, .. } = &database.0.pools;
        let written = database.attempt(writes, READ, |connection| Box::pin(write_probe(connection))).await;
        let read = database.attempt(reads, READ, |connection| Box::pin(read_probe(connection))).await;
        if written.is_ok() && read.is_ok() {
            database.0.breaker.close();
            tracing::info!("the database answers again");
            return;
        }
    }
}

async fn write_probe(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    let statement =
        "INSERT INTO property (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    query::<Any>(statement).bind(PROBED).bind(vec![1_u8]).execute(connection).await?;
    Ok(())
}

async fn read_probe(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    connection.execute("SELECT 1").await?;
    Ok(())
}
