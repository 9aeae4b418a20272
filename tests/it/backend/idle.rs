//! Without scans, the connector notices by itself that the backend is down, logs why, and notices that it is up again.

use crate::trials::{apply, test};
use std::time::Duration;

use crate::support::backend::{Backend, Reply};
use crate::support::{Process, wait_until};

#[apply(test)]
async fn a_backend_that_is_down_is_noticed_without_a_scan() {
    let backend = Backend::start().await;
    let process = Process::demo(&[("directory.url", &backend.url())]).await;
    process.wait_for_metric("connector_identity_backend_up", 1.0).await;
    for (cause, failure) in [
        ("connection refused", None),
        ("no answer in time", Some(Reply::Silence)),
        ("answered 503", Some(Reply::Status(503, String::new()))),
    ] {
        match failure {
            None => backend.stop().await,
            Some(reply) => backend.set_reply(reply),
        }
        process.wait_for_metric("connector_identity_backend_up", 0.0).await;
        process.wait_for_metric("connector_breaker_open{backend=\"identity_backend\"}", 1.0).await;
        assert_eq!(process.readiness().await, "degraded", "{cause}");
        let line = process.wait_for_log("the identity backend does not answer: scans get a 500");
        assert!(line.contains(cause), "{line}");
        match cause {
            "connection refused" => backend.resume().await,
            _ => backend.set_reply(Reply::not_found()),
        }
        process.wait_for_metric("connector_identity_backend_up", 1.0).await;
        process.wait_for_log("the identity backend answers again");
    }
    assert_eq!(backend.requests().len(), 0, "no look-up requests for scans");
}

/// The backend's log shows one check every few seconds, and none while scans are answered.
#[apply(test)]
async fn a_backend_that_answers_is_checked_every_five_seconds() {
    let backend = Backend::start().await;
    let _server = backend.connector(&[]).await;
    wait_until("two checks", async || backend.made_up().len() >= 2).await;
    let checks = backend.made_up();
    assert!(checks[1].0 - checks[0].0 > Duration::from_secs(4), "{checks:?}");
    assert!(checks[0].1["value"] != checks[1].1["value"], "each check has a different key");
}
