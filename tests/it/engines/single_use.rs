//! Single-use codes (`scan_key.single_use`): a retry gets its answer, a second event is denied, and a rejection does
//! not use a code.

use crate::trials::{apply, on_every_engine, on_postgres, test};
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use identity_connector::testing::domain::scan_key_code::{RecognitionToken, ScanKeyFormat, SigningKeys, TimestampUnit};
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::support::{Answer, Server};

const KEY_USED: &str = "Identity key already used";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SIGNING_KEY: [u8; 32] = [1; 32];

async fn server(engine: Engine, settings: &[(&str, &str)]) -> Server {
    let key = base64(SIGNING_KEY);
    let on = [("scan_key.signing_keys", key.as_str()), ("scan_key.single_use", "true")];
    engine.demo(&[&on, settings].concat()).await
}

fn signed_code(token: &str, custom: &str) -> String {
    code_signed_with(SIGNING_KEY, token, custom)
}

fn code_signed_with(key: [u8; 32], token: &str, custom: &str) -> String {
    let keys = SigningKeys::new([key]);
    let format = ScanKeyFormat::new("ACME", TimestampUnit::Seconds, keys).unwrap();
    let made_at = DateTime::from_timestamp(SCANNED_AT, 0).unwrap();
    format.write(&RecognitionToken::parse(token).unwrap(), made_at, custom).unwrap()
}

/// A scan of a code under a new event.
fn event_with_code(code: &str) -> Value {
    scan_of(&new_id(), code)
}

fn exit_of(body: &Value) -> Value {
    set(body.clone(), "authEvent.location", "EXIT")
}

#[track_caller]
fn assert_accepted(answer: &Answer, what: &str) {
    assert_granted(answer, "shopper-uuid-001", "SHOPPER", what);
}

#[track_caller]
fn assert_used(answer: &Answer, what: &str) {
    assert_refused(answer, 401, KEY_USED, what);
}

/// The number of accepted answers. All others must say that the code is used.
#[track_caller]
fn count_accepted(answers: &[Answer]) -> usize {
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    for answer in refused {
        assert_used(answer, "one of many events");
    }
    for answer in &accepted {
        assert_accepted(answer, "one of many events");
    }
    accepted.len()
}

#[apply(on_every_engine)]
async fn retry_gets_its_answer_and_second_event_is_denied(engine: Engine) {
    let server = server(engine, &[]).await;
    let code = signed_code(TOKEN, "");
    let (first, second) = (event_with_code(&code), event_with_code(&code));
    for _ in 0..3 {
        assert_accepted(&server.verify(&retry(&first)).await, "the event that used the code");
        assert_used(&server.verify(&retry(&second)).await, "another event");
        assert_used(&server.verify(&set(retry(&second), "authEvent.id", new_id())).await, "a third event");
    }
    assert_refused(&server.verify(&exit_of(&first)).await, 400, ALREADY_USED, "the same event at another location");
    assert_used(&server.verify(&set(event_with_code(&code), "storeId", "STORE-002")).await, "another store");
    assert_eq!(server.sessions().await.len(), 1);
}

#[apply(on_every_engine)]
async fn exit_uses_a_code(engine: Engine) {
    let server = server(engine, &[]).await;
    let [entry, exit] = [signed_code(TOKEN, "in"), signed_code(TOKEN, "out")];
    assert_accepted(&server.verify(&event_with_code(&entry)).await, "entry");
    assert_used(&server.verify(&exit_of(&event_with_code(&entry))).await, "out with the code that was used");
    assert_eq!(server.sessions().await[0]["state"], "open", "a rejection closes no session");
    let out = exit_of(&event_with_code(&exit));
    assert_accepted(&server.verify(&out).await, "exit");
    assert_accepted(&server.verify(&retry(&out)).await, "a retry of the exit");
    assert_used(&server.verify(&exit_of(&event_with_code(&exit))).await, "a second exit with the code");
    assert_used(&server.verify(&event_with_code(&exit)).await, "in with a code that was used to go out");
    let sessions = server.sessions().await;
    assert_eq!((sessions.len(), &sessions[0]["state"]), (1, &json!("closed")));
}

