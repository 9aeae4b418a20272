//! Recorded events, numbered from 0 on, so that the load can send any of them again; and how they are recorded.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::connector::Connector;
use crate::conversation::{Conversation, scan};
use crate::keys::Keys;

/// The factor that spreads event numbers over all ids. It is odd, so that no two ids are equal, and its product with
/// ten million fits into the 53 bits of a number in Lua.
pub(crate) const SPREAD: u64 = 331_804_471;
/// The number of scans that are sent together.
const PIPELINED: u64 = 64;
/// The number of events after which the log is truncated.
const TRUNCATE_LOG_AFTER: u64 = 500_000;

/// A set of recorded events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    /// The keys, used in turn.
    pub(crate) keys: Keys,
    pub(crate) events: u64,
    /// 1: every event is an entry. 2: every second event is the exit after the entry before it.
    pub(crate) scans_of_a_visit: u64,
}

/// The id of an event; the same as in `rows.rs` and `scan.lua`.
pub(crate) fn id(event: u64) -> String {
    format!("{:08x}-0000-4000-8000-{event:012x}", (event * SPREAD) & 0xffff_ffff)
}

/// The key of a scan.
pub(crate) enum Shown {
    /// A known key at this location; event 0 has the first key, and so on.
    Known { keys: Keys, location: &'static str },
    /// An unknown key.
    Unknown,
}

/// Makes a connector decide these events, and returns the longest time for the answers to [`PIPELINED`] scans.
pub(crate) fn decide(connector: &Connector, events: Range<u64>, shown: &Shown) -> Duration {
    let mut conversation = Conversation::begin(connector.api);
    let mut longest = Duration::ZERO;
    let mut next = events.start;
    while next < events.end {
        let some = next..events.end.min(next + PIPELINED);
        let scans: String = some.clone().map(|event| shown.scan(event)).collect();
        let began = Instant::now();
        conversation.send(&scans);
        for _ in some.clone() {
            let answer = conversation.receive();
            assert!(answer[0].contains(shown.status()), "{answer:?}");
        }
        longest = longest.max(began.elapsed());
        if some.start / TRUNCATE_LOG_AFTER != some.end / TRUNCATE_LOG_AFTER {
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
            Self::Unknown => scan("c3RyYW5nZXI=", &id(event), "ENTRY"),
        }
    }

    fn status(&self) -> &'static str {
        match self {
            Self::Known { .. } => " 200 ",
            Self::Unknown => " 401 ",
        }
    }
}
