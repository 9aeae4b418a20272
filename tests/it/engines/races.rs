//! The API contract's "one atomic step": simultaneous requests for one scan get the same bytes, and no effect happens
//! twice. It makes no difference whether one connector receives them, or several that share a database.

use crate::trials::{MEMORY, POSTGRES, SQLITE, Subject, apply, on};
use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::engines::replicas::{assert_all_answer, replicas, sessions};
use crate::{
    checks::*,
    support::{Answer, Server, scan},
};

/// The number of simultaneous requests.
const CONCURRENT_REQUESTS: usize = 64;

/// A storage engine, and the number of connectors that share it.
type Setup = (Engine, usize);

fn setups() -> impl Iterator<Item = Subject<Setup>> {
    [
        ("memory", MEMORY, (|| (Engine::Memory, 1)) as fn() -> Setup),
        ("sqlite", SQLITE, || (Engine::Sqlite, 1)),
        ("postgres", POSTGRES, || (Engine::Postgres, 1)),
        ("replicas", POSTGRES, || (Engine::Postgres, 3)),
    ]
    .into_iter()
    .map(|(name, engine, make)| Subject { name, make, missing: engine.missing })
}

macro_rules! on_every_setup {
    ($($function:tt)*) => { on! { setups(); $($function)* } };
}

/// Sends the scans at the same time, distributed over the connectors.
async fn verify_concurrently_on(servers: &[Arc<Server>], scans: Vec<Value>) -> Vec<Answer> {
    verify_on_servers_until_decided(servers.iter().cycle().cloned().zip(scans).collect()).await
}

/// Sends retries of each request at the same time, distributed over the connectors. Asserts that all retries of a
/// request get the same answer, then and later from every connector, and returns the answer to each request.
async fn race(servers: &[Arc<Server>], requests: &[Value]) -> Vec<Answer> {
    let copies = (CONCURRENT_REQUESTS / requests.len()).max(servers.len());
    let scans = (0..copies).flat_map(|copy| {
        requests.iter().map(move |request| (Arc::clone(&servers[copy % servers.len()]), retry(request)))
    });
    let mut answers = verify_on_servers_until_decided(scans.collect()).await;
    for (index, request) in requests.iter().enumerate() {
        assert_all_same(answers.iter().skip(index).step_by(requests.len()));
        assert_all_answer(servers, request, &answers[index]).await;
    }
    answers.truncate(requests.len());
    answers
}

/// Asserts that one of these competing acceptances was accepted, and returns its answer.
#[track_caller]
fn assert_one_accepted(answers: &[Answer]) -> &Answer {
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    refused.iter().for_each(|answer| assert_refused(answer, 400, ALREADY_USED, "another was accepted"));
    assert_eq!(accepted.len(), 1);
    accepted[0]
}

