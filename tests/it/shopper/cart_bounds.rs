//! Limits of carts: a request beyond a limit is refused with a message, and changes nothing.

use crate::trials::{apply, on_every_engine};
use reqwest::Method;
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::support::carts::{CARTS, default};
use crate::support::shopper::{Shopper, UNLIMITED, anonymous};
use crate::support::{Answer, Server, client_without_credentials};

/// Asserts a 400 with a message, and unchanged carts.
async fn assert_changes_nothing(shopper: &Shopper, before: &Value, answer: &Answer, what: &str) {
    assert_error_form(answer, 400, what);
    assert!(answer.message().unwrap().contains(' '), "{what}: the message is a sentence");
    assert_eq!(shopper.carts().await, *before, "{what}");
}

/// Asserts a 409 because of a limit, with a message that says what to do, and unchanged carts.
async fn assert_conflict(shopper: &Shopper, before: &Value, answer: &Answer, what: &str) {
    assert_error_form(answer, 409, what);
    assert!(answer.message().unwrap().contains(" first"), "{what}: the message says what to do");
    assert_eq!(shopper.carts().await, *before, "{what}");
}

#[apply(on_every_engine)]
async fn more_than_20_carts_are_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    for number in 0..20 {
        shopper.open(&number.to_string(), "US").await;
    }
    let before = shopper.carts().await;
    let answer = shopper.try_open("20", "US").await;
    assert_conflict(&shopper, &before, &answer, "one above the limit").await;
    let first = shopper.open("0", "US").await;
    shopper.request(Method::DELETE, &format!("{CARTS}{first}"), None).await;
    shopper.open("20", "US").await;
    assert_eq!(anonymous(&server).await.try_open("20", "US").await.status, 200, "each owner has a separate limit");
}

#[apply(on_every_engine)]
async fn more_than_2000_lines_in_all_carts_are_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let [cart, other] = [shopper.open("Default", "US").await, shopper.open("Other", "US").await];
    let lines = |numbers: std::ops::Range<u64>| -> Value {
        numbers.map(|number| json!({ "sku": number.to_string(), "qty": 1 })).collect()
    };
    for first in [0, 1000] {
        assert_eq!(shopper.lines(Method::POST, cart, &lines(first..first + 1000)).await.status, 200);
    }
    let before = shopper.carts().await;
    let answer = shopper.lines(Method::POST, other, &lines(0..1)).await;
    assert_conflict(&shopper, &before, &answer, "one above the limit").await;
    assert_eq!(
        shopper.lines(Method::POST, cart, &lines(99..100)).await.status,
        200,
        "a larger quantity of an existing line"
    );
}

#[apply(on_every_engine)]
async fn more_than_256_kb_in_all_carts_are_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let cart = shopper.open("Default", "US").await;
    let lines = |numbers: std::ops::Range<u64>| -> Value {
        numbers.map(|number| json!({ "sku": format!("{number:x<100}"), "qty": 1 })).collect()
    };
    for first in [0, 500, 1000] {
        assert_eq!(shopper.lines(Method::POST, cart, &lines(first..first + 500)).await.status, 200);
    }
    let before = shopper.carts().await;
    assert!(before.to_string().len() < 1024 * 1024, "answers stay below 1 MiB");
    let answer = shopper.lines(Method::POST, cart, &lines(1500..1900)).await;
    assert_conflict(&shopper, &before, &answer, "300 KB").await;
}

#[apply(on_every_engine)]
async fn more_than_999_of_a_sku_are_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    shopper.add("a", 500).await;
    let (cart, before) = (shopper.open("Default", "US").await, shopper.carts().await);
    for too_much in [json!([{ "sku": "b", "qty": 1 }, { "sku": "a", "qty": 500 }]), json!([{ "sku": "a", "qty": 999 }])]
    {
        let answer = shopper.lines(Method::POST, cart, &too_much).await;
        assert_changes_nothing(&shopper, &before, &answer, "beyond the limit").await;
    }
    shopper.add("a", 499).await;
    assert_eq!(shopper.contents().await, [default("a", 999)]);
}

#[apply(on_every_engine)]
async fn invalid_quantity_is_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    shopper.add("a", 1).await;
    let (cart, before) = (shopper.open("Default", "US").await, shopper.carts().await);
    let huge = "9".repeat(400);
    let bad = [
        "0",
        "1000",
        "-1",
        "1.5",
        "\"1\"",
        "null",
        "[]",
        "{}",
        "true",
        "65537",
        "18446744073709551617",
        &huge,
        "1e400",
    ];
    for method in [Method::POST, Method::PUT] {
        for qty in bad {
            let body = format!(r#"[{{"sku":"a","qty":2}},{{"sku":"a","qty":{qty}}}]"#);
            let answer = raw(&server, &shopper, method.clone(), &format!("{CARTS}{cart}/lines"), body).await;
            assert_changes_nothing(&shopper, &before, &answer, qty).await;
        }
        for qty in [1, 999] {
            let answer = shopper.lines(Method::PUT, cart, &json!([{ "sku": "a", "qty": qty }])).await;
            assert_eq!(answer.status, 200);
        }
        // Some clients send every number with decimals.
        let answer = shopper.lines(Method::PUT, cart, &json!([{ "sku": "a", "qty": 1.0 }])).await;
        assert_eq!(answer.json()["cart"], before[0]);
    }
}

