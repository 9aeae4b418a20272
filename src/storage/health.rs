//! The health of an open database: its circuit breaker, the permits of scans' queries, and the probe.
//!
//! While the breaker is open, requests fail immediately instead of waiting for a database that does not answer. It
//! opens when connections fail or statements take too long for several distinct subjects (scans or keys). Failures of a
//! single subject, for instance on a row that another client has locked, say nothing about the database and never open
//! it.
//!
//! For a SQLite file on a slow disk it stays closed: a commit takes too long for a scan, but the scan's retry gets the
//! decision. It opens when a single write takes several times its limit.
//!
//! While scans are recorded, their results show the health. While none are, a probe writes and reads as a scan does,
//! every few seconds, so that the gauge, `/readyz` and the log report an outage before it affects a scan. While the
//! breaker is open, only the probe queries the database, several times a second, until one probe succeeds.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;
use sqlx::any::Any;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Error, query};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::error::Symptom;
use super::{ACQUIRE_TIMEOUT, Database, DatabaseError, Engine, Pools, READ_TIMEOUT, RECORD_TIMEOUT, Work, Workload};
use crate::breaker::{Failures, Subject};
use crate::digest::Digest;
use crate::observe::metrics::readings;

/// The breaker opens after failures of this many distinct subjects with no success in between.
const DISTINCT_FAILURES: usize = 3;

/// The disk counts as slow after this many exceeded time limits of writes with no write in time in between.
const SLOW: u32 = 3;
/// The disk counts as stalled when a single write takes this many times its time limit.
const STALLED: u32 = 8;

/// How often the database is probed while no scan is recorded.
const INTERVAL: Duration = Duration::from_secs(5);
/// The pause after a failed probe.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How often a write in progress is checked for its time limit.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// The time limit of work that only the probe waits for, such as a new connection that shows why there is none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether requests may query the database. While the breaker is open, only the probe does.
#[derive(Debug)]
pub(super) struct Breaker {
    open: AtomicBool,
    slow: AtomicBool,
    /// How often writes have exceeded their time limit since the last write in time.
    late: AtomicU32,
    failures: AtomicU64,
    /// Whether a write, in time or late, has succeeded since the last call of `has_written`.
    wrote: AtomicBool,
    /// The failure that opened the breaker.
    error: Mutex<String>,
    reading: Mutex<Failures>,
    writing: Mutex<Failures>,
}

impl Default for Breaker {
    fn default() -> Self {
        let failures = || Mutex::new(Failures::new(DISTINCT_FAILURES, Duration::MAX));
        Self {
            open: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            late: AtomicU32::new(0),
            failures: AtomicU64::new(0),
            wrote: AtomicBool::new(false),
            error: Mutex::default(),
            reading: failures(),
            writing: failures(),
        }
    }
}

/// What a late write says about the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LateWrite {
    /// Writes take longer than a scan may wait.
    Slow,
    /// A write does not complete.
    Stalled,
}

/// Failures of reads and of writes are counted separately: a database that cannot commit may still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether writes take longer than a scan may wait.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// The number of failures since the start.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether writes have been late, but too few for the disk to count as slow.
    pub(super) fn has_late_writes(&self) -> bool {
        self.late.load(Ordering::Relaxed) > 0 && !self.is_slow()
    }

    /// Records a success in time. Returns whether the disk was slow until now.
    pub(super) fn succeeded(&self, kind: Kind) -> bool {
        self.failed_of(kind).forget();
        kind == Kind::Write && {
            self.wrote();
            self.late.store(0, Ordering::Relaxed);
            self.slow.swap(false, Ordering::Relaxed)
        }
    }

    /// Records that a write has succeeded, in time or late.
    pub(super) fn wrote(&self) {
        self.wrote.store(true, Ordering::Relaxed);
    }

    /// Records that one write has now taken `times` times its time limit. Returns what that says about the disk, if
    /// this has changed.
    pub(super) fn late_write(&self, times: u32, time_limit: Duration) -> Option<LateWrite> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let late = self.late.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if times >= STALLED && !self.open.swap(true, Ordering::Relaxed) {
            let error = format!(
                "the disk of the SQLite file is stalled: a write takes longer than {:?}",
                time_limit.saturating_mul(STALLED)
            );
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
            return Some(LateWrite::Stalled);
        }
        (late >= SLOW && !self.slow.swap(true, Ordering::Relaxed)).then_some(LateWrite::Slow)
    }

    /// Whether a write has succeeded since the last call.
    pub(super) fn has_written(&self) -> bool {
        self.wrote.swap(false, Ordering::Relaxed)
    }

    /// The failure that opened the breaker.
    pub(super) fn error(&self) -> String {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records a failure of these subjects. Returns whether it opened the breaker.
    pub(super) fn failed(&self, kind: Kind, subjects: &[Subject], error: impl Display) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let is_open_now =
            self.failed_of(kind).add(subjects, Instant::now()) && !self.open.swap(true, Ordering::Relaxed);
        if is_open_now {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
        }
        is_open_now
    }

    /// Closes the breaker, after a probe that could read and write, even if it was late.
    pub(super) fn close(&self) {
        self.failed_of(Kind::Read).forget();
        self.failed_of(Kind::Write).forget();
        self.open.store(false, Ordering::Relaxed);
    }

    fn failed_of(&self, kind: Kind) -> MutexGuard<'_, Failures> {
        let failed = match kind {
            Kind::Read => &self.reading,
            Kind::Write => &self.writing,
        };
        failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Limits the concurrent queries of scans to the number of connections in the pool.
