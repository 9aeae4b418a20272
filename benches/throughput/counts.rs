//! Counts from the connector's metrics. wrk counts any status below 400 as success, and checking each answer in wrk
//! would slow the load down.

/// Counts of answers and events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Scans answered with 200.
    pub(crate) answers: u64,
    /// New events.
    pub(crate) new: u64,
}

/// Reads the counts from metrics. Panics if any scan was not answered with 200, or a log line was dropped.
pub(crate) fn read(metrics: &str) -> Counts {
    let others: Vec<_> =
        labelled(metrics, "connector_answers_total").filter(|(labels, count)| *count > 0 && !is_good(labels)).collect();
    assert!(others.is_empty(), "answers other than 200: {others:?}");
    assert_eq!(figure(metrics, "connector_log_lines_dropped_total"), 0, "log lines were dropped");
    Counts {
        answers: labelled(metrics, "connector_answers_total").map(|(_, count)| count).sum(),
        new: labelled(metrics, "connector_decisions_total").map(|(_, count)| count).sum(),
    }
}

impl Counts {
    /// The difference from earlier counts.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { answers: self.answers - before.answers, new: self.new - before.new }
    }
}

fn is_good(labels: &str) -> bool {
    labels.contains("status=\"200\"")
}

/// All values of a metric, with their labels.
fn labelled<'m>(metrics: &'m str, name: &str) -> impl Iterator<Item = (&'m str, u64)> {
    let lines = metrics.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    lines.map(|(labels, count)| (labels, count.parse().unwrap()))
}

/// The value of a metric without labels.
pub(crate) fn figure(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}
