//! Carts as the published client uses them: the shape of answers, and the effects of requests.

use crate::trials::{apply, on_every_engine};
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::checks::*;
use crate::engine::Engine;
use crate::support::carts::{CARTS, content, content_of, default, signed_in};
use crate::support::segment;
use crate::support::shopper::{UNLIMITED, anonymous};

/// A cart with these lines, as the client reads it.
fn published(id: &Value, customer: &str, lines: &Value) -> Value {
    json!({
        "id": id, "name": "Default", "customerId": customer, "market": "US",
        "currency": { "code": "USD", "symbol": "" },
        "totalPrice": 0, "subTotalPrice": 0, "taxTotal": 0, "orderDiscountTotal": 0, "shippingTotal": 0,
        "shippingDiscountTotal": 0, "shippingSubTotal": 0,
        "forms": [{
            "id": 1, "name": "", "authorizedPaymentTotal": 0, "capturedPaymentTotal": 0, "coupons": [], "promotions": [],
            "payments": [],
            "shipments": [{
                "id": 1, "shipmentTrackingNumber": "", "shippingMethodId": "", "shippingMethodName": "",
                "shippingAddress": null, "shippingTotal": 0, "shippingDiscountPrice": 0, "lines": lines,
            }],
        }],
        "notes": [],
    })
}

fn published_line(id: u64, sku: &str, qty: u64) -> Value {
    json!({
        "id": id, "sku": sku, "displayName": sku, "qty": qty, "placedPrice": 0, "discountedPrice": 0,
        "entryDiscount": 0, "salesTax": 0, "totalPrice": 0, "imageUrl": "",
    })
}

#[apply(on_every_engine)]
async fn cart_has_the_published_shape(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let customer_app = signed_in(&server, "shopper-uuid-001").await;
    let guest = anonymous(&server).await;
    let anonymous_id = guest.anonymous_id.clone().unwrap();
    for (shopper, customer) in [(&customer_app, "shopper-uuid-001"), (&guest, &*anonymous_id)] {
        assert_json(&shopper.request(Method::GET, CARTS, None).await, 200, &json!([]), "no carts");
        let opened = shopper.try_open("Default", "US").await;
        let id = opened.json()["id"].clone();
        assert!(id.as_u64().is_some_and(|id| (1..1 << 53).contains(&id)), "{id}");
        assert_json(&opened, 200, &published(&id, customer, &json!([])), "POST of a cart");

        let changed =
            |lines: &Value| json!({ "cart": published(&id, customer, lines), "hasErrors": false, "errors": [] });
        let cart = id.as_u64().unwrap();
        let first_line = json!([published_line(1, "a", 2)]);
        let answer = shopper.lines(Method::POST, cart, &json!([{ "sku": "a", "qty": 2 }])).await;
        assert_json(&answer, 200, &changed(&first_line), "POST of lines");
        let both_lines = json!([published_line(1, "a", 2), published_line(2, "b", 1)]);
        let answer = shopper.lines(Method::POST, cart, &json!([{ "id": -1, "sku": "b", "qty": 1 }])).await;
        assert_json(&answer, 200, &changed(&both_lines), "the second line");
        let set = json!([published_line(1, "a", 5), published_line(2, "b", 1)]);
        let answer = shopper.lines(Method::PUT, cart, &json!([{ "id": 1, "sku": "a", "qty": 5 }])).await;
        assert_json(&answer, 200, &changed(&set), "PUT of lines");

        let all = json!([published(&id, customer, &set)]);
        for path in [CARTS, &format!("{CARTS}{id}")] {
            assert_json(&shopper.request(Method::GET, path, None).await, 200, &all, path);
        }
        let answer = shopper.request(Method::DELETE, &format!("{CARTS}{id}/lines/b"), None).await;
        let remaining_line = json!([published_line(1, "a", 5)]);
        assert_json(&answer, 200, &changed(&remaining_line), "DELETE of a line");
        let answer = shopper.request(Method::DELETE, &format!("{CARTS}{id}"), None).await;
        assert_json(&answer, 200, &changed(&remaining_line), "DELETE of the cart returns the deleted cart");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(shopper.carts().await, json!([]));
    }
}

