//! What a connector says that it has done. The load itself takes any answer below 400 for a good one, and to look at each would slow it down.

use std::ops::RangeInclusive;

/// What it has done so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Scans that were answered with 200.
    answers: u64,
    /// Events that it had not known before.
    new: u64,
}

/// What these metrics say. Fails if any scan was answered otherwise than with 200, or is not in the log.
pub(crate) fn of(metrics: &str) -> Counts {
    let others: Vec<_> =
        labelled(metrics, "connector_answers_total").filter(|(labels, count)| *count > 0 && !is_good(labels)).collect();
    assert!(others.is_empty(), "answers that are no 200: {others:?}");
    assert_eq!(figure(metrics, "connector_log_lines_dropped_total"), 0, "lines that are missing in the log");
    Counts {
        answers: labelled(metrics, "connector_answers_total").map(|(_, count)| count).sum(),
        new: labelled(metrics, "connector_decisions_total").map(|(_, count)| count).sum(),
    }
}

impl Counts {
    /// Fails unless it has answered so many since then, and met so many new events.
    pub(crate) fn fit(self, before: Self, answers: RangeInclusive<u64>, new: RangeInclusive<u64>) {
        let (answered, met) = (self.answers - before.answers, self.new - before.new);
        assert!(answers.contains(&answered), "{answered} answers with 200, where {answers:?} were asked for");
        assert!(new.contains(&met), "{met} new events, where there should be {new:?}");
    }
}

fn is_good(labels: &str) -> bool {
    labels.contains("status=\"200\"")
}

/// All of one name, by their labels.
fn labelled<'m>(metrics: &'m str, name: &str) -> impl Iterator<Item = (&'m str, u64)> {
    let lines = metrics.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    lines.map(|(labels, count)| (labels, count.parse().unwrap()))
}

/// What one metric without labels says.
pub(crate) fn figure(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}
