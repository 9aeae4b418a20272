//! What a connector says that it has done. The load itself takes any answer below 400 for a good one, and to look at each would slow it down.

/// What it has done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Scans that were answered with 200.
    pub(crate) answers: u64,
    /// Events that it had not known before.
    pub(crate) new: u64,
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
    /// What it has done since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { answers: self.answers - before.answers, new: self.new - before.new }
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