///
/// Without a permit in time, the query fails in one of two ways. If other queries were answered meanwhile, the database
/// is busy (`DatabaseError::Busy`), which is no sign that it is unhealthy. If none was answered, the query has timed
/// out (`DatabaseError::TimedOut`), which counts as a failure of the database. The same applies to queries that wait
/// for a connection to be opened.
#[derive(Debug)]
pub(super) struct QueryPermits {
    semaphore: Arc<Semaphore>,
    /// The number of answered queries since the start.
    answered: AtomicU64,
}

impl QueryPermits {
    pub(super) fn new(connections: u32) -> Self {
        Self { semaphore: Arc::new(Semaphore::new(connections as usize)), answered: AtomicU64::new(0) }
    }

    /// Waits for a permit. A caller that stops waiting has sent no query.
    pub(super) async fn acquire(&self) -> Result<OwnedSemaphorePermit, DatabaseError> {
        let before = self.answer_count();
        match timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.semaphore).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ if self.has_answered_since(before) => Err(DatabaseError::Busy),
            _ => Err(DatabaseError::TimedOut),
        }
    }

    /// Counts an answered query.
    pub(super) fn count_answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of answered queries until now.
    pub(super) fn answer_count(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether any query was answered since `before` was taken.
    pub(super) fn has_answered_since(&self, before: u64) -> bool {
        self.answer_count() != before
    }
}

/// The write of records to the SQLite file that is in progress, if there is one.
#[derive(Debug, Default)]
pub(super) struct WriteInProgress(Mutex<Option<(Instant, u32)>>);

impl WriteInProgress {
    fn lock(&self) -> MutexGuard<'_, Option<(Instant, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write begins.
    pub(super) fn begin(&self) {
        *self.lock() = Some((Instant::now(), 0));
    }

    /// It has ended. Returns whether it was reported as late.
    pub(super) fn end(&self) -> bool {
        self.lock().take().is_some_and(|(_, times)| times > 0)
    }

    /// How often its time limit has passed, if that has increased since the last call.
    fn late_times(&self) -> Option<u32> {
        let mut write = self.lock();
        let (began, reported) = write.as_mut()?;
        let times = began.elapsed().as_millis().checked_div(RECORD_TIMEOUT.as_millis())?;
        let times = u32::try_from(times).ok().filter(|times| times > reported)?;
        *reported = times;
        Some(times)
    }
}

/// Writes as a scan does, commits, and leaves no rows behind.
pub(super) type WriteProbe = for<'c> fn(&'c mut AnyConnection) -> Work<'c, ()>;

