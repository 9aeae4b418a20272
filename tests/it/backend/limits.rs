//! The limit of concurrent look-up requests. Cancelled scans release their permits.

use crate::trials::{apply, test};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{context, directory_with_backend, lookup_count, shopper, verify};
use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::{scan_with_key, wait_until};

#[apply(test)]
async fn concurrent_lookup_requests_are_limited() {
    // Each look-up holds its permit until its time-out of 1.2 s. After half of that the connector also asks about a
    // made-up key, which would disturb the counts, so an attempt counts only if it ends before.
    let limit = Duration::from_millis(550);
    assert_one_within(limit, "while all permits are in use", async || {
        let backend = Backend::start().await;
        backend.set_reply(Reply::OnceReleased(200, shopper().to_string()));
        let server =
            Arc::new(backend.connector(&[("directory.max_in_flight", "4"), ("directory.timeout", "1200ms")]).await);
        let began = Instant::now();
        let waiting: Vec<_> = (0..4)
            .map(|number| {
                let server = Arc::clone(&server);
                tokio::spawn(async move { verify(&server, &format!("first {number}")).await })
            })
            .collect();
        while backend.in_flight() < 4 {
            if began.elapsed() > limit {
                return Duration::MAX;
            }
            tokio::time::sleep(Duration::from_millis(5)).await; // poll until the limit
        }
        let in_flight = metric(&server, "connector_identity_backend_in_flight").await;
        let mut excess = Vec::new();
        for number in 0..5 {
            excess.push(verify(&server, &format!("excess {number}")).await);
        }
        let associate = verify(&server, "associate_key").await;
        backend.release();
        let took = began.elapsed();
        if took > limit {
            return took;
        }
        assert_eq!(in_flight, 4);
        excess.iter().for_each(|answer| assert_too_many(answer, "no permit is free"));
        assert_granted(&associate, "associate-uuid-001", "ASSOCIATE", "a key of the directory needs no permit");
        for answer in waiting {
            assert_granted(&answer.await.unwrap(), "v1", "SHOPPER", "a look-up with a permit");
        }
        assert_eq!((backend.max_in_flight(), lookup_count(&server, "full").await), (4, 5));
        backend.set_reply(Reply::json(&shopper()));
        assert_granted(&verify(&server, "excess 0").await, "v1", "SHOPPER", "a permit is free again");
        assert_eq!(metric(&server, "connector_identity_backend_in_flight").await, 0);
        took
    })
    .await;
}

#[apply(test)]
async fn scans_above_the_limit_pass_or_get_429() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::After(Duration::from_millis(5), 200, shopper().to_string()));
    let server = Arc::new(backend.connector(&[("directory.max_in_flight", "8")]).await);
    let bodies: Vec<_> = (0..200).map(|number| scan_with_key(format!("badge {number}").as_bytes())).collect();
    let answers = verify_concurrently(&server, bodies).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_too_many(answer, "no permit is free");
    }
    assert!(
        passed >= 8 && backend.max_in_flight() <= 8,
        "{passed} scans passed, {} look-ups at the same time",
        backend.max_in_flight()
    );
}

#[apply(test)]
async fn disconnected_callers_release_their_permits() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::Silence);
    let server =
        Arc::new(backend.connector(&[("directory.max_in_flight", "4"), ("directory.timeout", "1200ms")]).await);
    for round in 0..2 {
        let callers: Vec<_> = (0..4)
            .map(|number| {
                let server = Arc::clone(&server);
                tokio::spawn(async move { verify(&server, &format!("{round} {number}")).await })
            })
            .collect();
        wait_until("all permits are in use", async || backend.in_flight() == 4).await;
        callers.iter().for_each(tokio::task::JoinHandle::abort);
        wait_until("the backend sees the connections close", async || backend.in_flight() == 0).await;
        wait_until("the permits are released", async || {
            metric(&server, "connector_identity_backend_in_flight").await == 0
        })
        .await;
    }
    backend.set_reply(Reply::json(&shopper()));
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "the permits are free again");
}

/// Look-ups are dropped when the process ends or the scan's deadline passes.
#[apply(test)]
async fn dropped_lookup_releases_its_permit_immediately() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::Silence);
    let directory = Arc::new(directory_with_backend(&backend, Duration::ZERO));
    let look_up = |number: u8| {
        let directory = Arc::clone(&directory);
        async move { directory.identity_key(&format!("badge {number}"), &context(number)).await }
    };
    for round in 0..3 {
        let dropped: Vec<_> = (0..4).map(|number| tokio::spawn(look_up(round * 4 + number))).collect();
        wait_until("all permits are in use", async || backend.in_flight() == 4).await;
        for look_up in dropped {
            look_up.abort();
            assert!(look_up.await.unwrap_err().is_cancelled());
        }
        assert_eq!(directory.backend().unwrap().in_flight(), 0);
        wait_until("the backend sees the connections close", async || backend.in_flight() == 0).await;
    }
    backend.set_reply(Reply::json(&shopper()));
    assert!(look_up(200).await.unwrap().is_some());
}
