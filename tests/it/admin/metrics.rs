//! Metrics: their values, and that documentation, dashboard and alert rules use existing metrics.

use crate::trials::{apply, test};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use identity_connector::clock::Clock;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::checks::{metric, repeat_until, wait_until};
use crate::support::backend::Backend;
use crate::support::certificates::{Authority, TlsFiles};
use crate::support::{IDENTITY_KEYS, Server, scan, scan_with_key};

/// Metrics by the name of their samples, each with its type and labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn words(list: &str) -> BTreeSet<String> {
    let parts = list.split(|c: char| !c.is_alphanumeric() && c != '_');
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The names of the labels between the braces of a sample or a selector.
fn label_names(between: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = between;
    while let Some((name, after)) = rest.split_once(['=', '!']) {
        names.insert(name.trim_matches([',', ' ']).to_owned());
        let (_, value) = after.split_once('"').unwrap();
        // Up to the first quote that is not escaped.
        let end = value.char_indices().find(|(at, c)| *c == '"' && !value[..*at].ends_with('\\')).unwrap().0;
        rest = &value[end + 1..];
    }
    names
}

/// The metrics in the text of a scrape.
fn exposed_metrics(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            metrics.insert(format!("{name}{suffix}"), (kind.to_owned(), BTreeSet::new()));
        } else if let (Some((name, between)), false) = (line.split_once('{'), line.starts_with('#')) {
            let labels = label_names(between.rsplit_once('}').unwrap().0);
            let name = histogram_of_sample(name, &metrics).to_owned();
            metrics
                .get_mut(&name)
                .unwrap_or_else(|| panic!("{name}?"))
                .1
                .extend(labels.into_iter().filter(|l| l != "le"));
        }
    }
    metrics
}

/// The name of a histogram for the name of one of its samples.
fn histogram_of_sample<'a>(name: &'a str, metrics: &Metrics) -> &'a str {
    let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
    parts.into_iter().find(|name| metrics.get(*name).is_some_and(|(kind, _)| kind == "histogram")).unwrap_or(name)
}

/// The metrics in the tables of `docs/metrics.md`.
fn documented_metrics() -> Metrics {
    let text = file("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", name, kind, labels, meaning, _, ""] = cells[..] else { panic!("{row}") };
        assert!(meaning.len() > 10, "{row}");
        (name.trim_matches('`').to_owned(), (kind.to_owned(), words(labels)))
    })
    .collect()
}

/// The scrapes of connectors that have served every kind of request.
async fn scrapes() -> [String; 4] {
    let plain = after_some_requests().await.metrics().await;
    let digest = hex::encode(Sha256::digest("the-key-of-amazon"));
    let called = Server::demo(&[("server.callers.amazon.api_key_sha256", digest.as_str())]).await;
    let request = called.client.post(format!("{}{IDENTITY_KEYS}", called.api)).header("x-api-key", "the-key-of-amazon");
    request.body(scan().to_string()).send().await.unwrap();
    let called = called.metrics().await;

    let backend = Backend::start().await;
    let asking = backend.connector(&[]).await;
    asking.verify(&scan_with_key(b"unknown_key")).await;
    let asking = asking.metrics().await;

    let files = TlsFiles::create(&Authority::new("public").server(), None);
    let settings = files.settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let secure = Server::demo(&settings).await;
    TcpStream::connect(secure.address()).await.unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let failed = |metrics: &String| metrics.contains("connector_tls_handshake_failures_total{");
    let secure = repeat_until("the failed handshake", async || secure.metrics().await, failed).await;
    [plain, called, asking, secure]
}

async fn after_some_requests() -> Server {
    let server = Server::sqlite(&[("rate_limit.burst", "8"), ("rate_limit.requests_per_second", "1")]).await;
    server.verify(&scan()).await;
    server.verify(&scan_with_key(b"associate_key")).await;
    server.verify(&scan_with_key(b"invalid_key")).await;
    server.verify(&scan_with_key(b"unavailable_backend_key")).await;
    for _ in 0..8 {
        server.post("{}").await;
    }
    server.client.get(format!("{}/commerceapi/cart", server.shoppers)).send().await.unwrap();
    server
}