/// A connector with shoppers who may leave but not enter. Each has a token of one repeated digit.
async fn with_denied_shoppers(engine: Engine) -> Server {
    let method = |last: &str| json!({ "id": "p", "lastMonth": last });
    let directory = json!({
        "stores": [{ "id": "STORE-001" }, { "id": "CLOSED", "enabled": false }],
        "shoppers": [
            { "id": "flagged", "type": "SHOPPER", "account": "flagged" },
            { "id": "expired", "type": "SHOPPER", "paymentMethod": method("2020-01") },
            { "id": "cash", "type": "CASH_SHOPPER" },
            { "id": "shopper-uuid-001", "type": "SHOPPER" },
        ],
        "identityKeys": [{ "key": "valid_shopper_key", "shopper": "shopper-uuid-001" }],
        "recognitionTokens": [
            { "token": "1".repeat(32), "shopper": "flagged" },
            { "token": "2".repeat(32), "shopper": "expired" },
            { "token": "3".repeat(32), "shopper": "cash" },
            { "token": TOKEN, "shopper": "shopper-uuid-001" },
        ],
    });
    let key = base64(SIGNING_KEY);
    let settings = [("scan_key.signing_keys", key.as_str()), ("scan_key.single_use", "true")];
    engine.with_directory_and_settings(&directory, &settings).await.unwrap()
}

#[apply(on_every_engine)]
async fn rejection_uses_no_code(engine: Engine) {
    let server = with_denied_shoppers(engine).await;
    for (digit, message) in [("1", FLAGGED), ("2", PAYMENT_EXPIRED), ("3", NO_CASH_HERE)] {
        let code = signed_code(&digit.repeat(32), "");
        for _ in 0..2 {
            assert_refused(&server.verify(&event_with_code(&code)).await, 401, message, message);
        }
        let out = exit_of(&event_with_code(&code));
        assert_eq!(server.verify(&out).await.status, 200, "{message}: the unused code is accepted at the exit");
        assert_used(&server.verify(&exit_of(&event_with_code(&code))).await, message);
    }

    let code = signed_code(TOKEN, "");
    let unused = event_with_code(&code);
    for (path, value, message) in [
        ("storeId", "NONEXISTENT", INVALID_STORE),
        ("storeId", "CLOSED", INVALID_STORE),
        ("authEvent.timestamp", "?", "Invalid authEvent.timestamp format"),
    ] {
        assert_refused(&server.verify(&set(unused.clone(), path, value)).await, 400, message, message);
    }
    let old = set(event_with_code(&code), "authEvent.timestamp", "2024-02-09T17:56:57Z");
    assert_refused(&server.verify(&old).await, 401, KEY_EXPIRED, "the code has expired");
    let used_event = new_id();
    accept(&server, &used_event).await;
    assert_refused(
        &server.verify(&scan_of(&used_event, &code)).await,
        400,
        ALREADY_USED,
        "an event that another key has used",
    );
    assert_accepted(&server.verify(&unused).await, "after these refusals");
}

#[apply(on_every_engine)]
async fn rejection_of_a_used_code_is_recorded_like_others(engine: Engine) {
    let server = server(engine, &[]).await;
    let code = signed_code(TOKEN, "");
    assert_accepted(&server.verify(&event_with_code(&code)).await, "an event that uses the code");
    let records = metric(&server, "connector_ledger_records").await;
    let event = new_id();
    for _ in 0..3 {
        assert_used(&server.verify(&scan_of(&event, &code)).await, "the recorded rejection");
    }
    assert_eq!(metric(&server, "connector_ledger_records").await, records + 1);
    let decisions = server.all("decisions").await;
    assert!(decisions.iter().any(|row| row["reason"] == "key_already_used"), "{decisions:?}");

    // After a rejection, another key is decided again. Then both records are kept.
    assert_accepted(&server.verify(&scan_of(&event, &signed_code(TOKEN, "another"))).await, "another code");
    assert_used(&server.verify(&scan_of(&event, &code)).await, "as recorded");
    assert_refused(&server.verify(&scan_of(&event, "associate_key")).await, 400, ALREADY_USED, "a third key");

    // The rejection of a used code counts as one of eight rejections. A ninth request is refused, and uses no code.
    let event = new_id();
    for number in 1..=7 {
        assert_refused(
            &server.verify(&scan_of(&event, &format!("guess {number}"))).await,
            401,
            KEY_NOT_FOUND,
            "a guess",
        );
    }
    assert_used(&server.verify(&scan_of(&event, &code)).await, "the eighth");
    let unused = signed_code(TOKEN, "unused");
    assert_refused(&server.verify(&scan_of(&event, &unused)).await, 400, ALREADY_USED, "the ninth");
    assert_accepted(&server.verify(&event_with_code(&unused)).await, "the refused request did not use the code");
}

#[apply(on_every_engine)]
async fn one_of_32_simultaneous_events_with_one_code_is_accepted(engine: Engine) {
    let server = Arc::new(server(engine, &[]).await);
    for round in 1..=4 {
        let code = signed_code(TOKEN, &round.to_string());
        let bodies: Vec<_> = (0..32).map(|_| event_with_code(&code)).collect();
        let answers = verify_until_decided(&server, bodies.clone()).await;
        assert_eq!(count_accepted(&answers), 1);
        let again = verify_concurrently(&server, bodies.iter().map(retry).collect()).await;
        for (first, again) in answers.iter().zip(&again) {
            assert_eq!((first.status, &first.body), (again.status, &again.body));
        }
        assert_eq!(server.sessions().await.len(), round);
    }
}