impl Database {
    /// Starts the task that probes the database until it is closed.
    pub(crate) fn start_probe(&self, write: WriteProbe) {
        let (database, opened) = (Arc::downgrade(&self.0), Arc::clone(&self.0.opened));
        tokio::spawn(async move {
            let (mut accepts_queries, mut failed, mut pause) = (true, 0_u64, INTERVAL);
            loop {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = opened.notified() => {}
                }
                let Some(inner) = database.upgrade() else { return };
                let database = Self(inner, Workload::Admin);
                // A checkpoint that takes longer than the time limit continues in its own task.
                let _ = timeout(PROBE_TIMEOUT, database.truncate_long_log()).await;
                if accepts_queries && !database.accepts_queries() {
                    (accepts_queries, pause) = (false, RETRY_INTERVAL);
                    database.log_outage().await;
                    continue;
                }
                if accepts_queries && failed == 0 && database.0.breaker.has_written() {
                    continue;
                }
                match database.probe(write, failed).await {
                    Ok(()) => {
                        database.0.breaker.close();
                        if !accepts_queries {
                            tracing::info!("the database answers again");
                        }
                        // After a late write, the next probe follows soon, to see whether writes are still late.
                        pause = if database.0.breaker.has_late_writes() { RETRY_INTERVAL } else { INTERVAL };
                        (accepts_queries, failed) = (true, 0);
                    }
                    Err(DatabaseError::Sqlx(Error::PoolClosed)) => return,
                    Err(error) => {
                        tracing::debug!(%error, "the probe of the database failed");
                        (failed, pause) = (failed.saturating_add(1), RETRY_INTERVAL);
                    }
                }
            }
        });
    }

    /// Starts the task that reports a write of records that takes too long, until the database is closed.
    pub(crate) fn start_write_watch(&self) {
        let database = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while let Some(inner) = database.upgrade() {
                Self(inner, Workload::Admin).report_write_in_progress();
                sleep(WATCH_INTERVAL).await;
            }
        });
    }

    /// Reports the write of records in progress each time that it has exceeded its time limit.
    pub(super) fn report_write_in_progress(&self) {
        if let Some(times) = self.0.write_in_progress.late_times() {
            self.report_late_write(times);
        }
    }

    /// Called each time that the time limit of a write to the SQLite file has passed; `times` is how often for this
    /// write.
    pub(super) fn report_late_write(&self, times: u32) {
        match self.0.breaker.late_write(times, RECORD_TIMEOUT) {
            None => {}
            Some(LateWrite::Slow) => {
                let file = self.0.path.as_deref().map(|path| path.display().to_string());
                let consequence = "the disk of the SQLite file is slow: scans get a 500, and their retries get the decision once it is written; \
                            check the disk, and which other programs use it";
                tracing::warn!(file, "a commit takes longer than {RECORD_TIMEOUT:?}: {consequence}");
            }
            Some(LateWrite::Stalled) => self.0.opened.notify_one(),
        }
    }

    /// Counts a result for the database's health.
    pub(super) fn diagnose(&self, kind: Kind, subjects: &[Subject], error: Option<&DatabaseError>) {
        let breaker = &self.0.breaker;
        if let Some(DatabaseError::Busy) = error {
            return; // other look-ups were answered, and are already counted
        }
        let is_open_now = match error.map(|error| (error, error.symptom(self.0.engine))) {
            None | Some((_, Symptom::None)) => {
                if kind == Kind::Read {
                    self.0.query_permits.count_answer();
                }
                if breaker.succeeded(kind) {
                    tracing::info!("the disk of the SQLite file is fast enough again");
                }
                return;
            }
            Some((error, Symptom::Unhealthy)) => breaker.failed(kind, subjects, error),
            // Another connection holds a lock that one of the subjects needed. With several subjects, it is not known
            // which one.
            Some((error, Symptom::Lock)) => subjects.len() == 1 && breaker.failed(kind, subjects, error),
        };
        if is_open_now {
            self.0.stale_cutoff.set_now();
            self.0.opened.notify_one();
        }
    }

    /// Writes and reads as a scan does. While the breaker is closed, a failure counts like a scan's, and each `number`
    /// as another scan.
    async fn probe(&self, write: WriteProbe, number: u64) -> Result<(), DatabaseError> {
        let Pools { reads, writes, .. } = &self.0.pools;
        let accepts_queries = self.accepts_queries();
        let mut is_late = false;
        let mut late = |times| {
            is_late = true;
            self.report_late_write(times);
        };
        let mut ignored = |_| ();
        let permit = match self.0.engine {
            Engine::Sqlite => {
                Some(self.change_permits(RECORD_TIMEOUT).await.inspect_err(|_| self.report_late_write(1))?)
            }
            Engine::Postgres => None,
        };
        let read = self.attempt(reads, READ_TIMEOUT, |connection| Box::pin(read_probe(connection)), &mut ignored);
        let (written, read) = tokio::join!(self.attempt(writes, RECORD_TIMEOUT, write, &mut late), read);
        drop(permit);
        for (kind, result) in [(Kind::Write, &written), (Kind::Read, &read)] {
            let is_counted = match result {
                Ok(()) => !(kind == Kind::Write && is_late),
                Err(error) => accepts_queries && error.symptom(self.0.engine) != Symptom::None,
            };
            if is_counted {
                self.diagnose(kind, &[subject(number)], result.as_ref().err());
            }
        }
        written.and(read)
    }

    /// Logs that the database does not answer. A pool does not report why it has no connection, so this opens one to
    /// find out.
    async fn log_outage(&self) {
        let mut error = self.0.breaker.error();
        if self.0.engine == Engine::Postgres {
            match timeout(PROBE_TIMEOUT, self.0.options.connect()).await {
                Ok(Ok(connection)) => drop(connection.close().await),
                Ok(Err(reason)) => error = reason.to_string(),
                Err(_) => error = format!("a new connection is not ready within {PROBE_TIMEOUT:?}: {error}"),
            }
        }
        tracing::warn!(error, "the database does not answer: scans get a 500 until it does");
    }
}

