//! The use case: a scan comes in, a verdict goes out. Knows no HTTP.
//!
//! *Decide, then record; records never change.* Deciding has no side effect, so it may be done again for a scan that was decided before:
//! recording finds what stands, and that is the answer. Recording is one step that is never cancelled once begun, and never
//! begun once the time is up.
//!
//! A scan is worked on to its end, whoever has hung up meanwhile: what was begun for it, at a backend that asks for no less, is not given up
//! half way, and its place is not another's before.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};

use crate::breaker::Subject;
use crate::digest::{Digest, Fingerprint, HashKey};
use crate::directory::{Asker, Directory, DirectoryError, Registration};
use crate::domain::decision::{Decision, Denial, decide};
use crate::domain::identity_key::{Presented, unregistered};
use crate::domain::ids::StoreId;
use crate::domain::scan::Scan;
use crate::domain::scan_key_code::{NETWORK_ALLOWANCE, ScanKeyCode, ScanKeyFormat};
use crate::domain::store::{ScanKeyWindow, Store};
use crate::domain::visitor::Holder;
use crate::ledger::{Ledger, LedgerError, Lookup, NewRecord, Record, Recorded};
use crate::metrics::Metrics;
use crate::traces::{in_current_trace, step};

/// How long a scan waits while the ledger is slow. It gets a 500 then and is worked on to its end. A gate has six seconds for all its
/// attempts: so it asks again soon after the decision is written.
const PATIENCE_WHILE_SLOW: Duration = Duration::from_millis(500);

/// What the connector says to a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is decided, and the record stands.
    Decided {
        /// The record from which every retry is answered.
        record: Record,
        /// Whether it stood before this scan came.
        replay: bool,
    },
    /// It was not decided, and nothing is recorded.
    Refused(Refusal),
}

/// Why a scan is not decided: the sender's doing, or a limit of ours that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such store, or a disabled one at its entry.
    UnknownStore,
    /// The auth event was decided with other parameters.
    EventReused,
    /// The ledger has no room, and may have some after this time.
    LedgerFull(TimeDelta),
    /// What is to be asked, or written to, has as much to do as it can.
    Busy,
}

/// A fault on our side: nothing was recorded that this scan could know of, and a retry reaches the true decision.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The directory could not tell.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The ledger could not tell or could not be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The decision came after the time was up, so recording it was not begun.
    #[error("decided too late to be recorded")]
    TooLate,
    /// Deciding or recording panicked. What it choked on is not repeated.
    #[error("deciding or recording panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// What a connector is made of.
#[derive(Debug)]
pub struct Connector {
    /// Who is known.
    pub directory: Arc<Directory>,
    /// What was decided.
    pub ledger: Arc<Ledger>,
    /// Under which fingerprints are kept.
    pub hash_key: HashKey,
    /// How the retailer's Scan Key Codes look; without it, every code is refused.
    pub scan_key: Option<ScanKeyFormat>,
    /// Whether a Scan Key Code opens one auth event only.
    pub single_use: bool,
    /// Whether answers tell the payment source.
    pub tell_payment_source: bool,
    /// What is counted.
    pub metrics: Metrics,
}

impl Connector {
    /// The record of a scan, if this process remembers it: at no cost, for when there is no room for more.
    #[must_use]
    pub fn recall(&self, scan: &Scan, now: DateTime<Utc>) -> Option<Record> {
        match self.ledger.recall(scan.event.id, &self.fingerprint(scan), now) {
            Lookup::Recorded(record) => Some(record),
            Lookup::Mismatch | Lookup::Unknown => None,
        }
    }

