//! What is counted of the questions to the retailer's own system.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

/// Upper bounds in seconds: fine where answers should be, and up to the longest time-out.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.2];

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Found,
    NotFound,
    Refused,
    Malformed,
    Unavailable,
    Timeout,
    /// It said so itself.
    Busy,
    /// All our places were taken.
    Full,
    /// It was not asked, since it does not answer.
    NotAsked,
    /// Whoever asked went away.
    Abandoned,
    /// It was about a key that the connector made up, whatever came of it.
    MadeUp,
}

/// The label of a count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    outcome: &'static str,
}

/// Counts that grow; clones share them.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Questions by what came of them.
    pub questions: Family<OutcomeLabel, Counter>,
    /// How long those took that were sent.
    pub seconds: Histogram,
    /// Answers from memory.
    pub remembered: Counter,
}

impl Figures {
    pub(super) fn new() -> Self {
        Self { questions: Family::default(), seconds: Histogram::new(BUCKETS), remembered: Counter::default() }
    }

    /// A question that was not sent.
    pub(super) fn not_sent(&self, outcome: Outcome) {
        self.questions.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// A question that is sent now.
    pub(super) fn sent(&self) -> Sent<'_> {
        Sent { figures: self, at: Instant::now(), outcome: Outcome::Abandoned }
    }

    /// A question about a made-up key that is sent now.
    pub(super) fn made_up(&self) -> Sent<'_> {
        Sent { figures: self, at: Instant::now(), outcome: Outcome::MadeUp }
    }
}

/// A question under way; counted when it is dropped, and dropped in any case.
pub(super) struct Sent<'a> {
    figures: &'a Figures,
    at: Instant,
    outcome: Outcome,
}

impl Sent<'_> {
    pub(super) fn came_to(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let took: Duration = self.at.elapsed();
        self.figures.seconds.observe(took.as_secs_f64());
        self.figures.not_sent(self.outcome);
    }
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::NotAsked => "not_asked",
            Self::Abandoned => "abandoned",
            Self::MadeUp => "made_up",
        }
    }
}