#[apply(on_every_setup)]
async fn identical_requests_get_the_same_bytes_and_open_one_session((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    let answers = verify_concurrently_on(&servers, vec![scan(); CONCURRENT_REQUESTS]).await;
    assert_all_same(&answers);
    assert_granted(&answers[0], "shopper-uuid-001", "SHOPPER", "one of 64");
    assert_eq!(sessions(&servers).await.len(), 1);
}

#[apply(on_every_setup)]
async fn retries_with_their_own_request_ids_are_one_scan((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    for round in 1..=2 {
        let answers = race(&servers, &[scan_of(&new_id(), "device_shopper_key")]).await;
        assert_eq!(answers[0].json()["shopperDeviceId"], "device-abc-123");
        assert_eq!(sessions(&servers).await.len(), round);
    }
}

#[apply(on_every_setup)]
async fn retries_that_differ_in_irrelevant_members_are_one_scan((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    let event = new_id();
    let bodies = (0..CONCURRENT_REQUESTS).map(|number| {
        let event = if number.is_multiple_of(2) { event.to_lowercase() } else { event.to_uppercase() };
        // For some of the timestamps the payment method would be expired.
        let time = format!("{}-01-01T00:00:00Z", if number.is_multiple_of(3) { 2024 } else { 2100 });
        let body = set(retry(&scan_of(&event, "valid_shopper_key")), "authEvent.timestamp", time);
        set(body, "keyChannel", ["OPTICAL", "RADIO"][number % 2])
    });
    let answers = verify_concurrently_on(&servers, bodies.collect()).await;
    assert_all_same(&answers);
    let expected = usize::from(answers[0].status == 200);
    assert_eq!(sessions(&servers).await.len(), expected);
}

#[apply(on_every_setup)]
async fn simultaneous_rejections_are_the_same((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    let answers = race(&servers, &[scan_of(&new_id(), "unknown_key")]).await;
    assert_refused(&answers[0], 401, KEY_NOT_FOUND, "one of 64");
    assert!(sessions(&servers).await.is_empty());
}

#[apply(on_every_setup)]
async fn one_of_several_shoppers_of_one_event_is_accepted((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    for round in 1..=2 {
        let event = new_id();
        let requests = ["valid_shopper_key", "associate_key", "device_shopper_key", "radio_badge_key"]
            .map(|key| set(scan_of(&event, key), "keyChannel", Value::Null));
        let answers = race(&servers, &requests).await;
        let sessions = sessions(&servers).await;
        assert_eq!(sessions.len(), round);
        assert_eq!(sessions[0]["visitor"], assert_one_accepted(&answers).json()["visitorDetails"]);
    }
}

#[apply(on_every_setup)]
async fn one_of_two_stores_or_locations_of_one_event_is_accepted((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    for (path, values) in [("storeId", ["STORE-001", "STORE-002"]), ("authEvent.location", ["ENTRY", "EXIT"])] {
        for _ in 0..2 {
            let body = scan_of(&new_id(), "valid_shopper_key");
            let answers = race(&servers, &values.map(|value| set(body.clone(), path, value))).await;
            assert_granted(assert_one_accepted(&answers), "shopper-uuid-001", "SHOPPER", path);
        }
    }
}

#[apply(on_every_setup)]
async fn racing_acceptance_and_rejections_are_answered_consistently((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    for round in 1..=2 {
        let event = new_id();
        // Fewer than eight rejections, so the acceptance is recorded whenever it arrives.
        let requests =
            ["valid_shopper_key", "unknown_key", "invalid_key", "flagged_shopper_key"].map(|key| scan_of(&event, key));
        let answers = race(&servers, &requests).await;
        assert_granted(&answers[0], "shopper-uuid-001", "SHOPPER", "the acceptance");
        for (rejected, message) in answers[1..].iter().zip([KEY_NOT_FOUND, INVALID_KEY, FLAGGED]) {
            match rejected.status {
                401 => assert_refused(rejected, 401, message, "rejected before the acceptance"),
                _ => assert_refused(rejected, 400, ALREADY_USED, "rejected after the acceptance"),
            }
        }
        assert_eq!(sessions(&servers).await.len(), round);
    }
}

#[apply(on_every_setup)]
async fn simultaneous_guesses_for_one_event_get_eight_rejections((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    let event = new_id();
    let guesses: Vec<_> = (0..32).map(|number| scan_of(&event, &format!("guess {number}"))).collect();
    let answers = race(&servers, &guesses).await;
    let (rejected, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 401);
    assert_eq!(rejected.len(), 8);
    refused.iter().for_each(|answer| assert_refused(answer, 400, ALREADY_USED, "the ninth and more"));
}

#[apply(on_every_setup)]
async fn simultaneous_exits_of_one_event_close_one_session((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    for _ in 0..3 {
        servers[0].verify(&scan()).await;
    }
    let answers = race(&servers, &[scan_with("authEvent.location", "EXIT")]).await;
    assert_granted(&answers[0], "shopper-uuid-001", "SHOPPER", "one of 64");
    assert_eq!(states(&sessions(&servers).await), ["open", "open", "closed"]);
}

#[apply(on_every_setup)]
async fn simultaneous_exits_of_different_events_close_the_oldest_sessions((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    for number in 0..24 {
        assert_eq!(servers[number % servers.len()].verify(&scan()).await.status, 200);
    }
    let exits: Vec<_> = (0..16).map(|_| scan_with("authEvent.location", "EXIT")).collect();
    for answer in race(&servers, &exits).await {
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "an exit");
    }
    let sessions = sessions(&servers).await;
    assert_eq!(states(&sessions), [["open"; 8].as_slice(), &["closed"; 16]].concat(), "newest first");
    let exits: BTreeSet<_> = sessions.iter().filter_map(|session| session["exit"]["authEventId"].as_str()).collect();
    assert_eq!(exits.len(), 16, "each exit closed another session");
}

fn states(sessions: &[Value]) -> Vec<&str> {
    sessions.iter().map(|session| session["state"].as_str().unwrap()).collect()
}

#[apply(on_every_setup)]
async fn simultaneous_scans_of_different_events_each_open_a_session((engine, count): Setup) {
    let servers = replicas(engine, count).await;
    let answers = verify_concurrently_on(&servers, (0..50).map(|_| scan()).collect()).await;
    assert_all_same(&answers);
    let sessions = sessions(&servers).await;
    let ids: BTreeSet<_> = sessions.iter().map(|session| session["id"].to_string()).collect();
    assert_eq!((sessions.len(), ids.len()), (50, 50));
    assert_eq!(states(&sessions), ["open"; 50]);
    assert_eq!(json!(sessions[0]["visitor"]), json!({ "id": "shopper-uuid-001", "type": "SHOPPER" }));
}
