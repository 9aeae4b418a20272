//! The API contract's "one atomic step": simultaneous requests for one scan get the same bytes, and no effect happens
//! twice.

use crate::trials::{apply, on_every_engine};
use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::{
    checks::*,
    support::{Answer, Server, scan},
};

async fn open_and_closed(server: &Server) -> (usize, usize) {
    let sessions = server.sessions().await;
    let of = |state: &str| sessions.iter().filter(|session| session["state"] == state).count();
    assert_eq!(of("open") + of("closed"), sessions.len());
    (of("open"), of("closed"))
}

#[apply(on_every_engine)]
async fn sixty_four_identical_requests_get_the_same_bytes_and_open_one_session(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    let answers = verify_until_decided(&server, vec![scan(); 64]).await;
    assert_all_same(&answers);
    assert_granted(&answers[0], "shopper-uuid-001", "SHOPPER", "one of 64");
    assert_eq!(server.sessions().await.len(), 1);
}

#[apply(on_every_engine)]
async fn sixty_four_retries_with_their_own_request_ids_are_one_scan(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    let body = scan_of(&new_id(), "device_shopper_key");
    let answers = verify_until_decided(&server, (0..64).map(|_| retry(&body)).collect()).await;
    assert_all_same(&answers);
    assert_eq!(answers[0].json()["shopperDeviceId"], "device-abc-123");
    assert_eq!(server.sessions().await.len(), 1);
}

#[apply(on_every_engine)]
async fn retries_that_differ_in_irrelevant_members_are_one_scan(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    let event = new_id();
    let bodies = (0..64).map(|number: usize| {
        let event = if number.is_multiple_of(2) { event.to_lowercase() } else { event.to_uppercase() };
        // For some of the timestamps the payment method would be expired.
        let time = format!("{}-01-01T00:00:00Z", if number.is_multiple_of(3) { 2024 } else { 2100 });
        let body = set(retry(&scan_of(&event, "valid_shopper_key")), "authEvent.timestamp", time);
        set(body, "keyChannel", ["OPTICAL", "RADIO"][number % 2])
    });
    let answers = verify_until_decided(&server, bodies.collect()).await;
    assert_all_same(&answers);
    let expected = usize::from(answers[0].status == 200);
    assert_eq!(server.sessions().await.len(), expected);
}

#[apply(on_every_engine)]
async fn simultaneous_rejections_are_the_same(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    let body = scan_of(&new_id(), "unknown_key");
    let answers = verify_until_decided(&server, (0..64).map(|_| retry(&body)).collect()).await;
    assert_all_same(&answers);
    assert_refused(&answers[0], 401, KEY_NOT_FOUND, "one of 64");
    assert!(server.sessions().await.is_empty());
}

/// Sends competing acceptances of one event. Asserts that all copies of a request got one answer. Returns the accepted
/// answer.
async fn race(server: &Arc<Server>, requests: &[Value]) -> Answer {
    let bodies: Vec<_> = (0..16).flat_map(|_| requests.iter().map(retry)).collect();
    let answers = verify_until_decided(server, bodies).await;
    let mut winner = None;
    for (index, request) in requests.iter().enumerate() {
        let own: Vec<_> = answers.iter().skip(index).step_by(requests.len()).collect();
        let distinct: BTreeSet<_> = own.iter().map(|answer| (answer.status, &answer.body)).collect();
        assert_eq!(distinct.len(), 1, "{request}: {distinct:?}");
        match own[0].status {
            200 => assert!(winner.replace(index).is_none(), "two acceptances"),
            _ => assert_refused(own[0], 400, ALREADY_USED, &request.to_string()),
        }
    }
    server.verify(&requests[winner.expect("one request is accepted")]).await
}

#[apply(on_every_engine)]
async fn one_of_two_shoppers_of_one_event_is_accepted(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    for round in 1..=4 {
        let event = new_id();
        let requests = ["valid_shopper_key", "associate_key"].map(|key| scan_of(&event, key));
        let winner = race(&server, &requests).await;
        assert_eq!(winner.status, 200);
        let sessions = server.sessions().await;
        assert_eq!(sessions.len(), round);
        let of_event =
            |session: &&Value| session["entry"]["authEventId"].as_str().unwrap().eq_ignore_ascii_case(&event);
        let session = sessions.iter().find(of_event).expect("the event has a session");
        assert_eq!(session["visitor"], winner.json()["visitorDetails"]);
    }
}