#[apply(on_every_engine)]
async fn each_of_many_codes_opens_one_of_many_simultaneous_events(engine: Engine) {
    let server = Arc::new(server(engine, &[]).await);
    let codes: Vec<_> = (0..16).map(|number| signed_code(TOKEN, &format!("n{number}"))).collect();
    let bodies: Vec<_> = (0..8).flat_map(|_| codes.iter().map(|code| event_with_code(code))).collect();
    let answers = verify_until_decided(&server, bodies).await;
    assert_eq!(count_accepted(&answers), 16);
    for index in 0..16 {
        let of_one = answers.iter().skip(index).step_by(16).filter(|answer| answer.status == 200).count();
        assert_eq!(of_one, 1, "code {index}");
    }
    assert_eq!(server.sessions().await.len(), 16);
}

#[apply(on_every_engine)]
async fn code_is_free_after_its_retention(engine: Engine) {
    let server = server(engine, &[("ledger.retention", "24h")]).await;
    let code = signed_code(TOKEN, "");
    let second = Duration::from_secs(1);
    for _ in 0..3 {
        let event = event_with_code(&code);
        assert_accepted(&server.verify(&event).await, "the first event");
        server.clock.advance(DAY);
        assert_accepted(&server.verify(&event).await, "its own event");
        assert_used(&server.verify(&event_with_code(&code)).await, "another event before the end of the retention");
        server.clock.advance(second);
    }
    // The event that used the code may also use another code, or the same again.
    let (event, other) = (new_id(), signed_code(TOKEN, "other"));
    server.clock.advance(DAY + second);
    for code in [&code, &code, &other, &code] {
        assert_accepted(&server.verify(&scan_of(&event, code)).await, "the event is new again");
        assert_used(&server.verify(&event_with_code(code)).await, "the code is used by that event");
        server.clock.advance(DAY + second);
    }
}

#[apply(on_every_engine)]
async fn other_codes_and_static_keys_are_not_affected(engine: Engine) {
    let server = server(engine, &[]).await;
    for custom in ["", "1", "2"] {
        assert_accepted(&server.verify(&event_with_code(&signed_code(TOKEN, custom))).await, custom);
    }
    for _ in 0..3 {
        assert_accepted(&server.verify(&scan_of(&new_id(), "valid_shopper_key")).await, "a static key");
        // The key starts like a code, but is registered.
        let answer = server.verify(&scan_of(&new_id(), "JWOIMAG18bc0554d045a48b29afa9e2aaac14ae")).await;
        assert_accepted(&answer, "the key of Amazon's mock requests");
    }
    assert_used(&server.verify(&event_with_code(&signed_code(TOKEN, "1"))).await, "the code is still used");
}

#[apply(test)]
async fn code_opens_many_events_without_the_setting() {
    let server = server(Engine::Memory, &[("scan_key.single_use", "false")]).await;
    for _ in 0..3 {
        assert_accepted(&server.verify(&event_with_code(&signed_code(TOKEN, ""))).await, "any event");
    }
}

#[apply(test)]
async fn unsigned_or_changed_code_is_invalid() {
    let server = server(Engine::Memory, &[]).await;
    let good = signed_code(TOKEN, "guest");
    let mut changed = good.clone();
    changed.replace_range(49..50, "G");
    let other_token = "f".repeat(32);
    for (code, message) in [
        (code(SCANNED_AT, "guest"), INVALID_KEY),
        (code(SCANNED_AT - 1000, "guest"), INVALID_KEY), // the signature is checked before the age
        (changed, INVALID_KEY),
        (good.replace(TOKEN, &other_token), INVALID_KEY), // and before the token
        (signed_code(&other_token, "guest"), KEY_NOT_FOUND),
    ] {
        assert_refused(&server.verify(&event_with_code(&code)).await, 401, message, &code);
    }
    assert_accepted(&server.verify(&event_with_code(&good)).await, "the unchanged signed code");
}

/// During a key rotation two signing keys are valid. A code that is signed with either key is the same code.
#[apply(test)]
async fn code_signed_with_another_key_is_the_same_code() {
    let other_key = [2; 32];
    let keys = [SIGNING_KEY, other_key].map(base64).join(",");
    let server = server(Engine::Memory, &[("scan_key.signing_keys", &keys)]).await;
    for custom in ["", "guest"] {
        let codes = [SIGNING_KEY, other_key].map(|key| code_signed_with(key, TOKEN, custom));
        assert_ne!(codes[0], codes[1]);
        assert_accepted(&server.verify(&event_with_code(&codes[0])).await, custom);
        for code in &codes {
            assert_used(&server.verify(&event_with_code(code)).await, custom);
        }
    }
    let unused = code_signed_with(other_key, TOKEN, "unused");
    assert_accepted(&server.verify(&event_with_code(&unused)).await, "a code signed with the other key");
}

