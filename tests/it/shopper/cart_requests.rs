//! Requests for carts as the published client sends them: the shape of answers, and the status and message of refusals.
//! `src/shopper/carts/rules/tests.rs` tests the rules for changes, `carts.rs` what is stored.

use crate::trials::{apply, test};

use identity_connector::testing::shopper::carts::rules::CartRefusal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::checks::*;
use crate::support::carts::{CARTS, default, signed_in};
use crate::support::shopper::{Shopper, UNLIMITED, anonymous};
use crate::support::{Answer, Server, client_without_credentials, segment};

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

/// With and without a slash at the end of the path.
#[apply(test)]
async fn cart_has_the_published_shape() {
    let server = Server::demo(&UNLIMITED).await;
    let customer_app = signed_in(&server, "shopper-uuid-001").await;
    let guest = anonymous(&server).await;
    let anonymous_id = guest.anonymous_id.clone().unwrap();
    for (shopper, customer, slash) in [(&customer_app, "shopper-uuid-001", ""), (&guest, &*anonymous_id, "/")] {
        let ask = async |method: Method, path: &str, body: Value| {
            let body = (!body.is_null()).then_some(&body);
            shopper.request(method, &format!("/commerceapi/cart{path}{slash}"), body).await
        };
        assert_json(&ask(Method::GET, "", Value::Null).await, 200, &json!([]), "no carts");
        let cart = json!({ "id": -1, "name": "Default", "market": "US", "currency": "USD" });
        let opened = ask(Method::POST, "", cart).await;
        let id = opened.json()["id"].clone();
        assert!(id.as_u64().is_some_and(|id| (1..1 << 53).contains(&id)), "{id}");
        assert_json(&opened, 200, &published(&id, customer, &json!([])), "POST of a cart");

        let (cart, lines) = (format!("/{id}"), format!("/{id}/lines"));
        for (method, path, body, expected) in [
            (Method::POST, &lines, json!([{ "sku": "a", "qty": 2 }]), vec![("a", 2)]),
            (Method::POST, &lines, json!([{ "id": -1, "sku": "b", "qty": 1 }]), vec![("a", 2), ("b", 1)]),
            (Method::PUT, &lines, json!([{ "id": 1, "sku": "a", "qty": 5 }]), vec![("a", 5), ("b", 1)]),
            (Method::DELETE, &format!("{lines}/b"), Value::Null, vec![("a", 5)]),
            (Method::DELETE, &cart, Value::Null, vec![("a", 5)]), // the deleted cart
        ] {
            let line = |((sku, qty), id): (&(&str, u64), u64)| published_line(id, sku, *qty);
            let whole = published(&id, customer, &expected.iter().zip(1..).map(line).collect());
            if method == Method::DELETE && *path == cart {
                for path in ["", &cart] {
                    assert_json(&ask(Method::GET, path, Value::Null).await, 200, &json!([whole]), path);
                }
            }
            let answer = ask(method.clone(), path, body).await;
            let changed = json!({ "cart": whole, "hasErrors": false, "errors": [] });
            assert_json(&answer, 200, &changed, &format!("{method} {path}"));
            assert_eq!(answer.headers["cache-control"], "no-store");
        }
        assert_eq!(shopper.carts().await, json!([]));
    }
}

#[apply(test)]
async fn cart_is_opened_once_per_name_and_market() {
    let server = Server::demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let [name, market, code] = [100, 50, 10].map(|length| "é".repeat(length));
    let [usd, eur] = [json!({ "code": "USD", "symbol": "" }), json!({ "code": "EUR", "symbol": "€" })];
    let mut failures = Vec::new();
    // The name and the currency's symbol are optional. An existing cart keeps its currency.
    for (cart, index, expected) in [
        (json!({ "name": "Default", "market": "US", "currency": "USD" }), 0, ("Default", &usd)),
        (json!({ "name": "Default", "market": "US", "currency": eur }), 0, ("Default", &usd)),
        (json!({ "name": null, "market": "US", "currency": eur }), 0, ("Default", &usd)),
        (json!({ "market": "DE", "currency": eur }), 1, ("Default", &eur)),
        (json!({ "name": "default", "market": "US", "currency": { "code": "USD" } }), 2, ("default", &usd)),
        (
            json!({ "name": name, "market": market, "currency": { "code": code, "symbol": code } }),
            3,
            (&*name, &json!({ "code": code, "symbol": code })),
        ),
        (
            json!({ "name": "\u{202e}<script>'; --", "market": "US", "currency": "USD" }),
            4,
            ("\u{202e}<script>'; --", &usd),
        ),
    ] {
        let answer = shopper.request(Method::POST, CARTS, Some(&cart)).await.json();
        let listed = &shopper.carts().await[index];
        if *listed != answer || (answer["name"].as_str(), &answer["currency"]) != (Some(expected.0), expected.1) {
            failures.push(format!("{cart}: {answer}"));
        }
    }
    assert_eq!(shopper.carts().await.as_array().unwrap().len(), 5);
    assert!(failures.is_empty(), "{}", failures.join("; "));
}

