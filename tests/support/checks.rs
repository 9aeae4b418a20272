//! What many tests here say: a scan with one thing changed, and an answer held against the contract's words.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use super::{Answer, Server, scan, scan_with_key};

/// How long a test waits for a condition before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const INVALID_BODY: &str = "Invalid request body";
pub(crate) const KEY_TOO_LONG: &str = "identityKey exceeds maximum length of 1000 characters";
pub(crate) const BAD_KEY: &str = "Invalid identityKey encoding";
pub(crate) const STORE_TOO_LONG: &str = "storeId exceeds maximum length of 255 characters";
pub(crate) const INVALID_KEY: &str = "Invalid identity key";
pub(crate) const KEY_EXPIRED: &str = "Identity key expired";
pub(crate) const KEY_NOT_FOUND: &str = "Identity key not found";
pub(crate) const INVALID_STORE: &str = "Invalid storeId";
pub(crate) const FLAGGED: &str = "Shopper account flagged";
pub(crate) const PAYMENT_EXPIRED: &str = "Payment method expired";
pub(crate) const NO_CASH_HERE: &str = "Cash shoppers are not supported at this store";
pub(crate) const ALREADY_USED: &str = "authEvent.id already used with different parameters";
pub(crate) const TOO_MANY: &str = "Too Many Requests";
pub(crate) const UNAUTHORIZED: &str = "Unauthorized";
pub(crate) const OUR_FAULT: &str = "Internal server error";

/// The demo's recognition token and the start of its Scan Key Codes.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const PREFIX: &str = "JWOACME";

/// `2024-02-09T17:53:57Z`, the time of `scan()`, in Unix seconds.
pub(crate) const SCANNED_AT: i64 = 1_707_501_237;

pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// `body` with the member at `path` (`storeId`, `authEvent.id`) set to `value`.
pub(crate) fn set(mut body: Value, path: &str, value: impl Into<Value>) -> Value {
    let (parent, name) = parent_of(&mut body, path);
    parent[name] = value.into();
    body
}

/// `body` without the member at `path`.
pub(crate) fn unset(mut body: Value, path: &str) -> Value {
    let (parent, name) = parent_of(&mut body, path);
    parent.as_object_mut().unwrap().remove(name);
    body
}

fn parent_of<'a>(body: &'a mut Value, path: &'a str) -> (&'a mut Value, &'a str) {
    match path.split_once('.') {
        Some((outer, name)) => (&mut body[outer], name),
        None => (body, path),
    }
}

/// A scan with one member changed.
pub(crate) fn scan_with(path: &str, value: impl Into<Value>) -> Value {
    set(scan(), path, value)
}

/// A scan of one key under an event id of the caller's.
pub(crate) fn scan_of(event: &str, key: &str) -> Value {
    set(scan_with_key(key.as_bytes()), "authEvent.id", event)
}

/// The same event sent again, as a retry does: under a new requestId.
pub(crate) fn retry(body: &Value) -> Value {
    set(body.clone(), "requestId", new_id())
}

pub(crate) fn base64(key: impl AsRef<[u8]>) -> String {
    STANDARD.encode(key)
}

/// A Scan Key Code of the demo's form: its token, a Unix time, and custom information.
pub(crate) fn code(seconds: i64, custom: &str) -> String {
    format!("{PREFIX}{TOKEN}{seconds:010}{custom}")
}

pub(crate) fn instant(text: &Value) -> DateTime<Utc> {
    text.as_str().expect("a time is a string").parse().expect("a time reads as RFC 3339")
}

/// A good body with `members` added at the outer level, as they are.
pub(crate) fn body_with(members: &str) -> String {
    let body = scan().to_string();
    format!("{},{members}}}", body.strip_suffix('}').unwrap())
}

/// A good body with `members` added to `authEvent`, as they are.
pub(crate) fn event_with(members: &str) -> String {
    let event = scan()["authEvent"].to_string();
    let event = format!("{},{members}}}", event.strip_suffix('}').unwrap());
    scan_with("authEvent", "<here>").to_string().replace("\"<here>\"", &event)
}

#[track_caller]
pub(crate) fn assert_json(answer: &Answer, status: u16, body: &Value, what: &str) {
    let shown = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, status, "{what}: {shown}");
    assert_eq!(&answer.json(), body, "{what}");
    let kind = answer.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("none");
    assert!(kind.starts_with("application/json"), "{what}: Content-Type {kind}");
}

/// The answer is this refusal, in exactly the contract's form.
#[track_caller]
pub(crate) fn assert_refused(answer: &Answer, status: u16, message: &str, what: &str) {
    assert_json(answer, status, &json!({ "message": message }), what);
}

/// The answer lets this visitor pass, and says nothing else.
#[track_caller]
pub(crate) fn assert_granted(answer: &Answer, visitor: &str, kind: &str, what: &str) {
    assert_json(answer, 200, &json!({ "visitorDetails": { "id": visitor, "type": kind } }), what);
}

