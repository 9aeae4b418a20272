//! Events that are remembered, numbered from 0 on, so that the load can ask for any of them again; and how a connector comes to remember them.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::connector::Connector;
use crate::conversation::{Conversation, scan};
use crate::keys::Keys;

/// By which numbers are spread over all ids: odd, so that no two meet, and so small that a number of the load's, which has 53 bits, holds the
/// product with ten million.
pub(crate) const SPREAD: u64 = 331_804_471;
/// How many are asked for at once.
const AT_ONCE: u64 = 64;
/// After how many the log is emptied.
const PAGE: u64 = 500_000;

/// Which events those are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    /// By which keys in turn.
    pub(crate) keys: Keys,
    pub(crate) events: u64,
    /// 1: each is an entry. 2: each second one is the exit of whoever has come in.
    pub(crate) scans_of_a_visit: u64,
}

/// As `rows.rs` and `scan.lua` have it.
pub(crate) fn id(event: u64) -> String {
    format!("{:08x}-0000-4000-8000-{event:012x}", (event * SPREAD) & 0xffff_ffff)
}

/// What is shown at the gate.
pub(crate) enum Shown {
    /// A key that is known, at an entry or an exit: at event 0 the first of these, and so on.
    Known { keys: Keys, location: &'static str },
    /// Something that nobody knows.
    Stranger,
}

/// Has a connector decide these events; how long it took at most for any of them, and those beside it.
pub(crate) fn decide(connector: &Connector, events: Range<u64>, shown: &Shown) -> Duration {
    let mut conversation = Conversation::begin(connector.api);
    let mut longest = Duration::ZERO;
    let mut next = events.start;
    while next < events.end {
        let some = next..events.end.min(next + AT_ONCE);
        let scans: String = some.clone().map(|event| shown.scan(event)).collect();
        let began = Instant::now();
        conversation.send(&scans);
        for _ in some.clone() {
            let answer = conversation.receive();
            assert!(answer[0].contains(shown.status()), "{answer:?}");
        }
        longest = longest.max(began.elapsed());
        if some.start / PAGE != some.end / PAGE {
            connector.empty_log();
        }
        next = some.end;
    }
    longest
}

impl Shown {
    fn scan(&self, event: u64) -> String {
        match self {
            Self::Known { keys, location } => scan(&keys.encoded(event % keys.number), &id(event), location),
            Self::Stranger => scan("c3RyYW5nZXI=", &id(event), "ENTRY"),
        }
    }

    fn status(&self) -> &'static str {
        match self {
            Self::Known { .. } => " 200 ",
            Self::Stranger => " 401 ",
        }
    }
}
