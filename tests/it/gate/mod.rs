//! The gate's call and the server, rule by rule (`docs/api.md`), against a running service over real sockets.

pub(crate) mod body;
pub(crate) mod callers;
pub(crate) mod connections;
pub(crate) mod decision;
pub(crate) mod failure;
pub(crate) mod overload;
pub(crate) mod peers;
pub(crate) mod properties;
pub(crate) mod rate_limit;
pub(crate) mod routing;
pub(crate) mod scan_key;
pub(crate) mod stop;
pub(crate) mod tls;
pub(crate) mod traces;
pub(crate) mod validation;
pub(crate) mod wire;

use serde_json::{Value, json};

use crate::checks::{metric, repeat_until};
use crate::support::Server;

/// A status and a body.
type Expected = (u16, Value);

fn granted(visitor: &str, kind: &str) -> Expected {
    (200, json!({ "visitorDetails": { "id": visitor, "type": kind } }))
}

fn refused(status: u16, message: &str) -> Expected {
    (status, json!({ "message": message }))
}

/// Sends the scan of each row to one server, and reports all answers that differ from the expected ones.
async fn assert_answers(server: &Server, rows: impl IntoIterator<Item = (Value, Expected)>) {
    let mut wrong = Vec::new();
    for (scan, expected) in rows {
        let answer = server.verify(&scan).await;
        let got = (answer.status, answer.json());
        if got != expected {
            wrong.push(format!("{} {} instead of {} {}: {scan}", got.0, got.1, expected.0, expected.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
}

/// Waits until a metric is as wanted.
async fn wait_for_metric(server: &Server, name: &str, is_wanted: impl Fn(u64) -> bool) {
    repeat_until(name, async || metric(server, name).await, |value| is_wanted(*value)).await;
}
