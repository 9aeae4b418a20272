//! Metrics as scrapers read them: Python's `prometheus_client` parses both text formats.
//!
//! Without it (Debian package `python3-prometheus-client`) these tests are ignored. With it, the metrics of each
//! connector of any test are also parsed when the connector stops.

use crate::trials::{apply, test_that_needs};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::{Server, exposition, scan, scan_with_key};

/// A test that needs prometheus_client.
macro_rules! with_prometheus_client {
    ($($function:tt)*) => { test_that_needs! { exposition::missing; $($function)* } };
}

/// The metric families in the format that `accept` requests.
async fn families(server: &Server, accept: &str, content_type: &str) -> Vec<Value> {
    let answer =
        server.client.get(format!("{}/metrics", server.management)).header(ACCEPT, accept).send().await.unwrap();
    assert_eq!(answer.headers()[CONTENT_TYPE], content_type);
    exposition::families(content_type, &answer.text().await.unwrap())
}

#[apply(with_prometheus_client)]
async fn both_formats_are_valid_and_equal() {
    let store = r#"a "store" \ with {all}, le="-1"#;
    let backend = Backend::start().await;
    let servers = [Server::demo(&[]).await, Server::sqlite(&[]).await, backend.connector(&[]).await];
    for server in servers {
        server.put("stores/a%20%22store%22%20%5C%20with%20%7Ball%7D%2C%20le%3D%22-1", &json!({})).await;
        let mut elsewhere = scan_with_key(b"associate_key");
        elsewhere["storeId"] = json!(store);
        for body in [scan(), elsewhere, scan_with_key(b"no_such_key"), json!({})] {
            server.verify(&body).await;
        }
        let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let open = families(&server, "application/openmetrics-text;version=1.0.0", open).await;
        let plain = families(&server, "text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8").await;
        // The older format has no type `info`. There, it is a gauge with the name of its sample.
        let as_plain = |family: &Value| match &family[1] {
            kind if kind == "info" => json!([family[2][0], "gauge", family[2]]),
            _ => family.clone(),
        };
        assert_eq!(open.iter().map(as_plain).collect::<Vec<_>>(), plain);
        assert!(open.len() > 25 && plain.iter().any(|family| family[0] == "connector_build_info"));
    }
}

/// Without this, a parser that accepts everything would go unnoticed.
#[apply(with_prometheus_client)]
async fn invalid_metrics_are_detected() {
    let counter = "# TYPE a counter\na_total 1\n# EOF\n";
    assert_eq!(exposition::read("openmetrics", counter), Some(json!([["a", "counter", ["a_total"]]])));
    let sum = "# TYPE a histogram\na_bucket{le=\"-1.0\"} 0\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n# EOF\n";
    for (invalid, found) in [(sum, "negative buckets"), ("a 1\n", "Missing # EOF")] {
        let error = exposition::read("openmetrics", invalid).unwrap();
        assert!(error.as_str().is_some_and(|error| error.contains(found)), "{invalid}: {error}");
    }
}
