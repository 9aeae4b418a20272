//! The gate simulator: Amazon's side of the wire.
//!
//! A [`Gate`] presents one scan to a connector as Amazon does, retries included, and says whether
//! the gate opens. It knows nothing of the connector's own types: the two meet on the wire only, so
//! that no mistake hides in code they share. Amazon publishes no numbers for time-outs and
//! back-off; those of [`GateSettings::new`] are ours.
//!
//! An attempt is *answered* once the whole answer, or the first 64 KiB of its body, has come within
//! the attempt's time. A time-out or a broken connection is not an answer, so neither hides a 429
//! that came before it: the last answer *seen* is what counts when the budget is spent.

mod answer;
mod probe;
mod report;
mod scan;
mod settings;

use std::{ops::RangeInclusive, time::Duration};

use reqwest::{Client, RequestBuilder, Url, header::RETRY_AFTER, redirect, retry};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use self::answer::Answer;
pub use self::probe::{Finding, Verdict, probe};
pub use self::report::{Attempt, Cause, GateDecision, GateReport, Outcome};
pub use self::scan::GateScan;
use self::scan::WireRequest;
pub use self::settings::{GateError, GateSettings};
use crate::cause::innermost;
use crate::clock::Clock;

const ANSWER_LIMIT: usize = 64 * 1024;
/// A wait is the nominal back-off times a random percentage from this range.
const JITTER_PERCENT: RangeInclusive<u32> = 50..=150;

/// A gate that asks one connector. Cloning is cheap; scans may run at the same time.
#[derive(Debug, Clone)]
pub struct Gate {
    client: Client,
    endpoint: Url,
    settings: GateSettings,
}

impl Gate {
    /// Checks the settings. Connects to nothing yet.
    ///
    /// # Errors
    /// A URL, API key or duration that cannot work; the message says what would.
    pub fn new(settings: GateSettings) -> Result<Self, GateError> {
        for (name, duration) in [
            ("attempt time-out", settings.attempt_timeout),
            ("budget", settings.budget),
            ("first back-off", settings.first_backoff),
        ] {
            if duration.is_zero() {
                return Err(GateError::Zero(name));
            }
        }
        let endpoint = settings::endpoint(&settings.url)?;
        let mut client = Client::builder()
            .default_headers(settings::headers(&settings)?)
            .no_proxy() // a proxy from the environment would be asked in the connector's place
            .redirect(redirect::Policy::none())
            .retry(retry::never()); // it would send a requestId twice
        if endpoint.scheme() == "http" {
            if settings.authorities.is_some() || settings.certificate.is_some() {
                return Err(GateError::NeedsTls);
            }
            // Without TLS there are no root certificates to load, nor to miss on a machine without any.
            client = client.tls_certs_only([]);
        } else {
            client = settings::secured(client, &settings)?;
        }
        let client = client.build().map_err(|error| GateError::Client(innermost(&error)))?;
        Ok(Self { client, endpoint, settings })
    }

    /// Presents a scan and decides. Takes no longer than the budget; while it runs, the gate is closed.
    pub async fn scan(&self, scan: &GateScan) -> GateReport {
        self.scan_and_tell(scan, |_| ()).await
    }

    /// As [`scan`](Self::scan), and calls `tell` after each attempt.
    pub async fn scan_and_tell(&self, scan: &GateScan, mut tell: impl FnMut(&Attempt)) -> GateReport {
        let started = Instant::now();
        let mut attempts = Vec::new();
        let mut last_seen = None;
        let mut backoff = self.settings.first_backoff;
        let (decision, cause) = loop {
            let limit = self.settings.attempt_timeout.min(self.left(started));
            let request_id = Uuid::new_v4();
            let sent = Instant::now();
            let result = timeout(limit, self.exchange(scan, request_id)).await;
            let elapsed = sent.elapsed();
            let (outcome, verdict, retry_after) = match result {
                Ok(Ok(answer)) => {
                    last_seen = Some(answer.status);
                    (answer.outcome(), answer.verdict(), answer.retry_after)
                }
                Ok(Err(error)) => (Outcome::Failed(innermost(&error)), None, None),
                Err(_) => (Outcome::TimedOut, None, None),
            };
            let attempt = Attempt { request_id, outcome, decision: verdict.map(|(decision, _)| decision), elapsed };
            tell(&attempt);
            attempts.push(attempt);
            if let Some(verdict) = verdict {
                break verdict;
            }
            let wait = wait(backoff, rand::random_range(JITTER_PERCENT), retry_after);
            let fits = wait < self.left(started);
            if fits {
                sleep(wait).await;
            }
            if !fits || self.left(started).is_zero() {
                break spent(last_seen, self.settings.default_decision);
            }
            backoff = backoff.saturating_mul(2);
        };
        GateReport { decision, cause, attempts, elapsed: started.elapsed() }
    }

    fn left(&self, started: Instant) -> Duration {
        self.settings.budget.saturating_sub(started.elapsed())
    }

    async fn exchange(&self, scan: &GateScan, request_id: Uuid) -> reqwest::Result<Answer> {
        let request = WireRequest::new(scan, request_id);
        self.send(self.client.post(self.endpoint.clone()).json(&request)).await
    }

    async fn send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| answer::retry_after(value, Clock::System.now()));
        let mut body = Vec::new();
        let mut whole = true;
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_LIMIT {
                body.truncate(ANSWER_LIMIT);
                whole = false;
                break;
            }
        }
        Ok(Answer { status, retry_after, body, whole })
    }
}

/// The wait before the next attempt: the back-off with its jitter, or a longer `Retry-After`.
fn wait(backoff: Duration, jitter_percent: u32, retry_after: Option<Duration>) -> Duration {
    let percent = backoff.checked_div(100).unwrap_or_default();
    let jittered = percent.saturating_mul(jitter_percent);
    jittered.max(retry_after.unwrap_or_default())
}

/// What holds when the budget is spent; `last_seen` is the status of the last answer that came.
fn spent(last_seen: Option<u16>, default: GateDecision) -> (GateDecision, Cause) {
    match last_seen {
        Some(429) => (GateDecision::Closed, Cause::RateLimited),
        _ => (default, Cause::DefaultDecision),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_longer_of_back_off_and_retry_after() {
        let backoff = Duration::from_millis(400);
        assert_eq!(wait(backoff, 50, None), Duration::from_millis(200));
        assert_eq!(wait(backoff, 150, Some(Duration::ZERO)), Duration::from_millis(600));
        assert_eq!(wait(backoff, 150, Some(Duration::from_secs(1))), Duration::from_secs(1));
        assert_eq!(wait(Duration::MAX, 150, None), Duration::MAX);
    }

    #[test]
    fn a_spent_budget_closes_after_429_and_falls_back_after_anything_else() {
        let fallen_back = (GateDecision::Open, Cause::DefaultDecision);
        let closed = (GateDecision::Closed, Cause::RateLimited);
        assert_eq!(spent(Some(429), GateDecision::Open), closed);
        assert_eq!(spent(Some(500), GateDecision::Open), fallen_back);
        assert_eq!(spent(None, GateDecision::Open), fallen_back);
    }
}
