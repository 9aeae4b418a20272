//! Helpers of many tests: scans with one member changed, and assertions that compare an answer with the contract.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use super::{Answer, Server, scan, scan_with_key};

/// The maximum time that a test waits for a condition.
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

/// A scan of this key with this event id.
pub(crate) fn scan_of(event: &str, key: &str) -> Value {
    set(scan_with_key(key.as_bytes()), "authEvent.id", event)
}

/// A retry of a scan, as a gate sends it: the same event with a new requestId.
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
    text.as_str().expect("the time is a string").parse().expect("the time is in the form of RFC 3339")
}

#[track_caller]
pub(crate) fn assert_json(answer: &Answer, status: u16, body: &Value, what: &str) {
    let shown = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, status, "{what}: {shown}");
    assert_eq!(&answer.json(), body, "{what}");
    let kind = answer.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("none");
    assert!(kind.starts_with("application/json"), "{what}: Content-Type {kind}");
}

/// Asserts that the answer is this refusal, in exactly the contract's form.
#[track_caller]
pub(crate) fn assert_refused(answer: &Answer, status: u16, message: &str, what: &str) {
    assert_json(answer, status, &json!({ "message": message }), what);
}

/// Asserts that the answer accepts this visitor, and contains nothing else.
#[track_caller]
pub(crate) fn assert_granted(answer: &Answer, visitor: &str, kind: &str, what: &str) {
    assert_json(answer, 200, &json!({ "visitorDetails": { "id": visitor, "type": kind } }), what);
}

/// Asserts that the answer has the contract's error form, with any message.
#[track_caller]
pub(crate) fn assert_error_form(answer: &Answer, status: u16, what: &str) {
    let body = answer.json();
    let message = body["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty(), "{what}: {body}");
    assert_refused(answer, status, message, what);
}

/// Asserts that the answer is a 429 in exactly the contract's form, with `Retry-After`.
#[track_caller]
pub(crate) fn assert_too_many(answer: &Answer, what: &str) {
    assert_refused(answer, 429, TOO_MANY, what);
    let seconds = answer.headers.get("retry-after").expect("the answer has a Retry-After header").to_str().unwrap();
    assert!(seconds.parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{what}: Retry-After {seconds}");
}

/// Sends all scans at the same time, and returns the answers in the order of the scans.
pub(crate) async fn verify_concurrently(server: &Arc<Server>, bodies: Vec<Value>) -> Vec<Answer> {
    verify_all(pair_with_server(server, bodies), Undecided::Return).await
}

/// Sends all scans at the same time, and repeats a scan after a 429 or 500. On a busy machine many concurrent scans may
/// be refused or miss their deadline.
pub(crate) async fn verify_until_decided(server: &Arc<Server>, bodies: Vec<Value>) -> Vec<Answer> {
    verify_on_servers_until_decided(pair_with_server(server, bodies)).await
}

/// Sends each scan to its own connector at the same time, and repeats a scan after a 429 or 500.
pub(crate) async fn verify_on_servers_until_decided(scans: Vec<(Arc<Server>, Value)>) -> Vec<Answer> {
    verify_all(scans, Undecided::Retry).await
}

/// The reaction of a client to an answer without a decision (429 or 500).
#[derive(Clone, Copy, PartialEq)]
enum Undecided {
    Return,
    Retry,
}

fn pair_with_server(server: &Arc<Server>, bodies: Vec<Value>) -> Vec<(Arc<Server>, Value)> {
    bodies.into_iter().map(|body| (Arc::clone(server), body)).collect()
}

async fn verify_all(scans: Vec<(Arc<Server>, Value)>, undecided: Undecided) -> Vec<Answer> {
    let start = Arc::new(Barrier::new(scans.len()));
    let mut running = JoinSet::new();
    for (index, (server, body)) in scans.into_iter().enumerate() {
        let start = Arc::clone(&start);
        running.spawn(async move {
            start.wait().await;
            (index, verify_with_retries(&server, &body, undecided).await)
        });
    }
    let mut answers = running.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn verify_with_retries(server: &Server, body: &Value, undecided: Undecided) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = server.verify(body).await;
        match answer.status {
            _ if undecided == Undecided::Return || Instant::now() > deadline => return answer,
            429 => assert_too_many(&answer, "a scan on a busy machine"),
            500 => assert_refused(&answer, 500, OUR_FAULT, "a scan that misses its deadline"),
            _ => return answer,
        }
        tokio::time::sleep(Duration::from_secs(1)).await; // Retry-After is at least one second
    }
}

/// Repeats `attempt` until its outcome is the wanted one, and returns that outcome.
pub(crate) async fn repeat_until<T: Debug>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> T,
    is_wanted: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let outcome = attempt().await;
        if is_wanted(&outcome) {
            return outcome;
        }
        assert!(Instant::now() < deadline, "timed out waiting for: {what}; last: {outcome:?}");
        tokio::time::sleep(Duration::from_millis(10)).await; // poll until the deadline above
    }
}

/// Polls until the condition is true.
pub(crate) async fn wait_until(what: &str, condition: impl AsyncFnMut() -> bool) {
    repeat_until(what, condition, |is_true| *is_true).await;
}

/// Repeats `attempt` until one takes less than `limit`, and fails if none does within [`PATIENCE`]. On a busy machine a
/// single attempt may be late because it gets no processor. If every attempt is late, the connector waits for something
/// that it must not wait for.
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

/// Asserts that at least `percent` % of these times are less than `limit`. A busy machine makes some of them longer.
#[track_caller]
pub(crate) fn assert_most_within(percent: usize, limit: Duration, times: &[Duration], what: &str) {
    let within = times.iter().filter(|time| **time < limit).count();
    let longer: Vec<_> = times.iter().filter(|time| **time >= limit).collect();
    assert!(within * 100 >= percent * times.len(), "{what}: {within} of {} within {limit:?}: {longer:?}", times.len());
}

/// Asserts that all answers have the same status and bytes.
#[track_caller]
pub(crate) fn assert_all_same<'a>(answers: impl IntoIterator<Item = &'a Answer>) {
    let distinct: BTreeSet<_> = answers.into_iter().map(|answer| (answer.status, &answer.body)).collect();
    assert_eq!(distinct.len(), 1, "{distinct:?}");
}

/// The value of a metric, as the sum over its labels; zero if it is absent.
pub(crate) async fn metric(server: &Server, name: &str) -> u64 {
    let text = server.metrics().await;
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let of_this_name = lines.filter(|rest| rest.starts_with([' ', '{']));
    let values = of_this_name.filter_map(|rest| rest.rsplit(' ').next());
    values.map(|value| value.trim_end_matches(".0").parse::<u64>().expect("the metric is a whole number")).sum()
}

/// Asserts that a code is refused with this message, or accepted if it is `None`.
#[track_caller]
pub(crate) fn assert_outcome(answer: &Answer, refusal: Option<&str>, what: &str) {
    match refusal {
        None => assert_granted(answer, "shopper-uuid-001", "SHOPPER", what),
        Some(message) => assert_refused(answer, 401, message, what),
    }
}

/// Sends a scan of a valid shopper with this event id.
pub(crate) async fn accept(server: &Server, event: &str) -> Answer {
    server.verify(&scan_of(event, "valid_shopper_key")).await
}

/// Whether the record of an accepted event still exists: a scan with the same event id and another key gets a 400.
pub(crate) async fn is_recorded(server: &Server, event: &str) -> bool {
    let answer = server.verify(&scan_of(event, "associate_key")).await;
    if answer.status == 400 {
        assert_refused(&answer, 400, ALREADY_USED, event);
    }
    answer.status == 400
}