#[apply(test)]
async fn documented_metrics_match_exposed_metrics() {
    let (scrapes, documented) = (scrapes().await, documented_metrics());
    let mut exposed = Metrics::new();
    for (name, (kind, labels)) in scrapes.iter().flat_map(|text| exposed_metrics(text)) {
        exposed.entry(name).or_insert((kind, BTreeSet::new())).1.extend(labels);
    }
    let names = |metrics: &Metrics| metrics.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&exposed), names(&documented), "exposed and documented");
    for (name, metric) in &exposed {
        assert_eq!(metric, &documented[name], "{name}");
    }
    assert!(exposed.len() > 25);

    // Their help texts, as a scraper sees them.
    let helps: BTreeSet<&str> =
        scrapes.iter().flat_map(|text| text.lines()).filter(|l| l.starts_with("# HELP ")).collect();
    assert_eq!(helps, include_str!("metrics.txt").lines().collect());
}

/// The metrics that a query uses, each with the labels that it names.
fn used_metrics(query: &str) -> Vec<(String, BTreeSet<String>)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut grouped = BTreeSet::new();
    for part in query.split("by (").skip(1) {
        grouped.extend(words(part.split(')').next().unwrap()));
    }
    let mut found = Vec::new();
    for (at, _) in query.match_indices(['c', 'p']) {
        let starts = !query[..at].ends_with(is_word);
        let name: String = query[at..].chars().take_while(|c| is_word(*c)).collect();
        if starts && (name.starts_with("connector_") || name.starts_with("process_")) {
            let behind = query[at + name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let mut labels = behind.map(|(between, _)| label_names(between)).unwrap_or_default();
            labels.extend(grouped.iter().cloned());
            found.push((name, labels));
        }
    }
    found
}

/// Every text value of a member of that name, at any depth.
fn collect_texts<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(name).and_then(Value::as_str));
            object.values().for_each(|value| collect_texts(value, name, found));
        }
        Value::Array(array) => array.iter().for_each(|value| collect_texts(value, name, found)),
        _ => {}
    }
}

#[apply(test)]
fn dashboard_and_alert_rules_use_existing_metrics() {
    let documented = documented_metrics();
    let dashboard: Value = serde_json::from_str(&file("deploy/grafana.json")).unwrap();
    let mut queries = Vec::new();
    collect_texts(&dashboard, "expr", &mut queries);
    collect_texts(&dashboard, "definition", &mut queries);
    // A rule's expression is the text from its `expr` to its annotations.
    let rules = file("deploy/alerts.yml");
    let rules: Vec<&str> =
        rules.split(" expr: ").skip(1).map(|rule| rule.split("annotations:").next().unwrap()).collect();
    let mut used = 0;
    for query in queries.iter().chain(&rules) {
        for (name, labels) in used_metrics(query) {
            let metric = documented
                .get(histogram_of_sample(&name, &documented))
                .unwrap_or_else(|| panic!("{name} is not documented: {query}"));
            for label in labels {
                let is_everywhere = ["job", "instance", "le"].contains(&label.as_str());
                // A query of two metrics groups by the labels of either.
                let is_known = metric.1.contains(&label) || query.matches("connector_").count() > 1;
                assert!(is_everywhere || is_known, "{name} has no {label}: {query}");
            }
            used += 1;
        }
    }
    assert!(queries.len() > 40 && rules.len() > 20 && used > 70, "{} {} {used}", queries.len(), rules.len());
}

/// A counter that first appears with the value one has not increased for Prometheus, so an alert would miss it.
#[apply(test)]
async fn alerted_answers_exist_from_the_start() {
    let (rules, metrics) = (file("deploy/alerts.yml"), Server::demo(&[]).await.metrics().await);
    let selectors = rules.split("connector_answers_total{").skip(1).map(|rest| rest.split('}').next().unwrap());
    let reasons = selectors.filter_map(|labels| labels.split_once("reason=")).flat_map(|(_, value)| {
        let value = value.trim_start_matches('~').strip_prefix('"').unwrap();
        value.split('"').next().unwrap().split('|')
    });
    let reasons: BTreeSet<_> = reasons.collect();
    for reason in &reasons {
        let is_there = metrics
            .lines()
            .any(|line| line.starts_with("connector_answers_total{") && line.contains(&format!("reason=\"{reason}\"")));
        assert!(is_there, "an alert uses {reason}, which appears only with the first such answer");
    }
    assert!(reasons.len() >= 2, "{reasons:?}");
}

