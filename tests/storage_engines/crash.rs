//! Two connectors on one PostgreSQL, under load, while it is killed and started again at random moments, and now and then one of
//! them too: every answer that somebody received is given again to the byte, and no event has two sessions.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rand::RngExt as _;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::checks::*;
use crate::engine::{on_a_postgres_of_its_own, properties};
use crate::support::{HASH_KEY, IDENTITY_KEYS, Postgres, Process, client, scan_with_key, sessions};

pub(crate) fn trials() -> Vec<Trial> {
    on_a_postgres_of_its_own(module_path!(), properties![two_connectors_lose_and_double_nothing])
}

/// How often PostgreSQL is killed; `CONNECTOR_TEST_KILLS` says otherwise.
const KILLS: usize = 3;
/// How many callers ask at the same time.
const CALLERS: usize = 8;
/// How long it may take after a start until scans are answered again: 5 s, and a wide margin for a busy machine.
const RECOVERY: Duration = Duration::from_secs(30);

/// How long a gate waits before it asks again.
const BACK_OFF: Duration = Duration::from_millis(20);

/// A decision as it was received.
type Decision = (u16, Vec<u8>);

/// Every scan that was sent, by its event, and its decision if one was received.
type Asked = HashMap<String, (Value, Option<Decision>)>;

/// What callers share.
struct Load {
    client: reqwest::Client,
    /// Where the connectors are: it changes when one is started again.
    connectors: Mutex<[String; 2]>,
    asked: Mutex<Asked>,
    decided: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    /// The decision, if one is received.
    async fn ask(&self, api: &str, body: &Value) -> Option<Decision> {
        let url = format!("{api}{IDENTITY_KEYS}");
        let answer = self.client.post(url).body(retry(body).to_string()).timeout(RECOVERY).send().await.ok()?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.ok()?.to_vec();
        // A database that has just come back may find the machine busy.
        assert!([200, 400, 401, 429, 500].contains(&status), "{status} {}: {body}", String::from_utf8_lossy(&bytes));
        (![429, 500].contains(&status)).then_some((status, bytes))
    }

    /// The decision, asked for until it is received.
    async fn is_told(&self, api: &str, body: &Value) -> Decision {
        let began = Instant::now();
        loop {
            if let Some(decision) = self.ask(api, body).await {
                return decision;
            }
            assert!(began.elapsed() < RECOVERY, "not answered: {body}");
            tokio::time::sleep(BACK_OFF).await; // a poll towards the deadline
        }
    }

