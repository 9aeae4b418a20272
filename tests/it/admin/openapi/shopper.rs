//! The shopper's side: its answers match the document.

use crate::trials::{apply, test};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::contract::{DOCUMENT, Seen, assert_valid, calls, validator};
use crate::support::carts::signed_in;
use crate::support::shopper::{AUTH_KEY, CONTEXTS, Shopper, anonymous};
use crate::support::{Server, client_without_credentials};

const CART: &str = "/commerceapi/cart";
const CODES: &str = "/v1/scan-key-codes";

/// A request with both credentials of a shopper.
fn shopper_request(shopper: &Shopper, server: &Server, method: Method, path: &str) -> RequestBuilder {
    let request = client_without_credentials().request(method, format!("{}{path}", server.shoppers));
    request.bearer_auth(&shopper.token).header("x-customer-context", &shopper.context)
}

/// A body, after a check against its documented schema.
fn body(name: &str, body: &Value) -> String {
    assert_valid(&DOCUMENT["components"]["schemas"][name], body, name);
    body.to_string()
}

#[apply(test)]
async fn shopper_endpoints_match_the_document() {
    let server = Server::demo(&[("commerce.failures_per_minute", "1")]).await;
    let seen = Seen::default();
    let tokens = || client_without_credentials().post(format!("{}/commerceapi/authentication", server.shoppers));
    for wanted in
        [json!({}), json!({ "anonymousId": null }), json!({ "anonymousId": "18af7ae9-87f3-4975-9015-7c35a3c9b9e2" })]
    {
        let body = body("AnonymousTokenRequest", &wanted);
        seen.ask("anonymousToken", 200, tokens().header("x-auth-key", AUTH_KEY).body(body)).await;
    }
    let body_of = |id: &str| {
        let (_, _, call) = calls().find(|(_, _, call)| call["operationId"] == id).unwrap();
        validator(&call["requestBody"]["content"]["application/json"]["schema"])
    };
    // Exactly the bodies that the document allows are accepted.
    for (wanted, status) in [
        (Value::Null, 200),
        (json!([]), 400),
        (json!({ "anonymousId": 1 }), 400),
        (json!({ "anonymousAuthenticationRequest": {} }), 400),
    ] {
        assert_eq!(body_of("anonymousToken").is_valid(&wanted), status == 200, "{wanted}");
        seen.ask("anonymousToken", status, tokens().header("x-auth-key", AUTH_KEY).body(wanted.to_string())).await;
    }
    seen.ask("anonymousToken", 413, tokens().header("x-auth-key", AUTH_KEY).body(" ".repeat(70_000))).await;
    seen.ask("anonymousToken", 401, tokens()).await;
    seen.ask("anonymousToken", 429, tokens()).await;

    let (guest, shopper) = (anonymous(&server).await, signed_in(&server, "shopper-uuid-001").await);
    let contexts = || client_without_credentials().get(format!("{}{CONTEXTS}", server.shoppers));
    seen.ask("customerContext", 200, contexts().bearer_auth(&shopper.token)).await;
    seen.ask("customerContext", 401, contexts()).await;

    let ask = |shopper: &Shopper, method: Method, path: &str| shopper_request(shopper, &server, method, path);
    seen.ask("carts", 200, ask(&guest, Method::GET, CART)).await;
    for (market, currency) in [("DE", json!("EUR")), ("GB", json!({ "code": "GBP", "symbol": "£" }))] {
        let body = body("NewCart", &json!({ "market": market, "currency": currency }));
        seen.ask("openCart", 200, ask(&guest, Method::POST, CART).body(body)).await;
    }
    let cart = |currency: Value| json!({ "market": "CH", "currency": currency });
    for (wanted, status) in [
        (json!({}), 400),
        (json!({ "market": "", "currency": "EUR" }), 400),
        (json!({ "name": null, "market": "FR", "currency": "EUR" }), 200),
        (json!({ "name": "a\u{7f}b", "market": "FR", "currency": "EUR" }), 400),
        (cart(json!("")), 400),
        (cart(json!("CHF CHF CHF")), 400),
        (cart(json!({ "code": "CHF", "symbol": null })), 400),
        (cart(json!({ "code": "CHF", "symbol": "Sfr. Sfr. Sfr." })), 400),
        (cart(json!({ "symbol": "Fr." })), 400),
        (cart(json!({ "code": "CHF", "symbol": "" })), 200),
    ] {
        assert_eq!(body_of("openCart").is_valid(&wanted), status == 200, "{wanted}");
        seen.ask("openCart", status, ask(&guest, Method::POST, CART).body(wanted.to_string())).await;
    }
    let carts = seen.ask("carts", 200, ask(&guest, Method::GET, CART)).await.json();
    let cart = format!("{CART}/{}", carts[0]["id"]);
    let line = body("NewCartLine", &json!({ "sku": "SKU-1", "qty": 2 }));
    seen.ask("addToCart", 200, ask(&guest, Method::POST, &format!("{cart}/lines")).body(format!("[{line}]"))).await;
    seen.ask("addToCart", 400, ask(&guest, Method::POST, &format!("{cart}/lines")).body(r#"[{"sku":"S","qty":0}]"#))
        .await;
    seen.ask("addToCart", 404, ask(&guest, Method::POST, &format!("{CART}/1/lines")).body(format!("[{line}]"))).await;
    seen.ask("setCartLines", 200, ask(&guest, Method::PUT, &format!("{cart}/lines")).body(format!("[{line}]"))).await;
    seen.ask("cart", 200, ask(&guest, Method::GET, &cart)).await;
    seen.ask("cart", 404, ask(&guest, Method::GET, &format!("{CART}/1"))).await;
    let migration = body("CartMigration", &json!({ "anonymousId": guest.anonymous_id }));
    let migrate = format!("{CART}/migrate");
    seen.ask("migrateCart", 403, ask(&guest, Method::POST, &migrate).body(migration.clone())).await;
    seen.ask("migrateCart", 400, ask(&shopper, Method::POST, &migrate).body("{}")).await;
    seen.ask("migrateCart", 200, ask(&shopper, Method::POST, &migrate).body(migration)).await;
    seen.ask("removeFromCart", 200, ask(&shopper, Method::DELETE, &format!("{cart}/lines/SKU-1"))).await;
    seen.ask("removeFromCart", 404, ask(&shopper, Method::DELETE, &format!("{cart}/lines/SKU-1"))).await;
    seen.ask("deleteCart", 200, ask(&shopper, Method::DELETE, &cart)).await;
    seen.ask("deleteCart", 401, client_without_credentials().delete(format!("{}{cart}", server.shoppers))).await;

    let device = body("ScanKeyCodeRequest", &json!({ "deviceId": "device-abc-123" }));
    seen.ask("scanKeyCode", 200, ask(&shopper, Method::POST, CODES).body(device)).await;
    for picture in ["image/png", "image/svg+xml"] {
        seen.ask("scanKeyCode", 200, ask(&shopper, Method::POST, CODES).header("accept", picture)).await;
    }
    seen.ask("scanKeyCode", 400, ask(&shopper, Method::POST, CODES).body(r#"{"deviceId":"unknown"}"#)).await;
    seen.ask("scanKeyCode", 400, ask(&shopper, Method::POST, CODES).body(r#"{"deviceId":1}"#)).await;
    seen.ask("scanKeyCode", 403, ask(&guest, Method::POST, CODES)).await;
    let flagged = signed_in(&server, "flagged-shopper-uuid-001").await;
    seen.ask("scanKeyCode", 403, ask(&flagged, Method::POST, CODES)).await;
    seen.assert_every_success("shopper");
}
