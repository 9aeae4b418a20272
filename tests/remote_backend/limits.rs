//! How much is asked at once, and that who goes away leaves nothing behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::scan_with_key;
use crate::{asking, came_to, context, shopper, until, verify};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_are_asked_at_once_than_there_are_places() {
    // A look-up holds its slot until its time-out of 1.2 s, and a made-up key is asked about beside it from half of that on. An attempt
    // counts if it ends before that.
    let kept = Duration::from_millis(550);
    assert_one_within(kept, "while all places are taken", async || {
        let backend = Backend::start().await;
        backend.always(Reply::OnceReleased(200, shopper().to_string()));
        let server =
            Arc::new(backend.connector(&[("directory.max_in_flight", "4"), ("directory.timeout", "1200ms")]).await);
        let began = Instant::now();
        let waiting: Vec<_> = (0..4)
            .map(|number| {
                let server = Arc::clone(&server);
                tokio::spawn(async move { verify(&server, &format!("first {number}")).await })
            })
            .collect();
        while backend.under_way() < 4 {
            if began.elapsed() > kept {
                return Duration::MAX;
            }
            tokio::time::sleep(Duration::from_millis(5)).await; // a poll towards the limit above
        }
        let in_flight = metric(&server, "connector_identity_backend_in_flight").await;
        let mut excess = Vec::new();
        for number in 0..5 {
            excess.push(verify(&server, &format!("excess {number}")).await);
        }
        let associate = verify(&server, "associate_key").await;
        backend.release();
        let took = began.elapsed();
        if took > kept {
            return took;
        }
        assert_eq!(in_flight, 4);
        excess.iter().for_each(|answer| assert_too_many(answer, "no place"));
        assert_granted(&associate, "associate-uuid-001", "ASSOCIATE", "needs no place");
        for answer in waiting {
            assert_granted(&answer.await.unwrap(), "v1", "SHOPPER", "who had a place");
        }
        assert_eq!((backend.most_under_way(), came_to(&server, "full").await), (4, 5));
        backend.always(Reply::json(&shopper()));
        assert_granted(&verify(&server, "excess 0").await, "v1", "SHOPPER", "there is room again");
        assert_eq!(metric(&server, "connector_identity_backend_in_flight").await, 0);
        took
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_beyond_the_places_passes_or_is_told_to_come_again() {
    let backend = Backend::start().await;
    backend.always(Reply::After(Duration::from_millis(5), 200, shopper().to_string()));
    let server = Arc::new(backend.connector(&[("directory.max_in_flight", "8")]).await);
    let bodies: Vec<_> = (0..200).map(|number| scan_with_key(format!("badge {number}").as_bytes())).collect();
    let answers = at_once(&server, bodies).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_too_many(answer, "no place");
    }
    assert!(passed >= 8 && backend.most_under_way() <= 8, "{passed} passed, {} at once", backend.most_under_way());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_hang_up_leave_their_places() {
    let backend = Backend::start().await;
    backend.always(Reply::Silence);
    let server =
        Arc::new(backend.connector(&[("directory.max_in_flight", "4"), ("directory.timeout", "1200ms")]).await);
    for round in 0..3 {
        let callers: Vec<_> = (0..4)
            .map(|number| {
                let server = Arc::clone(&server);
                tokio::spawn(async move { verify(&server, &format!("{round} {number}")).await })
            })
            .collect();
        until("all places are taken", async || backend.under_way() == 4).await;
        callers.iter().for_each(tokio::task::JoinHandle::abort);
        until("the backend sees them go", async || backend.under_way() == 0).await;
        until("their places are free", async || metric(&server, "connector_identity_backend_in_flight").await == 0)
            .await;
    }
    backend.always(Reply::json(&shopper()));
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "afterwards");
}

/// As the end of a process does, or a scan's own deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_up_that_is_dropped_gives_its_place_back_at_once() {
    let backend = Backend::start().await;
    backend.always(Reply::Silence);
    let directory = Arc::new(asking(&backend, Duration::ZERO));
    let look_up = |number: u8| {
        let directory = Arc::clone(&directory);
        async move { directory.identity_key(&format!("badge {number}"), &context(number)).await }
    };
    for round in 0..10 {
        let dropped: Vec<_> = (0..4).map(|number| tokio::spawn(look_up(round * 4 + number))).collect();
        until("all places are taken", async || backend.under_way() == 4).await;
        for look_up in dropped {
            look_up.abort();
            assert!(look_up.await.unwrap_err().is_cancelled());
        }
        assert_eq!(directory.remote().unwrap().in_flight(), 0);
        until("the backend sees them go", async || backend.under_way() == 0).await;
    }
    backend.always(Reply::json(&shopper()));
    assert!(look_up(200).await.unwrap().is_some());
}
