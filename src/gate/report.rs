//! The result of a scan: the decision, its cause, and every attempt.

use std::time::Duration;

use uuid::Uuid;

/// The result of a scan.
#[derive(Debug, Clone)]
pub struct GateReport {
    /// The decision.
    pub decision: GateDecision,
    /// The cause of the decision.
    pub cause: Cause,
    /// Every attempt, in order; at least one.
    pub attempts: Vec<Attempt>,
    /// From the scan to the decision, waits included.
    pub elapsed: Duration,
}

impl GateReport {
    /// Whether any attempt was answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.attempts.iter().any(|attempt| matches!(attempt.outcome, Outcome::Answered { .. }))
    }
}

/// The decision of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateDecision {
    /// The gate opens.
    Open,
    /// The gate stays closed.
    Closed,
}

/// The cause of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The connector answered 200 and named the visitor: open.
    Authorized,
    /// The connector answered 400 or 401: closed.
    Refused,
    /// The budget is spent, and the last answer was 429: closed.
    RateLimited,
    /// The budget is spent, and the last answer was another one, or there was none: the store's default gate decision
    /// applies.
    DefaultDecision,
}

/// One request and its outcome.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The `requestId`, new for every attempt.
    pub request_id: Uuid,
    /// The outcome.
    pub outcome: Outcome,
    /// The decision on this outcome; `None` if the gate retries while its budget lasts.
    pub decision: Option<GateDecision>,
    /// From sending the request to its outcome.
    pub elapsed: Duration,
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The request was answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The first 64 KiB of the body; invalid UTF-8 is replaced. It is text from the server: escape it before
        /// printing it.
        body: String,
    },
    /// There was no answer in time.
    TimedOut,
    /// There was no answer, for this reason.
    Failed(String),
}
