//! The use case: verifies a scan and returns a verdict. Knows nothing of HTTP.
//!
//! *Decide, then record; records never change.* Deciding has no side effect, so a scan may be decided again: recording
//! returns the existing record, if there is one, and that record is the answer. Recording is one step. It is never
//! cancelled once it has begun, and never begins after the deadline.
//!
//! Work on a scan continues until it is done, also when the caller disconnects: a request to the identity backend that
//! has begun is not cancelled, and the scan keeps its permit until then.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::breaker::Subject;
use crate::digest::{Digest, Fingerprint, HashKey};
use crate::directory::{Directory, DirectoryError, Registration, ScanContext};
use crate::domain::decision::{Decision, Denial, decide};
use crate::domain::identity_key::{Presented, unregistered};
use crate::domain::ids::EventId;
use crate::domain::scan::{Scan, ScanDetails};
use crate::domain::scan_key_code::{NETWORK_ALLOWANCE, ScanKeyCode, ScanKeyFormat};
use crate::domain::store::{ScanKeyWindow, Store};
use crate::domain::visitor::Holder;
use crate::ledger::{Ledger, LedgerError, Lookup, NewRecord, Record, Recorded};
use crate::observe::metrics::Metrics;
use crate::observe::traces::{in_current_trace, step};

/// How long a scan waits for its verdict while the ledger is slow. After that it gets a 500, and the work on it
/// continues. A gate retries for six seconds, so it sends the scan again soon after the decision is recorded.
const SLOW_LEDGER_WAIT: Duration = Duration::from_millis(500);

/// The result of verifying a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The scan is decided and recorded.
    Decided {
        /// The record from which every retry is answered.
        record: Record,
        /// Whether the record existed before this scan arrived.
        replay: bool,
    },
    /// The scan was not decided, and nothing is recorded.
    Refused(Refusal),
}

/// Why a scan is not decided: the request is wrong, or the connector has reached a limit for the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The store is unknown, or it is disabled and the scan is at its entry.
    UnknownStore,
    /// The auth event was decided with other parameters.
    EventReused,
    /// The ledger is full, and may have capacity again after this time.
    LedgerFull(TimeDelta),
    /// The directory or the ledger is busy with other scans.
    Busy,
}

/// A failure of the connector or its backends. Nothing is recorded, unless writing had begun; a retry gets the
/// decision.
#[derive(Debug, Error)]
pub enum VerifyError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("decided after the deadline, so not recorded")]
    TooLate,
    /// There was no verdict at the deadline. A recording that had begun continues.
    #[error("no decision at the deadline")]
    NoDecision,
    /// Deciding or recording panicked. The panic message is left out, since it may quote an identity key.
    #[error("deciding or recording panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The parts of a connector.
#[derive(Debug)]
pub struct Connector {
    /// Stores, shoppers, keys and tokens.
    pub directory: Arc<Directory>,
    /// Decisions and sessions.
    pub ledger: Arc<Ledger>,
    /// The key of the fingerprints.
    pub hash_key: HashKey,
    /// The format of the retailer's Scan Key Codes. Without it, every code is refused.
    pub scan_key: Option<ScanKeyFormat>,
    /// Whether a Scan Key Code is valid for one auth event only.
    pub single_use: bool,
    /// Whether answers contain the payment source.
    pub include_payment_source: bool,
    /// The metrics.
    pub metrics: Metrics,
}

impl Connector {
    /// The fingerprint of a scan.
    pub fn fingerprint(&self, scan: &Scan) -> Fingerprint {
        self.hash_key.fingerprint(&scan.identity_key, &scan.store_id, scan.event.location)
    }

    /// Returns the record of a scan if it is in this process's memory. Needs no permit, so it is also used while none
    /// is free.
    pub fn recall(&self, event: EventId, fingerprint: &Fingerprint, now: DateTime<Utc>) -> Option<Record> {
        match self.ledger.recall(event, fingerprint, now) {
            Lookup::Recorded(record) => Some(record),
            // A mismatch is not answered yet: an unknown store is reported before a reused event.
            Lookup::Mismatch | Lookup::Unknown => None,
        }
    }

