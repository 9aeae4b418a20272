//! Hostile names in the paths and rows of the administration.

use crate::trials::{apply, on_every_engine};
use serde_json::json;

use crate::checks::*;
use crate::engine::Engine;
use crate::engines::hostile::{hostile_texts, texts_with_nul};
use crate::support::{LISTS, segment};

#[apply(on_every_engine)]
async fn hostile_names_are_returned_unchanged(engine: Engine) {
    let server = engine.demo(&[]).await;
    for name in hostile_texts() {
        let path = format!("shoppers/{}", segment(&name));
        let shopper =
            json!({ "type": "SHOPPER", "devices": [name], "paymentMethod": { "id": name, "lastMonth": "2030-01" } });
        let expected = set(set(shopper.clone(), "id", name.as_str()), "account", "active");
        assert_eq!(server.put(&path, &shopper).await, expected, "{name}");
        assert_eq!(server.admin("GET", &path).await.json(), expected, "{name}");
        let store = server.put(&format!("stores/{}", segment(&name)), &json!({ "id": name })).await;
        assert_eq!(store["id"], *name);
        let key = server.put("identity-keys", &json!({ "key": "its key", "shopper": name, "device": name })).await;
        assert_eq!((&key["shopper"], &key["device"]), (&json!(name), &json!(name)));
        let in_lists = async |list: &str| server.all(list).await.iter().filter(|row| row["id"] == *name).count();
        assert_eq!((in_lists("shoppers").await, in_lists("stores").await), (1, 1), "{name}");
        assert_eq!(server.admin("POST", &format!("{path}/flag")).await.json()["account"], "flagged", "{name}");
        assert_eq!(server.admin("DELETE", &format!("stores/{}", segment(&name))).await.status, 204, "{name}");
        assert_eq!(in_lists("stores").await, 0, "{name}");
    }
}

#[apply(on_every_engine)]
async fn nul_is_refused_with_400(engine: Engine) {
    let server = engine.demo(&[]).await;
    for name in texts_with_nul().into_iter().chain(["x".repeat(256)]) {
        let encoded = segment(&name);
        for path in ["stores", "shoppers"] {
            for (method, row) in [("GET", ""), ("PUT", "{\"type\":\"SHOPPER\"}"), ("PUT", "{}"), ("DELETE", "")] {
                assert_error_form(&server.admin_with(method, &format!("{path}/{encoded}"), row).await, 400, &name);
            }
        }
        for (list, _) in LISTS {
            let cursor = base64(&name).replace('+', "-").replace('/', "_").replace('=', "");
            assert_error_form(&server.admin("GET", &format!("{list}?cursor={cursor}")).await, 400, &name);
        }
        for (path, row) in [
            ("shoppers/v", json!({ "type": "SHOPPER", "devices": [name] })),
            ("shoppers/v", json!({ "type": "SHOPPER", "paymentMethod": { "id": name, "lastMonth": "2030-01" } })),
            ("identity-keys", json!({ "key": "k", "shopper": name })),
            ("identity-keys", json!({ "key": "k", "shopper": "shopper-uuid-001", "device": name })),
            ("recognition-tokens", json!({ "token": "T".repeat(32), "shopper": name })),
            ("customers", json!({ "issuer": "https://issuer", "subject": "s", "shopper": name })),
        ] {
            assert_error_form(&server.admin_with("PUT", path, row.to_string()).await, 400, &name);
        }
    }
    assert_error_form(&server.admin("GET", "stores/%FF").await, 400, "no UTF-8");
}