/// A full ledger evicts a record before its retention ends, and frees its code.
#[apply(test)]
async fn evicted_record_frees_its_code() {
    let server = server(Engine::Memory, &[("ledger.capacity", "2")]).await;
    let code = signed_code(TOKEN, "");
    assert_accepted(&server.verify(&event_with_code(&code)).await, "the first");
    accept(&server, &new_id()).await;
    let full = server.verify(&event_with_code(&signed_code(TOKEN, "unused"))).await;
    assert_eq!(full.status, 429, "the ledger is full");
    server.clock.advance(Duration::from_secs(11 * 60));
    accept(&server, &new_id()).await;
    assert_accepted(&server.verify(&event_with_code(&code)).await, "the record that used the code is evicted");
    server.clock.advance(Duration::from_secs(11 * 60));
    assert_accepted(&server.verify(&event_with_code(&signed_code(TOKEN, "unused"))).await, "a 429 does not use a code");
}

async fn replicas(engine: Engine) -> [Arc<Server>; 2] {
    let first = server(engine, &[]).await;
    let second = first.replica().await;
    [first, second].map(Arc::new)
}

/// Sends the bodies alternately to the two replicas, all at the same time.
async fn send_to_both(replicas: &[Arc<Server>; 2], bodies: Vec<Value>) -> Vec<Answer> {
    let to_one = |(index, body): (usize, Value)| (Arc::clone(&replicas[index % 2]), body);
    verify_on_servers_until_decided(bodies.into_iter().enumerate().map(to_one).collect()).await
}

#[apply(on_postgres)]
async fn one_event_with_a_code_is_accepted_across_replicas(engine: Engine) {
    let replicas = replicas(engine).await;
    for round in 1..=4 {
        let body = event_with_code(&signed_code(TOKEN, &format!("one{round}")));
        let answers = send_to_both(&replicas, (0..32).map(|_| retry(&body)).collect()).await;
        assert_all_same(&answers);
        assert_accepted(&answers[0], "one event");
        let code = signed_code(TOKEN, &format!("many{round}"));
        let bodies: Vec<_> = (0..32).map(|_| event_with_code(&code)).collect();
        let answers = send_to_both(&replicas, bodies.clone()).await;
        assert_eq!(count_accepted(&answers), 1);
        // Each replica answers from what the other has recorded.
        let again = send_to_both(&[Arc::clone(&replicas[1]), Arc::clone(&replicas[0])], bodies).await;
        for (first, again) in answers.iter().zip(&again) {
            assert_eq!((first.status, &first.body), (again.status, &again.body));
        }
        assert_eq!(replicas[0].sessions().await.len(), 2 * round);
    }
}

/// Batches that wait for each other's codes would wait until lock_timeout, and would then be recorded event by event,
/// with a warning.
#[apply(on_postgres)]
async fn codes_in_any_order_cause_no_deadlock_across_replicas(engine: Engine) {
    let replicas = replicas(engine).await;
    for round in 0..4 {
        let codes: Vec<_> = (0..16).map(|number| signed_code(TOKEN, &format!("r{round}n{number}"))).collect();
        let bodies: Vec<_> = (0..8)
            .flat_map(|copy| (0..16).map(move |index| if copy % 2 == 0 { index } else { 15 - index }))
            .map(|index| event_with_code(&codes[index]))
            .collect();
        assert_eq!(count_accepted(&send_to_both(&replicas, bodies).await), 16);
    }
    assert_eq!(replicas[0].sessions().await.len(), 4 * 16);
}

/// A replica without the setting behaves like the previous release: it shares the database, and its acceptances use no
/// code.
#[apply(on_postgres)]
async fn replica_without_single_use_shares_the_database(engine: Engine) {
    let first = server(engine, &[]).await;
    let replica_without_single_use = first.replica_with(&[("scan_key.single_use", "false")]).await;
    let code = signed_code(TOKEN, "");
    assert_accepted(&replica_without_single_use.verify(&event_with_code(&code)).await, "does not use the code");
    let event = event_with_code(&code);
    assert_accepted(&first.verify(&event).await, "used");
    assert_accepted(&replica_without_single_use.verify(&event).await, "the record of the other replica");
    assert_used(&first.verify(&event_with_code(&code)).await, "used");
    assert_accepted(&replica_without_single_use.verify(&event_with_code(&code)).await, "does not check used codes");
}
