//! Where the alert rules send an operator: each `runbook_url` is an anchor behind the address in the rules' one setting.

use std::collections::BTreeSet;

/// The beginning of each `runbook_url` in the rules: the address is looked up in a recording rule, so that it is set in one place.
pub(crate) const TEMPLATE: &str = r#"{{ with query "connector:runbook:info" }}{{ . | first | label "url" }}{{ end }}#"#;

/// The address in that recording rule.
pub(crate) fn address(rules: &str) -> &str {
    let rule = rules.split("- record: connector:runbook:info\n").nth(1).expect("the recording rule");
    rule.split("labels: { url: \"").nth(1).and_then(|rest| rest.split('"').next()).expect("its url label")
}

/// Each alert with the anchor that its `runbook_url` leads to.
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
            let kept = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            kept.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
        })
        .collect()
}
