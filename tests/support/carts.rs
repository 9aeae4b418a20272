//! Carts as an app has them, and whoever the demo vouches for.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use super::checks::PATIENCE;
use super::shopper::{Shopper, with_token};
use super::{Answer, Server, stranger};

/// Where the carts are.
pub(crate) const CARTS: &str = "/commerceapi/cart/";

/// So much of what in a cart of which name and market.
pub(crate) type Content = (String, String, String, u64);

/// Asks the demo to vouch for somebody.
pub(crate) async fn ask_to_sign_in(server: &Server, body: &Value) -> Answer {
    let url = format!("{}/demo/sign-in", server.api);
    Answer::of(stranger().post(url).body(body.to_string()).send().await.unwrap()).await
}

/// A demo shopper who has signed in.
pub(crate) async fn signed_in(server: &Server, shopper: &str) -> Shopper {
    let answer = ask_to_sign_in(server, &json!({ "shopper": shopper })).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    with_token(server, answer.json()["accessToken"].as_str().expect("a text")).await
}

impl Shopper {
    /// All carts, as they come.
    pub(crate) async fn carts(&self) -> Value {
        let answer = self.in_time(Method::GET, CARTS, None).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }

    /// What is in all carts, those that are empty left out.
    pub(crate) async fn has(&self) -> Vec<Content> {
        self.carts().await.as_array().unwrap().iter().flat_map(content).collect()
    }

    /// A cart of that name and market, with the published client's own request.
    pub(crate) async fn try_open(&self, name: &str, market: &str) -> Answer {
        let body = json!({ "id": -1, "name": name, "market": market, "currency": "USD" });
        self.in_time(Method::POST, CARTS, Some(&body)).await
    }

    /// The id of that cart.
    pub(crate) async fn open(&self, name: &str, market: &str) -> u64 {
        let answer = self.try_open(name, market).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()["id"].as_u64().expect("a number")
    }

    /// Adds lines to a cart, or sets them.
    pub(crate) async fn lines(&self, method: Method, cart: u64, lines: &Value) -> Answer {
        self.request(method, &format!("{CARTS}{cart}/lines/"), Some(lines)).await
    }

    /// Puts so much of it into the cart that the client opens.
    pub(crate) async fn add(&self, sku: &str, qty: u64) {
        self.add_to("Default", sku, qty).await;
    }

    /// The same of a cart of another name.
    pub(crate) async fn add_to(&self, name: &str, sku: &str, qty: u64) {
        let cart = self.open(name, "US").await;
        let answer = self.lines(Method::POST, cart, &json!([{ "sku": sku, "qty": qty }])).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
    }

    /// Moves what this anonymous id has here.
    pub(crate) async fn migrate(&self, anonymous_id: &str) -> Answer {
        let body = json!({ "anonymousId": anonymous_id });
        self.in_time(Method::POST, &format!("{CARTS}migrate"), Some(&body)).await
    }

    /// Repeats a request that timed out, as it may on a busy machine. Only for requests that may be made twice.
    async fn in_time(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.request(method.clone(), path, body).await;
            if answer.status != 500 || Instant::now() > deadline {
                return answer;
            }
        }
    }
}

/// What is in a cart.
pub(crate) fn content(cart: &Value) -> Vec<Content> {
    let text = |of: &Value, member: &str| of[member].as_str().expect("a text").to_owned();
    let lines = cart["forms"][0]["shipments"][0]["lines"].as_array().expect("lines").iter();
    let line = |line: &Value| {
        let qty = line["qty"].as_u64().expect("a number");
        (text(cart, "name"), text(cart, "market"), text(line, "sku"), qty)
    };
    lines.map(line).collect()
}

/// So much of it in the cart that the client opens.
pub(crate) fn default(sku: &str, qty: u64) -> Content {
    of("Default", sku, qty)
}

/// The same in a cart of another name.
pub(crate) fn of(name: &str, sku: &str, qty: u64) -> Content {
    (name.to_owned(), "US".to_owned(), sku.to_owned(), qty)
}
