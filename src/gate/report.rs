//! What a gate tells of a scan: the decision, the reason, and every attempt.

use std::time::Duration;

use uuid::Uuid;

/// What came of a scan.
#[derive(Debug, Clone)]
pub struct GateReport {
    /// What the gate does.
    pub decision: GateDecision,
    /// Why.
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

/// What the gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateDecision {
    /// It lets the visitor pass.
    Open,
    /// It stays closed.
    Closed,
}

/// Why the gate does what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The connector answered 200 and named the visitor: open.
    Authorized,
    /// The connector answered 400 or 401: closed.
    Refused,
    /// The budget is spent, and the last answer seen was 429: closed.
    RateLimited,
    /// The budget is spent, and the last answer seen was another one, or none came: the store's
    /// default gate decision holds.
    DefaultDecision,
}

/// One request and what came of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The `requestId`, new for every attempt.
    pub request_id: Uuid,
    /// What came back.
    pub outcome: Outcome,
    /// What the gate does on that at once; `None`: it asks again while its budget lasts.
    pub decision: Option<GateDecision>,
    /// From sending to the outcome.
    pub elapsed: Duration,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer came.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The body's first 64 KiB; what is not UTF-8 is replaced. The server's words: escape
        /// them before a terminal sees them.
        body: String,
    },
    /// No answer came in time.
    TimedOut,
    /// No answer came, for this reason, in plain words.
    Failed(String),
}