/// The subject of a probe's failure: each number is another subject, so that three failed probes open the breaker.
fn subject(number: u64) -> Subject {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Digest::from_bytes(bytes).into()
}

async fn read_probe(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    query::<Any>("SELECT 1 FROM store LIMIT 1").execute(connection).await?;
    Ok(())
}

/// Adds the metrics of the database, if there is one, to a registry.
pub(crate) fn register(database: Option<&Database>, registry: &mut Registry) {
    readings! { registry, database = &database.cloned();
        /// 1 while the database answers in time, or none is configured; 0 while it does not, or its disk is slow, so
        /// that scans get a 500.
        gauge database_up = database.as_ref().is_none_or(Database::is_up);
        /// 1 while the disk of the SQLite file takes longer for a commit than a scan may wait, so that scans get a 500
        /// and only their retries get the decision; else 0.
        gauge database_slow = database.as_ref().is_some_and(Database::is_slow);
        /// Requests to the database that failed or timed out. Growth means that the database is overloaded or about to
        /// fail.
        counter database_failures = database.as_ref().map_or(0, |database| database.0.breaker.failures());
        // Absent without a file: a 0 would look like a full disk.
        /// Free bytes of the file system that holds the SQLite file. When it is full, no scan can be recorded.
        gauge database_free_bytes = database.as_ref().and_then(Database::measured_disk).map(|disk| disk.free);
        /// Bytes of the write-ahead log of the SQLite file. A log that keeps growing fills the disk.
        gauge database_log_bytes = database.as_ref().and_then(Database::measured_disk).map(|disk| disk.log);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Fingerprint;

    fn subjects<const N: usize>(numbers: [u8; N]) -> [Subject; N] {
        numbers.map(|number| Fingerprint::from_bytes([number; 32]).into())
    }

    #[test]
    fn failures_of_one_subject_never_open_the_breaker() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            assert!(!breaker.failed(Kind::Read, &subjects([7]), ""));
        }
        assert!(!breaker.is_open());
        assert_eq!(breaker.failures(), 100);
    }

    #[test]
    fn failures_of_three_subjects_without_a_success_between_open_the_breaker() {
        let breaker = Breaker::default();
        assert!(!breaker.failed(Kind::Read, &subjects([1, 2]), ""));
        breaker.succeeded(Kind::Read);
        assert!(!breaker.failed(Kind::Read, &subjects([3, 4]), ""));
        assert!(breaker.failed(Kind::Read, &subjects([5]), ""));
        assert!(!breaker.failed(Kind::Read, &subjects([6]), ""), "it is open already");
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.is_open());
        assert!(!breaker.failed(Kind::Read, &subjects([7, 8]), ""), "the count starts again");
    }

    #[test]
    fn disk_is_slow_after_three_exceeded_limits_and_fast_after_one_write_in_time() {
        let (breaker, time_limit) = (Breaker::default(), Duration::from_millis(600));
        let late = |times| breaker.late_write(times, time_limit);
        assert_eq!([late(1), late(1)], [None, None]);
        assert!(!breaker.succeeded(Kind::Write), "it was not slow");
        assert_eq!([late(1), late(2), late(1), late(2)], [None, None, Some(LateWrite::Slow), None]);
        assert!(breaker.is_slow() && !breaker.is_open());
        assert!(breaker.succeeded(Kind::Write) && !breaker.is_slow());
        assert_eq!((late(7), late(8)), (None, Some(LateWrite::Stalled)));
        assert!(breaker.is_open());
    }

    #[test]
    fn failing_writes_open_the_breaker_although_reads_succeed() {
        let breaker = Breaker::default();
        for subject in 1..=2 {
            assert!(!breaker.failed(Kind::Write, &subjects([subject]), ""));
            breaker.succeeded(Kind::Read);
        }
        assert!(breaker.failed(Kind::Write, &subjects([3]), ""));
    }

    #[tokio::test(start_paused = true)]
    async fn missing_permit_is_busy_if_others_were_answered_and_a_timeout_otherwise() {
        let permits = QueryPermits::new(1);
        let permit = permits.acquire().await.expect("a permit");
        assert!(matches!(permits.acquire().await, Err(DatabaseError::TimedOut)));
        let answer = async { permits.count_answer() };
        let (waited, ()) = tokio::join!(permits.acquire(), answer);
        assert!(matches!(waited, Err(DatabaseError::Busy)));
        drop(permit);
        assert!(permits.acquire().await.is_ok());
    }
}
