//! A code for an app, its token and the customer's credentials appear nowhere but in the answer.

use crate::trials::{apply, on_databases};
use chrono::DateTime;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::engines::import::TestDatabase;
use crate::shopper::scan_key_codes::CODES;
use crate::support::shopper::CONTEXTS;
use crate::support::{Answer, Process, client, client_without_credentials, scan, secrets};

const SHOPPER: &str = "shopper-uuid-001";

/// Searches the log, the lists, the metrics, an export and the database's files.
#[apply(on_databases)]
async fn token_appears_only_in_its_answer(engine: Engine) {
    let database = TestDatabase::new(engine);
    let process = Process::demo(&[&database.settings()[..], &[("log.level", "trace")]].concat()).await;
    let post = async |path: &str, body: Value| {
        let request = client_without_credentials().post(format!("{}{path}", process.api)).body(body.to_string());
        Answer::read(request.send().await.unwrap()).await.json()
    };
    let token = post("/demo/sign-in", json!({ "shopper": SHOPPER })).await["accessToken"].as_str().unwrap().to_owned();
    let request = client_without_credentials().get(format!("{}{CONTEXTS}", process.api)).bearer_auth(&token);
    let context = Answer::read(request.send().await.unwrap()).await.json();
    let context = context["customerContext"].as_str().unwrap();
    let mut hidden = vec![token.clone(), context.to_owned()];
    for accept in ["application/json", "image/png", "image/svg+xml"] {
        let request = client_without_credentials()
            .post(format!("{}{CODES}", process.api))
            .bearer_auth(&token)
            .header(ACCEPT, accept);
        let answer = Answer::read(request.header("x-customer-context", context).send().await.unwrap()).await;
        assert_eq!(answer.status, 200);
        let code = match answer.headers.get("x-scan-key-code") {
            Some(code) => code.to_str().unwrap().to_owned(),
            None => answer.json()["scanKeyCode"].as_str().unwrap().to_owned(),
        };
        let made_at = DateTime::from_timestamp(code[39..].parse().unwrap(), 0).unwrap().to_rfc3339();
        let scan = set(scan(), "authEvent.timestamp", made_at.replace("+00:00", "Z"));
        let answer = post("/v1/identity/identity-keys", set(scan, "identityKey", base64(&code))).await;
        assert_eq!(answer["visitorDetails"]["id"], SHOPPER, "{answer}");
        hidden.extend([code[7..39].to_owned(), base64(&code)]);
    }
    let mut seen = Vec::new();
    for path in ["admin/v1/recognition-tokens", "admin/v1/audit", "admin/v1/decisions", "admin/v1/shoppers", "metrics"]
    {
        let page = client().get(format!("{}/{path}?limit=1000", process.management)).send().await.unwrap();
        seen.push((path.to_owned(), page.text().await.unwrap()));
    }
    assert_eq!(seen[0].1.matches("\"digest\"").count(), 1, "only the demo's own token: {}", seen[0].1);
    process.signal("TERM");
    seen.push(("log".to_owned(), process.wait_for_end().stderr));
    seen.push(("export".to_owned(), database.export("jsonl")));
    seen.extend(database.files());
    for (source, text) in seen {
        secrets::assert_none_of(&hidden, &text, &source);
    }
}
