//! The documented paths are those of each port.

use crate::trials::{apply, test};
use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::Value;

use super::contract::calls;
use crate::support::{Server, client};

/// The port that serves a call.
fn port<'a>(server: &'a Server, call: &Value) -> &'a str {
    match call["tags"][0].as_str().unwrap() {
        "gate" => &server.api,
        "shopper" => &server.shoppers,
        _ => &server.management,
    }
}

/// Replaces each parameter in a path with a value.
pub(crate) fn fill_parameters(path: &str) -> String {
    path.replace("{id}", "1").replace("{digest}", &"0".repeat(64)).replace("{sku}", "SKU-1")
}

#[apply(test)]
async fn documented_paths_accept_exactly_the_documented_methods() {
    let server = Server::demo(&[]).await;
    let mut paths: BTreeMap<&str, (String, BTreeSet<String>)> = BTreeMap::new();
    for (method, path, call) in calls() {
        let (_, methods) = paths.entry(path).or_insert_with(|| (port(&server, call).to_owned(), BTreeSet::new()));
        methods.insert(method.to_uppercase());
        if method == "get" {
            methods.insert("HEAD".to_owned());
        }
    }
    for (path, (port, methods)) in paths {
        let slashed = path.starts_with("/commerceapi/").then(|| format!("{path}/"));
        for path in [path.to_owned()].into_iter().chain(slashed) {
            let url = format!("{port}{}", fill_parameters(&path));
            let answer = client().request(Method::from_bytes(b"PROPFIND").unwrap(), url).send().await.unwrap();
            assert_eq!(answer.status(), 405, "{path}");
            let allowed = answer.headers()["allow"].to_str().unwrap().split(',').map(|method| method.trim().to_owned());
            assert_eq!(allowed.collect::<BTreeSet<_>>(), methods, "{path}");
        }
    }
}

#[apply(test)]
async fn probes_are_answered_on_every_port() {
    let server = Server::demo(&[("commerce.bind", "127.0.0.1:0")]).await;
    for port in [&server.api, &server.management, &server.shoppers] {
        for path in ["livez", "readyz"] {
            let answer =
                crate::support::Answer::read(client().get(format!("{port}/{path}")).send().await.unwrap()).await;
            assert_eq!(answer.status, 200);
            super::contract::check(path, &answer);
        }
    }
}