#[apply(test)]
async fn post_adds_quantities_and_put_sets_them() {
    let server = Server::demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let cart = shopper.open("Default", "US").await;
    let mut failures = Vec::new();
    for (method, lines, expected) in [
        (Method::POST, json!([{ "sku": "a", "qty": 1 }, { "sku": "b", "qty": 2 }]), [1, 2]),
        (Method::POST, json!([{ "sku": "a", "qty": 3 }, { "sku": "b", "qty": 1 }, { "sku": "a", "qty": 2 }]), [6, 3]),
        (Method::PUT, json!([{ "sku": "b", "qty": 7 }, { "sku": "a", "qty": 9 }, { "sku": "b", "qty": 8 }]), [9, 8]),
        (Method::PUT, json!([{ "id": 2, "sku": "b", "qty": 5 }, { "id": null, "sku": "a", "qty": 999 }]), [999, 5]),
        // Some clients send every number with decimals.
        (Method::PUT, json!([{ "sku": "a", "qty": 1.0 }]), [1, 5]),
        (Method::POST, json!([]), [1, 5]),
        (Method::PUT, json!([]), [1, 5]),
    ] {
        let status = shopper.lines(method.clone(), cart, &lines).await.status;
        let contents = shopper.contents().await;
        if status != 200 || contents != [default("a", expected[0]), default("b", expected[1])] {
            failures.push(format!("{method} {lines}: {status} {contents:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("; "));
}

/// A shopper with one `a` and one `b` in their cart.
struct Refusals<'a> {
    server: &'a Server,
    shopper: Shopper,
    /// The path of the cart.
    cart: String,
    before: Value,
    failures: Vec<String>,
}

impl<'a> Refusals<'a> {
    async fn new(server: &'a Server) -> Self {
        let shopper = anonymous(server).await;
        for sku in ["a", "b"] {
            shopper.add(sku, 1).await;
        }
        let cart = format!("{CARTS}{}", shopper.open("Default", "US").await);
        Self { server, before: shopper.carts().await, cart, shopper, failures: Vec::new() }
    }

    /// Notes a request that is not refused with this status and message, or that changes the carts.
    async fn check(
        &mut self,
        (method, path): (Method, &str),
        body: impl AsRef<[u8]>,
        status: u16,
        message: Option<CartRefusal>,
    ) {
        let body = body.as_ref();
        let what = format!("{method} {path} {}", String::from_utf8_lossy(&body[..body.len().min(80)]));
        let request = client_without_credentials().request(method, format!("{}{path}", self.server.shoppers));
        let request = request.bearer_auth(&self.shopper.token).header("x-customer-context", &self.shopper.context);
        let answer = Answer::read(request.body(body.to_vec()).send().await.unwrap()).await;
        let shown = answer.message().unwrap_or_default();
        let is_right = message.map_or(shown.contains(' '), |refusal| shown == refusal.message());
        if answer.status != status || !is_right || answer.json() != json!({ "message": shown }) {
            self.failures.push(format!("{what}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
        }
        if self.shopper.carts().await != self.before {
            self.failures.push(format!("{what}: has changed the carts"));
        }
    }

    fn assert_none_failed(&self) {
        assert!(self.failures.is_empty(), "{}", self.failures.join("; "));
    }
}

#[apply(test)]
async fn invalid_line_is_refused() {
    let server = Server::demo(&UNLIMITED).await;
    let mut refusals = Refusals::new(&server).await;
    let path = format!("{}/lines", refusals.cart);
    let [add, set, both] = [vec![Method::POST], vec![Method::PUT], vec![Method::POST, Method::PUT]];
    let mut rows = Vec::new();
    for qty in ["0", "1000", "-1", "1.5", "\"1\"", "null", "[]", "{}", "true", "65537", "18446744073709551617"] {
        rows.push((&both, format!(r#""sku":"a","qty":{qty}"#), 400, Some(CartRefusal::Quantity)));
    }
    for sku in ["", "é", "\\u0000"] {
        rows.push((&both, format!(r#""sku":"{sku}","qty":1"#), 400, Some(CartRefusal::Sku)));
    }
    let not_json = [r#""sku":"a","qty":1e400"#, &format!(r#""sku":"a","qty":{}"#, "9".repeat(400))].map(str::to_owned);
    let other_types = [r#""sku":null,"qty":1"#, r#""sku":1,"qty":1"#, r#""sku":["a"],"qty":1"#, r#""sku":"a""#];
    for line in not_json.into_iter().chain(other_types.map(str::to_owned)) {
        rows.push((&both, line, 400, None));
    }
    rows.push((&add, r#""sku":"a","qty":998"#.to_owned(), 400, Some(CartRefusal::TooMuchOfOneSku)));
    for line in [r#""id":1,"sku":"b""#, r#""id":3,"sku":"a""#, r#""id":-1,"sku":"a""#, r#""sku":"c""#] {
        rows.push((&set, format!(r#"{line},"qty":5"#), 404, Some(CartRefusal::NoSuchLine)));
    }
    for (methods, line, status, message) in rows {
        for method in methods {
            // All lines are changed or none.
            let body = format!(r#"[{{"sku":"a","qty":2}},{{{line}}}]"#);
            refusals.check((method.clone(), &path), body, status, message).await;
        }
    }
    refusals.assert_none_failed();
}

#[apply(test)]
async fn invalid_cart_is_refused() {
    let server = Server::demo(&UNLIMITED).await;
    let mut refusals = Refusals::new(&server).await;
    let good = json!({ "name": "n", "market": "m", "currency": "EUR" });
    let mut rows = vec![(unset(good.clone(), "market"), None), (unset(good.clone(), "currency"), None)];
    for (member, refusal) in
        [("name", CartRefusal::Name), ("market", CartRefusal::Market), ("currency", CartRefusal::Currency)]
    {
        for text in ["", "a\nb"] {
            rows.push((set(good.clone(), member, text), Some(refusal)));
        }
        for value in [json!(1), json!([]), json!({}), json!(true), json!(["EUR", ""])] {
            rows.push((set(good.clone(), member, value), None));
        }
    }
    let currency = json!({ "code": "EUR", "symbol": "\n" });
    rows.push((set(good, "currency", currency), Some(CartRefusal::Currency)));
    for (cart, message) in rows {
        refusals.check((Method::POST, CARTS), cart.to_string(), 400, message).await;
    }
    refusals.assert_none_failed();
}

#[apply(test)]
async fn invalid_body_is_refused() {
    let server = Server::demo(&UNLIMITED).await;
    let mut refusals = Refusals::new(&server).await;
    let deep = "[".repeat(20_000);
    let too_long = format!("[{{\"sku\":\"a\",\"qty\":2}}{}]", " ".repeat(64 * 1024));
    let bodies: [&[u8]; 15] = [
        b"",
        b" ",
        b"{",
        b"null",
        b"5",
        b"\"\"",
        b"[[]]",
        b"[[null,\"a\",2]]",
        b"[\"n\",\"US\",\"USD\"]",
        b"{\"sku\":\"a\",\"qty\":2}",
        b"[{\"sku\":\"a\",\"qty\":2}",
        b"[{\"sku\":\"a\",\"qty\":2}]]",
        b"[{\"sku\":\"a\",\"sku\":\"a\",\"qty\":2}]",
        b"[{\"sku\":\"a\",\"qty\":2,\"x\":\"\xff\"}]",
        deep.as_bytes(),
    ];
    let lines = format!("{}/lines", refusals.cart);
    for to in [(Method::POST, CARTS), (Method::POST, &*lines), (Method::PUT, &*lines)] {
        for body in bodies {
            refusals.check(to.clone(), body, 400, None).await;
        }
        refusals.check(to, &too_long, 413, None).await;
    }
    refusals.assert_none_failed();
}

#[apply(test)]
async fn unknown_or_invalid_cart_or_sku_is_not_found() {
    let server = Server::demo(&UNLIMITED).await;
    let mut refusals = Refusals::new(&server).await;
    let line = json!([{ "sku": "a", "qty": 1 }]).to_string();
    let (none, cart) = (Some(CartRefusal::NoSuchCart), refusals.cart.clone());
    for id in ["0", "-1", "1", "9007199254740992", "18446744073709551616", "x", "1.0", "%20", "%00", "%ff", "migrate"] {
        let path = format!("{CARTS}{id}");
        let lines = format!("{path}/lines");
        for method in [Method::POST, Method::PUT] {
            refusals.check((method, &lines), &line, 404, none).await;
        }
        refusals.check((Method::DELETE, &format!("{lines}/a")), "", 404, none).await;
        if id != "migrate" {
            for method in [Method::GET, Method::DELETE] {
                refusals.check((method, &path), "", 404, none).await;
            }
        }
    }
    for sku in ["c", "A", "%", "%zz", "%00", "%C3%A9", &"a".repeat(101)] {
        let path = format!("{cart}/lines/{sku}");
        refusals.check((Method::DELETE, &path), "", 404, Some(CartRefusal::NoSuchLine)).await;
    }
    // A path that is not UTF-8 names no cart.
    refusals.check((Method::DELETE, &format!("{cart}/lines/%FF")), "", 404, none).await;
    refusals.assert_none_failed();
}

/// A 409 says what to remove first.
#[apply(test)]
async fn request_beyond_a_limit_of_the_owner_is_a_conflict() {
    let server = Server::demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    for number in 0..20 {
        shopper.open(&number.to_string(), "US").await;
    }
    let (before, refusal) = (shopper.carts().await, CartRefusal::TooManyCarts);
    assert_refused(&shopper.try_open("20", "US").await, 409, refusal.message(), "one more cart");
    assert_eq!(shopper.carts().await, before);

    let shopper = anonymous(&server).await;
    let cart = shopper.open("Default", "US").await;
    let lines = |numbers: std::ops::Range<u64>| -> Value {
        numbers.map(|number| json!({ "sku": format!("{number:x<100}"), "qty": 1 })).collect()
    };
    for first in [0, 500, 1000] {
        assert_eq!(shopper.lines(Method::POST, cart, &lines(first..first + 500)).await.status, 200);
    }
    let (before, refusal) = (shopper.carts().await, CartRefusal::TooManyBytes);
    assert!(before.to_string().len() < 1024 * 1024, "answers stay below 1 MiB");
    let answer = shopper.lines(Method::POST, cart, &lines(1500..1900)).await;
    assert_refused(&answer, 409, refusal.message(), "300 KB");
    assert_eq!(shopper.carts().await, before);
}

#[apply(test)]
async fn every_sku_can_be_deleted_by_its_path() {
    let server = Server::demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let cart = shopper.open("Default", "US").await;
    let all: String = (' '..='~').collect();
    let longest = "%/".repeat(50);
    let skus = ["a/b", "a b", " ", "%", "%2F", "100%25", "/", "?a=b#c", "\"'\\", "lines", "{sku}", &all, &longest];
    let lines = skus.iter().map(|sku| json!({ "sku": sku, "qty": 1 })).collect();
    assert_eq!(shopper.lines(Method::POST, cart, &lines).await.status, 200);
    assert_eq!(shopper.contents().await, skus.map(|sku| default(sku, 1)));
    for (index, sku) in skus.iter().enumerate() {
        let path = format!("{CARTS}{cart}/lines/{}", segment(sku));
        assert_eq!(shopper.request(Method::DELETE, &path, None).await.status, 200, "{sku}");
        assert_eq!(shopper.contents().await, skus[index + 1..].iter().map(|sku| default(sku, 1)).collect::<Vec<_>>());
    }
}