#[apply(on_every_engine)]
async fn one_of_two_stores_or_locations_of_one_event_is_accepted(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    for (path, values) in [("storeId", ["STORE-001", "STORE-002"]), ("authEvent.location", ["ENTRY", "EXIT"])] {
        for _ in 0..4 {
            let body = scan_of(&new_id(), "valid_shopper_key");
            let requests = values.map(|value| set(body.clone(), path, value));
            assert_granted(&race(&server, &requests).await, "shopper-uuid-001", "SHOPPER", path);
        }
    }
}

#[apply(on_every_engine)]
async fn racing_acceptance_and_rejection_are_answered_consistently(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    for round in 1..=4 {
        let event = new_id();
        let requests = ["valid_shopper_key", "unknown_key"].map(|key| scan_of(&event, key));
        let bodies: Vec<_> = (0..16).flat_map(|_| requests.iter().map(retry)).collect();
        let answers = verify_until_decided(&server, bodies).await;
        let (accepted, rejected): (Vec<_>, Vec<_>) =
            answers.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
        let only = |answers: Vec<(usize, Answer)>| answers.into_iter().map(|(_, answer)| answer).collect::<Vec<_>>();
        let (accepted, rejected) = (only(accepted), only(rejected));
        assert_all_same(&accepted);
        assert_granted(&accepted[0], "shopper-uuid-001", "SHOPPER", "the acceptance");
        assert_all_same(&rejected);
        match rejected[0].status {
            401 => assert_refused(&rejected[0], 401, KEY_NOT_FOUND, "rejected before the acceptance"),
            _ => assert_refused(&rejected[0], 400, ALREADY_USED, "rejected after the acceptance"),
        }
        let again = server.verify(&requests[1]).await;
        assert_eq!((again.status, again.body), (rejected[0].status, rejected[0].body.clone()));
        assert_eq!(server.sessions().await.len(), round);
    }
}

#[apply(on_every_engine)]
async fn simultaneous_guesses_for_one_event_get_eight_rejections(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    let event = new_id();
    let guesses: Vec<_> = (0..32).map(|number| scan_of(&event, &format!("guess {number}"))).collect();
    let first = verify_until_decided(&server, guesses.clone()).await;
    let rejected = first.iter().filter(|answer| answer.status == 401).count();
    assert_eq!(rejected, 8);
    let again = verify_concurrently(&server, guesses).await;
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((first.status, &first.body), (again.status, &again.body));
    }
}

#[apply(on_every_engine)]
async fn simultaneous_exits_of_one_event_close_one_session(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    for _ in 0..3 {
        server.verify(&scan()).await;
    }
    let exit = scan_with("authEvent.location", "EXIT");
    let answers = verify_until_decided(&server, (0..64).map(|_| retry(&exit)).collect()).await;
    assert_all_same(&answers);
    assert_granted(&answers[0], "shopper-uuid-001", "SHOPPER", "one of 64");
    assert_eq!(open_and_closed(&server).await, (2, 1));
}

#[apply(on_every_engine)]
async fn simultaneous_exits_of_different_events_each_close_a_session(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    for _ in 0..24 {
        server.verify(&scan()).await;
    }
    let exits = (0..16).map(|_| scan_with("authEvent.location", "EXIT")).collect();
    let answers = verify_until_decided(&server, exits).await;
    assert_all_same(&answers);
    assert_eq!(open_and_closed(&server).await, (8, 16));
    let sessions = server.sessions().await;
    let exits: BTreeSet<_> = sessions.iter().filter_map(|session| session["exit"]["authEventId"].as_str()).collect();
    assert_eq!(exits.len(), 16, "each exit closed another session");
}

#[apply(on_every_engine)]
async fn simultaneous_scans_of_different_events_each_open_a_session(engine: Engine) {
    let server = Arc::new(engine.demo(&[]).await);
    let answers = verify_until_decided(&server, (0..50).map(|_| scan()).collect()).await;
    assert_all_same(&answers);
    let sessions = server.sessions().await;
    let ids: BTreeSet<_> = sessions.iter().map(|session| session["id"].to_string()).collect();
    assert_eq!((sessions.len(), ids.len()), (50, 50));
    assert_eq!(open_and_closed(&server).await, (50, 0));
    assert_eq!(json!(sessions[0]["visitor"]), json!({ "id": "shopper-uuid-001", "type": "SHOPPER" }));
}