/// The value of the line that begins with this text.
fn figure(text: &str, begins: &str) -> f64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(begins));
    let value = lines.next().unwrap_or_else(|| panic!("no {begins} in {text}"));
    value.trim().parse().unwrap()
}

#[apply(test)]
async fn decisions_are_counted_once_and_unknown_stores_get_no_label() {
    let server = Server::demo(&[]).await;
    let (entry, denied) = (scan_with_key(b"associate_key"), scan_with_key(b"no_such_key"));
    for body in [&entry, &entry, &denied] {
        server.verify(body).await;
    }
    for number in 0..50 {
        let mut body = scan();
        body["storeId"] = json!(format!("MADE-UP-{number}"));
        assert_eq!(server.verify(&body).await.status, 400);
    }
    let text = server.metrics().await;
    let of = |store: &str, kind: &str, decision: &str| {
        let labels = format!(r#"store="{store}",visitor_type="{kind}",decision="{decision}""#);
        figure(&text, &format!("connector_decisions_total{{{labels}}}"))
    };
    let store = entry["storeId"].as_str().unwrap();
    assert_eq!((of(store, "ASSOCIATE", "accepted"), of(store, "none", "denied")), (1.0, 1.0));
    assert!(!text.contains("MADE-UP"), "{text}");
}

#[apply(test)]
async fn faults_are_counted_by_default_gate_decision_even_if_the_directory_fails() {
    let server = Server::demo(&[]).await;
    let open_stores = r#"connector_stores{store_default="open"}"#;
    wait_until(open_stores, async || metric(&server, open_stores).await == 1).await;
    server.faults.set(Some(identity_connector::testing::directory::Fault::Fail));
    for store in ["STORE-001", "STORE-002", "STORE-002", "NO-SUCH-STORE"] {
        let mut body = scan();
        body["storeId"] = json!(store);
        assert_eq!(server.verify(&body).await.status, 500, "{store}");
    }
    let text = server.metrics().await;
    let faults = |default: &str| figure(&text, &format!("connector_faults_total{{store_default=\"{default}\"}}"));
    assert_eq!((faults("closed"), faults("open"), faults("unknown")), (1.0, 2.0, 1.0));
}

#[apply(test)]
async fn event_lag_is_measured_below_and_above_zero() {
    let server = Server::demo(&[]).await;
    for seconds in [-30, 30] {
        let mut body = scan_with_key(b"associate_key");
        let at = server.clock.now() + chrono::TimeDelta::seconds(seconds);
        body["authEvent"]["timestamp"] = json!(at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
        assert_eq!(server.verify(&body).await.status, 200);
    }
    let text = server.metrics().await;
    let at_most = |bound: &str| figure(&text, &format!("connector_event_lag_seconds_bucket{{le=\"{bound}\"}}"));
    assert_eq!([at_most("-60.0"), at_most("-15.0"), at_most("15.0"), at_most("60.0")], [0.0, 1.0, 1.0, 2.0]);
}

#[apply(test)]
async fn process_and_build_metrics_are_exposed() {
    let server = Server::demo(&[]).await;
    let text = server.metrics().await;
    assert!(text.contains(&format!("connector_build_info{{version=\"{}\",commit=\"", env!("CARGO_PKG_VERSION"))));
    assert!(figure(&text, "process_resident_memory_bytes ") > 1e6);
    assert!(figure(&text, "process_open_fds ") < figure(&text, "process_max_fds "));
    let started = figure(&text, "process_start_time_seconds ");
    let began = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::from_std(Duration::from_secs_f64(started)).unwrap();
    let age = Clock::System.now().signed_duration_since(began).num_seconds();
    assert!((0..3600).contains(&age), "{began}");
}
