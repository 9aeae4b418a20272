//! Two connectors on one PostgreSQL under load. The server and the connectors are killed and restarted at random
//! moments. Every answer that a client has received must be given again byte for byte, and no event may have two
//! sessions.

use crate::trials::{apply, with_postgres};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::checks::*;

use crate::support::{HASH_KEY, IDENTITY_KEYS, Postgres, Process, client, scan_with_key, sessions};

/// The number of times that PostgreSQL is killed, unless `CONNECTOR_TEST_KILLS` is set.
const KILLS: usize = 2;
/// The number of concurrent callers.
const CALLERS: usize = 8;
/// The time limit for scans to be answered again after a restart: 5 s, and a wide margin for a busy machine.
const RECOVERY: Duration = Duration::from_secs(30);

/// The pause of a gate before it retries.
const BACK_OFF: Duration = Duration::from_millis(20);

/// The status and body of a decision, as received.
type Decision = (u16, Vec<u8>);

/// All scans that were sent, by event id, with the decision if one was received.
type Sent = HashMap<String, (Value, Option<Decision>)>;

/// The state that the callers share.
struct Load {
    client: reqwest::Client,
    /// The addresses of the connectors, which change when one is restarted.
    connectors: Mutex<[String; 2]>,
    sent: Mutex<Sent>,
    decided: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    /// Sends a scan once. Returns the decision, if one is received.
    async fn ask(&self, api: &str, body: &Value) -> Option<Decision> {
        let url = format!("{api}{IDENTITY_KEYS}");
        let answer = self.client.post(url).body(retry(body).to_string()).timeout(RECOVERY).send().await.ok()?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.ok()?.to_vec();
        // After a restart of the database the machine may be busy, so 429 and 500 are allowed.
        assert!([200, 400, 401, 429, 500].contains(&status), "{status} {}: {body}", String::from_utf8_lossy(&bytes));
        (![429, 500].contains(&status)).then_some((status, bytes))
    }

    /// Sends a scan until its decision is received. Returns the decision.
    async fn decision_of(&self, api: &str, body: &Value) -> Decision {
        let began = Instant::now();
        loop {
            if let Some(decision) = self.ask(api, body).await {
                return decision;
            }
            assert!(began.elapsed() < RECOVERY, "not answered: {body}");
            tokio::time::sleep(BACK_OFF).await; // poll until the deadline
        }
    }

