//! The answer that a case expects, and the answer received.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The whole body: additional or missing members are a difference.
    pub(crate) body: Value,
    within_seconds: Option<f64>,
    /// Whether `Retry-After` must be present: whole seconds, at least 1.
    #[serde(default)]
    retry_after: bool,
}

pub(crate) struct Received {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Vec<u8>,
    /// From sending the request to the last byte of the answer.
    pub(crate) took: Duration,
}

impl Answer {
    /// Returns the first difference. Never shows the request, whose identity key may be a real one.
    pub(crate) fn compare(&self, received: &Received) -> Result<(), String> {
        self.compare_status_and_body(received.status, &received.body)?;
        if received.content_type.as_deref() != Some("application/json") {
            return Err(format!("content-type is {:?}, not application/json", received.content_type));
        }
        let whole_seconds = received.retry_after.as_deref().and_then(|value| value.parse::<u64>().ok());
        if self.retry_after && whole_seconds.is_none_or(|seconds| seconds == 0) {
            return Err(format!("retry-after is {:?}, not whole seconds, at least 1", received.retry_after));
        }
        Ok(())
    }

    pub(crate) fn compare_status_and_body(&self, status: u16, body: &[u8]) -> Result<(), String> {
        let parsed: Option<Value> = serde_json::from_slice(body).ok();
        if status == self.status && parsed.as_ref() == Some(&self.body) {
            return Ok(());
        }
        let body = String::from_utf8_lossy(body);
        Err(format!("answered  {status} {body}\n  expected  {} {}", self.status, self.body))
    }

    /// Checks the case's time limit for the 99th percentile and for every answer.
    pub(crate) fn compare_times(&self, received: &[Received]) -> Result<(), String> {
        let Some(limit) = self.within_seconds.map(Duration::from_secs_f64) else { return Ok(()) };
        let mut times: Vec<_> = received.iter().map(|received| received.took).collect();
        times.sort_unstable();
        let rank = (times.len() * 99).div_ceil(100);
        let p99 = times.get(rank.saturating_sub(1)).copied().unwrap_or_default();
        let slowest = times.last().copied().unwrap_or_default();
        if p99 < limit && slowest < limit {
            return Ok(());
        }
        Err(format!("{} answers, limit {limit:?}: p99 {p99:?}, slowest {slowest:?}", times.len()))
    }
}
