//! The administration and the probes: their answers match the document.

use crate::trials::{apply, test};

use serde_json::json;

use super::contract::{Seen, calls, check};
use crate::checks::repeat_until;
use crate::support::{Answer, Server, client, client_without_credentials, scan};

/// The example body of a call.
fn example(id: &str) -> String {
    let (_, _, call) = calls().find(|(_, _, call)| call["operationId"] == id).unwrap();
    call["requestBody"]["content"]["application/json"]["example"].to_string()
}

#[apply(test)]
async fn administration_matches_the_document() {
    let server = Server::demo(&[]).await;
    let seen = Seen::default();
    let at = |path: &str| format!("{}/admin/v1/{path}", server.management);
    let (client, put) = (client(), |path: &str, body: String| client().put(at(path)).body(body));
    let mut out = scan();
    server.verify(&out).await;
    out["authEvent"]["id"] = json!("11111111-2222-3333-4444-555555555555");
    out["authEvent"]["location"] = json!("EXIT");
    server.verify(&out).await;
    server.verify(&json!({})).await;

    seen.ask("putStore", 200, put("stores/STORE-003", example("putStore"))).await;
    seen.ask("putStore", 400, put("stores/STORE-003", r#"{"takesCash":1}"#.to_owned())).await;
    seen.ask("putStore", 413, put("stores/STORE-003", " ".repeat(70_000))).await;
    seen.ask("getStore", 200, client.get(at("stores/STORE-003"))).await;
    seen.ask("getStore", 404, client.get(at("stores/NOWHERE"))).await;
    seen.ask("deleteStore", 204, client.delete(at("stores/STORE-003"))).await;
    seen.ask("putShopper", 200, put("shoppers/shopper-7", example("putShopper"))).await;
    seen.ask("getShopper", 200, client.get(at("shoppers/shopper-7"))).await;
    seen.ask("flagShopper", 200, client.post(at("shoppers/shopper-7/flag"))).await;
    seen.ask("unflagShopper", 200, client.post(at("shoppers/shopper-7/unflag"))).await;
    seen.ask("flagShopper", 404, client.post(at("shoppers/unknown/flag"))).await;
    for (path, name) in
        [("identity-keys", "IdentityKey"), ("recognition-tokens", "RecognitionToken"), ("customers", "Customer")]
    {
        let put_id = format!("put{name}");
        let row = seen.ask(&put_id, 200, put(path, example(&put_id))).await.json();
        let row_url = at(&format!("{path}/{}", row["digest"].as_str().unwrap()));
        seen.ask(&format!("get{name}"), 200, client.get(&row_url)).await;
        if name != "Customer" {
            seen.ask(&format!("revoke{name}"), 200, client.post(format!("{row_url}/revoke"))).await;
            let none = at(&format!("{path}/{}/revoke", "0".repeat(64)));
            seen.ask(&format!("revoke{name}"), 404, client.post(none)).await;
        }
        seen.ask(&put_id, 400, put(path, r#"{"shopper":"unknown"}"#.to_owned())).await;
        seen.ask(&format!("delete{name}"), 204, client.delete(&row_url)).await;
        seen.ask(&format!("get{name}"), 404, client.get(&row_url)).await;
        seen.ask(&format!("get{name}"), 400, client.get(at(&format!("{path}/x")))).await;
    }
    for (list, id) in [
        ("stores", "listStores"),
        ("shoppers", "listShoppers"),
        ("identity-keys", "listIdentityKeys"),
        ("recognition-tokens", "listRecognitionTokens"),
        ("customers", "listCustomers"),
        ("sessions", "listSessions"),
        ("decisions", "listDecisions"),
        ("audit", "listAudit"),
    ] {
        seen.ask(id, 200, client.get(at(list))).await;
        seen.ask(id, 200, client.get(at(&format!("{list}?limit=1")))).await;
        seen.ask(id, 400, client.get(at(&format!("{list}?limit=0")))).await;
        seen.ask(id, 401, client_without_credentials().get(at(list))).await;
    }
    seen.ask("deleteShopper", 204, client.delete(at("shoppers/shopper-7"))).await;
    seen.assert_every_success("administration");

    let closed = Server::demo(&[("management.token", "")]).await;
    seen.ask("listStores", 401, client_without_credentials().get(format!("{}/admin/v1/stores", closed.management)))
        .await;
}

#[apply(test)]
async fn operations_endpoints_match_the_document() {
    let server = Server::demo(&[]).await;
    let seen = Seen::default();
    for (path, id) in [
        ("livez", "livez"),
        ("readyz", "readyz"),
        ("metrics", "metrics"),
        ("openapi.json", "openapi"),
        ("openapi", "openapiPage"),
    ] {
        seen.ask(id, 200, client().get(format!("{}/{path}", server.management))).await;
    }
    seen.ask("metrics", 401, client_without_credentials().get(format!("{}/metrics", server.management))).await;
    seen.assert_every_success("operations");
}

#[apply(test)]
async fn readyz_of_a_stopping_connector_matches_the_document() {
    // The management port stays open during this delay.
    let mut server = Server::demo(&[("server.stop_delay", "5m")]).await;
    let (client, url) = (client(), format!("{}/readyz", server.management));
    let ask = async || Answer::read(client.get(&url).send().await.unwrap()).await;
    check("readyz", &ask().await);
    server.ask_to_stop();
    let answer = repeat_until("the stop", ask, |answer| answer.status == 503).await;
    check("readyz", &answer);
    assert_eq!(answer.json(), json!({ "status": "unready" }));
}