    /// Sends a scan to both connectors at the same time, repeatedly until it is decided, as a gate does. Stores the
    /// decision.
    async fn scan(&self, body: Value) {
        let event = event(&body);
        self.sent.lock().unwrap().insert(event.clone(), (body.clone(), None));
        while !self.is_over.load(Ordering::Relaxed) {
            let [first, second] = self.connectors.lock().unwrap().clone();
            let (first, second) = tokio::join!(self.ask(&first, &body), self.ask(&second, &body));
            let mut is_decided = false;
            for decision in [first, second].into_iter().flatten() {
                assert_ne!(decision.0, 400, "{event} is used only once");
                let mut sent = self.sent.lock().unwrap();
                let (_, known) = sent.get_mut(&event).unwrap();
                assert_eq!(*known.get_or_insert_with(|| decision.clone()), decision, "{body}");
                is_decided = true;
            }
            if is_decided {
                self.decided.fetch_add(1, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep(BACK_OFF).await;
        }
    }

    /// Sends scans until the test ends: entries, rejections, or entries and exits.
    async fn call(&self, caller: usize) {
        while !self.is_over.load(Ordering::Relaxed) {
            match caller % 3 {
                0 => self.scan(scan_with_key(b"valid_shopper_key")).await,
                1 => self.scan(scan_with_key(b"expired_payment_key")).await,
                _ => {
                    self.scan(scan_with_key(b"associate_key")).await;
                    self.scan(set(scan_with_key(b"associate_key"), "authEvent.location", "EXIT")).await;
                }
            }
        }
    }

    /// Asks both connectors for a decision again, which they can know only from the database.
    async fn assert_answered_again(&self, apis: &[String; 2], body: &Value, mut decision: Option<Decision>) {
        let mut again = body.clone();
        match decision {
            // Without the record, this request would be decided again, with another result.
            Some((401, _)) => again = set(again, "authEvent.timestamp", "2019-06-01T00:00:00Z"),
            // Without the record, this request would be denied because of its key.
            Some(_) => {
                let scan_with_other_key = set(body.clone(), "identityKey", base64("unknown_key"));
                assert_eq!(self.decision_of(&apis[0], &scan_with_other_key).await.0, 400, "{body}");
            }
            None => {}
        }
        for api in apis {
            let given = self.decision_of(api, &again).await;
            assert_eq!(*decision.get_or_insert_with(|| given.clone()), given, "{body}");
        }
    }

    /// Waits until more scans have been decided.
    async fn wait_for_decisions(&self) {
        let decided = || self.decided.load(Ordering::Relaxed);
        let enough = decided() + 2 * CALLERS;
        wait_until("scans are answered", async || decided() >= enough).await;
    }
}

fn event(body: &Value) -> String {
    body["authEvent"]["id"].as_str().unwrap().to_owned()
}

/// Varies the moment of a crash.
async fn random_pause() {
    let moment = rand::rng().random_range(20..400);
    tokio::time::sleep(Duration::from_millis(moment)).await;
}

async fn start(url: &str) -> Process {
    let unlimited = [("rate_limit.burst", "1000000000"), ("rate_limit.requests_per_second", "1000000000")];
    Process::demo(&[&unlimited[..], &[("storage.url", url), ("security.hash_key", HASH_KEY)]].concat()).await
}

#[apply(with_postgres)]
async fn crashes_lose_and_duplicate_no_record(postgres: Postgres) {
    let kills = std::env::var("CONNECTOR_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let url = postgres.database();
    let mut processes = [start(&url).await, start(&url).await];
    let load = Arc::new(Load {
        client: client(),
        connectors: Mutex::new(processes.each_ref().map(|process| process.api.clone())),
        sent: Mutex::default(),
        decided: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let load = Arc::clone(&load);
        callers.spawn(async move { load.call(caller).await });
    }
    for kill in 0..kills {
        load.wait_for_decisions().await;
        random_pause().await;
        postgres.kill();
        random_pause().await;
        postgres.restart();
        load.wait_for_decisions().await;
        // Then a connector is killed, alternately the first and the second, while the database runs.
        random_pause().await;
        let index = kill % 2;
        let killed = std::mem::replace(&mut processes[index], start(&url).await);
        killed.kill();
        load.connectors.lock().unwrap()[index].clone_from(&processes[index].api);
    }
    load.wait_for_decisions().await;
    load.is_over.store(true, Ordering::Relaxed);
    callers.join_all().await;

    // New connectors, which have no cached records.
    drop(processes);
    let processes = [start(&url).await, start(&url).await];
    let sent = Arc::new(std::mem::take(&mut *load.sent.lock().unwrap()));
    // Checked before any scan is repeated, since a repeated scan could open its session.
    assert_sessions(&sessions(&processes[0].management).await, &sent);
    assert_given_again(&load, &processes.each_ref().map(|process| process.api.clone()), &sent).await;
    assert_sessions(&sessions(&processes[1].management).await, &sent);
}

/// Asserts that no event has two sessions, and that every accepted event has one.
fn assert_sessions(sessions: &[Value], sent: &Sent) {
    for (member, location) in [("entry", "ENTRY"), ("exit", "EXIT")] {
        let events: Vec<_> = sessions.iter().filter_map(|session| session[member]["authEventId"].as_str()).collect();
        let distinct: BTreeSet<_> = events.iter().copied().collect();
        assert_eq!(events.len(), distinct.len(), "an {location} has two sessions");
        let accepted = sent.iter().filter(|(_, (body, decision))| {
            body["authEvent"]["location"] == location && matches!(decision, Some((200, _)))
        });
        for (event, _) in accepted {
            assert!(distinct.contains(event.as_str()), "the {location} {event} has no session");
        }
    }
}

/// Asserts that both connectors repeat every received answer, and agree on the scans whose answers were not received.
async fn assert_given_again(load: &Arc<Load>, apis: &[String; 2], sent: &Arc<Sent>) {
    let decided = sent.values().filter(|(_, decision)| decision.is_some()).count();
    assert!(decided > 2 * CALLERS, "only {decided} scans were answered");
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (load, apis, sent) = (Arc::clone(load), apis.clone(), Arc::clone(sent));
        callers.spawn(async move {
            for (body, decision) in sent.values().skip(caller).step_by(CALLERS) {
                load.assert_answered_again(&apis, body, decision.clone()).await;
            }
        });
    }
    callers.join_all().await;
}