#[apply(on_every_engine)]
async fn trailing_slash_is_accepted(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = signed_in(&server, "shopper-uuid-001").await;
    for slash in ["", "/"] {
        let ask = async |method, path: String, body: Value| {
            let body = (!body.is_null()).then_some(&body);
            let answer = shopper.request(method, &format!("/commerceapi/cart{path}{slash}"), body).await;
            assert_eq!(answer.status, 200, "{path}{slash}: {}", answer.json());
            answer.json()
        };
        let cart = json!({ "name": "Default", "market": "US", "currency": "USD" });
        let id = ask(Method::POST, String::new(), cart).await["id"].clone();
        let line = json!([{ "sku": "a", "qty": 1 }]);
        ask(Method::POST, format!("/{id}/lines"), line.clone()).await;
        ask(Method::PUT, format!("/{id}/lines"), line).await;
        let guest = json!({ "anonymousId": "0f0e0d0c-1111-2222-3333-44445555abcd" });
        assert_eq!(content(&ask(Method::POST, "/migrate".to_owned(), guest).await), [default("a", 1)]);
        assert_eq!(ask(Method::GET, String::new(), Value::Null).await[0]["id"], id);
        assert_eq!(ask(Method::GET, format!("/{id}"), Value::Null).await[0]["id"], id);
        ask(Method::DELETE, format!("/{id}/lines/a"), Value::Null).await;
        ask(Method::DELETE, format!("/{id}"), Value::Null).await;
    }
}

#[apply(on_every_engine)]
async fn cart_is_opened_once_per_name_and_market(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let mut ids = Vec::new();
    for (name, market) in [("Default", "US"), ("default", "US"), ("Default", "DE"), ("Wish list", "US")] {
        ids.push(shopper.open(name, market).await);
        assert_eq!(shopper.open(name, market).await, *ids.last().unwrap(), "{name} {market}");
    }
    let carts = shopper.carts().await;
    let of_carts: Vec<_> = carts.as_array().unwrap().iter().map(|cart| cart["id"].as_u64().unwrap()).collect();
    assert_eq!(of_carts, ids, "in the order of their creation");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "four different carts");

    // An existing cart keeps its currency. The name and the currency's symbol are optional.
    let other_currency = json!({ "name": "Default", "market": "US", "currency": { "code": "EUR", "symbol": "€" } });
    let answer = shopper.request(Method::POST, CARTS, Some(&other_currency)).await.json();
    assert_eq!(answer["currency"], json!({ "code": "USD", "symbol": "" }));
    let nameless = shopper.request(Method::POST, CARTS, Some(&unset(other_currency.clone(), "name"))).await.json();
    assert_eq!(nameless, answer);
    let answer = shopper.request(Method::POST, CARTS, Some(&set(other_currency, "market", "FR"))).await.json();
    assert_eq!(answer["currency"], json!({ "code": "EUR", "symbol": "€" }));
}

#[apply(on_every_engine)]
async fn post_adds_quantities_and_put_sets_them(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let cart = shopper.open("Default", "US").await;
    shopper.open("Other", "US").await;
    let lines =
        json!([{ "sku": "a", "qty": 1 }, { "sku": "b", "qty": 2 }, { "sku": "a", "qty": 3 }, { "sku": "A", "qty": 1 }]);
    assert_eq!(shopper.lines(Method::POST, cart, &lines).await.status, 200);
    assert_eq!(shopper.contents().await, [default("a", 4), default("b", 2), default("A", 1)]);
    let set = json!([{ "sku": "b", "qty": 7 }, { "sku": "a", "qty": 9 }, { "sku": "b", "qty": 8 }]);
    assert_eq!(shopper.lines(Method::PUT, cart, &set).await.status, 200);
    assert_eq!(
        shopper.contents().await,
        [default("a", 9), default("b", 8), default("A", 1)],
        "the last value of a repeated SKU is used"
    );
    for method in [Method::POST, Method::PUT] {
        assert_eq!(shopper.lines(method, cart, &json!([])).await.status, 200, "an empty list");
    }
    assert_eq!(shopper.contents().await, [default("a", 9), default("b", 8), default("A", 1)]);
}

#[apply(on_every_engine)]
async fn put_requires_the_sku_of_the_line_id(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let cart = shopper.open("Default", "US").await;
    let lines = json!([{ "sku": "a", "qty": 1 }, { "sku": "b", "qty": 1 }]);
    shopper.lines(Method::POST, cart, &lines).await;
    let before = shopper.carts().await;
    for line in [
        json!({ "id": 1, "sku": "b", "qty": 5 }),
        json!({ "id": 3, "sku": "a", "qty": 5 }),
        json!({ "id": -1, "sku": "a", "qty": 5 }),
        json!({ "sku": "c", "qty": 5 }),
    ] {
        let with_a_good_one = json!([{ "sku": "a", "qty": 4 }, line]);
        let answer = shopper.lines(Method::PUT, cart, &with_a_good_one).await;
        assert_error_form(&answer, 404, &line.to_string());
        assert_eq!(shopper.carts().await, before, "{line}: all lines are changed or none");
    }
    let set = json!([{ "id": 2, "sku": "b", "qty": 5 }, { "id": null, "sku": "a", "qty": 6 }]);
    assert_eq!(shopper.lines(Method::PUT, cart, &set).await.status, 200);
    assert_eq!(shopper.contents().await, [default("a", 6), default("b", 5)]);
}

