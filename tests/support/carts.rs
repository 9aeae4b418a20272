//! Requests for carts, and sign-in at the demo's identity provider.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use super::checks::PATIENCE;
use super::shopper::{Shopper, with_token};
use super::{Answer, Server, client_without_credentials};

/// The path of the carts.
pub(crate) const CARTS: &str = "/commerceapi/cart/";

/// Name and market of a cart, and SKU and quantity of one of its lines.
pub(crate) type Content = (String, String, String, u64);

/// Asks the demo's identity provider to sign a shopper in.
pub(crate) async fn ask_to_sign_in(server: &Server, body: &Value) -> Answer {
    let url = format!("{}/demo/sign-in", server.api);
    Answer::read(client_without_credentials().post(url).body(body.to_string()).send().await.unwrap()).await
}

/// A demo shopper that is signed in.
pub(crate) async fn signed_in(server: &Server, shopper: &str) -> Shopper {
    let answer = ask_to_sign_in(server, &json!({ "shopper": shopper })).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    with_token(server, answer.json()["accessToken"].as_str().expect("the answer has an accessToken")).await
}

impl Shopper {
    /// All carts, as the service answers them.
    pub(crate) async fn carts(&self) -> Value {
        let answer = self.request_within_deadline(Method::GET, CARTS, None).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }

    /// The lines of all carts.
    pub(crate) async fn contents(&self) -> Vec<Content> {
        self.carts().await.as_array().unwrap().iter().flat_map(content).collect()
    }

    /// Opens a cart with this name and market, with the request of the published client.
    pub(crate) async fn try_open(&self, name: &str, market: &str) -> Answer {
        let body = json!({ "id": -1, "name": name, "market": market, "currency": "USD" });
        self.request_within_deadline(Method::POST, CARTS, Some(&body)).await
    }

    /// Opens a cart and returns its id.
    pub(crate) async fn open(&self, name: &str, market: &str) -> u64 {
        let answer = self.try_open(name, market).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()["id"].as_u64().expect("the cart id is a number")
    }

    /// Adds lines to a cart, or sets them.
    pub(crate) async fn lines(&self, method: Method, cart: u64, lines: &Value) -> Answer {
        self.request(method, &format!("{CARTS}{cart}/lines/"), Some(lines)).await
    }

    /// Adds this quantity to the cart `Default`.
    pub(crate) async fn add(&self, sku: &str, qty: u64) {
        self.add_to("Default", sku, qty).await;
    }

    /// Adds this quantity to a cart with this name.
    pub(crate) async fn add_to(&self, name: &str, sku: &str, qty: u64) {
        let cart = self.open(name, "US").await;
        let answer = self.lines(Method::POST, cart, &json!([{ "sku": sku, "qty": qty }])).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
    }

    /// Moves the carts of this anonymous id to this shopper.
    pub(crate) async fn migrate(&self, anonymous_id: &str) -> Answer {
        let body = json!({ "anonymousId": anonymous_id });
        self.request_within_deadline(Method::POST, &format!("{CARTS}migrate"), Some(&body)).await
    }

    /// Repeats a request that timed out, as happens on a busy machine. Only for idempotent requests.
    async fn request_within_deadline(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.request(method.clone(), path, body).await;
            if answer.status != 500 || Instant::now() > deadline {
                return answer;
            }
        }
    }
}

/// The lines of a cart.
pub(crate) fn content(cart: &Value) -> Vec<Content> {
    let text = |json: &Value, member: &str| json[member].as_str().expect("the member is a string").to_owned();
    let lines = cart["forms"][0]["shipments"][0]["lines"].as_array().expect("the cart has lines").iter();
    let line = |line: &Value| {
        let qty = line["qty"].as_u64().expect("qty is a number");
        (text(cart, "name"), text(cart, "market"), text(line, "sku"), qty)
    };
    lines.map(line).collect()
}

/// This quantity in the cart `Default`.
pub(crate) fn default(sku: &str, qty: u64) -> Content {
    content_of("Default", sku, qty)
}

/// This quantity in a cart with this name.
pub(crate) fn content_of(name: &str, sku: &str, qty: u64) -> Content {
    (name.to_owned(), "US".to_owned(), sku.to_owned(), qty)
}
