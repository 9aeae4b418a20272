//! Owners of carts: authorization, separation of owners, expiry, erasure, and the limit of owners.

use crate::trials::{apply, on_every_engine, test};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::checks::*;
use crate::engine::Engine;
use crate::support::carts::{CARTS, content_of, default, signed_in};
use crate::support::shopper::{UNLIMITED, anonymous, anonymous_with_id, assert_unauthorized};
use crate::support::{Answer, Server, client_without_credentials};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SHOPPER: &str = "shopper-uuid-001";

/// Every request about a cart and its line `a`.
fn requests(cart: u64) -> [(Method, String, Option<Value>); 5] {
    let line = Some(json!([{ "sku": "a", "qty": 7 }]));
    [
        (Method::GET, format!("{CARTS}{cart}"), None),
        (Method::DELETE, format!("{CARTS}{cart}/"), None),
        (Method::POST, format!("{CARTS}{cart}/lines"), line.clone()),
        (Method::PUT, format!("{CARTS}{cart}/lines"), line),
        (Method::DELETE, format!("{CARTS}{cart}/lines/a"), None),
    ]
}

#[apply(test)]
async fn cart_of_another_owner_is_not_found() {
    let server = Server::demo(&UNLIMITED).await;
    let customer = signed_in(&server, SHOPPER).await;
    let other_customer = signed_in(&server, "associate-uuid-001").await;
    let [guest, other_guest] = [anonymous(&server).await, anonymous(&server).await];
    let all = [customer, other_customer, guest, other_guest];
    let mut carts = Vec::new();
    for shopper in &all {
        shopper.add("a", 1).await;
        carts.push(shopper.open("Default", "US").await);
    }
    for (index, shopper) in all.iter().enumerate() {
        for (_, cart) in carts.iter().enumerate().filter(|(owner, _)| *owner != index) {
            for (method, path, body) in requests(*cart) {
                let answer = shopper.request(method.clone(), &path, body.as_ref()).await;
                assert_error_form(&answer, 404, &format!("{method} {path}"));
            }
        }
    }
    for (shopper, cart) in all.iter().zip(carts) {
        assert_eq!(shopper.contents().await, [default("a", 1)]);
        assert_eq!(shopper.open("Default", "US").await, cart);
    }
}

#[apply(test)]
async fn both_headers_are_required() {
    let server = Server::demo(&UNLIMITED).await;
    let [customer, guest] = [signed_in(&server, SHOPPER).await, anonymous(&server).await];
    customer.add("a", 1).await;
    let cart = customer.open("Default", "US").await;
    let open = (Method::POST, CARTS.to_owned(), Some(json!({ "name": "n", "market": "US", "currency": "USD" })));
    let migrate = (Method::POST, format!("{CARTS}migrate"), Some(json!({ "anonymousId": new_id() })));
    let all = [(Method::GET, CARTS.to_owned(), None), open, migrate];
    let code = (Method::POST, "/v1/scan-key-codes".to_owned(), None);
    for (method, path, body) in requests(cart).into_iter().chain(all).chain([code]) {
        for (token, context) in [
            (None, None),
            (Some(&customer.token), None),
            (None, Some(&customer.context)),
            (Some(&customer.token), Some(&guest.context)),
            (Some(&guest.token), Some(&customer.context)),
            (Some(&customer.context), Some(&customer.token)),
        ] {
            let request = client_without_credentials().request(method.clone(), format!("{}{path}", server.shoppers));
            let request = token.into_iter().fold(request, RequestBuilder::bearer_auth);
            let request = context.into_iter().fold(request, |request, it| request.header("x-customer-context", it));
            let request = request.body(body.as_ref().map(Value::to_string).unwrap_or_default());
            assert_unauthorized(&Answer::read(request.send().await.unwrap()).await, &format!("{method} {path}"));
        }
    }
    assert_eq!(customer.contents().await, [default("a", 1)]);
    assert_eq!(guest.contents().await, []);
}

