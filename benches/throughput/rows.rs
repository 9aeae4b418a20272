//! Writes recorded events directly into a SQLite file, with the same rows as the connector but much faster. They are
//! visits of the last six days, each with an entry and an exit.

use std::fs::File;
use std::path::Path;

use identity_connector::clock::Clock;
use identity_connector::testing::digest::HashKey;
use identity_connector::testing::domain::identity_key::IdentityKey;
use identity_connector::testing::domain::ids::StoreId;
use identity_connector::testing::domain::scan::Location;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection, query, query_scalar, raw_sql};

use crate::events::{Recorded, SPREAD};
use crate::keys::Keys;
use crate::server::{DATABASE, HASH_KEY, STORE};

/// Fast but unsafe settings: no other process uses the file, and after a crash it is not used. Sorting is done in
/// memory.
const SETTINGS: &str = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = -1000000; PRAGMA temp_store = MEMORY";

/// The visitor of each badge, with the fingerprints of entry and exit.
const BADGES: &str = "CREATE TEMP TABLE badge (number INTEGER PRIMARY KEY, visitor TEXT, entry BLOB, exit BLOB)";
const BADGE: &str = "INSERT INTO temp.badge
     SELECT value ->> 0, value ->> 1, unhex(value ->> 2), unhex(value ->> 3) FROM json_each($1)";

/// Writes these events into the database of a folder, which has no events yet.
pub(crate) fn write(folder: &Path, events: Recorded) {
    assert_eq!(events.scans_of_a_visit, 2, "visits");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let file = folder.join(DATABASE);
    let now = Clock::System.now().timestamp_nanos_opt().unwrap();
    runtime.block_on(async {
        let mut database = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
        raw_sql(SETTINGS).execute(&mut database).await.unwrap();
        raw_sql(BADGES).execute(&mut database).await.unwrap();
        query(BADGE).bind(Value::from(badges(events.keys)).to_string()).execute(&mut database).await.unwrap();
        // Indexes are created after all rows are written, which takes a tenth of the time.
        let indices = "FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'decision' AND sql IS NOT NULL";
        let drop = texts(&mut database, format!("SELECT 'DROP INDEX ' || name {indices}")).await;
        let create = texts(&mut database, format!("SELECT sql {indices}")).await;
        let fill = decisions(events, now);
        for statement in
            ["BEGIN".to_owned()].into_iter().chain(drop).chain([fill]).chain(create).chain(["COMMIT".to_owned()])
        {
            raw_sql(AssertSqlSafe(statement)).execute(&mut database).await.unwrap();
        }
        database.close().await.unwrap();
    });
    // Otherwise the system would write it to the disk during the measurement.
    File::open(file).unwrap().sync_all().unwrap();
}

async fn texts(database: &mut SqliteConnection, statement: String) -> Vec<String> {
    query_scalar(AssertSqlSafe(statement)).fetch_all(database).await.unwrap()
}

/// All badges with their visitors and fingerprints.
fn badges(badges: Keys) -> Vec<Value> {
    let hash_key = HashKey::from_base64(HASH_KEY).unwrap();
    let store = StoreId::parse(STORE).unwrap();
    let row = |badge| {
        let key = IdentityKey::from_base64(&badges.encoded(badge)).unwrap();
        let [entry, exit] = [Location::Entry, Location::Exit]
            .map(|location| hex::encode(hash_key.fingerprint(&key, &store, location).as_bytes()));
        json!([badge, badges.shopper(badge), entry, exit])
    };
    (0..badges.number).map(row).collect()
}

/// The SQL for the id of an event: the bytes of `events::id`.
fn id(event: &str) -> String {
    format!("unhex(printf('%08x000040008000%012x', ({event} * {SPREAD}) & 0xffffffff, {event}))")
}

/// The SQL for the time when an event was recorded: the last one now, the first one six days ago.
fn recorded_at(event: &str, events: u64, now: i64) -> String {
    let step = 6 * 24 * 3600 * 1_000_000_000 / events;
    format!("{now} - ({events} - {event}) * {step}")
}

/// The statement that inserts the decisions. The counterpart of an entry is the exit after it, and the other way round.
fn decisions(Recorded { keys: Keys { number: badges, .. }, events, .. }: Recorded, now: i64) -> String {
    format!(
        "WITH RECURSIVE event (number) AS (VALUES (0) UNION ALL SELECT number + 1 FROM event WHERE number < {events} - 1)
         INSERT INTO decision (id, event_id, slot, fingerprint, recorded_at, event_time, location, channel, store_id,
                               visitor_id, visitor_type, counterpart)
         SELECT event.number + 1, {}, 0, iif(event.number % 2 = 0, entry, exit), {}, '2026-11-28T12:00:00Z',
                iif(event.number % 2 = 0, 'ENTRY', 'EXIT'), 'OPTICAL', '{STORE}', visitor, 'SHOPPER',
                iif(event.number % 2 = 0, event.number + 2, event.number)
         FROM event CROSS JOIN temp.badge ON badge.number = event.number / 2 % {badges}",
        id("event.number"), recorded_at("event.number", events, now)
    )
}
