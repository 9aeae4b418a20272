//! What a connector says that it has answered. The load itself takes any answer below 400 for a good one, and to look at each would slow it down.

/// How many scans were answered with 200. Fails if any was answered otherwise.
pub(crate) fn good(metrics: &str) -> u64 {
    let answers = metrics.lines().filter_map(|line| line.strip_prefix("connector_answers_total{")?.split_once("} "));
    let (mut good, mut others) = (0, Vec::new());
    for (labels, count) in answers {
        let count: u64 = count.parse().unwrap();
        match labels.contains("status=\"200\"") {
            true => good += count,
            false if count > 0 => others.push(format!("{count} of {labels}")),
            false => {}
        }
    }
    assert!(others.is_empty(), "answers that are no 200: {others:?}");
    good
}

/// Fails unless so many were answered, all of them with 200. Of the last ones, as many as there were connections, the load may not have
/// waited for the answers.
pub(crate) fn are_all_good(metrics: &str, requests: u64, connections: usize) {
    let (good, most) = (good(metrics), requests + u64::try_from(connections).unwrap());
    assert!((requests..=most).contains(&good), "{good} answers with 200, of {requests} (and up to {most}) requests");
}

/// What one metric without labels says.
pub(crate) fn figure(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}