#[apply(test)]
async fn unauthorized_request_is_refused_before_its_body_arrives() {
    let server = Server::demo(&UNLIMITED).await;
    for (method, path) in [
        ("POST", CARTS),
        ("POST", "/commerceapi/cart/1/lines"),
        ("PUT", "/commerceapi/cart/1/lines"),
        ("POST", "/commerceapi/cart/migrate"),
        ("POST", "/v1/scan-key-codes"),
    ] {
        for length in ["content-length: 1000", "transfer-encoding: chunked"] {
            let mut stream = TcpStream::connect(server.address()).await.unwrap();
            let head =
                format!("{method} {path} HTTP/1.1\r\nhost: connector\r\nauthorization: Bearer x\r\n{length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 401", "{method} {path} {length}");
        }
    }
}

/// Tokens expire earlier than carts, so each shopper gets a new one.
#[apply(test)]
async fn anonymous_cart_expires_30_days_after_its_last_change() {
    let server = Server::demo(&UNLIMITED).await;
    let id = new_id();
    let guest = async || anonymous_with_id(&server, &id).await;
    guest().await.add("a", 1).await;
    let cart = guest().await.open("Default", "US").await;
    server.clock.advance(DAY * 20);
    guest().await.add_to("Other", "b", 1).await;
    server.clock.advance(DAY * 10 - Duration::from_secs(1));
    let before = [default("a", 1), content_of("Other", "b", 1)];
    assert_eq!(guest().await.contents().await, before, "one second before the expiry");
    server.clock.advance(Duration::from_secs(1));
    let shopper = guest().await;
    assert_eq!(shopper.contents().await, before[1..], "reading a cart does not extend its life");
    for (method, path, body) in requests(cart) {
        assert_error_form(&shopper.request(method, &path, body.as_ref()).await, 404, &path);
    }
    assert_ne!(shopper.open("Default", "US").await, cart, "a new cart");
}

#[apply(on_every_engine)]
async fn erased_or_unlinked_customer_has_no_carts(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let erased = signed_in(&server, SHOPPER).await;
    let unlinked = signed_in(&server, "associate-uuid-001").await;
    let others = [signed_in(&server, "cash-shopper-uuid-001").await, anonymous(&server).await];
    for shopper in [&erased, &unlinked].into_iter().chain(&others) {
        shopper.add("a", 1).await;
        shopper.add_to("Other", "a", 1).await;
    }
    let customers = server.all("customers").await;
    let link = customers.iter().find(|customer| customer["shopper"] == "associate-uuid-001").unwrap();
    for path in [format!("shoppers/{SHOPPER}"), format!("customers/{}", link["digest"].as_str().unwrap())] {
        assert_eq!(server.admin("DELETE", &path).await.status, 204);
    }
    // The tokens are still valid: their lifetime is set by the provider, which does not know of the erasure.
    for shopper in [erased, unlinked] {
        assert_eq!(shopper.carts().await, json!([]));
    }
    for shopper in others {
        assert_eq!(shopper.contents().await, [default("a", 1), content_of("Other", "a", 1)]);
    }
}

#[apply(on_every_engine)]
async fn number_of_anonymous_customers_with_carts_is_limited(engine: Engine) {
    let server = engine.demo(&[&UNLIMITED[..], &[("commerce.anonymous_carts", "4")]].concat()).await;
    // In a database, owners are counted from time to time. An owner who arrives during a count is counted twice until
    // the next count, so it may take until then to reach the limit.
    let (mut owners, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    let (shopper, answer) = loop {
        let shopper = anonymous(&server).await;
        let answer = shopper.try_open("Default", "US").await;
        if answer.status == 200 {
            owners.push(shopper);
            assert!(owners.len() <= 4, "more customers than the limit");
        } else if owners.len() == 4 {
            break (shopper, answer);
        } else {
            assert!(Instant::now() < deadline, "{} customers, then {}", owners.len(), answer.status);
            tokio::time::sleep(Duration::from_millis(100)).await; // poll until the deadline above
        }
    };
    assert_too_many(&answer, "beyond the limit");
    assert_eq!(shopper.carts().await, json!([]));
    for owner in &owners {
        owner.add_to("Other", "b", 1).await;
    }
    let (counted, owners) = (metric(&server, "connector_anonymous_carts").await, owners.len() as u64);
    assert!((owners..=2 * owners).contains(&counted), "{counted} of {owners}");
}
