//! Every documented path exists, and every path is documented.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

/// A router does not list its routes, so this test searches the source for them.
#[test]
fn every_path_in_the_source_is_in_the_document() {
    let documented: BTreeSet<&str> = calls().map(|(_, path, _)| path).collect();
    let mut found = 0;
    for text in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http")) {
        let code = text.split("#[cfg(test)]").next().unwrap();
        // Every string that is a path.
        for word in code.split('"').skip(1).step_by(2) {
            let is_path = word.starts_with('/') && word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_graphic());
            // The demo's paths, the files of the document's page, and suffixes of other paths are not documented.
            let is_other = word.starts_with("/demo")
                || word.starts_with("/openapi/")
                || word == "/lines/{sku}"
                || word == "/lines";
            if is_path && !is_other {
                found += 1;
                let is_known = documented.contains(word)
                    || word == "/commerceapi/"
                    || documented.iter().any(|path| *path == format!("{word}/migrate"));
                assert!(is_known, "{word} is not in the document");
            }
        }
    }
    assert!(found > 20, "only {found} paths found");
}

/// The text of every file below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.extension().and_then(|ending| ending.to_str()) {
            Some("rs") => vec![fs::read_to_string(&path).unwrap()],
            // The document's own source proves nothing.
            _ if path.is_dir() && !path.ends_with("openapi") => sources(&path),
            _ => Vec::new(),
        })
        .collect()
}