/// The answer has the contract's error form, whatever its words.
#[track_caller]
pub(crate) fn assert_error_form(answer: &Answer, status: u16, what: &str) {
    let body = answer.json();
    let message = body["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty(), "{what}: {body}");
    assert_refused(answer, status, message, what);
}

/// A 429 in exactly the contract's form, with its `Retry-After`.
#[track_caller]
pub(crate) fn assert_too_many(answer: &Answer, what: &str) {
    assert_refused(answer, 429, TOO_MANY, what);
    let seconds = answer.headers.get("retry-after").expect("Retry-After").to_str().unwrap();
    assert!(seconds.parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{what}: Retry-After {seconds}");
}

/// Sends all bodies at the same instant; the answers in the order of the bodies.
pub(crate) async fn at_once(server: &Arc<Server>, bodies: Vec<Value>) -> Vec<Answer> {
    together(each_to(server, bodies), Undecided::IsAnAnswer).await
}

/// The same, until each is decided: on a busy machine many scans at once may find the connector busy or miss their deadline.
pub(crate) async fn decided_at_once(server: &Arc<Server>, bodies: Vec<Value>) -> Vec<Answer> {
    decided_at_once_each(each_to(server, bodies)).await
}

/// The same, each body to a connector of its own.
pub(crate) async fn decided_at_once_each(scans: Vec<(Arc<Server>, Value)>) -> Vec<Answer> {
    together(scans, Undecided::AsksAgain).await
}

/// What a client does with an answer that holds no decision: 429 or 500.
#[derive(Clone, Copy, PartialEq)]
enum Undecided {
    IsAnAnswer,
    AsksAgain,
}

fn each_to(server: &Arc<Server>, bodies: Vec<Value>) -> Vec<(Arc<Server>, Value)> {
    bodies.into_iter().map(|body| (Arc::clone(server), body)).collect()
}

async fn together(scans: Vec<(Arc<Server>, Value)>, undecided: Undecided) -> Vec<Answer> {
    let start = Arc::new(Barrier::new(scans.len()));
    let mut running = JoinSet::new();
    for (place, (server, body)) in scans.into_iter().enumerate() {
        let start = Arc::clone(&start);
        running.spawn(async move {
            start.wait().await;
            (place, ask(&server, &body, undecided).await)
        });
    }
    let mut answers = running.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn ask(server: &Server, body: &Value, undecided: Undecided) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = server.verify(body).await;
        match answer.status {
            _ if undecided == Undecided::IsAnAnswer || Instant::now() > deadline => return answer,
            429 => assert_too_many(&answer, "busy"),
            500 => assert_refused(&answer, 500, OUR_FAULT, "late"),
            _ => return answer,
        }
        tokio::time::sleep(Duration::from_secs(1)).await; // as it was told to, and as a gate does
    }
}

/// Repeats `attempt` until one takes less than `limit`, and fails if none does within [`PATIENCE`]. On a busy machine a single attempt may be
/// late because it gets no processor. If every attempt is late, the connector waits for something that it must not wait for.
pub(crate) async fn assert_one_within(limit: Duration, what: &str, mut attempt: impl AsyncFnMut() -> Duration) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let took = attempt().await;
        if took < limit {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: no attempt took less than {limit:?}; the last took {took:?}");
    }
}

/// Of these times, so many in a hundred are less than `limit`. As above, a busy machine makes some of them longer.
#[track_caller]
pub(crate) fn assert_most_within(percent: usize, limit: Duration, times: &[Duration], what: &str) {
    let within = times.iter().filter(|time| **time < limit).count();
    let longer: Vec<_> = times.iter().filter(|time| **time >= limit).collect();
    assert!(within * 100 >= percent * times.len(), "{what}: {within} of {} within {limit:?}: {longer:?}", times.len());
}

/// They are the same to the byte.
#[track_caller]
pub(crate) fn assert_all_same<'a>(answers: impl IntoIterator<Item = &'a Answer>) {
    let distinct: BTreeSet<_> = answers.into_iter().map(|answer| (answer.status, &answer.body)).collect();
    assert_eq!(distinct.len(), 1, "{distinct:?}");
}

/// The value of a metric, its label sets added up; zero when it is not there.
pub(crate) async fn metric(server: &Server, name: &str) -> u64 {
    let text = server.metrics().await;
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let of_this_name = lines.filter(|rest| rest.starts_with([' ', '{']));
    let values = of_this_name.filter_map(|rest| rest.rsplit(' ').next());
    values.map(|value| value.trim_end_matches(".0").parse::<u64>().expect("a count")).sum()
}

/// A body that is none at all is refused as the table's first row says.
pub(crate) async fn assert_invalid(server: &Server, body: impl Into<Vec<u8>>) {
    let body = body.into();
    let shown = String::from_utf8_lossy(&body).into_owned();
    assert_refused(&server.post(body).await, 400, INVALID_BODY, &shown);
}

/// A body of the demo's shopper passes, however it is written.
pub(crate) async fn assert_passes(server: &Server, body: String) {
    let shown = body.chars().take(400).collect::<String>();
    assert_granted(&server.post(body).await, "shopper-uuid-001", "SHOPPER", &shown);
}

/// What becomes of a code, in a word or the refusal's.
#[track_caller]
pub(crate) fn assert_outcome(answer: &Answer, refusal: Option<&str>, what: &str) {
    match refusal {
        None => assert_granted(answer, "shopper-uuid-001", "SHOPPER", what),
        Some(message) => assert_refused(answer, 401, message, what),
    }
}

/// Asks for a valid shopper under an event.
pub(crate) async fn accept(server: &Server, event: &str) -> Answer {
    server.verify(&scan_of(event, "valid_shopper_key")).await
}

/// Whether the ledger still has the record of this event, which was accepted: another key must then be refused.
pub(crate) async fn is_recorded(server: &Server, event: &str) -> bool {
    let answer = server.verify(&scan_of(event, "associate_key")).await;
    if answer.status == 400 {
        assert_refused(&answer, 400, ALREADY_USED, event);
    }
    answer.status == 400
}
