//! The `runbook_url` of each alert: the runbook's address, which the rules set in one place, and an anchor.

use std::collections::BTreeSet;

/// The prefix of each `runbook_url`: it takes the address from a recording rule, so that the address is set in one
/// place.
pub(crate) const TEMPLATE: &str = r#"{{ with query "connector:runbook:info" }}{{ . | first | label "url" }}{{ end }}#"#;

/// The address in the recording rule.
pub(crate) fn address(rules: &str) -> &str {
    let rule = rules.split("- record: connector:runbook:info\n").nth(1).expect("the file has the recording rule");
    rule.split("labels: { url: \"").nth(1).and_then(|rest| rest.split('"').next()).expect("the rule has a url label")
}

/// Each alert with the anchor in its `runbook_url`.
pub(crate) fn alerts(rules: &str) -> Vec<(&str, &str)> {
    let alerts = rules.split("- alert: ").skip(1);
    alerts
        .map(|alert| {
            let name = alert.lines().next().unwrap();
            let line = alert.lines().find_map(|line| line.trim().strip_prefix("runbook_url: '")?.strip_suffix('\''));
            let line = line.unwrap_or_else(|| panic!("{name} has no runbook_url"));
            let anchor =
                line.strip_prefix(TEMPLATE).unwrap_or_else(|| panic!("{name}: {line} does not begin with {TEMPLATE}"));
            (name, anchor)
        })
        .collect()
}

/// The anchors of a page's headings from the second level on, as GitHub makes them.
pub(crate) fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = markdown.lines().filter_map(|line| line.strip_prefix("##"));
    headings
        .map(|heading| {
            let anchor = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            anchor.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
        })
        .collect()
}