#[apply(on_every_engine)]
async fn invalid_sku_is_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    shopper.add("a", 1).await;
    let (cart, before) = (shopper.open("Default", "US").await, shopper.carts().await);
    let too_long = "a".repeat(101);
    let texts = ["", &too_long, "é", "a\nb", "a\0", "\u{7f}", "a\u{a0}b", "＂"].map(Value::from);
    for sku in texts.into_iter().chain([Value::Null, json!(1), json!(["a"])]) {
        for method in [Method::POST, Method::PUT] {
            let answer =
                shopper.lines(method, cart, &json!([{ "sku": "a", "qty": 2 }, { "sku": sku, "qty": 1 }])).await;
            assert_changes_nothing(&shopper, &before, &answer, &sku.to_string()).await;
        }
    }
}

#[apply(on_every_engine)]
async fn invalid_name_market_or_currency_is_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let good = json!({ "name": "n", "market": "m", "currency": "EUR" });
    let (name, market, code) = ("é".repeat(100), "é".repeat(50), "é".repeat(10));
    let fits = json!({ "name": name, "market": market, "currency": { "code": code, "symbol": code } });
    for cart in [&good, &fits, &set(good.clone(), "name", "\u{202e}<script>'; --")] {
        let answer = shopper.request(Method::POST, CARTS, Some(cart)).await;
        assert_eq!((answer.status, &answer.json()["name"]), (200, &cart["name"]), "{cart}");
    }
    let before = shopper.carts().await;
    for (member, length) in [("name", 100), ("market", 50), ("currency", 10)] {
        let mut bad = ["", "a\nb", "a\0b", "\u{9f}", "\u{7f}"].map(Value::from).to_vec();
        bad.extend([json!("é".repeat(length + 1)), json!(1), json!([]), json!({}), json!(true)]);
        for value in bad {
            let cart = set(good.clone(), member, value);
            let answer = shopper.request(Method::POST, CARTS, Some(&cart)).await;
            assert_changes_nothing(&shopper, &before, &answer, &cart.to_string()).await;
        }
    }
    let currencies = [
        json!({ "code": "EUR", "symbol": "12345678901" }),
        json!({ "code": "EUR", "symbol": "\n" }),
        json!(["EUR", ""]),
    ];
    let carts = currencies.map(|currency| set(good.clone(), "currency", currency));
    for cart in carts.into_iter().chain([unset(good.clone(), "market"), unset(good, "currency")]) {
        let answer = shopper.request(Method::POST, CARTS, Some(&cart)).await;
        assert_changes_nothing(&shopper, &before, &answer, &cart.to_string()).await;
    }
}

#[apply(on_every_engine)]
async fn invalid_body_is_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    shopper.add("a", 1).await;
    let (cart, before) = (shopper.open("Default", "US").await, shopper.carts().await);
    let deep = "[".repeat(20_000);
    let bodies: [&[u8]; 14] = [
        b"",
        b" ",
        b"{",
        b"null",
        b"5",
        b"\"\"",
        b"[[]]",
        b"[[null,\"a\",2]]",
        b"[\"n\",\"US\",\"USD\"]",
        b"[{\"sku\":\"a\",\"qty\":2}",
        b"[{\"sku\":\"a\",\"qty\":2}]]",
        b"[{\"sku\":\"a\",\"sku\":\"a\",\"qty\":2}]",
        b"[{\"sku\":\"a\",\"qty\":2,\"x\":\"\xff\"}]",
        deep.as_bytes(),
    ];
    for (method, path) in [
        (Method::POST, CARTS),
        (Method::POST, &*format!("{CARTS}{cart}/lines")),
        (Method::PUT, &format!("{CARTS}{cart}/lines")),
    ] {
        for body in bodies {
            let answer = raw(&server, &shopper, method.clone(), path, body.to_vec()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert_changes_nothing(&shopper, &before, &answer, &format!("{method} {path} {shown}")).await;
        }
        let too_long = format!("[{{\"sku\":\"a\",\"qty\":2}}{}]", " ".repeat(64 * 1024));
        let answer = raw(&server, &shopper, method.clone(), path, too_long).await;
        assert_error_form(&answer, 413, "a body that is too long");
        assert_eq!(shopper.carts().await, before);
    }
    let line_object = json!({ "sku": "a", "qty": 2 });
    assert_changes_nothing(
        &shopper,
        &before,
        &shopper.lines(Method::POST, cart, &line_object).await,
        "an object instead of an array",
    )
    .await;
}

#[apply(on_every_engine)]
async fn invalid_or_unknown_cart_id_is_not_found(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    shopper.add("a", 1).await;
    let before = shopper.carts().await;
    for id in ["0", "-1", "1", "9007199254740992", "18446744073709551616", "x", "1.0", "%20", "%00", "%ff", "migrate"] {
        let line = json!([{ "sku": "a", "qty": 1 }]);
        let path = format!("{CARTS}{id}");
        let of_lines = format!("{path}/lines");
        let mut answers = vec![
            shopper.request(Method::POST, &of_lines, Some(&line)).await,
            shopper.request(Method::PUT, &of_lines, Some(&line)).await,
            shopper.request(Method::DELETE, &format!("{of_lines}/a"), None).await,
        ];
        if id != "migrate" {
            answers.push(shopper.request(Method::GET, &path, None).await);
            answers.push(shopper.request(Method::DELETE, &path, None).await);
        }
        for answer in answers {
            assert_error_form(&answer, 404, id);
        }
    }
    assert_eq!(shopper.carts().await, before);
}

/// Sends a request with any body, which need not be JSON.
async fn raw(server: &Server, shopper: &Shopper, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request =
        client_without_credentials().request(method, format!("{}{path}", server.shoppers)).bearer_auth(&shopper.token);
    Answer::read(request.header("x-customer-context", &shopper.context).body(body).send().await.unwrap()).await
}