    /// Answers a scan: from its record if there is one, else by deciding and recording.
    ///
    /// That goes on when nobody waits for it any more, but is not decided after `deadline`, and recording is not begun after that. What is
    /// handed over as `place` is dropped when all of it is done.
    ///
    /// # Errors
    /// When the fault is on our side.
    pub async fn verify(
        self: &Arc<Self>,
        scan: Scan,
        now: DateTime<Utc>,
        deadline: Instant,
        place: impl Send + 'static,
    ) -> Result<Verdict, VerifyError> {
        let fingerprint = self.fingerprint(&scan);
        // One that does not match says nothing yet: whether the store is known is told before whether the event is.
        if let Lookup::Recorded(record) = self.ledger.recall(scan.event.id, &fingerprint, now) {
            return Ok(Verdict::Decided { record, replay: true });
        }
        let connector = Arc::clone(self);
        let mut work = Box::pin(async move { (connector.work(&scan, fingerprint, now, deadline).await, place) });
        let (verdict, _place) = match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            Poll::Ready(done) => done,
            // What has to wait is a task of its own from here on, so that neither a caller who hangs up nor the deadline cancels what has begun.
            // While somebody waits, the place comes back with the verdict, and not before: who waits for it is woken last, and so runs next.
            Poll::Pending => {
                let working = tokio::spawn(in_current_trace(work));
                if !self.ledger.is_slow() {
                    working.await?
                } else if let Ok(done) = timeout(PATIENCE_WHILE_SLOW, working).await {
                    done?
                } else {
                    return Err(LedgerError::Slow.into());
                }
            }
        };
        verdict
    }

    async fn work(
        &self,
        scan: &Scan,
        fingerprint: Fingerprint,
        now: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Verdict, VerifyError> {
        let decided = timeout_at(deadline, self.decide(scan, now, fingerprint.into(), deadline));
        let decided = decided.await.map_err(|_| VerifyError::TooLate)?;
        if let Ok(Some((store_id, decision))) = decided {
            // Recording finds what stands already, so nothing need be looked up before.
            let code = self.code_to_use_up(scan);
            let entry = NewRecord { event: scan.event, fingerprint, store_id, decision, code };
            return self.record(entry, now, deadline).await;
        }
        if let Err(DirectoryError::Busy) = decided {
            return Ok(Verdict::Refused(Refusal::Busy)); // at once: to ask elsewhere would only make more to do
        }
        // What cannot be decided any more may have been decided before.
        match step("ledger.find", self.ledger.find(scan.event.id, &fingerprint, now)).await {
            Ok(Lookup::Recorded(record)) => Ok(Verdict::Decided { record, replay: true }),
            Ok(Lookup::Mismatch) if decided.is_err() => Ok(Verdict::Refused(Refusal::EventReused)),
            Ok(Lookup::Mismatch | Lookup::Unknown) => {
                decided.map(|_| Verdict::Refused(Refusal::UnknownStore)).map_err(Into::into)
            }
            Err(LedgerError::Busy) => Ok(Verdict::Refused(Refusal::Busy)),
            Err(error) => Err(error.into()),
        }
    }

    fn fingerprint(&self, scan: &Scan) -> Fingerprint {
        self.hash_key.fingerprint(&scan.identity_key, &scan.store_id, scan.event.location)
    }

    /// What the rules say of a scan, and the store's own copy of its name: shared, where the scan's would be one more for every
    /// record. `None` when there is no such store, or a disabled one at its entry.
    async fn decide(
        &self,
        scan: &Scan,
        now: DateTime<Utc>,
        subject: Subject,
        deadline: Instant,
    ) -> Result<Option<(StoreId, Decision)>, DirectoryError> {
        let store = step("directory.store", self.directory.store(&scan.store_id, subject)).await?;
        let Some(store) = store.filter(|store| store.serves(scan.event.location)) else { return Ok(None) };
        let asker = Asker { subject, store: store.id.clone(), channel: scan.channel, deadline };
        let decision = match self.identify(scan, &store, now, &asker).await? {
            Ok(holder) => decide(&scan.event, &store, holder, self.tell_payment_source),
            Err(denial) => Decision::Denied(denial),
        };
        Ok(Some((store.id.clone(), decision)))
    }

    /// From key to shopper, the first rule that applies. Everything here is answered with 401, never with an error that the
    /// key itself provokes.
    async fn identify(
        &self,
        scan: &Scan,
        store: &Store,
        now: DateTime<Utc>,
        asker: &Asker,
    ) -> Result<Result<Holder, Denial>, DirectoryError> {
        let (registration, unknown) = match scan.identity_key.presented() {
            Presented::Unreadable => return Ok(Err(Denial::InvalidKey)),
            Presented::ScanKeyCode(text) => {
                let Some(code) = self.scan_key.as_ref().and_then(|format| format.read(text)) else {
                    return Ok(Err(Denial::InvalidKey));
                };
                self.metrics.code_read(code.age_at(scan.event.timestamp));
                match code.check_age(scan.event.timestamp, store.scan_key_window) {
                    Err(Denial::KeyExpired) if self.is_promised(&code, scan, now, asker.subject).await? => {}
                    Err(denial) => return Ok(Err(denial)),
                    Ok(()) => {}
                }
                let found = self.directory.recognition_token(&code.token, now, asker);
                (step("directory.recognition_token", found).await?, Denial::KeyNotFound)
            }
            Presented::Key(text) => {
                let found = self.directory.identity_key(text, asker);
                (step("directory.identity_key", found).await?, unregistered(text))
            }
        };
        Ok(match registration {
            None => Err(unknown),
            Some(Registration::Revoked) => Err(Denial::InvalidKey),
            Some(Registration::Active { holder, channel }) => match (channel, scan.channel) {
                (Some(only), Some(given)) if only != given => Err(Denial::InvalidKey),
                _ => Ok(holder),
            },
        })
    }

    /// Whether an app was told that its code is valid until the event, though the store's window is shorter: the windows of disabled
    /// stores do not count when a code is made, and a window may have been changed since.
    async fn is_promised(
        &self,
        code: &ScanKeyCode<'_>,
        scan: &Scan,
        now: DateTime<Utc>,
        subject: Subject,
    ) -> Result<bool, DirectoryError> {
        let event_at = scan.event.timestamp;
        if code.check_age(event_at, ScanKeyWindow::LONGEST).is_err() {
            return Ok(false); // no code is promised for longer, so none of that age is looked up
        }
        let until = step("directory.promised_until", self.directory.promised_until(&code.token, now, subject)).await?;
        let last = until.and_then(|until| until.checked_add_signed(NETWORK_ALLOWANCE));
        Ok(last.is_some_and(|last| event_at <= last))
    }

    /// The code that the scan uses up if it is accepted; whether it is used up already only the ledger can tell. A code that is
    /// signed with another key is the same code.
    fn code_to_use_up(&self, scan: &Scan) -> Option<Digest> {
        match (scan.identity_key.presented(), &self.scan_key) {
            (Presented::ScanKeyCode(code), Some(format)) if self.single_use => {
                Some(self.hash_key.used_code(format.unsigned(code)))
            }
            _ => None,
        }
    }

    async fn record(&self, entry: NewRecord, now: DateTime<Utc>, deadline: Instant) -> Result<Verdict, VerifyError> {
        if Instant::now() >= deadline {
            return Err(VerifyError::TooLate);
        }
        let (store_id, lag) = (entry.store_id.clone(), now.signed_duration_since(entry.event.timestamp));
        let recorded = step("ledger.record", self.ledger.record(entry, now, deadline)).await?;
        if let Recorded::New(record) = &recorded {
            self.metrics.decided(&store_id, &record.decision, lag);
        }
        Ok(match recorded {
            Recorded::New(record) => Verdict::Decided { record, replay: false },
            Recorded::Replay(record) => Verdict::Decided { record, replay: true },
            Recorded::Mismatch => Verdict::Refused(Refusal::EventReused),
            Recorded::Full { retry_after } => Verdict::Refused(Refusal::LedgerFull(retry_after)),
            Recorded::Busy => Verdict::Refused(Refusal::Busy),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::directory::{Fault, Faults, FaultsByKey, file};
    use crate::domain::identity_key::IdentityKey;
    use crate::domain::ids::EventId;
    use crate::domain::scan::{AuthEvent, Location};
    use crate::ledger::{Limits, MemoryLedger};

    const DIRECTORY: &str = r#"{
        "stores": [{ "id": "S" }],
        "shoppers": [{ "id": "v", "type": "SHOPPER" }],
        "identityKeys": [{ "key": "a", "shopper": "v" }]
    }"#;

    async fn connector(fault: Option<Fault>) -> Arc<Connector> {
        let hash_key = HashKey::new(&[0; 32]);
        let loaded = file::parse(DIRECTORY, "test", &hash_key, false).expect("sound");
        let directory = Directory::in_memory(hash_key.clone());
        directory.apply(loaded.changes, DateTime::UNIX_EPOCH).await.expect("applied");
        let faults = Faults::default();
        faults.set(fault);
        let limits =
            Limits { retention: TimeDelta::days(7), capacity: 10, cache: 0, session_max_age: TimeDelta::hours(24) };
        Arc::new(Connector {
            directory: Arc::new(directory.with_faults(FaultsByKey::new(faults, loaded.faults))),
            ledger: Arc::new(Ledger::Memory(MemoryLedger::new(limits))),
            hash_key,
            scan_key: None,
            single_use: false,
            tell_payment_source: false,
            metrics: Metrics::new(),
        })
    }

    fn scan() -> Scan {
        let id = "11111111-2222-3333-4444-555555555555";
        Scan {
            identity_key: IdentityKey::from_base64("YQ==").expect("Base64"),
            store_id: StoreId::parse("S").expect("an id"),
            event: AuthEvent {
                id: EventId::parse(id).expect("a UUID"),
                timestamp: DateTime::UNIX_EPOCH,
                location: Location::Entry,
            },
            channel: None,
        }
    }

    #[tokio::test]
    async fn no_recording_begins_after_the_deadline() {
        let connector = connector(None).await;
        let late = connector.verify(scan(), DateTime::UNIX_EPOCH, Instant::now(), ()).await;
        assert!(matches!(late, Err(VerifyError::TooLate)), "{late:?}");
        assert_eq!(connector.ledger.records(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scan_is_worked_on_to_its_end_and_keeps_its_place_though_its_caller_is_gone() {
        let (connector, scan) = (connector(Some(Fault::Slow(Duration::from_secs(1)))).await, scan());
        let deadline = Instant::now().checked_add(Duration::from_secs(10)).expect("in range");
        let place = Arc::new(());
        tokio::select! {
            biased;
            done = connector.verify(scan, DateTime::UNIX_EPOCH, deadline, Arc::clone(&place)) => panic!("at the first turn: {done:?}"),
            () = std::future::ready(()) => {} // by now it waits for its verdict, and is dropped
        }
        assert_eq!((connector.ledger.records(), Arc::strong_count(&place)), (0, 2));
        tokio::time::sleep(Duration::from_secs(5)).await; // the store and the key are looked up
        assert_eq!((connector.ledger.records(), Arc::strong_count(&place)), (1, 1));
    }

    #[tokio::test]
    async fn what_need_not_wait_is_done_at_once() {
        let connector = connector(None).await;
        let deadline = Instant::now().checked_add(Duration::from_secs(60)).expect("in range");
        tokio::select! {
            biased;
            done = connector.verify(scan(), DateTime::UNIX_EPOCH, deadline, ()) => assert!(done.is_ok(), "{done:?}"),
            () = std::future::ready(()) => panic!("it waits"),
        }
        assert_eq!(connector.ledger.records(), 1);
    }
}
