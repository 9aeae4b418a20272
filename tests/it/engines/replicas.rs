//! Connectors that share a database act as one: it makes no difference which of them receives a scan. `races` tests
//! scans that several receive at the same time.

use crate::trials::{apply, on_postgres, with_database};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::{Database, Engine};
use crate::support::{Answer, Server, file_with, scan};

/// Connectors on one empty storage, which the first one owns.
pub(crate) async fn replicas(engine: Engine, count: usize) -> Vec<Arc<Server>> {
    let mut replicas = vec![engine.demo(&[]).await];
    while replicas.len() < count {
        replicas.push(replicas[0].replica().await);
    }
    replicas.into_iter().map(Arc::new).collect()
}

/// Asserts that every replica gives this answer to a retry.
pub(crate) async fn assert_all_answer(replicas: &[Arc<Server>], request: &Value, expected: &Answer) {
    for replica in replicas {
        let again = replica.verify(&retry(request)).await;
        assert_all_same([expected, &again]);
    }
}

/// All sessions. Asserts that all replicas list the same ones.
pub(crate) async fn sessions(replicas: &[Arc<Server>]) -> Vec<Value> {
    let listed = replicas[0].sessions().await;
    for replica in replicas {
        assert_eq!(replica.sessions().await, listed);
    }
    listed
}

/// One connector is still writing a rejection of a new event when another accepts the event, and a third receives a
/// retry of the rejected scan. The rejected scan and its retry must get the same answer.
#[apply(with_database)]
async fn rejection_being_written_precedes_an_acceptance(database: Database) {
    let server = Server::demo(&database.settings()).await;
    let replicas = [server.replica().await, server.replica().await];
    database.query(
        "CREATE FUNCTION slow_down() RETURNS TRIGGER LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$;
         CREATE TRIGGER slow_rejections BEFORE INSERT ON decision
             FOR EACH ROW WHEN (NEW.denial IS NOT NULL) EXECUTE FUNCTION slow_down()",
    );
    let deadline = Instant::now() + PATIENCE;
    loop {
        let event = new_id();
        let (rejected, accepted) = (scan_of(&event, "invalid_key"), scan_of(&event, "valid_shopper_key"));
        let is_written = AtomicBool::new(false);
        let first = async {
            let answer = server.verify(&rejected).await;
            is_written.store(true, Ordering::Relaxed);
            answer
        };
        let accept_during_the_write = async {
            let writes =
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
            while database.query(writes) == "0" {
                if is_written.load(Ordering::Relaxed) {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(5)).await; // poll until the rejection is written
            }
            let accepted = replicas[0].verify(&accepted).await;
            Some((accepted, replicas[1].verify(&retry(&rejected)).await))
        };
        let (first, meanwhile) = tokio::join!(first, accept_during_the_write);
        match meanwhile {
            Some((accepted, again)) if [&first, &accepted, &again].iter().all(|answer| answer.status != 500) => {
                assert_granted(
                    &accepted,
                    "shopper-uuid-001",
                    "SHOPPER",
                    "an event may have a rejection and an acceptance",
                );
                assert_refused(&first, 401, INVALID_KEY, "the rejection came first");
                assert_all_same([&first, &again]);
                return;
            }
            // On a busy machine the rejection may be written before this test sees it, or a scan may time out.
            _ => assert!(Instant::now() < deadline, "no attempt was fast enough"),
        }
    }
}

#[apply(on_postgres)]
async fn record_of_one_replica_is_answered_by_all(engine: Engine) {
    let mut replicas = replicas(engine, 2).await;
    let mut recorded = Vec::new();
    for (number, key) in
        ["valid_shopper_key", "device_shopper_key", "unknown_key", "expired_payment_key"].iter().enumerate()
    {
        let request = scan_of(&new_id(), key);
        let answer = replicas[number % 2].verify(&request).await;
        recorded.push((request, answer));
    }
    let later = Arc::new(replicas[0].replica().await);
    replicas.push(later);
    for (request, answer) in &recorded {
        // Without the record, the scan would be decided again, with another result.
        let time = if answer.status == 200 { "2100-01-01T00:00:00Z" } else { "2019-06-01T00:00:00Z" };
        assert_all_answer(&replicas, &set(request.clone(), "authEvent.timestamp", time), answer).await;
        if answer.status == 200 {
            for replica in &replicas {
                assert!(is_recorded(replica, request["authEvent"]["id"].as_str().unwrap()).await);
            }
        }
    }
    assert_eq!(sessions(&replicas).await.len(), 2);
}

#[apply(on_postgres)]
async fn record_outlives_its_store_on_every_replica(engine: Engine) {
    let directory = |is_enabled: bool| {
        json!({
            "stores": [{ "id": "S", "enabled": is_enabled }],
            "shoppers": [{ "id": "v", "type": "SHOPPER" }],
            "identityKeys": [{ "key": "valid_shopper_key", "shopper": "v" }],
        })
    };
    let file = file_with(directory(true).to_string());
    let before = engine.demo(&[("directory.file", file.path().to_str().unwrap())]).await;
    let request = scan_with("storeId", "S");
    let answer = before.verify(&request).await;
    assert_granted(&answer, "v", "SHOPPER", "while the store is enabled");

    std::fs::write(file.path(), directory(false).to_string()).unwrap();
    let after = before.replica().await;
    assert_refused(&after.verify(&scan_with("storeId", "S")).await, 400, INVALID_STORE, "a disabled store");
    assert_all_answer(&[before, after].map(Arc::new), &request, &answer).await;
}

#[apply(with_database)]
async fn replicas_may_start_at_the_same_instant(database: Database) {
    let start = async || Server::demo(&database.settings()).await;
    let (first, second, third) = tokio::join!(start(), start(), start());
    let replicas = [first, second, third].map(Arc::new);
    let request = scan();
    let answer = replicas[0].verify(&request).await;
    assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "the first scan");
    assert_all_answer(&replicas, &request, &answer).await;
}

#[apply(with_database)]
async fn wrong_hash_key_is_refused(database: Database) {
    let refusal = async |settings: &[(&str, &str)]| {
        let settings = [&[("storage.url", database.url())], settings].concat();
        Server::try_demo(&settings).await.err().expect("the start fails")
    };
    assert!(refusal(&[]).await.contains("security.hash_key"), "the hash key is required");
    drop(Server::demo(&database.settings()).await);
    let other_hash_key = base64([7; 32]);
    let refused = refusal(&[("security.hash_key", &other_hash_key)]).await;
    assert!(refused.contains("security.hash_key") && !refused.contains(&other_hash_key), "{refused}");
}
