//! The OpenAPI document: the copy in `docs/`, the served document, and that the connector behaves as it says.

mod administration;
pub(crate) mod contract;
mod gate;
pub(crate) mod routes;
mod shopper;

use crate::trials::{apply, test};
use std::collections::BTreeSet;

use identity_connector::testing::admin::openapi::document;
use serde_json::{Map, Value, json};

use self::contract::{DOCUMENT, calls};
use crate::support::{Answer, Server, client_without_credentials};

#[apply(test)]
fn document_in_docs_is_up_to_date() {
    let stored = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json")).unwrap_or_default();
    assert!(stored == document(), "docs/openapi.json is stale; update it: cargo run -- openapi > docs/openapi.json");
}

#[apply(test)]
fn refusals_share_one_schema_and_credentials_are_defined() {
    let (mut refusals, mut credentials) = (0, BTreeSet::new());
    for (_, path, call) in calls() {
        credentials
            .extend(call["security"].as_array().into_iter().flatten().filter_map(Value::as_object).flat_map(Map::keys));
        for (status, answer) in call["responses"].as_object().unwrap() {
            let answer = answer["$ref"].as_str().map_or(answer, |shared| DOCUMENT.pointer(&shared[1..]).unwrap());
            // A failed probe answers with its status instead.
            if status.starts_with(['4', '5']) && path != "/readyz" {
                let content = &answer["content"]["application/json"];
                assert_eq!(content["schema"], json!({ "$ref": "#/components/schemas/Error" }), "{path} {status}");
                assert!(!content["examples"].as_object().unwrap().is_empty(), "{path} {status}");
                refusals += 1;
            }
        }
    }
    assert!(refusals > 100, "only {refusals}");
    let defined = DOCUMENT["components"]["securitySchemes"].as_object().unwrap().keys().collect();
    assert_eq!(credentials, defined);
    let error = &DOCUMENT["components"]["schemas"]["Error"]["properties"];
    assert!(error["message"]["enum"].is_null() && error["reason"]["enum"].as_array().unwrap().len() > 3, "{error}");
}

#[apply(test)]
async fn management_port_serves_the_document_without_a_token() {
    let server = Server::demo(&[]).await;
    let get = async |path: &str| {
        let request = client_without_credentials().get(format!("{}{path}", server.management));
        Answer::read(request.send().await.unwrap()).await
    };
    let answer = get("/openapi.json").await;
    assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (200, "application/json"));
    assert!(answer.body == document().as_bytes());
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/openapi", "text/html; charset=utf-8"),
        ("/openapi/swagger-ui.css", "text/css"),
        ("/openapi/swagger-initializer.js", "text/javascript"),
    ] {
        let answer = get(path).await;
        assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (200, content_type), "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    }
    assert_eq!(get("/openapi/no-such-file").await.status, 404);
}
