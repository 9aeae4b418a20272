//! Alert rules and dashboard: `promtool` checks their syntax, and evaluates the rules on the series of each test case.
//!
//! Without `promtool` (Debian package `prometheus`) these tests are ignored. `tests/it/admin/metrics.rs` checks that
//! the metrics exist.

use crate::trials::{apply, test_that_needs};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::file_with;

/// A test that needs promtool.
macro_rules! with_promtool {
    ($($function:tt)*) => { test_that_needs! { missing; $($function)* } };
}

fn missing() -> Option<String> {
    let is_there = Command::new("promtool").arg("--version").output().is_ok();
    (!is_there).then(|| "promtool is not installed (Debian: prometheus)".to_owned())
}

fn deploy(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file).to_str().unwrap().to_owned()
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).output().unwrap();
    let printed = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {printed}");
}

#[apply(with_promtool)]
async fn rules_are_valid_and_fire_as_tested() {
    promtool(&["check", "rules", "--lint-fatal", &deploy("alerts.yml")]);
    promtool(&["test", "rules", &deploy("alerts_test.yml")]);
}

#[apply(with_promtool)]
async fn every_alert_fires_in_a_test() {
    let [rules, tests] = ["alerts.yml", "alerts_test.yml"].map(|file| std::fs::read_to_string(deploy(file)).unwrap());
    for alert in rules.split("- alert: ").skip(1).map(|rest| rest.lines().next().unwrap()) {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} never fires in a test");
    }
}

/// The prefix of each `runbook_url`: it takes the address from a recording rule, so that the address is set in one
/// place.
const TEMPLATE: &str = r#"{{ with query "connector:runbook:info" }}{{ . | first | label "url" }}{{ end }}#"#;

/// The address in the recording rule.
fn address(rules: &str) -> &str {
    let rule = rules.split("- record: connector:runbook:info\n").nth(1).expect("the file has the recording rule");
    rule.split("labels: { url: \"").nth(1).and_then(|rest| rest.split('"').next()).expect("the rule has a url label")
}

/// Each alert with the anchor in its `runbook_url`.
fn alerts(rules: &str) -> Vec<(&str, &str)> {
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
fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = markdown.lines().filter_map(|line| line.strip_prefix("##"));
    headings
        .map(|heading| {
            let anchor = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            anchor.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
        })
        .collect()
}

/// Puts each alert's `runbook_url` on an alert that always fires, so that Prometheus expands the template.
#[apply(with_promtool)]
async fn every_runbook_url_points_to_a_heading_of_the_operations_guide() {
    let rules = std::fs::read_to_string(deploy("alerts.yml")).unwrap();
    let anchors = anchors(&std::fs::read_to_string(deploy("../docs/operations.md")).unwrap());
    let (address, alerts) = (address(&rules), alerts(&rules));
    assert!(address.starts_with(env!("CARGO_PKG_REPOSITORY")) && address.ends_with("/docs/operations.md"), "{address}");
    assert!(alerts.len() > 20);
    let mut always =
        vec![json!({ "record": "connector:runbook:info", "expr": "vector(1)", "labels": { "url": address } })];
    let mut expected = Vec::new();
    for (alert, anchor) in alerts {
        assert!(anchors.contains(anchor), "{alert}: docs/operations.md has no heading for #{anchor}");
        let template = format!("{TEMPLATE}{anchor}");
        always.push(json!({ "alert": alert, "expr": "vector(1)", "annotations": { "runbook_url": template } }));
        let fires = json!({ "exp_labels": {}, "exp_annotations": { "runbook_url": format!("{address}#{anchor}") } });
        expected.push(json!({ "alertname": alert, "eval_time": "1m", "exp_alerts": [fires] }));
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let rules = write("rules.json", json!({ "groups": [{ "name": "runbooks", "rules": always }] }));
    let tests = json!([{ "interval": "1m", "alert_rule_test": expected }]);
    promtool(&["test", "rules", &write("test.json", json!({ "rule_files": [rules], "tests": tests }))]);
}

/// Collects all `expr` members at any depth.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("expr").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| queries(value, found));
        }
        Value::Array(array) => array.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

#[apply(with_promtool)]
async fn dashboard_queries_are_valid() {
    let dashboard = serde_json::from_str(&std::fs::read_to_string(deploy("grafana.json")).unwrap()).unwrap();
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    assert!(found.len() > 40);
    // promtool checks rules, so each query becomes a rule, with Grafana's variables filled in. JSON is valid YAML.
    let rules: Vec<Value> = found
        .iter()
        .enumerate()
        .map(|(number, query)| {
            let query = query.replace("$__rate_interval", "1m").replace("$job", "job").replace("$instance", ".*");
            assert!(!query.contains('$'), "{query}");
            json!({ "record": format!("panel:{number}"), "expr": query })
        })
        .collect();
    let file = file_with(json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string());
    promtool(&["check", "rules", file.path().to_str().unwrap()]);
}