#[apply(on_every_engine)]
async fn deleted_lines_and_carts_are_not_found(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    shopper.add("a", 1).await;
    shopper.add("b", 1).await;
    shopper.add_to("Other", "a", 1).await;
    let (cart, other) = (shopper.open("Default", "US").await, shopper.open("Other", "US").await);
    let line = format!("{CARTS}{cart}/lines/a");
    assert_eq!(shopper.request(Method::DELETE, &line, None).await.status, 200);
    assert_error_form(&shopper.request(Method::DELETE, &line, None).await, 404, "a deleted line or cart");
    assert_eq!(shopper.contents().await, [default("b", 1), content_of("Other", "a", 1)]);
    let path = format!("{CARTS}{other}");
    assert_eq!(shopper.request(Method::DELETE, &path, None).await.status, 200);
    for method in [Method::GET, Method::DELETE] {
        assert_error_form(&shopper.request(method, &path, None).await, 404, "a deleted line or cart");
    }
    for method in [Method::POST, Method::PUT] {
        assert_error_form(
            &shopper.lines(method, other, &json!([{ "sku": "a", "qty": 1 }])).await,
            404,
            "a deleted line or cart",
        );
    }
    assert_eq!(shopper.contents().await, [default("b", 1)]);
}

#[apply(on_every_engine)]
async fn every_sku_can_be_deleted_by_its_path(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let cart = shopper.open("Default", "US").await;
    let all: String = (' '..='~').collect();
    let longest = "%/".repeat(50);
    let skus = ["a/b", "a b", " ", "%", "%2F", "100%25", "/", "?a=b#c", "\"'\\", "lines", "{sku}", &all, &longest];
    for sku in skus {
        let answer = shopper.lines(Method::POST, cart, &json!([{ "sku": sku, "qty": 1 }])).await;
        assert_eq!(answer.status, 200, "{sku}");
    }
    assert_eq!(shopper.contents().await, skus.map(|sku| default(sku, 1)));
    for (index, sku) in skus.iter().enumerate() {
        let path = format!("{CARTS}{cart}/lines/{}", segment(sku));
        assert_eq!(shopper.request(Method::DELETE, &path, None).await.status, 200, "{sku}");
        assert_eq!(shopper.contents().await.len(), skus.len() - 1 - index, "{sku}");
    }
    for nothing in ["%", "%zz", "%FF", "%00", "%C3%A9", &"a".repeat(101)] {
        let answer = shopper.request(Method::DELETE, &format!("{CARTS}{cart}/lines/{nothing}"), None).await;
        assert_error_form(&answer, 404, nothing);
    }
}

#[apply(on_every_engine)]
async fn no_simultaneous_addition_is_lost(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = Arc::new(signed_in(&server, "shopper-uuid-001").await);
    let cart = shopper.open("Default", "US").await;
    let mut adding = JoinSet::new();
    for number in 0..64 {
        let shopper = Arc::clone(&shopper);
        adding.spawn(async move {
            let lines = json!([{ "sku": "shared", "qty": 2 }, { "sku": format!("own {number:02}"), "qty": 1 }]);
            (default(&format!("own {number:02}"), 1), shopper.lines(Method::POST, cart, &lines).await.status)
        });
    }
    // On a busy machine an addition may time out. It was then made completely or not at all.
    let (added, late): (Vec<_>, Vec<_>) = adding.join_all().await.into_iter().partition(|(_, status)| *status == 200);
    assert!(late.iter().all(|(_, status)| *status == 500) && added.len() > 8, "{late:?}");
    let (shared, own): (Vec<_>, Vec<_>) =
        shopper.contents().await.into_iter().partition(|(_, _, sku, _)| sku == "shared");
    assert_eq!(shared, [default("shared", 2 * own.len() as u64)]);
    for (line, _) in &added {
        assert!(own.contains(line), "{line:?} is lost: {own:?}");
    }
    assert!(own.len() <= 64 && own.iter().all(|(_, _, _, qty)| *qty == 1), "{own:?}");
}