    /// Sends a scan to both connectors at once, again and again until it is decided, as a gate does; keeps what comes of it.
    async fn scan(&self, body: Value) {
        let event = event(&body);
        self.asked.lock().unwrap().insert(event.clone(), (body.clone(), None));
        while !self.is_over.load(Ordering::Relaxed) {
            let [one, other] = self.connectors.lock().unwrap().clone();
            let (one, other) = tokio::join!(self.ask(&one, &body), self.ask(&other, &body));
            let mut is_decided = false;
            for decision in [one, other].into_iter().flatten() {
                assert_ne!(decision.0, 400, "nobody else has used {event}");
                let mut asked = self.asked.lock().unwrap();
                let (_, known) = asked.get_mut(&event).unwrap();
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

    /// Some enter, some are rejected, some enter and leave.
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

    /// Asks for a decision again, of which nothing is known but what is in the database.
    async fn asks_again(&self, apis: &[String; 2], body: &Value, mut decision: Option<Decision>) {
        let mut again = body.clone();
        match decision {
            // Were the record lost, this would be decided afresh and otherwise.
            Some((401, _)) => again = set(again, "authEvent.timestamp", "2019-06-01T00:00:00Z"),
            // Were it lost, this would be rejected for the key.
            Some(_) => {
                let other = set(body.clone(), "identityKey", base64("unknown_key"));
                assert_eq!(self.is_told(&apis[0], &other).await.0, 400, "{body}");
            }
            None => {}
        }
        for api in apis {
            let given = self.is_told(api, &again).await;
            assert_eq!(*decision.get_or_insert_with(|| given.clone()), given, "{body}");
        }
    }

    /// Waits until more scans are decided.
    async fn goes_on(&self) {
        let (began, before) = (Instant::now(), self.decided.load(Ordering::Relaxed));
        while self.decided.load(Ordering::Relaxed) < before + 2 * CALLERS {
            assert!(began.elapsed() < RECOVERY, "no scan is answered");
            tokio::time::sleep(Duration::from_millis(20)).await; // a poll towards the deadline
        }
    }
}

fn event(body: &Value) -> String {
    body["authEvent"]["id"].as_str().unwrap().to_owned()
}

/// The moment of a crash is what varies.
async fn a_while() {
    let moment = rand::rng().random_range(20..400);
    tokio::time::sleep(Duration::from_millis(moment)).await;
}

async fn start(url: &str) -> Process {
    let unlimited = [("rate_limit.burst", "1000000000"), ("rate_limit.requests_per_second", "1000000000")];
    Process::demo(&[&unlimited[..], &[("storage.url", url), ("security.hash_key", HASH_KEY)]].concat()).await
}

async fn two_connectors_lose_and_double_nothing(postgres: Postgres) {
    let kills = std::env::var("CONNECTOR_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let url = postgres.database();
    let mut processes = [start(&url).await, start(&url).await];
    let load = Arc::new(Load {
        client: client(),
        connectors: Mutex::new(processes.each_ref().map(|process| process.api.clone())),
        asked: Mutex::default(),
        decided: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let load = Arc::clone(&load);
        callers.spawn(async move { load.call(caller).await });
    }
    for kill in 0..kills {
        load.goes_on().await;
        a_while().await;
        postgres.kill();
        a_while().await;
        postgres.restart();
        load.goes_on().await;
        // A connector too, the one or the other in turn, while the database stands.
        a_while().await;
        let place = kill % 2;
        let killed = std::mem::replace(&mut processes[place], start(&url).await);
        killed.kill();
        load.connectors.lock().unwrap()[place].clone_from(&processes[place].api);
    }
    load.goes_on().await;
    load.is_over.store(true, Ordering::Relaxed);
    callers.join_all().await;

    // By connectors that know nothing but what is in the database.
    drop(processes);
    let processes = [start(&url).await, start(&url).await];
    let asked = Arc::new(std::mem::take(&mut *load.asked.lock().unwrap()));
    // Before anybody asks again, since a scan asked again opens its session.
    assert_sessions(&sessions(&processes[0].management).await, &asked);
    assert_given_again(&load, &processes.each_ref().map(|process| process.api.clone()), &asked).await;
    assert_sessions(&sessions(&processes[1].management).await, &asked);
}

/// No event has two sessions, and none that was accepted is without.
fn assert_sessions(sessions: &[Value], asked: &Asked) {
    for (member, location) in [("entry", "ENTRY"), ("exit", "EXIT")] {
        let events: Vec<_> = sessions.iter().filter_map(|session| session[member]["authEventId"].as_str()).collect();
        let distinct: BTreeSet<_> = events.iter().copied().collect();
        assert_eq!(events.len(), distinct.len(), "an {location} has two sessions");
        let accepted = asked.iter().filter(|(_, (body, decision))| {
            body["authEvent"]["location"] == location && matches!(decision, Some((200, _)))
        });
        for (event, _) in accepted {
            assert!(distinct.contains(event.as_str()), "the {location} {event} has lost its session");
        }
    }
}

/// Both connectors give every answer again, and agree on what nobody was told.
async fn assert_given_again(load: &Arc<Load>, apis: &[String; 2], asked: &Arc<Asked>) {
    let decided = asked.values().filter(|(_, decision)| decision.is_some()).count();
    assert!(decided > 2 * CALLERS, "only {decided} scans were answered");
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (load, apis, asked) = (Arc::clone(load), apis.clone(), Arc::clone(asked));
        callers.spawn(async move {
            for (body, decision) in asked.values().skip(caller).step_by(CALLERS) {
                load.asks_again(&apis, body, decision.clone()).await;
            }
        });
    }
    callers.join_all().await;
}