    /// Answers a scan with this [fingerprint](Self::fingerprint): from its record if there is one, else by deciding and
    /// recording.
    ///
    /// Returns at `deadline` at the latest, and the work continues when the caller stops waiting. Deciding ends at
    /// `deadline`, and recording does not begin after it. `permit` is dropped when all work is done.
    ///
    /// # Errors
    /// On a failure of the connector or its backends.
    pub async fn verify(
        self: &Arc<Self>,
        scan: Scan,
        fingerprint: Fingerprint,
        now: DateTime<Utc>,
        deadline: Instant,
        permit: impl Send + 'static,
    ) -> Result<Verdict, VerifyError> {
        if let Some(record) = self.recall(scan.event.id, &fingerprint, now) {
            return Ok(Verdict::Decided { record, replay: true });
        }
        let connector = Arc::clone(self);
        let mut work =
            Box::pin(async move { (connector.decide_and_record(&scan, fingerprint, now, deadline).await, permit) });
        let (verdict, _permit) = match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            Poll::Ready(done) => done,
            // Work that has to wait runs in a separate task, so that neither a disconnect nor the deadline cancels it.
            // The task returns the permit with the verdict, so that this scan is answered before the next waiting scan
            // gets the permit.
            Poll::Pending => {
                let working = tokio::spawn(in_current_trace(work));
                let slow_ledger = self.ledger.is_slow().then(|| Instant::now().checked_add(SLOW_LEDGER_WAIT)).flatten();
                let until = slow_ledger.map_or(deadline, |slow_ledger| slow_ledger.min(deadline));
                match timeout_at(until, working).await {
                    Ok(done) => done?,
                    Err(_) if until < deadline => return Err(LedgerError::Slow.into()),
                    Err(_) => return Err(VerifyError::NoDecision),
                }
            }
        };
        verdict
    }

    async fn decide_and_record(
        &self,
        scan: &Scan,
        fingerprint: Fingerprint,
        now: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Verdict, VerifyError> {
        let decided = timeout_at(deadline, self.decide(scan, fingerprint, now, deadline));
        let decided = decided.await.map_err(|_| VerifyError::TooLate)?;
        if let Ok(Some(entry)) = decided {
            // Recording finds an existing record by itself, so no look-up is needed before it.
            return self.record(entry, now, deadline).await;
        }
        if let Err(DirectoryError::Busy) = decided {
            return Ok(Verdict::Refused(Refusal::Busy)); // without a ledger look-up, which would only add load
        }
        // A scan that cannot be decided now may have been decided before.
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

    /// Applies the rules to a scan. The entry has the store's own copy of its id: records share that copy, which saves
    /// memory. `None` if the store is unknown, or disabled and the scan is at its entry.
    async fn decide(
        &self,
        scan: &Scan,
        fingerprint: Fingerprint,
        now: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Option<NewRecord>, DirectoryError> {
        let subject = fingerprint.into();
        let store = step("directory.store", self.directory.store(&scan.store_id, subject)).await?;
        let Some(store) = store.filter(|store| store.serves(scan.event.location)) else { return Ok(None) };
        let context = ScanContext { subject, store: store.id.clone(), channel: scan.channel, deadline };
        let (decision, code) = match self.identify(scan, &store, now, &context).await? {
            Ok((holder, code)) => (decide(&scan.event, &store, holder, self.include_payment_source), code),
            Err(refused) => (refused, None),
        };
        let scan = ScanDetails {
            event: scan.event,
            store_id: store.id.clone(),
            channel: scan.channel,
            caller: scan.caller.clone(),
        };
        Ok(Some(NewRecord { scan, fingerprint, decision, code }))
    }

    /// Finds the shopper of a key by the first rule that applies, and the code that the scan uses up if it is accepted.
    /// A key that cannot be accepted is a refusal (401), never an error: no key may cause a 500.
    async fn identify(
        &self,
        scan: &Scan,
        store: &Store,
        now: DateTime<Utc>,
        context: &ScanContext,
    ) -> Result<Result<(Holder, Option<Digest>), Decision>, DirectoryError> {
        let refused = |reason| Ok(Err(Decision::refuse_unknown(reason)));
        let (registration, unknown, code) = match scan.identity_key.presented() {
            Presented::Unreadable => return refused(Denial::InvalidKey),
            Presented::ScanKeyCode(text) => {
                let read = self.scan_key.as_ref().and_then(|format| Some((format, format.read(text)?)));
                let Some((format, code)) = read else { return refused(Denial::InvalidKey) };
                self.metrics.code_age_seconds.observe(code.age_at(scan.event.timestamp).as_seconds_f64());
                match code.check_age(scan.event.timestamp, store.scan_key_window) {
                    Err(Denial::KeyExpired) if self.is_valid_as_promised(&code, scan, now, context.subject).await? => {}
                    Err(denial) => return refused(denial),
                    Ok(()) => {}
                }
                let found = self.directory.recognition_token(&code.token, now, context);
                let found = step("directory.recognition_token", found).await?;
                // Only the ledger knows whether the code is used up already. Codes that differ in their signature alone
                // are the same code.
                let code = self.single_use.then(|| self.hash_key.used_code(format.unsigned(text)));
                (found, Denial::KeyNotFound, code)
            }
            Presented::Key(text) => {
                let found = self.directory.identity_key(text, context);
                (step("directory.identity_key", found).await?, unregistered(text), None)
            }
        };
        match registration {
            None => refused(unknown),
            Some(Registration::Revoked) => refused(Denial::InvalidKey),
            Some(Registration::Active { holder, channel }) => match (channel, scan.channel) {
                (Some(only), Some(given)) if only != given => {
                    Ok(Err(Decision::Denied { reason: Denial::InvalidKey, known: Some(holder.into()) }))
                }
                _ => Ok(Ok((holder, code))),
            },
        }
    }

    /// Whether the app was told that its code is still valid at the time of the event, although the store's window is
    /// shorter. A code is valid for the shortest window of the enabled stores at the time when it is made. Since then,
    /// the store may have been enabled, or its window shortened.
    async fn is_valid_as_promised(
        &self,
        code: &ScanKeyCode<'_>,
        scan: &Scan,
        now: DateTime<Utc>,
        subject: Subject,
    ) -> Result<bool, DirectoryError> {
        let event_at = scan.event.timestamp;
        if code.check_age(event_at, ScanKeyWindow::LONGEST).is_err() {
            return Ok(false); // no code is promised to be valid for longer, so no look-up is needed
        }
        let until = step("directory.promised_until", self.directory.promised_until(&code.token, now, subject)).await?;
        let last = until.and_then(|until| until.checked_add_signed(NETWORK_ALLOWANCE));
        Ok(last.is_some_and(|last| event_at <= last))
    }

    async fn record(&self, entry: NewRecord, now: DateTime<Utc>, deadline: Instant) -> Result<Verdict, VerifyError> {
        if Instant::now() >= deadline {
            return Err(VerifyError::TooLate);
        }
        let (store_id, lag) = (entry.scan.store_id.clone(), now.signed_duration_since(entry.scan.event.timestamp));
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
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::directory::{Fault, Faults, FaultsByKey, file};
    use crate::domain::identity_key::IdentityKey;
    use crate::domain::ids::StoreId;
    use crate::domain::scan::{AuthEvent, Location};
    use crate::ledger::{Limits, MemoryLedger};

    const DIRECTORY: &str = r#"{
        "stores": [{ "id": "S" }],
        "shoppers": [{ "id": "v", "type": "SHOPPER" }],
        "identityKeys": [{ "key": "a", "shopper": "v" }]
    }"#;

    /// A connector in memory with this directory.
    pub(crate) async fn connector(directory: &str, faults: Faults) -> Arc<Connector> {
        let hash_key = HashKey::new(&[0; 32]);
        let loaded = file::parse(directory, "test", &hash_key, false).expect("a valid file");
        let directory = Directory::in_memory(hash_key.clone());
        directory.apply(loaded.changes, DateTime::UNIX_EPOCH).await.expect("the changes are applied");
        let limits =
            Limits { retention: TimeDelta::days(7), capacity: 10, cache: 0, session_max_age: TimeDelta::hours(24) };
        Arc::new(Connector {
            directory: Arc::new(directory.with_faults(FaultsByKey::new(faults, loaded.faults))),
            ledger: Arc::new(Ledger::Memory(MemoryLedger::new(limits))),
            hash_key,
            scan_key: None,
            single_use: false,
            include_payment_source: false,
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
            caller: None,
        }
    }

    #[tokio::test]
    async fn no_recording_begins_after_the_deadline() {
        let (connector, scan) = (connector(DIRECTORY, Faults::default()).await, scan());
        let fingerprint = connector.fingerprint(&scan);
        let late = connector.verify(scan, fingerprint, DateTime::UNIX_EPOCH, Instant::now(), ()).await;
        assert!(matches!(late, Err(VerifyError::TooLate)), "{late:?}");
        assert_eq!(connector.ledger.records(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn disconnect_neither_cancels_the_work_nor_releases_its_permit() {
        let faults = Faults::default();
        faults.set(Some(Fault::Slow(Duration::from_secs(1))));
        let (connector, scan) = (connector(DIRECTORY, faults).await, scan());
        let deadline = Instant::now().checked_add(Duration::from_secs(10)).expect("in range");
        let (fingerprint, permit) = (connector.fingerprint(&scan), Arc::new(()));
        tokio::select! {
            biased;
            done = connector.verify(scan, fingerprint, DateTime::UNIX_EPOCH, deadline, Arc::clone(&permit)) => panic!("at the first poll: {done:?}"),
            () = std::future::ready(()) => {} // the call waits for its verdict now, and is dropped
        }
        assert_eq!((connector.ledger.records(), Arc::strong_count(&permit)), (0, 2));
        tokio::time::sleep(Duration::from_secs(5)).await; // long enough to look up the store and the key
        assert_eq!((connector.ledger.records(), Arc::strong_count(&permit)), (1, 1));
    }

    #[tokio::test]
    async fn work_that_need_not_wait_is_done_at_the_first_poll() {
        let (connector, scan) = (connector(DIRECTORY, Faults::default()).await, scan());
        let fingerprint = connector.fingerprint(&scan);
        let deadline = Instant::now().checked_add(Duration::from_secs(60)).expect("in range");
        tokio::select! {
            biased;
            done = connector.verify(scan, fingerprint, DateTime::UNIX_EPOCH, deadline, ()) => assert!(done.is_ok(), "{done:?}"),
            () = std::future::ready(()) => panic!("the call waits"),
        }
        assert_eq!(connector.ledger.records(), 1);
    }
}
